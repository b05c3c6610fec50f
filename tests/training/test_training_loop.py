"""The loop: what it gives, what it refuses, and that an interrupted training ends as if it had not been."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SAMPLES, STEPS, TERMS, Learner, Student, contents, files, on, settings, stream, train
from torch import Tensor, nn

from modelbuild import checkpoints, progress
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.training import checkpoint, device, loop, losses, optimisers
from modelbuild.training.batch import Batch
from modelbuild.training.objective import Term
from modelbuild.training.settings import Settings
from modelbuild.training.streams import Stream

KINDS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "average": {"ema": 0.9},
    "sgd": {"optimiser": "sgd", "momentum": 0.8, "lr": 0.05},
    "one_cycle": {"optimiser": "sgd", "schedule": "one_cycle", "lr": 0.05, "ema": 0.9},
    "one_cycle adamw": {"schedule": "one_cycle", "clip": 0.5},
    "stopping": {"early_stopping": {"every": 4, "patience": 9, "held_out": 0.2}},
    "stopped": {"early_stopping": {"every": 2, "patience": 1}, "lr": 0.3, "ema": 0.5},
    "average and stopping": {"ema": 0.8, "early_stopping": {"every": 3}},
    "bfloat16": {"precision": "bfloat16", "ema": 0.9},
    "float16": {"precision": "float16", "clip": 1.0},
}


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    checkpoints.set_folder(None)
    progress.set_sink(lambda done, total, values: None)


@pytest.fixture(autouse=True)
def float16_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scaling of gradients is the same everywhere; it is offered where it is of use."""
    monkeypatch.setattr(device, "SCALED", ("cuda", "cpu"))


# How far it is


def test_a_training_learns_and_tells_of_it_without_a_time() -> None:
    learner, told = train(settings(steps=100, lr=0.05))
    assert set(told) == {"steps", "final_loss", "curve", "device", "ema", "parameters", "precision"}
    assert told["curve"][-1]["loss"] < told["curve"][0]["loss"] / 2
    # The projection is no part of what ships.
    assert told["parameters"] == sum(each.numel() for each in learner.student.parameters())
    assert told["steps"] == 100


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_repeats_itself_and_every_setting_matters(kind: str) -> None:
    first, again = train(settings(**KINDS[kind])), train(settings(**KINDS[kind]))
    assert contents(first[0]) == contents(again[0]) and first[1] == again[1]
    if kind != "adamw":
        assert contents(first[0]) != contents(train(settings())[0])


def test_the_learner_is_trained_with_its_projection() -> None:
    learner, _ = train(settings(steps=3))
    with deterministic(0):
        fresh = Learner()
    assert not torch.equal(learner.projection.weight, fresh.projection.weight)
    assert not torch.equal(learner.student.first.weight, fresh.student.first.weight)


def test_unlabelled_samples_are_learnt_from() -> None:
    assert contents(train(settings(), unlabelled=True)[0]) != contents(train(settings())[0])


def test_progress_says_where_a_training_begins_and_ends() -> None:
    seen: list[Any] = []
    progress.set_sink(lambda *step: seen.append(step))
    told = train(settings(), until=25)[1]
    assert seen[0] == (0, 25, {})
    assert seen[-1] == (25, 25, {"loss": told["final_loss"]})


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_clipped_gradient_is_no_longer_than_asked(precision: str) -> None:
    """Nor shorter, where gradients are scaled up first; float16 takes some steps to find a scale."""
    moved = {}
    for clip in (1e-3, None):
        given = settings(
            steps=4, optimiser="sgd", momentum=0, lr=1.0, schedule="constant", precision=precision
        )
        with deterministic(0):
            learner = Learner()
            before = [each.detach().clone() for each in learner.parameters()]
            loop.fit(learner, stream(), None, TERMS, replace(given, weight_decay=0, warm_up=0, clip=clip))
        change = torch.cat([(a - b).flatten() for a, b in zip(before, learner.parameters(), strict=True)])
        moved[clip] = change.norm().item()
    assert 1e-3 < moved[1e-3] <= 4.001e-3 < 0.1 < moved[None]


def test_a_step_is_that_of_the_optimiser_written_out() -> None:
    """Two steps of AdamW at the rates of the schedule, against the formulas of the paper."""
    given = settings(steps=2, batch=4, lr=0.1, weight_decay=0.1, warm_up=0.5)
    module, x = nn.Linear(1, 1, bias=False), torch.full((4, 1), 2.0)
    module.weight.data.fill_(1.0)
    learner = Plain(module)
    loop.fit(learner, Stream({"x": x}, {"label": torch.zeros(4, 1)}), None, [TASK], given)  # type: ignore[arg-type]
    weight, m, v = 1.0, 0.0, 0.0
    for step, rate in ((1, 0.1), (2, 0.05)):
        gradient = 8 * weight
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        mean, root = m / (1 - 0.9**step), (v / (1 - 0.999**step)) ** 0.5
        weight -= rate * (0.1 * weight + mean / (root + 1e-8))
    assert module.weight.item() == pytest.approx(weight, rel=1e-5)


# What it refuses


class Plain(nn.Module):
    def __init__(self, student: nn.Module) -> None:
        super().__init__()
        self.student = student

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"y": self.student(*batch.inputs.values())}


TASK = Term("task", 1.0, on("y", "label"))
ONES = Stream({"x": torch.ones(4, 1)}, {"label": torch.zeros(4, 1)})


class Breaks(nn.Module):
    """Gives NaN in its third call, and an error that says nothing of it in its sixth."""

    def __init__(self, gradient: bool = False) -> None:
        super().__init__()
        self.layer, self.calls, self.gradient = nn.Linear(1, 1), 0, gradient

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == 6:
            raise ValueError("cannot convert float NaN to integer")
        result: Tensor = self.layer(x)
        if self.calls == 3 and self.gradient:
            return result + (self.layer.weight * 0).sum().sqrt()  # 0, whose slope is infinite
        return result * (float("nan") if self.calls == 3 else 1.0)


def fit(student: nn.Module, **given: Any) -> None:
    loop.fit(Plain(student), ONES, None, [TASK], settings(**given))  # type: ignore[arg-type]


def test_a_loss_that_is_no_number_ends_the_training_before_it_reaches_the_weights() -> None:
    student = Breaks()
    with pytest.raises(RecipeError, match="the loss is nan at step 3 of 30"):
        fit(student)
    assert torch.isfinite(student.layer.weight).all() and student.calls == 3


@pytest.mark.parametrize("steps", [5, 30])
def test_where_losses_are_read_late_it_is_found_before_anything_is_kept(
    steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end, and when what it did broke a later step."""
    real = loop.Curve
    monkeypatch.setattr(loop, "Curve", lambda steps, last, _: real(steps, last, torch.device("cuda")))
    with pytest.raises(RecipeError, match=f"the loss is nan at step 3 of {steps}"):
        fit(Breaks(), steps=steps)
    checkpoints.set_folder(tmp_path / "checkpoints")
    with pytest.raises(RecipeError, match=f"the loss is nan at step 3 of {steps}"):
        fit(Breaks(), steps=steps, checkpoint=4)
    with pytest.raises(RecipeError, match=f"the loss is nan at step 3 of {steps}"):
        fit(Breaks(), steps=steps, early_stopping={"every": 4})
    assert not (tmp_path / "checkpoints").exists()


def test_weights_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    """A finite loss may have a gradient that is not."""
    for given in ({"steps": 3}, {"steps": 5, "checkpoint": 3}):
        checkpoints.set_folder(tmp_path / "checkpoints")
        with pytest.raises(RecipeError, match=r"student\.layer\.weight is not finite after step 3"):
            fit(Breaks(gradient=True), **given)
    assert not (tmp_path / "checkpoints").exists()


def test_a_fixed_weight_may_be_infinite() -> None:
    student = nn.Linear(1, 1)
    student.register_parameter("mask", nn.Parameter(torch.tensor(-torch.inf), requires_grad=False))
    fit(student, steps=2)


def test_an_error_of_the_network_itself_passes_as_it_is() -> None:
    student = Breaks()
    student.calls = 3
    with pytest.raises(ValueError, match="cannot convert"):
        fit(student)


def test_a_network_without_a_weight_to_learn_is_refused() -> None:
    student = nn.Linear(1, 1)
    student.requires_grad_(False)
    with pytest.raises(RecipeError, match="no weight that takes a gradient"):
        fit(student)


def test_a_loss_that_depends_on_no_weight_is_refused() -> None:
    constant = Term("task", 1.0, lambda outputs, batch: outputs["y"].detach().mean())
    with pytest.raises(RecipeError, match="depends on no weight"):
        loop.fit(Plain(nn.Linear(1, 1)), ONES, None, [constant], settings())  # type: ignore[arg-type]


def test_an_operation_without_a_deterministic_form_is_refused_with_the_remedy() -> None:
    class Puts(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).put(torch.tensor([0]), x[0])

    with (
        deterministic(),
        pytest.raises(RecipeError, match=r'no deterministic form.*Set train.device to "cpu"'),
    ):
        fit(Puts(1, 1))


def test_memory_that_was_never_written_shows_in_the_first_step() -> None:
    class Forgets(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.empty(1)

    with deterministic(), pytest.raises(RecipeError, match="the loss is nan at step 1 of 30"):
        fit(Forgets(1, 1))


def test_after_it_no_time_is_spent_on_filling_memory() -> None:
    filled = []

    class Sees(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            filled.append(torch.utils.deterministic.fill_uninitialized_memory)
            return super().forward(x)

    with deterministic():
        fit(Sees(1, 1), steps=3)
    assert filled == [True, False, False] and torch.utils.deterministic.fill_uninitialized_memory


@pytest.mark.parametrize("until", [0, -1, STEPS + 1])
def test_a_training_ends_within_its_steps(until: int) -> None:
    with pytest.raises(RecipeError, match=f"cannot end after step {until} of {STEPS}"):
        train(settings(), until=until)


# That it goes on


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("extra", [False, True], ids=["labelled", "unlabelled"])
def test_a_training_in_parts_gives_the_bytes_of_one_in_a_piece(
    kind: str, extra: bool, tmp_path: Path
) -> None:
    """Each part begins with a learner of other weights and other draws: the state brings everything."""
    given = settings(**KINDS[kind])
    whole, told = train(given, extra, state=tmp_path / "whole")
    start = None
    for seed, until in ((0, 1), (1, 11), (2, 12), (3, STEPS)):
        folder = tmp_path / str(until)
        learner, last = train(given, extra, seed, until=until, start=start, state=folder)
        start = folder
    assert contents(learner) == contents(whole)
    assert last == told
    assert files(tmp_path / str(STEPS)) == files(tmp_path / "whole")


def test_the_kinds_of_training_above_reach_what_they_are_there_for() -> None:
    stopped = train(settings(**KINDS["stopped"]))[1]
    assert stopped["steps"] < STEPS and stopped["early_stopping"]["stopped"]
    assert train(settings(**KINDS["stopping"]))[1]["early_stopping"]["best_step"] > 11


def test_a_part_ships_what_it_would_ship_and_its_state_goes_on_from_the_raw_weights(tmp_path: Path) -> None:
    given = settings(ema=0.9)
    learner, _ = train(given, until=10, state=tmp_path)
    raw, _ = train(settings(), until=10)
    kept = checkpoint.read(tmp_path)
    assert kept.step == 10
    name = "student.first.weight"
    assert torch.equal(kept.group("learner")[name], raw.student.first.weight)
    assert torch.equal(kept.group("average")[name], learner.student.first.weight)
    assert not torch.equal(raw.student.first.weight, learner.student.first.weight)


class Stop(Exception):  # noqa: N818
    pass


def interrupted(after: int, given: Settings, **more: Any) -> None:
    """Train and break off in the step that follows step `after`."""
    calls = []

    def forward(self: Learner, batch: Batch) -> dict[str, Tensor]:
        if self.training:
            calls.append(1)
            if len(calls) > after:
                raise Stop
        return plain(self, batch)

    plain = Learner.forward
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Learner, "forward", forward)
        train(given, **more)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_training_that_was_cut_off_goes_on_from_its_checkpoint(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(**KINDS[kind], checkpoint=2)
    whole, told = train(given, unlabelled=True)
    checkpoints.set_folder(tmp_path)
    interrupted(3, given, unlabelled=True)
    learner, last = train(given, unlabelled=True, seed=9)
    assert "goes on after step 2" in capsys.readouterr().err
    assert contents(learner) == contents(whole) and last == told


def test_a_damaged_checkpoint_costs_steps_and_never_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(checkpoint=4, ema=0.9)
    whole, _ = train(given)
    for broken, words in ((["12"], "goes on after step 8"), (["08", "12"], "step 8 is passed over")):
        folder = tmp_path / broken[0]
        checkpoints.set_folder(folder)
        interrupted(13, given)
        for step in broken:
            path = folder / f"0000000{step}.safetensors"
            data = bytearray(path.read_bytes())
            data[-5] ^= 4
            path.write_bytes(data)
        learner, _ = train(given)
        assert contents(learner) == contents(whole)
        assert words in capsys.readouterr().err


def test_a_checkpoint_of_a_part_comes_before_its_start(tmp_path: Path) -> None:
    given = settings(checkpoint=3)
    whole, _ = train(given)
    train(given, until=10, state=tmp_path / "state")
    checkpoints.set_folder(tmp_path / "checkpoints")
    interrupted(6, given, start=tmp_path / "state")
    seen: list[Any] = []
    progress.set_sink(lambda *step: seen.append(step))
    learner, _ = train(given, start=tmp_path / "state")
    assert seen[0] == (15, STEPS, {})
    assert contents(learner) == contents(whole)


CHANGES: dict[str, Any] = {
    "rate": {"lr": 0.01},
    "steps": {"steps": STEPS + 1},
    "average": {"ema": 0.5},
    "batch": {"batch": 7},
}


@pytest.mark.parametrize("change", list(CHANGES))
def test_the_state_of_another_training_is_refused(
    change: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(settings(), until=10, state=tmp_path / "state")
    other = settings(**CHANGES[change])
    with pytest.raises(RecipeError, match=r"state: it belongs to another training\. Build it again"):
        train(other, start=tmp_path / "state")
    checkpoints.set_folder(tmp_path / "checkpoints")
    interrupted(10, settings(checkpoint=5))
    learner, _ = train(other)
    assert "step 10 is passed over: it belongs to another training" in capsys.readouterr().err
    checkpoints.set_folder(None)
    assert contents(learner) == contents(train(other)[0])


def test_how_often_checkpoints_are_written_makes_no_other_training(tmp_path: Path) -> None:
    train(settings(checkpoint=3), until=10, state=tmp_path)
    learner, _ = train(settings(device="cpu"), start=tmp_path)
    assert contents(learner) == contents(train(settings())[0])


def continued(tmp_path: Path, learner: nn.Module, data: Stream, terms: Any = TERMS, **more: Any) -> None:
    loop.fit(learner, data, None, terms, settings(), start=tmp_path, **more)  # type: ignore[arg-type]


def test_the_state_of_other_data_losses_or_networks_is_refused(tmp_path: Path) -> None:
    train(settings(), until=10, state=tmp_path)
    with pytest.raises(RecipeError, match="belongs to another training"):
        continued(tmp_path, Learner(), stream(SAMPLES - 1))
    with pytest.raises(RecipeError, match="belongs to another training"):
        continued(tmp_path, Learner(), stream(), TERMS[:2])
    other = Learner()
    other.student.last = nn.Linear(8, 2, bias=False)
    with pytest.raises(RecipeError, match="holds the weights of another network"):
        continued(tmp_path, other, stream())
    with pytest.raises(RecipeError, match="it is of step 10, beyond step 9"):
        continued(tmp_path, Learner(), stream(), until=9)


@pytest.mark.parametrize("group", ["learner", "optimiser", "average", "best"])
def test_every_group_of_tensors_must_fit(group: str, tmp_path: Path) -> None:
    given = settings(ema=0.9, early_stopping={"every": 2})
    train(given, until=10, state=tmp_path)
    kept = checkpoint.read(tmp_path)
    name = next(name for name, each in kept.group(group).items() if each.ndim == 2)
    for wrong in ({name: torch.zeros(9, 9)}, {f"9{name}": torch.zeros(8, 3)}):
        torn = {**kept.tensors, group: {**kept.group(group), **wrong}}
        checkpoint.write(tmp_path, checkpoint.State(kept.step, torn, kept.facts))
        with pytest.raises(RecipeError, match="holds the weights of another network"):
            train(given, start=tmp_path)


def test_a_checkpoint_of_another_device_is_passed_over_and_its_state_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a training on a GPU is what no uninterrupted one is; a finished part is what the next one is given."""
    given = settings(checkpoint=5)
    train(given, until=10, state=tmp_path / "state")
    kept = checkpoint.read(tmp_path / "state")
    other = checkpoint.State(kept.step, kept.tensors, {**kept.facts, "device": "cuda"})
    checkpoint.write(tmp_path / "state", other)
    checkpoint.write(tmp_path / "checkpoints", other, "000000010")
    train(given, start=tmp_path / "state")
    checkpoints.set_folder(tmp_path / "checkpoints")
    train(given)
    assert "it was written on cuda, and the training is on cpu" in capsys.readouterr().err


def test_a_network_laid_out_otherwise_goes_on_as_well(tmp_path: Path) -> None:
    """The optimiser's memory must lie as the weights do: its kernel walks over both alike."""

    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)

        def forward(self, x: Tensor) -> Tensor:
            found: Tensor = self.layer(x)
            return found.mean((2, 3))

    x = torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    data = Stream({"x": x}, {"label": x.mean((2, 3))[:, [0, 1, 2, 0]]})
    ends = []
    for parts in ((STEPS,), (7, STEPS)):
        start = None
        for until in parts:
            with deterministic(0):
                learner = Plain(Images())
                given = {"until": until, "start": start, "state": tmp_path / str(until)}
                loop.fit(learner, data, None, [TASK], settings(ema=0.9), **given)  # type: ignore[arg-type]
            start = tmp_path / str(until)
        ends.append(contents(learner))
    assert ends[0] == ends[1]


def test_the_scaler_takes_back_what_is_too_large(tmp_path: Path) -> None:
    """float16 overflows at the first scale, 2 ** 16; a training that goes on must know the one that was found."""
    train(settings(**KINDS["float16"]), until=10, state=tmp_path)
    kept = checkpoint.read(tmp_path).facts["scaler"]
    assert kept["scale"] == 2**15 and kept["_growth_tracker"] == 9
    shutil.rmtree(tmp_path)
    train(settings(), until=1, state=tmp_path)
    assert checkpoint.read(tmp_path).facts["scaler"] == {}


def test_the_optimisers_memory_is_tensors_alone() -> None:
    for kind in ("adamw", "sgd"):
        student = Student()
        optimiser = optimisers.build(student, settings(optimiser=kind))
        losses.l2(student(torch.ones(4, 3))[0], torch.zeros(4, 2)).backward()
        optimiser.step()
        found = optimisers.tensors(optimiser)
        names = {"exp_avg", "exp_avg_sq", "step"} if kind == "adamw" else {"momentum_buffer"}
        assert {path.partition(".")[2] for path in found} == names
        inside = [each for slots in optimiser.state_dict()["state"].values() for each in slots.values()]
        assert len(inside) == len(found) and all(isinstance(each, Tensor) for each in inside)
