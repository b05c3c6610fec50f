"""Which operation of a module's `forward` a node of an exported and decomposed program computes.

Two exports of one module (for ONNX, for Core ML) are taken apart differently and number their nodes differently, so
that equal names prove nothing. What they have in common is the call in `forward`: its module, its operation, and that
it is the third of four such calls. That is an origin, "features.2.1|aten.batch_norm.default|0/1"; where two programs
disagree on how many such calls there are, no origin of theirs is the same.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node


def origins(program: Any, wrapper: str = "") -> dict[str, str]:
    """Name of a node of `program` (an ExportedProgram) -> the call in `forward` whose result it is.

    Only nodes of which that is certain: of all that one call became, the one tensor that something else reads; of a
    call with several results, each that is taken straight from one node. `wrapper` is the name of the module inside
    a program that was made of a wrapper around it.
    """
    calls = _calls(program.graph)
    order: dict[tuple[str, str], list[str]] = {}
    for call, (target, nodes) in calls.items():
        order.setdefault((module_of(nodes[0], wrapper), target), []).append(call)
    found = {}
    for (module, target), same in order.items():
        for number, call in enumerate(same):
            for node, item in _results(target, calls[call][1]):
                found[node.name] = f"{module}|{target}|{number}/{len(same)}{item}"
    return found


def module_of(node: Node, wrapper: str = "") -> str:
    """The path of the module that `node` belongs to, "" for the outermost."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = str(stack[-1][0]) if stack else ""
    if path != wrapper and not path.startswith(f"{wrapper}."):
        return path
    return path[len(wrapper) :].removeprefix(".")


def operation_of(node: Node) -> str:
    """What `node` computes, "aten.relu"; of one that takes a result from a tuple, what computed the tuple."""
    if node.target is operator.getitem and isinstance(node.args[0], Node):
        return operation_of(node.args[0])
    if isinstance(node.target, torch._ops.OpOverload):
        return str(node.target.overloadpacket)
    named = getattr(node.target, "__name__", str(node.target))
    return named if node.op == "call_function" else ""


def _calls(graph: Any) -> dict[str, tuple[str, list[Node]]]:
    """Call in `forward` -> its operation and the nodes that it became, both in the order of the graph."""
    found: dict[str, tuple[str, list[Node]]] = {}
    for node in graph.nodes:
        source = _source(node)
        if node.op == "call_function" and source is not None and _holds_tensors(node):
            found.setdefault(source.name, (str(source.target), []))[1].append(node)
    return found


def _source(node: Node) -> Any:
    """The node that `node` was made of in the program as it was first exported; None where nothing is recorded."""
    source = None
    steps = node.meta.get("from_node") or []
    while steps:
        source = steps[-1]
        steps = source.from_node
    return source


def _holds_tensors(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) or (
        isinstance(value, (tuple, list)) and any(isinstance(each, Tensor) for each in value)
    )


def _results(target: str, nodes: list[Node]) -> Iterator[tuple[Node, str]]:
    """The results of a call that became `nodes`, each with its place where the operation has several."""
    own = set(nodes)
    read = [node for node in nodes if isinstance(node.meta["val"], Tensor) and set(node.users) - own]
    if _gives_one(target):
        yield from ((node, "") for node in read if len(read) == 1)
        return
    tuples = {node.args[0] for node in read if node.target is operator.getitem}
    if len(tuples) == 1 and all(node.target is operator.getitem for node in read):
        (whole,) = tuples
        count = len(whole.meta["val"]) if isinstance(whole, Node) else 0
        yield from ((node, f"#{node.args[1]}/{count}") for node in read)


def _gives_one(target: str) -> bool:
    """Whether the operation called "aten.relu.default" gives a single tensor."""
    found: Any = torch.ops
    for part in target.split("."):
        found = getattr(found, part, None)
    returns = found._schema.returns if isinstance(found, torch._ops.OpOverload) else ()
    return [str(each.type) for each in returns] == ["Tensor"]
