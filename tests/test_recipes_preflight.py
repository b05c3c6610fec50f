from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nets import described
from torch import Tensor, nn

from modelbuild import dataset, network
from modelbuild.dataset import DataSet
from modelbuild.errors import RecipeError
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


def kinds(value: float, many: int = 1) -> list[str]:
    """What is found of a value that is given on as it is, beside many ones of its own size."""
    x = np.full((4, many), value, np.float32)
    return [each["kind"] for each in preflight.examined(Outer(lambda x: x * 1.0), {"x": x})["findings"]]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (65504, "near overflow"),
        (65505, "overflow"),
        (-65505, "overflow"),
        (65504 / 4, None),
        (65504 / 4 + 1, "near overflow"),
        (9e29, "overflow"),
        (1.1e30, "sentinel"),
        (2.0**-14, None),
        (2.0**-14 * 0.99, "subnormal"),
        (0, None),
    ],
)
def test_where_each_danger_begins(value: float, expected: str | None) -> None:
    assert set(kinds(value)) == ({expected} if expected else set())


@pytest.mark.parametrize(("beside", "worth"), [(2.0**-8 * 0.99, True), (2.0**-8, False)])
def test_how_large_a_neighbour_makes_small_values_unimportant(beside: float, worth: bool) -> None:
    x = np.full((4, 100), 1e-6, np.float32)
    x[:, 0] = beside
    assert bool(preflight.examined(Outer(lambda x: x * 1.0), {"x": x})["findings"]) is worth


@pytest.mark.parametrize(("small", "worth"), [(4, False), (5, True), (8, True)])
def test_how_many_small_values_are_worth_a_word(small: int, worth: bool) -> None:
    x = np.full((1, 400), 1e-3, np.float32)
    x[0, :small] = 1e-6
    assert bool(preflight.examined(Outer(lambda x: x * 1.0), {"x": x})["findings"]) is worth


@pytest.mark.parametrize("name", ["exp", "expm1", "exp2", "sinh", "cosh"])
def test_an_exponential_of_more_than_float16_holds(name: str) -> None:
    for argument, dangerous in ((11.08, False), (11.1, True)):
        x = {"x": np.full((2, 3), argument, np.float32)}
        found = preflight.examined(Outer(getattr(torch, name)), x)["findings"]
        told = [each["value"] for each in found if (each["kind"], each["operation"]) == ("exponential", name)]
        assert told == ([pytest.approx(argument)] if dangerous else [])


@pytest.mark.parametrize("name", ["log", "log2", "log10", "reciprocal", "rsqrt"])
def test_an_inverse_of_less_than_float16_holds(name: str) -> None:
    for argument, dangerous in ((2.0**-14, False), (2.0**-14 * 0.9, True)):
        x = {"x": np.array([[1, argument]], np.float32)}
        found = preflight.examined(Outer(getattr(torch, name)), x)["findings"]
        told = [each["value"] for each in found if (each["kind"], each["operation"]) == ("logarithm", name)]
        assert told == ([pytest.approx(argument)] if dangerous else [])


def test_an_inverse_of_a_large_negative_number_is_harmless() -> None:
    assert found(lambda x: torch.reciprocal(-x)) == []
    x = {"x": np.array([[-2, -1e-6]], np.float32)}
    (told,) = preflight.examined(Outer(torch.reciprocal), x)["findings"][-1:]
    assert (told["kind"], told["value"]) == ("near overflow", pytest.approx(1e6)) or told["value"] > 0


def test_only_what_an_exponential_takes_is_looked_at() -> None:
    """A large number is no danger to a product, and a small one none to a sum."""
    assert found(lambda x: x * 12) == []
    assert found(lambda x: x + 1e-6 * x) != [("logarithm", "body.1", "add")]


class Twice(nn.Module):
    """One layer that is called with values ever smaller, or ever larger."""

    def __init__(self, factors: tuple[float, ...], do: Any) -> None:
        super().__init__()
        self.inner, self.factors = Inner(do), factors

    def forward(self, x: Tensor) -> Tensor:
        result = x
        for factor in self.factors:
            result = self.inner(x * factor)
        return result.clamp(0.5, 1)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("kind", "operation", "do", "factors", "worst"),
    [
        ("overflow", "neg", torch.neg, (1e5, 1e6), 1e6),
        ("subnormal", "neg", torch.neg, (1e-5, 1e-6), 1e-6),
        ("logarithm", "log", torch.log, (1e-5, 1e-6), 1e-6),
        ("exponential", "exp", torch.exp, (20.0, 30.0), 30),
        ("sentinel", "neg", torch.neg, (1e31, 1e33), 1e33),
    ],
)
def test_the_worst_of_several_calls_is_kept_in_either_order(
    kind: str, operation: str, do: Any, factors: Any, worst: float, order: int
) -> None:
    record = preflight.examined(Twice(factors[::order], do), {"x": np.ones((2, 3), np.float32)})
    (told,) = [each for each in record["findings"] if each["kind"] == kind and each["module"] == "inner"]
    assert told["operation"] == operation
    assert told["value"] == pytest.approx(worst)


@pytest.mark.parametrize("order", [1, -1])
def test_the_largest_share_and_the_largest_value_are_kept(order: int) -> None:
    x = {"x": np.array([[1, 10, 100, 1000]], np.float32)}
    record = preflight.examined(Twice((1e2, 1e4)[::order], torch.neg), x)
    (told,) = [
        each for each in record["findings"] if each["kind"] == "overflow" and each["operation"] == "neg"
    ]
    assert told["share"] == 0.75
    assert record["largest"] == pytest.approx(1e7)


@pytest.mark.parametrize(
    ("kind", "row", "value", "share"),
    [
        ("overflow", [1e5, 2e5, 2e4, 1], 2e5, 0.5),
        ("near overflow", [2e4, 3e4, 4e4, 1], 4e4, 0.75),
        ("sentinel", [1e31, 1, 1, 1], 1e31, 0.25),
        ("subnormal", [1e-6, 1e-5, 1e-3, 0], 1e-6, 0.5),
    ],
)
def test_value_and_share_are_of_what_is_in_danger(
    kind: str, row: list[float], value: float, share: float
) -> None:
    x = {"x": np.array([row], np.float32)}
    told = {each["kind"]: each for each in preflight.examined(Outer(torch.neg), x)["findings"]}
    assert set(told) == {kind}
    assert (told[kind]["value"], told[kind]["share"]) == (pytest.approx(value), share)


def test_infinity_is_told_as_the_largest_number_and_what_is_masked_is_not_the_largest() -> None:
    record = preflight.examined(Outer(lambda x: x.masked_fill(x > 1, -torch.inf)), X)
    told = [each["value"] for each in record["findings"] if each["kind"] == "sentinel"]
    assert told and set(told) == {torch.finfo(torch.float32).max}
    assert record["largest"] == 2
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert preflight.examined(Outer(lambda x: x * torch.inf), X)["largest"] == 2


def test_the_worst_kinds_stand_first_and_of_each_the_largest() -> None:
    def do(x: Tensor) -> Tensor:
        huge, larger = torch.neg(x * 1e5), torch.abs(x * 1e6)
        exponential = torch.exp(x * 6)
        masked = x.masked_fill(x > 1, -1e31)
        near, low, faint = torch.sin(x) * 4e4, torch.log(x * 1e-5), torch.square(x * 1e-3)
        return x + 0 * (huge + larger + exponential + masked + near + low + faint)

    record = preflight.examined(Outer(do), X)
    assert list(dict.fromkeys(each["kind"] for each in record["findings"])) == [
        "overflow", "exponential", "sentinel", "near overflow", "logarithm", "subnormal",
    ]  # fmt: skip
    beyond = [each["value"] for each in record["findings"] if each["kind"] == "overflow"]
    assert beyond == sorted(beyond, reverse=True)


def test_a_view_of_what_was_looked_at_is_not_looked_at_again_and_writing_in_place_is() -> None:
    def do(x: Tensor) -> Tensor:
        y = x.clone()
        y.mul_(1e5)
        return y.unsqueeze(-1).expand(-1, -1, 2).transpose(1, 2)

    told = found(do)
    assert ("overflow", "body.1", "mul") in told
    assert {each[2] for each in told if each[0] == "overflow"} == {"mul"}


def test_whole_numbers_and_empty_tensors_are_no_values_to_look_at() -> None:
    def do(x: Tensor) -> Tensor:
        whole = torch.full((3,), 10**6) * 2
        return x + 0.0 * whole.sum().clamp(0, 1) + torch.zeros(0).abs().sum() + torch.zeros(0, 3).exp().sum()

    assert found(do) == []


def test_a_module_is_named_only_while_it_runs() -> None:
    class After(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner(lambda x: x * 1.0)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.inner(x) * 1e5
            return result

    (told,) = preflight.examined(After(), X)["findings"]
    assert (told["module"], told["operation"]) == ("", "mul")


def test_no_hook_stays_after_an_error() -> None:
    def fail(x: Tensor) -> Tensor:
        raise ZeroDivisionError

    module = Outer(fail)
    with pytest.raises(RecipeError, match="ZeroDivisionError"):
        preflight.examined(module, X)
    assert all(not each._forward_hooks and not each._forward_pre_hooks for each in module.modules())


class Settled(nn.Module):
    """Refuses to run where kernels may differ from run to run, or do several operations at once."""

    def forward(self, x: Tensor) -> Tensor:
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.mha.get_fastpath_enabled()
        return x * 2


def test_the_recipe_runs_deterministic_and_plain(tmp_path: Path) -> None:
    for name in ("student", "evaluation", "out"):
        (tmp_path / name).mkdir()
    network.save(tmp_path / "student", Settled(), described(Settled))
    dataset.write(tmp_path / "evaluation", DataSet(X, {}))
    given = {name: tmp_path / name for name in ("student", "evaluation")}
    preflight.examine(given, {}, tmp_path / "out")


class Steep(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 1e5


def test_the_recipe_writes_what_was_found(tmp_path: Path) -> None:
    for name in ("student", "evaluation", "out"):
        (tmp_path / name).mkdir()
    network.save(tmp_path / "student", Steep(), described(Steep))
    dataset.write(tmp_path / "evaluation", DataSet(X, {}))
    given = {name: tmp_path / name for name in ("student", "evaluation")}
    preflight.examine(given, {}, tmp_path / "out")
    record = json.loads((tmp_path / "out" / "preflight.json").read_text())
    assert [(each["kind"], each["operation"]) for each in record["findings"]] == [("overflow", "mul")]
