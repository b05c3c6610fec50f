"""Two exports of one module meet where their nodes come from, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelbuild import exported
from modelbuild.provenance import module_of, operation_of, origins
from modelbuild.quiet import quietly

ATEN = torch.ops.aten
X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Two layers, one of them called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.nn.functional.gelu(self.one(x), approximate="tanh")
        low, high = torch.chunk(self.one(self.two(x)), 2, 1)
        return low * high.contiguous()


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.module = Net()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return y


class Longer(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.nn.functional.gelu(x, approximate="tanh"))


def program(module: nn.Module, *decomposed: Any) -> Any:
    table = torch._decomp.get_decompositions(decomposed) if decomposed else {}
    with quietly():
        return torch.export.export(module.eval(), (X,), strict=False).run_decompositions(table)


def test_a_call_is_the_same_however_it_was_taken_apart() -> None:
    module = Net()
    plain, apart = program(module), program(module, ATEN.gelu, ATEN.addmm, ATEN.linear)
    one, two = origins(plain), origins(apart)
    both = {origin: name for name, origin in two.items()}
    assert {*one.values()} == {*both}
    assert any(name != both[origin] for name, origin in one.items())
    ours, theirs = (exported.values(each, [X], [*found]) for each, found in ((plain, one), (apart, two)))
    for name, origin in one.items():
        torch.testing.assert_close(torch.tensor(ours[name]), torch.tensor(theirs[both[origin]]))
    assert {
        "one|aten.linear.default|0/2",
        "one|aten.linear.default|1/2",
        "two|aten.batch_norm.default|0/1",
    } <= {*both}
    assert {"|aten.chunk.default|0/1#0/2", "|aten.chunk.default|0/1#1/2"} <= {*both}


def test_what_is_inside_of_a_call_has_no_origin() -> None:
    apart = program(Net(), ATEN.gelu)
    inside = [node.name for node in apart.graph.nodes if operation_of(node) == "aten.tanh"]
    assert inside and not {*inside} & origins(apart).keys()


def test_a_wrapper_makes_no_difference() -> None:
    one, two = origins(program(Net())), origins(program(Wrapped()), "module")
    assert {*one.values()} == {*two.values()}


def test_where_the_number_of_calls_differs_nothing_is_the_same() -> None:
    one, two = ({*origins(program(kind())).values()} for kind in (Net, Longer))
    assert {origin for origin in one if "gelu" in origin} == {"|aten.gelu.default|0/1"}
    assert not {origin for origin in one & two if "gelu" in origin}
    assert "two|aten.batch_norm.default|0/1" in one & two


@pytest.mark.parametrize(
    ("path", "wrapper", "want"),
    [
        ("module.a", "module", "a"),
        ("module", "module", ""),
        ("modules.a", "module", "modules.a"),
        ("a", "", "a"),
    ],
)
def test_a_wrapper_is_taken_off_a_path_as_a_whole_name(path: str, wrapper: str, want: str) -> None:
    node = next(iter(program(Net()).graph.nodes))
    node.meta["nn_module_stack"] = {"k": (path, "kind")}
    assert module_of(node, wrapper) == want
