"""What ships computes what PyTorch computes: to 1e-5 in float32, and in float16 no worse than float16 alone makes it.

The same limits find faults planted in the files that ship.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
import torch
from made import RUNTIME, Array, Made, differences, make
from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.recipes.rounded import rounded

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")
SMALL: Mapping[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "convnet": ({}, {}),
    "encoder": ({"width": 16, "heads": 2}, {"length": 16}),
    "wave": ({"hidden": 12}, {"samples": 2}),
    "plain1d": ({"hidden": 12}, {"samples": 2}),
}
EXACT, TIMES = 1e-5, 2


@dataclass(frozen=True)
class Shipped:
    """Packages of a network in both precisions, and how far each way of running may be off, by output."""

    made: Mapping[str, Made]
    limits: Mapping[str, Mapping[str, float]]

    def ways(self, precision: str) -> dict[str, Mapping[str, float]]:
        return {
            name: self.limits[way.rounds or "float32"]
            for name, way in RUNTIME.runs({"precision": precision}).items()
        }


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shipped]:
    @cache
    def ship(name: str) -> Shipped:
        args, sizes = SMALL[name]
        net, folder = nets.NETS[name], tmp_path_factory.mktemp(name)
        inputs = net.inputs(**sizes)
        made = {
            precision: make(folder, net.kind, inputs, args, deployment_target="iOS17", precision=precision)
            for precision in ("float32", "float16")
        }
        return Shipped(made, {"float32": dict.fromkeys(made["float32"].want, EXACT)} | half(made["float32"]))

    return ship


def half(made: Made) -> dict[str, dict[str, float]]:
    """Twice what each arithmetic below float32 alone does to the outputs."""
    found = {}
    for arithmetic in ("float16", "float16-sums"):
        off = differences(rounded(copy.deepcopy(made.module), made.inputs, arithmetic), made.want)
        found[arithmetic] = {name: TIMES * value for name, value in off.items()}
    return found


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", SMALL)
def test_a_package_is_as_near_to_pytorch_as_its_arithmetic_allows(
    shipped: Callable[[str], Shipped], name: str, precision: str
) -> None:
    ship = shipped(name)
    for way, limits in ship.ways(precision).items():
        params = RUNTIME.runs({"precision": precision})[way].options
        errors = ship.made[precision].errors(options=params)
        assert all(errors[output] <= limit for output, limit in limits.items()), (way, errors, limits)
        assert precision == "float32" or all(errors.values())  # float16 is really computed in


@pytest.mark.parametrize("name", SMALL)
def test_the_limits_are_far_below_what_the_inputs_do_to_the_outputs(
    shipped: Callable[[str], Shipped], name: str
) -> None:
    ship = shipped(name)
    for limits in ship.limits.values():
        for output, limit in limits.items():
            assert limit < 0.05 * np.ptp(ship.made["float32"].want[output], axis=0).max()


def test_both_ways_of_adding_up_differ(shipped: Callable[[str], Shipped]) -> None:
    made = shipped("wave").made["float16"]
    ways = RUNTIME.runs({"precision": "float16"})
    one, two = (made.run(options=way.options).outputs["wave"] for way in ways.values())
    assert not np.array_equal(one, two)


# -- planted faults

WEIGHTS = {
    "convnet": "head.weight",
    "encoder": "layers.1.linear1.weight",
    "wave": "gru.weight_ih_l0",
    "plain1d": "last.weight",
}


def spoilt(made: Made, folder: Path, name: str, change: Callable[[Array], Any]) -> Made:
    """A copy whose weight `name` is changed in weight.bin."""
    (path,) = shutil.copytree(made.folder, folder / "spoilt").rglob("weight.bin")
    data = path.read_bytes()
    weight: Array = made.module.state_dict()[name].numpy()
    for part in (
        np.split(weight, 3) if name.startswith("gru") else [weight]
    ):  # one matrix a gate in the package
        held = part.astype(made.params["options"]["precision"])
        assert data.count(held.tobytes()) == 1
        data = data.replace(held.tobytes(), change(held).astype(held.dtype).tobytes())
    path.write_bytes(data)
    return replace(made, folder=folder / "spoilt")


def beyond(made: Made, ways: Mapping[str, Mapping[str, float]]) -> bool:
    """Whether every way of running shows an output beyond its limit."""
    runs = RUNTIME.runs(made.params["options"])
    return all(
        any(not error <= limits[output] for output, error in made.errors(options=runs[way].options).items())
        for way, limits in ways.items()
    )


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", SMALL)
def test_a_weight_that_is_one_percent_off_is_seen(
    shipped: Callable[[str], Shipped], tmp_path: Path, name: str, precision: str
) -> None:
    ship = shipped(name)
    wrong = spoilt(ship.made[precision], tmp_path, WEIGHTS[name], lambda weight: weight * 1.01)
    assert beyond(wrong, ship.ways(precision))
    (tmp_path / "same").mkdir()
    same = spoilt(ship.made[precision], tmp_path / "same", WEIGHTS[name], lambda weight: weight * 1)
    assert not beyond(same, ship.ways(precision))


@pytest.mark.parametrize("name", ["convnet", "encoder", "plain1d"])
def test_a_weight_too_large_for_float16_is_seen(
    shipped: Callable[[str], Shipped], tmp_path: Path, name: str
) -> None:
    wrong = spoilt(
        shipped(name).made["float16"], tmp_path, WEIGHTS[name], lambda weight: np.copysign(6e4, weight)
    )
    for way in RUNTIME.runs({"precision": "float16"}).values():
        outputs = wrong.run(options=way.options).outputs
        unbounded = [output for output, array in outputs.items() if not np.isfinite(array).all()]
        saturated = name == "plain1d" and set(np.abs(outputs["wave"]).ravel()) >= {1.0}  # tanh of infinity
        assert unbounded or saturated


class Twins(nn.Module):
    """x: [n, 6] -> "left" and "right", both [n, 6]."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"left": torch.relu(self.one(x)), "right": torch.relu(self.two(x))}


def swap(made: Made, one: str, two: str) -> None:
    """Let the outputs change their names, in the program that ships."""
    other = {one: two, two: one}
    spec = made.spec
    for block in spec.mlProgram.functions["main"].block_specializations.values():
        block.outputs[:] = [other.get(name, name) for name in block.outputs]
        for operation in block.operations:
            bound = [each for value in operation.inputs.values() for each in value.arguments]
            for port in [*operation.outputs, *bound]:
                port.name = other.get(port.name, port.name)
    for port in spec.description.output:
        port.name = other[port.name]
    (path,) = made.folder.rglob("model.mlmodel")
    path.write_bytes(spec.SerializeToString(deterministic=True))


def test_outputs_that_changed_their_names_are_seen(tmp_path: Path) -> None:
    inputs = {"x": np.random.default_rng(0).standard_normal((5, 6), dtype=np.float32)}
    made = make(tmp_path, Twins, inputs)
    assert all(error <= EXACT for error in made.errors().values())
    swap(made, "left", "right")
    assert all(error > 0.1 for error in made.errors().values())
    swap(made, "left", "right")
    assert all(error <= EXACT for error in made.errors().values())


def test_an_output_that_is_gone_is_said_to_be(tmp_path: Path) -> None:
    made = make(tmp_path, Twins, {"x": np.zeros((5, 6), np.float32)})
    spec = made.spec
    for block in spec.mlProgram.functions["main"].block_specializations.values():
        block.outputs[:] = ["right"]
    (path,) = made.folder.rglob("model.mlmodel")
    path.write_bytes(spec.SerializeToString(deterministic=True))
    with pytest.raises(RecipeError, match='"left"'):
        made.run()
