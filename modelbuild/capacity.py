"""What a network takes in memory: its weights, and the most that its activations take at any moment of a call.

Nothing runs and nothing is guessed. The module is exported with fake tensors, which have shapes, storages and no
values. Every storage of the graph lives from the node that makes it to the last that uses it; the most bytes that are
alive at one node are the peak.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule, Node
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._pytree import tree_leaves
from torch.utils._sympy.value_ranges import bound_sympy

from modelbuild import network
from modelbuild.callables import in_words
from modelbuild.errors import ModelbuildError, RecipeError
from modelbuild.quiet import quietly

WIDEST = 1 << 20
MOST = 1 << 60  # bytes; beyond is no bound
Bytes = Callable[[Node, Any], int]  # of a node's storage, whose size may be an expression


@dataclass(frozen=True, slots=True)
class Footprint:
    """Trainable numbers, bytes of weights, and bytes of activations at the peak of one call."""

    parameters: int
    weight_bytes: int
    activation_bytes: int

    @property
    def total(self) -> int:
        """Bytes of weights and of activations at the peak."""
        return self.weight_bytes + self.activation_bytes


def footprint(module: nn.Module, inputs: Sequence[Tensor]) -> Footprint:
    """What `module`, put into evaluation mode, takes for one call with `inputs`: they say how many samples it has.

    Weights are parameters, buffers and constants, each once however many names it has. Activations are inputs,
    outputs and all between, in the order of the exported graph: inputs live as long as the call, outputs to its end,
    a view is its base, and an operation in place takes nothing. What an operator needs inside is the runtime's and
    not counted, except the scores of attention, which only a fused kernel does without, and graphs of control flow.
    A length that depends on values counts with the bound that `forward` states by `torch._check`.
    Raises RecipeError when the module cannot be exported, and for a length without such a bound.
    """
    place = type(module).__name__
    program = _exported(module.eval(), inputs, place)
    kept = [*module.parameters(), *module.buffers(), *_constants(program)]
    weights = {_key(each): each.untyped_storage().nbytes() for each in kept}
    given = {
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind == InputKind.USER_INPUT and hasattr(spec.arg, "name")
    }
    peak = _peak(program.graph_module, given, _bytes_in(program, place))
    return Footprint(network.parameters(module), sum(weights.values()), peak)


def of_build(build: Callable[[], nn.Module], inputs: Sequence[Tensor]) -> Footprint:
    """`footprint` of the module that `build` makes, whose weights are not allocated where it can be made without.

    Raises RecipeError as `footprint` and as `build` does.
    """
    mode = FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)
    try:
        with mode, quietly():
            module = build()
        return footprint(module, [mode.from_tensor(each) for each in inputs])
    except Exception:  # a module may need the values that it starts from: real ones, then, or a real error
        return footprint(build(), inputs)


def solve_width(build: Callable[[int], Footprint], limit: int) -> int:
    """The largest width whose footprint is at most `limit` bytes in total, found by doubling, then by halving.

    The width above it was looked at and does not fit. Raises RecipeError when not even 1 fits, and when the network
    does not grow.
    """
    if (least := build(1).total) > limit:
        fact = f"a width of 1 takes {least:,} bytes, and the limit is {limit:,}"
        raise RecipeError("capacity", fact, "Raise the budget, or make the rest of the network smaller.")
    fits, beyond = 1, 2
    while build(beyond).total <= limit:
        fits, beyond = beyond, 2 * beyond
        if beyond > WIDEST:
            fact = f"a width of {fits:,} still fits: the network does not grow with it"
            raise RecipeError("capacity", fact, 'Say "auto" for the argument that makes the network larger.')
    while beyond - fits > 1:
        middle = (fits + beyond) // 2
        fits, beyond = (middle, beyond) if build(middle).total <= limit else (fits, middle)
    return fits


def _exported(module: nn.Module, inputs: Sequence[Tensor], place: str) -> ExportedProgram:
    try:
        with torch.no_grad(), quietly():
            return torch.export.export(module, tuple(inputs), strict=False)
    except ModelbuildError:
        raise
    except Exception as error:
        fact = f"cannot be exported, and its memory is read off the exported graph: {in_words(error)}"
        raise RecipeError(
            place, fact, "Leave capacity out, or write forward so that torch.export takes it."
        ) from error


def _constants(program: ExportedProgram) -> list[Tensor]:
    names = program.graph_signature.lifted_tensor_constants
    return [each for name in names if isinstance(each := program.constants[name], Tensor)]


def _bytes_in(program: ExportedProgram, place: str) -> Bytes:
    ranges = dict(program.range_constraints)

    def size(node: Node, count: Any) -> int:
        if isinstance(count, int):
            return count
        most = bound_sympy(count.node.expr, ranges).upper
        if most > MOST:
            fact = f'the size of "{node.name}" depends on values, and nothing bounds it'
            raise RecipeError(place, fact, "State the bound in forward: torch._check(length <= LONGEST).")
        return int(most)

    return size


class _Storage(NamedTuple):
    """Bytes that live from node `first` to node `last`."""

    size: int
    first: int
    last: int


def _peak(module: GraphModule, given: set[str], size: Bytes) -> int:
    """The most bytes alive at a node; of the placeholders those called `given` count, from first to last."""
    nodes = list(module.graph.nodes)
    storages = _storages(nodes, given, size)
    born, dying = [0] * len(nodes), [0] * len(nodes)
    for each in storages:
        born[each.first] += each.size
        dying[each.last] += each.size
    peak = before = 0
    for at, node in enumerate(nodes):
        peak = max(peak, before + max(born[at], _inside(module, node, born[at], size)))
        before += born[at] - dying[at]
    return peak


def _storages(nodes: Sequence[Node], given: set[str], size: Bytes) -> list[_Storage]:
    position = {node: at for at, node in enumerate(nodes)}
    kept: dict[Node, list[int]] = {}
    found: dict[int, _Storage] = {}
    outside: set[int] = set()  # weights, and what an enclosing graph counts
    for at, node in enumerate(nodes):
        tensors = list(_tensors(node))
        kept[node] = kept[node.args[0]] if _is_its_input(node) else [_key(each) for each in tensors]  # type: ignore[index]
        if node.op == "placeholder" and node.name not in given:
            outside.update(kept[node])
        last = max([at, *(position[user] for user in node.users)])
        last = len(nodes) - 1 if node.op == "placeholder" else last
        sizes = {_key(each): each.untyped_storage().nbytes() for each in tensors}
        for key in set(kept[node]) - outside:
            known = found.get(key) or _Storage(size(node, sizes[key]), at, last)
            found[key] = known._replace(last=max(known.last, last))
    return list(found.values())


def _tensors(node: Node) -> Iterator[Tensor]:
    yield from (each for each in tree_leaves(node.meta.get("val")) if isinstance(each, Tensor))


def _key(value: Tensor) -> int:
    return int(value.untyped_storage()._cdata)


_DROPOUTS = (
    torch.ops.aten.dropout.default,
    torch.ops.aten.feature_dropout.default,
    torch.ops.aten.alpha_dropout.default,
)


def _is_its_input(node: Node) -> bool:
    """Whether the node passes its input on, though tracing gave it a storage of its own."""
    return node.target in _DROPOUTS and node.args[2:3] == (False,)


def _inside(module: GraphModule, node: Node, result: int, size: Bytes) -> int:
    """Bytes that a node needs at a time for itself, its `result` included."""
    if node.target is torch.ops.aten.scaled_dot_product_attention.default:
        scores = _scores(node, size)
        return max(2 * scores, scores + result)  # the softmax of the scores; its product with the values
    graphs = [getattr(module, str(each.target)) for each in node.all_input_nodes if each.op == "get_attr"]
    return max((_peak(each, set(), size) for each in graphs if isinstance(each, GraphModule)), default=0)


def _scores(node: Node, size: Bytes) -> int:
    """Queries [..., l, d] against keys [..., m, d]: [..., l, m]."""
    query, key = (next(_tensors(each)) for each in node.args[:2])  # type: ignore[arg-type]
    return size(node, query.numel() // query.shape[-1] * key.shape[-2] * query.element_size())
