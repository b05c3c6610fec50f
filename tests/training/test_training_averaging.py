"""The tensors of a module by name, and their moving average."""

from __future__ import annotations

import pytest
import torch
from tiny import TERMS, Learner, Student, contents, settings, stream
from torch import nn

from modelbuild.deterministic import deterministic
from modelbuild.training import loop
from modelbuild.training.averaging import Average
from modelbuild.training.weights import Weights


def test_weights_are_every_parameter_and_buffer_once() -> None:
    student = Student()
    names = set(Weights(student).live())
    assert {"second.weight", "norm.running_mean", "norm.num_batches_tracked", "scale"} <= names
    assert "again.weight" not in names and len(names) == 8 + 2 + 3 + 1 - 2


def test_a_buffer_put_in_anothers_place_is_seen() -> None:
    student = Student()
    weights = Weights(student)
    student.scale = torch.tensor(7.0)
    assert weights.live()["scale"].item() == 7
    weights.put({"scale": torch.tensor(3.0)})
    assert student.scale.item() == 3


def test_replaced_weights_come_back() -> None:
    student = Student()
    weights, before = Weights(student), contents(student)
    other = {name: each.detach() + 1 for name, each in weights.live(["first.weight", "scale"]).items()}
    with pytest.raises(ValueError), weights.replaced(other):
        assert torch.equal(student.first.weight, other["first.weight"])
        raise ValueError
    assert contents(student) == before


def test_fitting_asks_for_names_shapes_and_types() -> None:
    weights = Weights(nn.Linear(2, 1))
    right = weights.copy()
    assert weights.fitting(right) and weights.fitting({"bias": right["bias"]}, ["bias"])
    assert not weights.fitting({"bias": right["bias"]})
    assert not weights.fitting({**right, "more": right["bias"]})
    assert not weights.fitting({**right, "bias": torch.zeros(2)})
    assert not weights.fitting({**right, "bias": right["bias"].double()})


def test_the_average_follows_the_formula() -> None:
    module = nn.Linear(1, 1, bias=False)
    average, expected = Average(Weights(module), 0.5), 0.0
    module.weight.data.fill_(0.0)
    average.values["weight"].fill_(0.0)
    for step, value in enumerate([8.0, 4.0, 2.0, 6.0, 1.0, 3.0, 5.0, 7.0, 9.0, 2.0], 1):
        module.weight.data.fill_(value)
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
        assert average.values["weight"].item() == pytest.approx(expected)
    assert decay == 0.5


def test_what_ships_is_the_average_of_weights_and_running_statistics() -> None:
    """Against an average kept by hand beside a training without one."""
    seen: list[dict[str, torch.Tensor]] = []

    class Watched(Learner):
        def forward(self, batch):  # type: ignore[no-untyped-def]
            seen.append(Weights(self).copy())
            return super().forward(batch)

    plain = {}
    for ema in (None, 0.8):
        seen.clear()
        with deterministic(0):
            learner = Watched()
            loop.fit(learner, stream(), None, TERMS, settings(steps=12, ema=ema))  # type: ignore[arg-type]
        plain = plain or Weights(learner).copy()
    steps = [*seen[1:], plain]  # the weights after each step: both trainings take the same ones
    kept = seen[0]
    for step, now in enumerate(steps, 1):
        decay = min(0.8, (1 + step) / (10 + step))
        kept = {
            name: decay * kept[name] + (1 - decay) * each if each.is_floating_point() else each
            for name, each in now.items()
        }
    shipped = Weights(learner).live()
    for name, each in kept.items():
        assert torch.allclose(shipped[name].double(), each.double(), atol=1e-6), name
    assert not torch.allclose(shipped["student.first.weight"], plain["student.first.weight"], atol=1e-4)
    assert not torch.allclose(
        shipped["student.norm.running_mean"], plain["student.norm.running_mean"], atol=1e-4
    )
    assert shipped["student.norm.num_batches_tracked"] == 12
