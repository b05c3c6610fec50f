"""Learning rate and momentum, step by step."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from modelbuild.training import schedule
from modelbuild.training.settings import Settings


def rates(steps: int = 100, **given: object) -> list[float]:
    settings = Settings.of({"steps": steps, "lr": 1.0, **given}, "m")
    return [schedule.at(step, settings).lr for step in range(1, steps + 1)]


def momenta(steps: int = 100, **given: object) -> list[float | None]:
    settings = Settings.of({"steps": steps, "lr": 1.0, **given}, "m")
    return [schedule.at(step, settings).momentum for step in range(1, steps + 1)]


def test_cosine_rises_for_a_tenth_then_falls_along_half_a_cosine() -> None:
    found = rates()
    assert found[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
    assert all(a > b for a, b in itertools.pairwise(found[9:]))
    assert found[54] == pytest.approx(0.5, abs=0.02)
    assert found[99] == pytest.approx(0, abs=1e-3) and found[99] > 0


def test_constant_rises_and_stays() -> None:
    found = rates(schedule="constant", warm_up=0.2)
    assert found[:20] == pytest.approx([0.05 * step for step in range(1, 21)])
    assert set(found[20:]) == {1.0}


def test_one_cycle_is_that_of_the_paper() -> None:
    """Up and down linearly between 1/25 and 1 in nine tenths, far below in the last; momentum 0.95, 0.85, 0.95."""
    given = {"schedule": "one_cycle", "warm_up": 0.45}
    found, moments = rates(**given), momenta(**given)
    assert found[0] == pytest.approx(0.04 + 0.96 / 45) and found[44] == pytest.approx(1)
    assert found[89] == pytest.approx(0.04) and found[99] == pytest.approx(0.0004)
    steps_up = {round(b - a, 9) for a, b in itertools.pairwise(found[:45])}
    steps_down = {round(a - b, 9) for a, b in itertools.pairwise(found[44:90])}
    assert steps_up == steps_down == {round(0.96 / 45, 9)}
    assert moments[44] == pytest.approx(0.85)
    assert moments[89:] == pytest.approx([0.95] * 11)
    assert moments[0] == pytest.approx(0.95 - 0.1 / 45)


def test_only_one_cycle_moves_the_momentum() -> None:
    assert set(momenta()) == set(momenta(schedule="constant")) == {None}
    assert min(momenta(schedule="one_cycle", momentum=0.7)) == pytest.approx(0.65)


@pytest.mark.parametrize("name", ["cosine", "one_cycle", "constant"])
@pytest.mark.parametrize("warm_up", [0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 17])
def test_every_rate_is_positive_and_the_peak_is_reached_and_never_passed(
    name: str, warm_up: float, steps: int
) -> None:
    found = rates(steps, schedule=name, warm_up=warm_up)
    assert max(found) == pytest.approx(1) and min(found) > 0


@pytest.mark.parametrize(("name", "key"), [("sgd", "momentum"), ("adamw", "betas")])
def test_the_optimiser_takes_each_step_with_both(name: str, key: str) -> None:
    from modelbuild.training import optimisers

    optimiser = optimisers.build(nn.Linear(1, 1), Settings(optimiser=name))
    assert isinstance(optimiser, torch.optim.SGD if name == "sgd" else torch.optim.AdamW)
    assert optimiser.param_groups[0][key] == (0.9 if name == "sgd" else (0.9, 0.999))
    optimisers.steer(optimiser, schedule.Point(0.5, 0.85))
    group = optimiser.param_groups[0]
    assert (group["lr"], group[key]) == (0.5, 0.85 if name == "sgd" else (0.85, 0.999))
    optimisers.steer(optimiser, schedule.Point(0.25))
    assert (group["lr"], group[key]) == (0.25, 0.85 if name == "sgd" else (0.85, 0.999))
