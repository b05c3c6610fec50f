"""Which value of the canonical ONNX file a value inside a package should equal; kept beside it as identity.json.

coremltools keeps the names of the exported program's nodes, up to the suffix of a cast, and the two exported programs
are held together by where their nodes come from in `forward` (see `modelbuild.provenance`). But a pass that moves a
transposition leaves a name on numbers in another order. So both programs are run on examples, and a name goes where
its value is another one although all that is computed from it is right. A value that is wrong by a fault, which what
is computed from it shows, keeps its name: it is the very thing that is looked for.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from modelbuild import exported
from modelbuild.errors import RecipeError
from modelbuild.provenance import origins
from modelbuild.runtimes.coreml import ports
from modelbuild.runtimes.coreml.converter.modules import plain_name
from modelbuild.runtimes.coreml.converter.trace import EXPORT, WRAPPED, Traced
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator, chosen
from modelbuild.runtimes.coreml.evaluator.liveness import uses
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.program import Function
from modelbuild.runtimes.coreml.options import NAME
from modelbuild.runtimes.coreml.ports import Array, Input, Output

FILE = "identity.json"
SOURCE = "names.json"  # of the ONNX target
FAR = 0.1  # of the range of a value: no rounding goes there, and numbers in another order do


def read(artifact: Path) -> dict[str, str]:
    """What `identities` gave for the artefact. Raises RecipeError where that is not there."""
    try:
        return dict(json.loads((artifact / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RecipeError(NAME, f"cannot read {FILE}: {error}", "Build the artefact again") from error


def write(artifact: Path, found: Mapping[str, str]) -> None:
    """Write identity.json."""
    text = json.dumps(dict(found), indent=1, sort_keys=True)
    (artifact / FILE).write_text(text + "\n", encoding="utf-8")


def identities(
    package: Package,
    traced: Traced,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    example: Sequence[torch.Tensor],
    onnx: Path | None,
) -> dict[str, str]:
    """Name in `package` -> name in the ONNX file, of all values of which that is certain.

    `onnx` is the folder of the ONNX target; without what it says of itself, and for a module that was not exported
    but traced, inputs and outputs are all that is known.
    """
    known = {port.core_name: port.name for port in inputs}
    known |= {port.core_name: port.name for port in outputs}
    if traced.frontend != EXPORT:
        return known
    function = chosen(package, "")
    nodes = _nodes(function, traced, outputs)
    canonical = _canonical(onnx)
    made = origins(traced.program, WRAPPED)
    wanted = {value: node for value, node in nodes.items() if made.get(node) in canonical}
    sure = _sure(package, function, traced, inputs, example, wanted)
    return {**{value: canonical[made[wanted[value]]] for value in sure}, **known}


def _canonical(onnx: Path | None) -> dict[str, str]:
    """Origin -> value of the ONNX file."""
    if onnx is None or not (onnx / SOURCE).is_file():
        return {}
    told = json.loads((onnx / SOURCE).read_text(encoding="utf-8"))["origins"]
    return {origin: value for value, origin in told.items()}


def _nodes(function: Function, traced: Traced, outputs: Sequence[Output]) -> dict[str, str]:
    """Value of the program's outermost block -> node of the exported program that it is named after.

    One that is named after a node with several results is the first of them.
    """
    named = {port.core_name: node for port, node in zip(outputs, traced.results, strict=False)}
    there = {node.name: node.name for node in traced.program.graph.nodes}
    there |= {
        node.args[0].name: node.name
        for node in traced.program.graph.nodes
        if node.target is operator.getitem and node.args[1] == 0
    }
    found = {}
    for operation in function.body.operations:
        for value in operation.outputs if operation.type != "const" else ():
            node = named.get(value.name, value.name)
            if node not in there:
                plain = plain_name(node)
                node = traced.called.get(plain, plain)
            if node in there:
                found[value.name] = there[node]
    return found


def _sure(
    package: Package,
    function: Function,
    traced: Traced,
    inputs: Sequence[Input],
    example: Sequence[torch.Tensor],
    wanted: Mapping[str, str],
) -> list[str]:
    """Those of `wanted` whose name says what they are; none where the package cannot be evaluated."""
    feed = {
        port.core_name: ports.into(port, value.numpy()) for port, value in zip(inputs, example, strict=True)
    }
    try:
        evaluator = Evaluator(package, watch=tuple(wanted))
        evaluator(feed)
    except RecipeError:
        return []
    due = exported.values(traced.program, example, set(wanted.values()))
    alike = {
        value: _alike(due[node], np.asarray(evaluator.watched[value]))
        for value, node in wanted.items()
        if node in due
    }
    return [*_consistent(function, alike)]


def _alike(due: Array, found: Array) -> bool | None:
    """Whether it is the same value but for what a precision does; None where it does not even have the shape."""
    if due.shape != found.shape:
        return None
    one, two = due.astype(np.float64), found.astype(np.float64)
    real = np.isfinite(one)
    if not real.any():
        return True
    scale = max(float(np.ptp(one[real])), float(np.abs(one[real]).max()) * FAR)
    apart = np.abs(one[real] - two[real])
    return bool(np.isfinite(apart).all() and apart.max() <= FAR * scale)


def _consistent(function: Function, alike: Mapping[str, bool | None]) -> Iterator[str]:
    """All that are alike, and those that are not if something computed from them is not either, last ones first."""
    readers: dict[str, list[str]] = {}
    for operation in function.body.operations:
        for name in uses(operation):
            readers.setdefault(name, []).extend(each.name for each in operation.outputs)
    outputs, kept = set(function.body.outputs), set[str]()
    after: dict[str, set[str]] = {}  # the nearest values that are kept
    for operation in reversed(function.body.operations):
        for value in operation.outputs:
            below = {n for r in readers.get(value.name, ()) for n in ({r} if r in kept else after.get(r, ()))}
            after[value.name] = below
            fine = alike.get(value.name)
            shown = value.name in outputs or not below or not all(alike[each] for each in below)
            if fine or (fine is False and shown):
                kept.add(value.name)
                yield value.name
