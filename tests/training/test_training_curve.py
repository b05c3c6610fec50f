"""What becomes of the losses."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from modelbuild import progress
from modelbuild.errors import RecipeError
from modelbuild.training import curve as curves
from modelbuild.training.curve import Curve

CPU = torch.device("cpu")


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr(curves.time, "monotonic", lambda: 0.0)
    seen: list[Any] = []
    progress.set_sink(lambda done, total, values: seen.append((done, total, values)))
    yield seen
    progress.set_sink(lambda done, total, values: None)


def filled(steps: int, last: int | None = None) -> Curve:
    curve = Curve(steps, last or steps, CPU)
    for step in range(1, (last or steps) + 1):
        curve.add(torch.tensor(float(step)))
    return curve


def test_the_curve_has_about_twenty_points_and_its_means_cover_all_steps() -> None:
    told = filled(50).summary()
    points = told["curve"]
    assert len(points) == 25 and points[0] == {"step": 2, "loss": 1.5} and points[-1]["step"] == 50
    assert told["final_loss"] == told["steps"] == 50


def test_a_training_that_ends_early_has_a_mean_of_what_is_left() -> None:
    told = filled(400, 50).summary()
    assert told["curve"][-2:] == [{"step": 40, "loss": 30.5}, {"step": 50, "loss": 45.5}]
    assert told["steps"] == 50


def test_progress_comes_every_twenty_steps_and_at_the_end(steps: list[Any]) -> None:
    filled(100, 45)
    assert steps == [(20, 45, {"loss": 20.0}), (40, 45, {"loss": 40.0}), (45, 45, {"loss": 45.0})]


def test_slow_steps_are_reported_every_second(steps: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    curve = Curve(100, 100, CPU)
    for now in (0.4, 0.9, 1.2, 2.0, 2.3):
        monkeypatch.setattr(curves.time, "monotonic", lambda now=now: now)
        curve.add(torch.tensor(1.0))
    assert [done for done, _, _ in steps] == [3, 5]


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("at", [1, 7, 20, 21, 33])
def test_the_first_loss_that_is_no_number_is_found_by_its_step(kind: str, at: int, wrong: float) -> None:
    """Also where losses are read late, as they are on a GPU."""
    curve = Curve(50, 50, torch.device(kind))
    with pytest.raises(
        RecipeError, match=f"training: the loss is {wrong} at step {at} of 50. Lower train.lr"
    ):
        for step in range(1, 51):
            curve.add(torch.tensor(wrong if step == at else math.nan if step > at else 1.0))
        curve.settle()


def test_on_the_cpu_a_loss_is_read_at_once_and_on_a_gpu_twenty_together() -> None:
    for kind, late in (("cpu", 0), ("cuda", 19)):
        curve = Curve(100, 100, torch.device(kind))
        for _ in range(late):
            curve.add(torch.tensor(math.nan))
        with pytest.raises(RecipeError, match="at step 1 of"):
            curve.add(torch.tensor(math.nan))


def test_a_curve_goes_on_from_its_facts() -> None:
    whole, first, second = filled(50), Curve(50, 23, CPU), Curve(50, 50, CPU)
    for step in range(1, 24):
        first.add(torch.tensor(float(step)))
    second.put(first.facts())
    for step in range(24, 51):
        second.add(torch.tensor(float(step)))
    assert second.summary() == whole.summary()
