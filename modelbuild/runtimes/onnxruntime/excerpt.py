"""Part of an ONNX model as a model of its own: the nodes that compute some values from others, and their weights."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import FunctionProto, GraphProto, ModelProto, NodeProto

from modelbuild.callables import in_words
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.onnxruntime import sessions, shapes, wiring
from modelbuild.runtimes.onnxruntime.options import NAME, Options

FILE = "shipped.onnx"


def write(model: ModelProto, out: Path, reads: Sequence[str], gives: Sequence[str]) -> str:
    """Write what `cut` gives into folder `out`, once the ONNX checker and ONNX Runtime take it; return its name."""
    part, file = cut(model, reads, gives), out / FILE
    _check(part)
    file.write_bytes(part.SerializeToString(deterministic=True))
    with sessions.opened(file, Options(("disabled",)), None):
        return FILE


def cut(model: ModelProto, reads: Sequence[str], gives: Sequence[str]) -> ModelProto:
    """The model with inputs `reads` and outputs `gives`, values of `model`, and the nodes between, as they are.

    Types and shapes are those that ONNX Runtime infers; the axes of samples stay free. Raises RecipeError for a name
    that is not a value, where `gives` needs more than `reads`, and for a shape that cannot be known.
    """
    graph, reads, gives = model.graph, [*dict.fromkeys(reads)], [*dict.fromkeys(gives)]
    _refuse_other(graph, reads, gives)
    part = _needed(graph, reads, gives)
    kinds = shapes.of(model, [*reads, *gives])
    nodes = [_without(node, reads) if {*node.output} & {*reads} else node for node in part.nodes]
    functions = _functions(model, nodes)
    result = ModelProto(
        ir_version=model.ir_version,
        producer_name=model.producer_name,
        graph=GraphProto(
            name=graph.name or "part",
            node=nodes,
            input=[kinds[name] for name in reads],
            output=[kinds[name] for name in gives],
            initializer=[each for each in graph.initializer if each.name in part.weights],
            sparse_initializer=[e for e in graph.sparse_initializer if e.values.name in part.weights],
        ),
        functions=functions,
    )
    domains = {"", *(node.domain for node in wiring.every_node(nodes))}
    domains |= {each.domain for function in functions for each in function.opset_import}
    result.opset_import.extend(e for e in model.opset_import if e.domain in (*domains, *wiring.ONNX))
    return result


class _Part(NamedTuple):
    """Nodes in the order of the model; names of initialisers."""

    nodes: list[NodeProto]
    weights: set[str]


def _refuse_other(graph: GraphProto, reads: Sequence[str], gives: Sequence[str]) -> None:
    weights = wiring.initialisers(graph)
    given = {name for node in graph.node for name in wiring.gives(node)}
    known = given | {port.name for port in graph.input if port.name not in weights}
    for asked, there, what in (
        (reads, known, "is no value of the model"),
        (gives, given, "is given by no node"),
    ):
        for name in asked:
            if name not in there:
                raise RecipeError(NAME, f'"{name}" {what}', did_you_mean(name, sorted(there)))
    for name in gives:
        if name in reads:
            raise RecipeError(
                NAME, f'"{name}" is read and given: nothing is between', "Read what it is made of"
            )
    if not gives:
        raise RecipeError(NAME, "no value is asked for", "Name one or more")


def _needed(graph: GraphProto, reads: Sequence[str], gives: Sequence[str]) -> _Part:
    """Walk from `gives` back to `reads`."""
    giver = {name: index for index, node in enumerate(graph.node) for name in wiring.gives(node)}
    weights, used, kept = wiring.initialisers(graph), set[str](), set[int]()
    pending, seen = [*gives], {*reads}
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        if name in giver:
            kept.add(giver[name])
            pending += wiring.takes(graph.node[giver[name]])
        elif name in weights:
            used.add(name)
        else:
            fact = (
                f'{_listed(gives)} cannot be computed from {_listed(reads) or "nothing"}: "{name}" is needed'
            )
            raise RecipeError(NAME, fact, f'Read "{name}" as well')
    return _Part([graph.node[index] for index in sorted(kept)], used)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def _without(node: NodeProto, reads: Sequence[str]) -> NodeProto:
    """The node with those of its values renamed that are read: a value has one source."""
    result = NodeProto()
    result.CopyFrom(node)
    result.output[:] = [f"{name} (computed)" if name in reads else name for name in node.output]
    return result


def _functions(model: ModelProto, nodes: Sequence[NodeProto]) -> list[FunctionProto]:
    """Those that `nodes` call, and those that these call."""
    called, pending = set[tuple[str, str]](), [*wiring.every_node(nodes)]
    while pending:
        node = pending.pop()
        for function in model.functions:
            key = (function.domain, function.name)
            if key == (node.domain, node.op_type) and key not in called:
                called.add(key)
                pending += wiring.every_node(function.node)
    return [each for each in model.functions if (each.domain, each.name) in called]


def _check(model: ModelProto) -> None:
    """By the ONNX checker; it cannot know the operators that ONNX Runtime adds to ONNX's own domain."""
    opset = next((each.version for each in model.opset_import if each.domain in wiring.ONNX), 0)
    for node in wiring.every_node(model.graph.node):
        if node.domain in wiring.ONNX and not onnx.defs.has(node.op_type, max_inclusive_version=opset):
            return
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise RecipeError(NAME, f"the ONNX checker refuses the excerpt: {in_words(error)}") from error
