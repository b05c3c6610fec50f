"""What the model that ships computes, in its own names, and the same model with more of its values as outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, ValueInfoProto

from modelbuild import samples
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.base import Inside, Node
from modelbuild.runtimes.onnxruntime import ort_onnx, sessions, wiring
from modelbuild.runtimes.onnxruntime.options import NAME
from modelbuild.samples import Port

# They move or rename numbers; one that chooses among them (a slice, a look-up) can choose wrongly.
LAYOUT = frozenset(
    ("Cast", "CastLike", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
)


def load(file: Path) -> ModelProto:
    """The model in `file`, which is in ONNX or in ORT format, as ONNX. Raises RecipeError where it cannot be read."""
    with sessions.readable(file):
        return ort_onnx.as_onnx(file.read_bytes()) if file.suffix == ".ort" else onnx.load(file)


def of(model: ModelProto) -> Inside:
    """The operations of the outer graph: one with graphs inside also reads what these capture.

    Every value stands for the one of its name in the canonical file: rewriting keeps the name of what it keeps.
    """
    graph = model.graph
    constants = {*wiring.initialisers(graph)}
    constants.update(name for node in graph.node if wiring.is_constant(node) for name in node.output)
    nodes = tuple(_node(node, constants) for node in graph.node if not wiring.is_constant(node))
    inputs = tuple(port.name for port in graph.input if port.name not in constants)
    values = [*inputs, *(value for node in nodes for value in node.gives)]
    return Inside(
        nodes,
        inputs,
        tuple(port.name for port in graph.output),
        {value: value for value in values},
        _batch(graph.input, constants),
    )


def _node(node: onnx.NodeProto, constants: set[str]) -> Node:
    reads = tuple(name for name in wiring.takes(node) if name not in constants)
    gives, layout = wiring.gives(node), node.op_type in LAYOUT and node.domain in wiring.ONNX
    return Node(node.name or gives[0], node.op_type, reads, gives, layout)


def _batch(ports: Iterable[ValueInfoProto], constants: set[str]) -> int | None:
    takes = [Port(port.name, "", _shape(port)) for port in ports if port.name not in constants]
    size, fixed = samples.batch_of(NAME, takes, None)
    return size if fixed else None


def _shape(port: ValueInfoProto) -> tuple[int | str | None, ...]:
    dims = port.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims)


def exposing(file: Path, names: Sequence[str]) -> bytes:
    """The model in `file`, in its own format, with the values `names` as outputs after those that it has.

    Inputs and outputs may be among them and stay as they are. Raises RecipeError for a name that no operation gives.
    """
    with sessions.readable(file):
        return (_exposing_ort if file.suffix == ".ort" else _exposing_onnx)(file, names)


def _exposing_onnx(file: Path, names: Sequence[str]) -> bytes:
    model = onnx.load(file)
    shown = of(model)
    given = [value for node in shown.nodes for value in node.gives]
    further = _further(names, given, shown.inputs, shown.outputs)
    # Without a type: ONNX Runtime infers it, and a type that is wrong would be an error.
    model.graph.output.extend(ValueInfoProto(name=name) for name in further)
    data: bytes = model.SerializeToString()
    return data


def _exposing_ort(file: Path, names: Sequence[str]) -> bytes:
    table = ort_onnx.read(file.read_bytes())
    graph = table["model"]["graph"]
    given = [value.decode() for node in graph.get("nodes", ()) for value in node.get("outputs", ()) if value]
    inputs, outputs = ([each.decode() for each in graph.get(side, ())] for side in ("inputs", "outputs"))
    return ort_onnx.with_outputs(table, _further(names, given, inputs, outputs))


def _further(
    names: Sequence[str], given: Sequence[str], inputs: Sequence[str], outputs: Sequence[str]
) -> list[str]:
    there, known = {*inputs, *outputs}, {*inputs, *outputs, *given}
    for name in names:
        if name not in known:
            raise RecipeError(NAME, f'no operation gives "{name}"', did_you_mean(name, sorted(known)))
    return [name for name in dict.fromkeys(names) if name not in there]
