"""The training loop, and the teacher that comes out of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelbuild import dataset, progress, tensors
from modelbuild.errors import RecipeError
from modelbuild.recipes import data, losses, teacher, training
from modelbuild.recipes.objective import Term
from modelbuild.recipes.training import Budget, Stream

torch.set_num_threads(1)
NET = {"module": "modelbuild.zoo.convnet:ConvNet", "args": {"width": 2}}


class BlowsUp(nn.Module):
    """Gives NaN in its third call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Linear(1, 2), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.layer(x) * (float("nan") if self.calls == 3 else 1.0)
        return result


def digits(folder: Path, part: str, count: int = 64) -> Path:
    folder.mkdir()
    data.load({}, {"loader": "modelbuild.zoo.digits:load", "args": {"part": part}}, folder)
    data.sample({"data": folder}, {"count": count, "seed": 0}, folder)
    return folder


def stream(samples: int) -> Stream:
    rows = torch.arange(samples)
    return Stream([rows[:, None].float()], {"label": rows})


@pytest.fixture
def steps() -> Iterator[list[tuple[int, int, dict[str, float]]]]:
    seen: list[tuple[int, int, dict[str, float]]] = []
    progress.set_sink(lambda done, total, values: seen.append((done, total, values)))
    yield seen
    progress.set_sink(lambda done, total, values: None)


def test_an_epoch_shows_every_sample_once_in_an_order_of_the_seed() -> None:
    def order(seed: int) -> list[int]:
        source = training.batches(stream(12), None, Budget(1, batch=4, seed=seed))
        return [int(row) for batch in itertools.islice(source, 6) for row in batch.targets["label"]]

    first = order(0)
    assert sorted(first[:12]) == sorted(first[12:]) == list(range(12))
    assert first[:12] != first[12:] and first == order(0) != order(1)


def test_inputs_and_targets_stay_together() -> None:
    batch = next(training.batches(stream(12), None, Budget(1, batch=5)))
    assert batch.inputs[0][:, 0].tolist() == batch.targets["label"].tolist()


def test_a_batch_is_never_larger_than_the_data_nor_a_remainder() -> None:
    source = training.batches(stream(10), None, Budget(1, batch=4))
    assert {len(batch.inputs[0]) for batch in itertools.islice(source, 9)} == {4}
    assert len(next(training.batches(stream(3), None, Budget(1, batch=64))).inputs[0]) == 3


def test_unlabelled_samples_fill_half_of_a_batch_behind_the_labelled_ones() -> None:
    labelled = Stream([torch.zeros(8, 1)], {"label": torch.zeros(8), "teacher.y": torch.zeros(8)})
    unlabelled = Stream([torch.ones(40, 1)], {"teacher.y": torch.ones(40)})
    batch = next(training.batches(labelled, unlabelled, Budget(1, batch=8)))
    assert batch.inputs[0][:, 0].tolist() == batch.targets["teacher.y"].tolist() == [0.0] * 4 + [1.0] * 4
    assert len(batch.targets["label"]) == 4


def test_the_learning_rate_rises_for_a_tenth_then_falls_along_half_a_cosine() -> None:
    rates = [training.learning_rate(step, 100, 1.0) for step in range(1, 101)]
    assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert all(a > b for a, b in itertools.pairwise(rates[9:]))
    assert rates[99] == pytest.approx(0, abs=1e-3) and rates[99] > 0
    assert training.learning_rate(1, 1, 0.5) == 0.5


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"stps": 3}, 'train has no "stps". Did you mean "steps"?'),
        ({"lr": 0.1}, "no number of steps"),
        ({"steps": 0}, "must be positive"),
        ({"steps": 1, "batch": 0}, "must be positive"),
        ({"steps": 1, "lr": 0}, "must be positive"),
        ({"steps": 1, "weight_decay": -1}, "not negative"),
    ],
)
def test_a_budget_that_cannot_be_is_refused(train: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Budget.of(train, "m")
    assert words in str(caught.value)


def test_a_loss_that_is_no_number_stops_the_training_with_the_step() -> None:
    budget, term = Budget(5), Term(None, "label", 1.0, losses.cross_entropy)
    source = training.batches(Stream([torch.zeros(4, 1)], {"label": torch.zeros(4).long()}), None, budget)
    module = BlowsUp()
    with pytest.raises(RecipeError, match="the loss is nan at step 3 of 5"):
        training.fit(module, source, [term], budget)
    assert torch.isfinite(module.layer.weight).all()


def test_progress_comes_every_twenty_steps_and_at_the_end(steps: list[Any]) -> None:
    budget, term = Budget(45), Term(None, "label", 1.0, losses.l2)
    given = Stream([torch.ones(4, 1)], {"label": torch.ones(4, 1)})
    summary = training.fit(nn.Linear(1, 1), training.batches(given, None, budget), [term], budget)
    assert [(done, total) for done, total, _ in steps] == [(20, 45), (40, 45), (45, 45)]
    assert steps[-1][2] == {"loss": summary["final_loss"]}


def test_the_curve_has_about_twenty_points_and_its_means_cover_all_steps() -> None:
    curve = training._Curve(50)
    for step in range(1, 51):
        curve.add(step, float(step))
    points = curve.summary()["curve"]
    assert len(points) == 25 and points[0] == {"step": 2, "loss": 1.5} and points[-1]["step"] == 50
    assert curve.summary()["final_loss"] == 50.0


def test_a_teacher_learns_and_tells_of_it_without_a_time(tmp_path: Path) -> None:
    train = digits(tmp_path / "train", "train", 256)
    out = tmp_path / "teacher"
    out.mkdir()
    budget = {"steps": 60, "batch": 32, "lr": 0.01, "weight_decay": 0.01, "seed": 0}
    teacher.train({"train": train}, {**NET, "args": {"width": 4}, "train": budget}, out)
    told = json.loads((out / "training.json").read_text())
    assert set(told) == {"steps", "final_loss", "parameters", "curve"}
    assert told["steps"] == 60 and told["parameters"] > 500
    assert told["curve"][-1]["loss"] < told["curve"][0]["loss"] / 2


def test_the_teachers_outputs_are_those_of_evaluation_mode_on_each_data_set(tmp_path: Path) -> None:
    train, test = digits(tmp_path / "train", "train"), digits(tmp_path / "test", "test", 10)
    for name in ("teacher", "outputs", "one"):
        (tmp_path / name).mkdir()
    teacher.train({"train": train}, {**NET, "train": {"steps": 3, "batch": 16}}, tmp_path / "teacher")
    roles = {"teacher": tmp_path / "teacher", "train": train, "evaluation": test}
    teacher.outputs(roles, NET, tmp_path / "outputs")
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {
        "train.safetensors",
        "evaluation.safetensors",
    }
    logits = tensors.load(tmp_path / "outputs" / "evaluation.safetensors")["logits"]
    assert logits.shape == (10, 10)
    # In evaluation mode a sample's output does not depend on the others in its batch.
    single = dataset.read(test).take(np.array([4]))
    dataset.write(test, single)
    teacher.outputs({"teacher": tmp_path / "teacher", "evaluation": test}, NET, tmp_path / "one")
    assert np.allclose(
        tensors.load(tmp_path / "one" / "evaluation.safetensors")["logits"], logits[4:5], atol=1e-5
    )


def test_a_teacher_needs_ground_truth(tmp_path: Path) -> None:
    dataset.write(tmp_path, data.checked({"image": np.ones((2, 1, 8, 8), np.float32)}, "here"))
    with pytest.raises(RecipeError, match='no "label"'):
        teacher.train({"train": tmp_path}, {**NET, "train": {"steps": 1}}, tmp_path)


def test_a_teacher_may_name_its_loss(tmp_path: Path) -> None:
    dataset.write(
        tmp_path, data.checked({"x": np.ones((2, 3), np.float32), "label": np.ones((2, 1))}, "here")
    )
    net = {"module": "torch.nn:Linear", "args": {"in_features": 3, "out_features": 1}}
    teacher.train({"train": tmp_path}, {**net, "train": {"steps": 1, "loss": "l1"}}, tmp_path)
    with pytest.raises(RecipeError, match='loss kind "l3" is not one of cross_entropy, l1, l2'):
        teacher.train({"train": tmp_path}, {**net, "train": {"steps": 1, "loss": "l3"}}, tmp_path)
