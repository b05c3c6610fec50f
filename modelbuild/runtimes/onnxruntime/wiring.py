"""Which values the nodes of an ONNX graph take and give; a node with graphs inside takes what these capture, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from onnx import AttributeProto, GraphProto, NodeProto

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime.options import NAME

ONNX = ("", "ai.onnx")  # two names of one domain


def takes(node: NodeProto) -> tuple[str, ...]:
    """What the node reads, each value once: its inputs, then what its graphs read from around it."""
    found = [*node.input, *(name for graph in graphs(node) for name in captured(graph))]
    return tuple(dict.fromkeys(name for name in found if name))


def gives(node: NodeProto) -> tuple[str, ...]:
    """The outputs that have a name; an optional one may have none."""
    return tuple(name for name in node.output if name)


def graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The bodies of a node of control flow."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def captured(graph: GraphProto) -> Iterator[str]:
    """What a body reads and does not have; an output may be such a value as it is."""
    own = {port.name for port in graph.input} | initialisers(graph).keys()
    own |= {name for node in graph.node for name in gives(node)}
    for name in [*(name for node in graph.node for name in takes(node)), *(o.name for o in graph.output)]:
        if name not in own:
            yield name


def initialisers(graph: GraphProto) -> dict[str, object]:
    """All of them by name, sparse ones too."""
    dense = {each.name: each for each in graph.initializer}
    return {**dense, **{each.values.name: each for each in graph.sparse_initializer}}


def is_constant(node: NodeProto) -> bool:
    """Whether it only holds a value."""
    return node.op_type == "Constant" and node.domain in ONNX


def every_node(nodes: Sequence[NodeProto]) -> Iterator[NodeProto]:
    """`nodes` and those of the graphs inside them."""
    for node in nodes:
        yield node
        for graph in graphs(node):
            yield from every_node(graph.node)


def in_order(nodes: Sequence[NodeProto]) -> list[NodeProto]:
    """`nodes`, each after those whose values it takes. Raises RecipeError where they wait for each other."""
    giver = {name: index for index, node in enumerate(nodes) for name in gives(node)}
    sorter = TopologicalSorter(
        {index: {giver[name] for name in takes(node) if name in giver} for index, node in enumerate(nodes)}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise RecipeError(NAME, "the nodes of the model wait for each other in a circle") from error
    found: list[NodeProto] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        found += [nodes[index] for index in ready]
        sorter.done(*ready)
    return found
