from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from modelbuild import dataset, network
from modelbuild.dataset import DataSet
from modelbuild.recipes import preflight

X = {"x": np.linspace(0.5, 2, 12, dtype=np.float32).reshape(4, 3)}


class Inner(nn.Module):
    def __init__(self, do: Any) -> None:
        super().__init__()
        self.do = do

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.do(x)
        return result


class Outer(nn.Module):
    def __init__(self, do: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Identity(), Inner(do))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x) * 1.0
        return result.clamp(-1, 1)


def found(do: Any) -> list[tuple[str, str, str]]:
    record = preflight.examined(Outer(do), X)
    return [(each["kind"], each["module"], each["operation"]) for each in record["findings"]]


@pytest.mark.parametrize(
    ("do", "expected"),
    [
        (lambda x: x * 4e4, ("overflow", "body.1", "mul")),
        (lambda x: x * 1e4, ("near overflow", "body.1", "mul")),
        (lambda x: x * 1e-6, ("subnormal", "body.1", "mul")),
        (
            lambda x: x.masked_fill(x > 1, torch.finfo(torch.float32).min),
            ("sentinel", "body.1", "masked_fill"),
        ),
        (lambda x: x.masked_fill(x > 1, -torch.inf), ("sentinel", "body.1", "masked_fill")),
        (lambda x: torch.exp(x * 6), ("exponential", "body.1", "exp")),
        (lambda x: torch.log(x - x + 1e-7), ("logarithm", "body.1", "log")),
        (lambda x: 1 / (x * 1e-6), ("logarithm", "body.1", "reciprocal")),
        (lambda x: torch.rsqrt(x * 1e-6), ("logarithm", "body.1", "rsqrt")),
    ],
    ids=lambda each: each[0] if isinstance(each, tuple) else "",
)
def test_each_danger_is_found_with_its_module_and_operation(do: Any, expected: tuple[str, str, str]) -> None:
    assert expected in found(do)


def test_a_harmless_model_gives_no_finding_but_the_largest_value() -> None:
    record = preflight.examined(Outer(lambda x: x * 10), X)
    assert record["findings"] == []
    assert record["largest"] == pytest.approx(20)
    assert record["tensors"] >= 3


def test_the_worst_over_all_samples_is_kept_and_the_worst_kind_comes_first() -> None:
    record = preflight.examined(Outer(lambda x: torch.exp(x * 6) * 1e-12), X)
    kinds = [each["kind"] for each in record["findings"]]
    assert kinds == sorted(kinds, key=("overflow", "exponential", "subnormal").index)
    (largest,) = [each for each in record["findings"] if each["kind"] == "overflow"]
    assert largest["value"] == pytest.approx(np.exp(12), rel=1e-5)
    assert 0 < largest["share"] < 0.5


def test_a_few_small_values_among_many_are_not_worth_a_word() -> None:
    x = np.full((4, 300), 1e-3, np.float32)
    x[0, 0] = 1e-6
    assert preflight.examined(Outer(lambda x: x * 1.0), {"x": x})["findings"] == []


def test_small_values_beside_large_ones_are_not_worth_a_word() -> None:
    x = np.full((4, 300), 1e-6, np.float32)
    x[:, 0] = 1
    assert preflight.examined(Outer(lambda x: x * 1.0), {"x": x})["findings"] == []
    assert preflight.examined(Outer(lambda x: x * 1.0), {"x": x * np.float32(1e-3)})["findings"]


def test_the_outputs_are_those_of_the_model_and_no_hook_stays() -> None:
    module = Outer(lambda x: x * 1.5)
    preflight.examined(module, X)
    assert all(not each._forward_hooks and not each._forward_pre_hooks for each in module.modules())


class Steep(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1e5


def test_the_recipe_writes_what_was_found(tmp_path: Path) -> None:
    for name in ("student", "evaluation", "out"):
        (tmp_path / name).mkdir()
    network.save(tmp_path / "student" / "weights.safetensors", Steep())
    dataset.write(tmp_path / "evaluation", DataSet(X, None))
    given = {name: tmp_path / name for name in ("student", "evaluation")}
    preflight.examine(given, {"module": f"{__name__}:Steep"}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "preflight.json").read_text())
    assert [(each["kind"], each["operation"]) for each in record["findings"]] == [("overflow", "mul")]
