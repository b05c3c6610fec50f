"""Early stopping on held-out samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TERMS, Learner, contents, on, settings, stream, train
from torch import nn

from modelbuild.errors import RecipeError
from modelbuild.training import checkpoint, loop, losses, streams
from modelbuild.training.objective import Term
from modelbuild.training.settings import EarlyStopping
from modelbuild.training.stopping import Best
from modelbuild.training.streams import Stream
from modelbuild.training.weights import Weights


def test_the_best_weights_are_kept_and_patience_counts_looks_without_a_gain() -> None:
    module = nn.Linear(1, 1, bias=False)
    weights, best = Weights(module), Best(EarlyStopping(patience=2))
    for step, loss in enumerate([3.0, 1.0, 1.0, 0.5, 0.7], 1):
        module.weight.data.fill_(step)
        best.look(step, loss, weights)
        assert not best.over
    assert best.weights["weight"].item() == best.step == 4
    best.look(6, 0.5, weights)
    assert best.over and best.weights["weight"].item() == 4
    assert best.summary() == {"held_out": best.looks, "best_step": 4, "stopped": True}


def test_looks_come_every_so_many_steps_and_at_the_very_end() -> None:
    best = Best(EarlyStopping(every=4))
    assert [step for step in range(1, 11) if best.due(step, 10)] == [4, 8, 10]


class Overfits(nn.Module):
    """One weight that serves all samples and one that serves those it learns from alone."""

    def __init__(self) -> None:
        super().__init__()
        self.student = nn.Linear(2, 1, bias=False)
        self.student.weight.data.zero_()

    def forward(self, batch: Any) -> dict[str, torch.Tensor]:
        return {"y": self.student(batch.inputs["x"])}


def overfitting(**given: Any) -> tuple[nn.Module, dict[str, Any], Stream, Stream]:
    """A training that first learns what holds for all samples, 5 ** 0.5 * x, then the 3 * z of those it sees.

    Held-out samples have -3 * z. Gives the learner, what is told, and both kinds of samples.
    """
    train = settings(steps=400, lr=0.01, schedule="constant", weight_decay=0, **given)
    x = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    rows = Stream({"x": x}, {"row": torch.arange(40)})
    private = torch.full((40,), 3.0)
    private[streams.split(rows, 0.25, train.seed)[1].targets["row"]] = -3.0
    scaled = x * torch.tensor([5**0.5, 1.0])
    data = Stream({"x": scaled}, {"label": (scaled[:, 0] + private * scaled[:, 1])[:, None]})
    learner = Overfits()
    told = loop.fit(learner, data, None, [Term("task", 1.0, on("y", "label"))], train)  # type: ignore[arg-type]
    return learner, told, *streams.split(data, 0.25, train.seed)


def loss_of(learner: nn.Module, data: Stream) -> float:
    with torch.no_grad():
        return losses.l2(learner(data)["y"], data.targets["label"]).item()


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_training_ends_when_held_out_samples_get_worse_and_ships_the_best_weights(
    ema: float | None,
) -> None:
    spec = {"every": 10, "patience": 3, "held_out": 0.25}
    learner, told, learnt, held_out = overfitting(early_stopping=spec, ema=ema)
    looks = told["early_stopping"]["held_out"]
    best = min(looks, key=lambda look: look["loss"])
    assert told["early_stopping"]["stopped"] and told["steps"] == looks[-1]["step"] < 400
    assert told["early_stopping"]["best_step"] == best["step"] == told["steps"] - 30
    # What ships has just this loss: weights, and the average where that is what ships, of the best step.
    assert loss_of(learner, held_out) == pytest.approx(best["loss"], rel=1e-5)
    full, _, _, _ = overfitting(ema=ema)
    assert loss_of(full, held_out) > 1.2 * best["loss"] and loss_of(full, learnt) < loss_of(learner, learnt)


def test_a_look_changes_nothing_in_the_training() -> None:
    """Held out at a place that lets both trainings see the same samples: the second looks, the first never does."""
    runs = []
    for every in (10**6, 3):
        given = settings(steps=29, early_stopping={"every": every, "patience": 99, "held_out": 0.1}, ema=0.9)
        told = train(given, until=28)[1]
        runs.append([told["curve"], told["final_loss"]])
    assert runs[0] == runs[1]


def test_the_student_sees_held_out_samples_in_evaluation_mode_and_all_around_it_is_as_in_training() -> None:
    modes = []

    class Watched(Learner):
        def forward(self, batch: Any) -> Any:
            modes.append((self.training, self.student.training, self.student.drop.training))
            return super().forward(batch)

    loop.fit(Watched(), stream(), None, TERMS, settings(steps=4, early_stopping={"every": 2}))  # type: ignore[arg-type]
    learns, looks = (True, True, True), (True, False, False)
    assert modes == [learns, learns, looks, learns, learns, looks]


def test_nothing_is_learnt_from_held_out_samples() -> None:
    seen = {True: set[float](), False: set[float]()}

    class Watched(Learner):
        def forward(self, batch: Any) -> Any:
            seen[self.student.training].update(batch.inputs["x"][:, 0].tolist())
            return super().forward(batch)

    loop.fit(Watched(), stream(), None, TERMS, settings(early_stopping={"every": 10}))  # type: ignore[arg-type]
    assert len(seen[True]) == 36 and len(seen[False]) == 4 and not seen[True] & seen[False]


def test_with_an_average_it_is_what_is_looked_at_and_kept(tmp_path: Path) -> None:
    learner, _ = train(settings(ema=0.9, early_stopping={"every": 10**6}), state=tmp_path)
    average = checkpoint.read(tmp_path).group("average")
    assert torch.equal(learner.student.first.weight, average["student.first.weight"])
    assert torch.equal(learner.student.norm.running_var, average["student.norm.running_var"])


def test_before_the_first_look_the_last_weights_ship() -> None:
    learner, told = train(settings(early_stopping={"every": 20}), until=10)
    assert told["early_stopping"] == {"held_out": [], "best_step": 0, "stopped": False}
    assert contents(learner) != contents(Learner())


def test_a_held_out_loss_that_is_no_number_ends_the_training_with_the_step() -> None:
    class Breaks(Overfits):
        def forward(self, batch: Any) -> dict[str, torch.Tensor]:
            return {"y": self.student(batch.inputs["x"]) * (1 if self.student.training else float("nan"))}

    data = Stream({"x": torch.ones(8, 2)}, {"label": torch.ones(8, 1)})
    with pytest.raises(RecipeError, match="the loss of held-out samples is nan after step 5 of 30"):
        terms = [Term("task", 1.0, on("y", "label"))]
        loop.fit(Breaks(), data, None, terms, settings(early_stopping={"every": 5}))  # type: ignore[arg-type]
