"""What a network takes in memory: by hand, against storages that really live, and as the limit of a build."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.fx import Interpreter, Node
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelbuild import capacity, dataset
from modelbuild.capacity import Footprint
from modelbuild.dataset import DataSet
from modelbuild.errors import RecipeError
from modelbuild.recipes import capacity as recipe
from modelbuild.zoo.convnet import ConvNet

torch.set_num_threads(1)
FLOAT = 4  # bytes


class Chain(nn.Module):
    """[n, 4] -> [n, 8] -> [n, 16] -> [n, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 16), nn.Linear(16, 2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


class Residual(nn.Module):
    """The first result is needed until the last addition."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.wide, self.narrow = nn.Linear(4, 8), nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        result: Tensor = y + self.narrow(self.wide(y))
        return result


class Views(nn.Module):
    """Three names of one storage; the reshape of a transposed one is a copy."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x).view(-1, 2, 4).flatten(1)
        left, right = y.chunk(2, dim=1)
        return (left + right).reshape(-1) * y.t().reshape(8, -1)[:4].reshape(-1)


class InPlace(nn.Module):
    """A ReLU that may or may not write over its input, and dropout, which evaluation passes by."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace), nn.Dropout(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


class Dropping(nn.Module):
    """Dropout that nobody switched off."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, training=True)


class Casts(nn.Module):
    """Operations that may or may not copy, outputs that are inputs or views, and results that nobody needs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.register_buffer("scale", torch.arange(4.0), persistent=False)
        self.plain = torch.ones(4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.layer(x).to(torch.float32).contiguous()
        y.abs().double()
        z = nn.functional.dropout(y * self.scale[:2].repeat(2), 0.5, training=False)
        largest, _ = z.unsqueeze(0).max(dim=0)
        return y.double(), largest + self.plain, x, y[:1]


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


class Branches(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: (y.repeat(10, 1) * 2).sum(0), lambda y: y[0] + 1, (x,))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(100, 8), nn.Linear(8, 100, bias=False)
        self.head.weight = self.table.weight
        self.register_buffer("steps", torch.zeros(3, dtype=torch.int64))
        self.constant = torch.ones(5)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.table(x)) + self.constant[0]
        return result


class Frames(nn.Module):
    """As many rows as the values say, and `bounded` says no more than 50."""

    def __init__(self, bounded: bool) -> None:
        super().__init__()
        self.bounded = bounded

    def forward(self, x: Tensor) -> Tensor:
        length = x.sum().to(torch.int64).item()
        torch._check(length >= 0)
        if self.bounded:
            torch._check(length <= 50)
        return torch.zeros(length, 3) + 1


class Unexportable(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2 if x.sum() > 0 else x


class FromValues(nn.Module):
    """Its shape depends on a value, which a fake tensor does not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, int(torch.tensor([3]).numpy()[0]))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x)
        return result


class Wide(nn.Module):
    """[n, 4] -> [n, width] -> [n, 2]: 7 width + 2 weights, 4 + width or width + 2 numbers a sample."""

    def __init__(self, width: int = 8, depth: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), *(nn.Linear(width, 2) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layers(x)
        return result


# --- the peak, by hand


@pytest.mark.parametrize(
    ("module", "numbers"),
    [
        (Chain(), 4 + 8 + 16),
        (Residual(), 4 + 8 + 32 + 8),
        (InPlace(True), 4 + 8 + 2),
        (InPlace(False), 4 + 8 + 8),
        (Dropping(), 4 + 4),
        (Views(), 4 + 8 + 4 + 4),  # x, y, the sum of its halves, the copy of half its transpose
    ],
)
@pytest.mark.parametrize("batch", [1, 6])
def test_the_peak_by_hand(module: nn.Module, numbers: int, batch: int) -> None:
    found = capacity.footprint(module, [torch.zeros(batch, 4)])
    assert found.activation_bytes == FLOAT * numbers * batch


def test_the_scores_of_attention_count() -> None:
    # [1, 2 heads, 50, 4]: scores and their softmax, 2 * 50 * 50 each, are more than softmax and result
    found = capacity.footprint(Attention(), [torch.zeros(1, 2, 50, 4)])
    assert found.activation_bytes == FLOAT * (2 * 50 * 4 + 2 * 2 * 50 * 50)
    few = capacity.footprint(Attention(), [torch.zeros(1, 2, 3, 4)])
    assert few.activation_bytes == FLOAT * (2 * 3 * 4 + 2 * 3 * 3 + 2 * 3 * 4)


def test_the_larger_branch_counts() -> None:
    # x [3, 4], the condition (1 byte); inside, 10 copies of x and twice them
    found = capacity.footprint(Branches(), [torch.zeros(3, 4)])
    assert found.activation_bytes == FLOAT * 12 + 1 + FLOAT * 2 * 120


def test_weights_are_parameters_buffers_and_constants_each_once() -> None:
    found = capacity.footprint(Tied(), [torch.zeros(1, 7, dtype=torch.int64)])
    assert (found.parameters, found.weight_bytes) == (800, FLOAT * 800 + 8 * 3 + FLOAT * 5)
    # ids, embedded, logits, and the sum with a view of the constant
    assert found.activation_bytes == 8 * 7 + FLOAT * (100 * 7 + 100 * 7)
    assert found.total == found.weight_bytes + found.activation_bytes


# --- the peak, against storages that live


class Living(TorchDispatchMode):
    """The most bytes of storages alive after any operation, those of `weights` left out."""

    def __init__(self, weights: Sequence[Tensor], inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.weights = {each.untyped_storage()._cdata for each in weights}
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0
        self._see(inputs)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._see(tree_leaves(result))
        return result

    def _see(self, values: Sequence[Any]) -> None:
        self.alive = {key: each for key, each in self.alive.items() if not each[0].expired()}
        for storage in (each.untyped_storage() for each in values if isinstance(each, Tensor)):
            if storage._cdata not in self.weights:
                self.alive[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.most = max(self.most, sum(size for _, size in self.alive.values()))


class Forgetting(Interpreter):
    """Lets go of a result after its last use, and of one that nobody uses at once."""

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        return result if n.users or n.op == "output" else None


def lived(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """The most bytes alive while the graph of `module` runs on real numbers."""
    program = torch.export.export(module.eval(), tuple(inputs), strict=False)
    known = {**program.constants, **program.state_dict}
    waiting = iter(inputs)
    specs = program.graph_signature.input_specs
    fed = [next(waiting) if spec.target is None else known[spec.target].detach() for spec in specs]
    weights = [each for each, spec in zip(fed, specs, strict=True) if spec.target is not None]
    with torch.no_grad(), Living(weights, inputs) as living:
        Forgetting(program.graph_module).run(*fed)
    return living.most


@pytest.mark.parametrize(
    "module",
    [Chain(), Residual(), Views(), InPlace(True), InPlace(False), ConvNet(8)],
    ids=lambda each: type(each).__name__,
)
@pytest.mark.parametrize("batch", [1, 3])
def test_the_peak_is_what_lives_when_the_graph_runs(module: nn.Module, batch: int) -> None:
    shape = (batch, 1, 8, 8) if isinstance(module, ConvNet) else (batch, 4)
    inputs = [torch.randn(shape)]
    assert capacity.footprint(module, inputs).activation_bytes == lived(module, inputs)


def test_the_peak_is_what_lives_also_with_copies_that_may_be_none() -> None:
    module, inputs = Casts(), [torch.randn(3, 4)]
    assert capacity.footprint(module, inputs).activation_bytes == lived(module, inputs)


@pytest.mark.parametrize(
    ("width", "expected"),
    [(8, Footprint(4258, 17376, 4352)), (32, Footprint(58474, 235200, 16640))],
)
def test_the_example_network(width: int, expected: Footprint) -> None:
    # At the peak: the image, 64 numbers, and the first block before and after normalisation, 64 width each.
    assert expected.activation_bytes == FLOAT * (64 + 2 * 64 * width)
    assert capacity.of_build(lambda: ConvNet(width), [torch.zeros(1, 1, 8, 8)]) == expected


# --- what cannot be computed


def test_a_length_that_depends_on_values_counts_with_its_bound() -> None:
    # x, its sum as a float and, at the end, the zeros and the sum with 1, at most 50 * 3 each
    found = capacity.footprint(Frames(True), [torch.zeros(2)])
    assert found.activation_bytes == FLOAT * (2 + 2 * 150)
    for measure in (
        capacity.footprint(Frames(True), [torch.zeros(2)]),
        capacity.of_build(frames, [torch.zeros(2)]),
    ):
        assert measure == found


def frames() -> nn.Module:
    return Frames(True)


def test_a_length_without_a_bound_is_refused() -> None:
    with pytest.raises(
        RecipeError, match=r'size of "zeros" depends on values.*torch\._check\(length <= LONGEST\)'
    ):
        capacity.footprint(Frames(False), [torch.zeros(2)])


def test_a_module_that_cannot_be_exported_is_refused_in_words() -> None:
    with pytest.raises(
        RecipeError, match="Unexportable: cannot be exported, and its memory is read off the exported"
    ):
        capacity.footprint(Unexportable(), [torch.zeros(2)])


def test_weights_are_not_allocated_where_the_network_can_be_made_without() -> None:
    # 4 TiB of weights
    found = capacity.of_build(lambda: nn.Linear(1 << 20, 1 << 20, bias=False), [torch.zeros(1, 1 << 20)])
    assert found == Footprint(1 << 40, 1 << 42, 1 << 23)


def test_a_network_that_needs_values_is_made_with_them() -> None:
    assert capacity.of_build(FromValues, [torch.zeros(1, 4)]) == Footprint(15, 60, FLOAT * 7)
    with pytest.raises(RecipeError, match="my network: never"):
        capacity.of_build(refused, [torch.zeros(1, 4)])


def refused() -> nn.Module:
    raise RecipeError("my network", "never")


# --- the width that fits


def sized(each: Callable[[int], int], asked: list[int]) -> Callable[[int], Footprint]:
    def build(width: int) -> Footprint:
        asked.append(width)
        return Footprint(width, each(width), 0)

    return build


@pytest.mark.parametrize("limit", [10, 11, 19, 20, 29, 990, 999, 1000, 1001, 10_230, 10_240])
def test_the_width_is_the_largest_that_fits_and_its_neighbour_was_looked_at(limit: int) -> None:
    asked: list[int] = []
    width = capacity.solve_width(sized(lambda each: 10 * each, asked), limit)
    assert 10 * width <= limit < 10 * (width + 1)
    assert {width, width + 1} <= set(asked) and len(asked) == len(set(asked))


def test_where_no_width_fits_the_smallest_is_told() -> None:
    with pytest.raises(
        RecipeError, match=r"a width of 1 takes 10 bytes, and the limit is 9\. Raise the budget"
    ):
        capacity.solve_width(sized(lambda each: 10 * each, []), 9)


def test_a_network_that_does_not_grow_ends_the_search() -> None:
    asked: list[int] = []
    with pytest.raises(RecipeError, match="does not grow with it"):
        capacity.solve_width(sized(lambda _: 10, asked), 10)
    assert max(asked) <= capacity.WIDEST


# --- the recipes


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    dataset.write(folder, DataSet({"x": np.zeros((5, 4), np.float32)}, {}))
    return folder


def params(args: dict[str, Any], budget: int, fraction: float = 1.0, platform: str = "") -> dict[str, Any]:
    asked = {"budget": budget, "fraction": fraction}
    return {"module": "test_capacity:Wide", "args": args, "capacity": asked, "platform": platform}


def measured(data: Path, asked: dict[str, Any], name: str = "capacity") -> dict[str, Any]:
    out = data.parent / name
    out.mkdir(exist_ok=True)
    recipe.measure({"evaluation": data}, asked, out)
    found: dict[str, Any] = json.loads((out / "capacity.json").read_text())
    return found


def takes(width: int) -> int:
    return FLOAT * (7 * width + 2) + FLOAT * (4 + width + 2)


def test_the_record_has_the_figures_of_one_sample_and_their_limit(data: Path) -> None:
    assert measured(data, params({"width": 8}, 1000, 0.65, "jetson")) == {
        "module": "test_capacity:Wide",
        "args": {"width": 8},
        "parameters": 58,
        "weight_bytes": FLOAT * 58,
        "activation_bytes": FLOAT * (4 + 8 + 2),
        "total": takes(8),
        "budget": 1000,
        "fraction": 0.65,
        "limit": 650,
        "platform": "jetson",
    }


def test_a_fraction_is_what_it_looks_like(data: Path) -> None:
    assert int(300 * 0.41) == 122  # as floats have it
    assert measured(data, params({"width": 1}, 300, 0.41))["limit"] == 123


def test_the_limit_itself_fits_and_a_byte_less_does_not(data: Path) -> None:
    assert measured(data, params({"width": 8}, takes(8)))["limit"] == takes(8)
    with pytest.raises(RecipeError) as caught:
        measured(data, params({"width": 8}, 2 * takes(8) - 2, 0.5, "jetson"))
    assert str(caught.value) == (
        "test_capacity:Wide: takes 288 bytes, 232 of weights and 56 of activations at their peak, and the limit "
        'is 287: 0.5 of the 574 bytes of platform "jetson". A width of 7 fits; "width": "auto" finds it.'
    )


@pytest.mark.parametrize(("args", "budget"), [({"width": 8, "depth": 1}, 10), ({"depth": 1}, 100)])
def test_without_a_width_that_fits_the_remedy_is_in_words(
    data: Path, args: dict[str, Any], budget: int
) -> None:
    with pytest.raises(RecipeError, match=r"Make the network smaller, or raise student\.capacity\."):
        measured(data, params(args, budget))


@pytest.mark.parametrize("width", [1, 5, 16, 37])
def test_auto_becomes_the_largest_width_that_fits(data: Path, width: int) -> None:
    found = measured(data, params({"width": "auto", "depth": 1}, takes(width + 1) - 1))
    assert found["args"] == {"width": width, "depth": 1} and found["total"] == takes(width)


def test_what_auto_cannot_be_is_refused(data: Path) -> None:
    with pytest.raises(RecipeError, match='width and depth are all "auto"'):
        measured(data, params({"width": "auto", "depth": "auto"}, 1000))
    with pytest.raises(RecipeError, match="a width of 1 takes"):
        measured(data, params({"width": "auto"}, 10))
    for without in ({"capacity": None}, {}):
        asked = {"module": "test_capacity:Wide", "args": {"width": "auto"}, **without}
        with pytest.raises(RecipeError, match='width is "auto", and there is no capacity to solve for'):
            measured(data, asked)


def test_without_a_limit_there_are_figures_and_nothing_is_over(data: Path) -> None:
    found = recipe.weigh({"module": "test_capacity:Wide"}, recipe.sample(data), None)
    assert (found.net["args"], found.footprint.total, found.limit, found.over) == ({}, takes(8), None, "")


def test_a_budget_that_leaves_the_network_alone_leaves_its_bytes_alone(data: Path) -> None:
    written = []
    for index, budget in enumerate((takes(9), takes(10) - 1)):
        measured(data, params({"width": "auto"}, budget), f"capacity{index}")
        out = data.parent / f"network{index}"
        out.mkdir()
        recipe.choose({"capacity": data.parent / f"capacity{index}"}, {}, out)
        written.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert written[0] == written[1]
    assert json.loads(written[0]["network.json"]) == {"module": "test_capacity:Wide", "args": {"width": 9}}


def test_a_folder_without_a_measurement_is_no_network(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r"capacity: holds no measurement: FileNotFoundError.*Build it again"
    ):
        recipe.choose({"capacity": tmp_path}, {}, tmp_path)


def test_a_network_whose_sizes_only_a_batch_tells_is_not_measured(data: Path) -> None:
    asked = {**params({"out_features": 3}, 1000), "module": "torch.nn:LazyLinear"}
    with pytest.raises(
        RecipeError, match=r'the shape of "weight" is not known .* in place of nn\.LazyLinear'
    ):
        measured(data, asked)
