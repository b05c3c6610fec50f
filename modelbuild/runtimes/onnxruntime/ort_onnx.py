"""A file in ORT format as an ONNX model: what ships, with its fused operations, for tools that read ONNX.

Also the same file with more of its values as outputs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import (
    AttributeProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    SparseTensorProto,
    TensorProto,
    TypeProto,
    ValueInfoProto,
)

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import flatbuffer, wiring
from modelbuild.runtimes.onnxruntime.flatbuffer import FormatError, Table
from modelbuild.runtimes.onnxruntime.options import NAME
from modelbuild.runtimes.onnxruntime.ort_format import SCHEMA

COMPILED = 1  # a node that stands for a part of the graph which a provider has compiled
VALUE, PARAMETER = 1, 2  # what an axis has
TENSOR, SEQUENCE, MAP = 1, 2, 3  # what a value is


def read(data: bytes) -> Table:
    """The tables of an ORT file. Raises RecipeError for bytes that are none."""
    try:
        return flatbuffer.read(data, SCHEMA)
    except FormatError as error:
        fact = f"the file in ORT format cannot be read: {error}"
        raise RecipeError(NAME, fact, "Build it again") from error


def as_onnx(data: bytes) -> ModelProto:
    """The model in the ORT file `data`: nodes in order, types of all values, opsets of the operators it has.

    Raises RecipeError for bytes that are no such file, and for a model with a part that only its writer can run.
    """
    table = read(data)["model"]
    try:
        graph = _graph(table["graph"], "shipped")
    except FormatError as error:
        raise RecipeError(NAME, f"the file in ORT format is no ONNX model: {error}") from error
    used = {node.domain for node in wiring.every_node(graph.node)} | {""}
    opsets = [(_text(each, "domain"), _number(each, "version")) for each in table.get("opset_import", ())]
    return ModelProto(
        ir_version=_number(table, "ir_version"),
        producer_name=_text(table, "producer_name"),
        opset_import=[OperatorSetIdProto(domain=d, version=v) for d, v in sorted(opsets) if d in used],
        graph=graph,
    )


def types(data: bytes) -> dict[str, ValueInfoProto]:
    """What the ORT file `data` says of each value of its graph, by name. Raises RecipeError."""
    return _types(read(data)["model"]["graph"])


def with_outputs(table: Table, names: Sequence[str]) -> bytes:
    """The file of `table`, which `read` gave, with the values `names` as outputs after its own."""
    graph = table["model"]["graph"]
    outputs = [*graph.get("outputs", ()), *(name.encode() for name in names)]
    model = {**table["model"], "graph": {**graph, "outputs": outputs}}
    return flatbuffer.write({**table, "model": model}, SCHEMA)


def _graph(table: Table, name: str) -> GraphProto:
    found, kinds = GraphProto(name=name), _types(table)
    found.node.extend(wiring.in_order([_node(each) for each in table.get("nodes", ())]))
    found.initializer.extend(_tensor(each) for each in table.get("initializers", ()))
    found.sparse_initializer.extend(_sparse(each) for each in table.get("sparse_initializers", ()))
    for ports, field in ((found.input, "inputs"), (found.output, "outputs")):
        ports.extend(kinds[each] for each in map(_decoded, table.get(field, ())))
    outputs = {port.name for port in found.output}
    given = [each for node in found.node for each in wiring.gives(node) if each not in outputs]
    found.value_info.extend(kinds[each] for each in given if each in kinds)
    return found


def _node(table: Table) -> NodeProto:
    if _number(table, "type") == COMPILED:
        raise FormatError(f'"{_text(table, "name")}" was compiled for one machine')
    return NodeProto(
        name=_text(table, "name"),
        op_type=_text(table, "op_type"),
        domain=_text(table, "domain"),
        input=[_decoded(each) for each in table.get("inputs", ())],
        output=[_decoded(each) for each in table.get("outputs", ())],
        attribute=[_attribute(each) for each in table.get("attributes", ())],
    )


def _attribute(table: Table) -> AttributeProto:
    found = AttributeProto(name=_text(table, "name"), type=_number(table, "type"))
    if found.type not in ATTRIBUTES:
        raise FormatError(f'the attribute "{found.name}" is of type {found.type}, which is not known')
    field, value_of = ATTRIBUTES[found.type]
    value = value_of(table, field)
    if isinstance(value, list):
        getattr(found, field).extend(value)
    elif hasattr(value, "CopyFrom"):
        getattr(found, field).CopyFrom(value)
    else:
        setattr(found, field, value)
    return found


def _number(table: Table, field: str) -> int:
    return int.from_bytes(table.get(field, b""), "little", signed=True)


def _real(table: Table, field: str) -> float:
    return float(struct.unpack("<f", table.get(field, bytes(4)))[0])


def _body(table: Table, field: str) -> GraphProto:
    return _graph(table[field], _text(table, "name"))


ATTRIBUTES: Mapping[int, tuple[str, Callable[[Table, str], Any]]] = {
    AttributeProto.FLOAT: ("f", _real),
    AttributeProto.INT: ("i", _number),
    AttributeProto.STRING: ("s", lambda table, field: table.get(field, b"")),
    AttributeProto.TENSOR: ("t", lambda table, field: _tensor(table[field])),
    AttributeProto.GRAPH: ("g", _body),
    AttributeProto.FLOATS: (
        "floats",
        lambda table, field: np.frombuffer(table.get(field, b""), "<f4").tolist(),
    ),
    AttributeProto.INTS: ("ints", lambda table, field: np.frombuffer(table.get(field, b""), "<i8").tolist()),
    AttributeProto.STRINGS: ("strings", lambda table, field: list(table.get(field, ()))),
    AttributeProto.TENSORS: (
        "tensors",
        lambda table, field: [_tensor(each) for each in table.get(field, ())],
    ),
    AttributeProto.GRAPHS: (
        "graphs",
        lambda table, field: [_graph(each, _text(table, "name")) for each in table.get(field, ())],
    ),
}


def _tensor(table: Table) -> TensorProto:
    found = TensorProto(
        name=_text(table, "name"), data_type=_number(table, "data_type"), dims=_sizes(table, "dims")
    )
    if found.data_type == TensorProto.STRING:
        found.string_data.extend(table.get("string_data", ()))
    else:
        found.raw_data = bytes(table.get("raw_data", b""))
    return found


def _sparse(table: Table) -> SparseTensorProto:
    values, indices = _tensor(table["values"]), _tensor(table["indices"])
    return SparseTensorProto(values=values, indices=indices, dims=_sizes(table, "dims"))


def _types(table: Table) -> dict[str, ValueInfoProto]:
    found = [
        ValueInfoProto(name=_text(each, "name"), type=_type(each["type"]))
        for each in table.get("node_args", ())
        if "type" in each
    ]
    return {each.name: each for each in found}


def _type(table: Table) -> TypeProto:
    found, kind, value = TypeProto(), _number(table, "value_type"), table["value"]
    if kind == TENSOR:
        found.tensor_type.elem_type = _number(value, "elem_type")
        if "shape" in value:
            found.tensor_type.shape.SetInParent()
            for each in value["shape"].get("dim", ()):
                _set_axis(found.tensor_type.shape.dim.add(), each.get("value", {}))
    elif kind == SEQUENCE:
        found.sequence_type.elem_type.CopyFrom(_type(value["elem_type"]))
    elif kind == MAP:
        found.map_type.key_type = _number(value, "key_type")
        found.map_type.value_type.CopyFrom(_type(value["value_type"]))
    return found


def _set_axis(axis: Any, table: Table) -> None:
    """A free axis without a name stays as it is."""
    kind = _number(table, "dim_type")
    if kind == VALUE:
        axis.dim_value = _number(table, "dim_value")
    elif kind == PARAMETER:
        axis.dim_param = _text(table, "dim_param")


def _sizes(table: Table, field: str) -> list[int]:
    sizes: list[int] = np.frombuffer(table.get(field, b""), "<i8").tolist()
    return sizes


def _text(table: Table, field: str) -> str:
    return _decoded(table.get(field, b""))


def _decoded(text: bytes) -> str:
    return text.decode()
