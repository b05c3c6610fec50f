"""Where the values of the canonical ONNX file come from: module, operation and node of the PyTorch program."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from onnx import ModelProto, NodeProto

from modelbuild import dataset
from modelbuild.errors import RecipeError
from modelbuild.provenance import module_of, operation_of, origins

FILE = "names.json"
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter keeps modules and fx node of an ONNX node


class Name(NamedTuple):
    """A value's module path, its operation, and the node of the exported program whose result it is.

    A value from inside of an operation that ONNX has no operator for has no node of its own: "". Nor has any value of
    a model that did not come from PyTorch, and there the rest is "" too.
    """

    module: str = ""
    op: str = ""
    fx: str = ""


class Names(NamedTuple):
    """By ONNX value: its name in PyTorch, and its origin (see `modelbuild.provenance`) where that is certain."""

    values: Mapping[str, Name]
    origins: Mapping[str, str]

    def of(self, model: ModelProto) -> Names:
        """The names of `model`, the same model in another operator set: a value that is new has none of its own."""
        kept = _filled(model, {value: self.values[value] for value in _values(model) if value in self.values})
        return Names(kept, {value: origin for value, origin in self.origins.items() if value in kept})


def named(model: ModelProto, program: Any) -> Names:
    """The names of `model` as the exporter gave it, made of the ExportedProgram `program`.

    An ONNX value has the name of its node, except that inputs and outputs have been renamed, in their order.
    """
    nodes = {node.name: node for node in program.graph.nodes}
    ports = _ports(model, program)
    made = origins(program)
    values, known = {}, {}
    for value, node in _producers(model).items():
        fx = ports.get(value, value)
        if fx in nodes:
            values[value] = Name(module_of(nodes[fx]), operation_of(nodes[fx]), fx)
            known.update({value: made[fx]} if fx in made else {})
        elif node is not None and _scope(node) in nodes:
            inside = nodes[_scope(node)]
            values[value] = Name(module_of(inside), operation_of(inside))
    return Names(_filled(model, values), known)


def unknown(model: ModelProto) -> Names:
    """The names of a model that was not exported here."""
    return Names(dict.fromkeys(_values(model), Name()), {})


def write(folder: Path, names: Names) -> None:
    """Write names.json."""
    values = {value: name._asdict() for value, name in names.values.items()}
    dataset.write_json(folder / FILE, {"values": values, "origins": dict(names.origins)})


def read(folder: Path) -> Names:
    """Read what `write` wrote. Raises RecipeError where it is not that."""
    try:
        told = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return Names({value: Name(**each) for value, each in told["values"].items()}, dict(told["origins"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecipeError(folder.name, f"cannot read {FILE}: {error}", "Build it again") from error


def _ports(model: ModelProto, program: Any) -> dict[str, str]:
    """Name of an input or output -> its node."""
    signature = program.graph_signature
    pairs = [(model.graph.input, signature.user_inputs), (model.graph.output, signature.user_outputs)]
    return {port.name: str(fx) for ports, fxs in pairs for port, fx in zip(ports, fxs, strict=True)}


def _producers(model: ModelProto) -> dict[str, NodeProto | None]:
    """Every value of the outermost graph that is no constant, and the node that gives it; inputs have none."""
    constants = {each.name for each in model.graph.initializer}
    inputs = [port.name for port in model.graph.input if port.name not in constants]
    given = {value: node for node in model.graph.node for value in node.output if value}
    return {**dict.fromkeys(inputs), **given}


def _values(model: ModelProto) -> Iterable[str]:
    return _producers(model)


def _scope(node: NodeProto) -> str:
    """The node of the exported program that an ONNX node was made for, as the exporter recorded it."""
    recorded = next((each.value for each in node.metadata_props if each.key == SCOPES), "[]")
    try:
        scopes = ast.literal_eval(recorded)
    except (ValueError, SyntaxError):
        return ""
    return str(scopes[-1]) if scopes else ""


def _filled(model: ModelProto, values: Mapping[str, Name]) -> dict[str, Name]:
    """`values`, and for one that has no name the module and operation of what it is given with, or is read by."""
    found = dict(values)
    for node in reversed(model.graph.node):
        near = [found[value] for value in node.output if value in found]
        for value in [*node.output, *node.input] if near else []:
            found.setdefault(value, Name(near[0].module, near[0].op))
    return {value: found.get(value, Name()) for value in _values(model)}
