"""Files in ORT format as ONNX models: nothing is lost, and the same bits come out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import ort_models
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import flatbuffer, ort_onnx, wiring, worker
from modelbuild.runtimes.onnxruntime.ort_format import SCHEMA

Save = Callable[..., bytes]
X = {"x": ort_models.weights(4, 6)}
WRITTEN = {
    "branches": ort_models.branches,
    "qdq": ort_models.quantised,
    "looped": ort_models.looped,
    "parts": ort_models.parts,
    "called": ort_models.called,
    "attributes": ort_models.every_attribute,
}
NAMES = ("convnet", "encoder", "plain1d", *WRITTEN)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """A model in ORT format, optimised and with its nodes fused unless told otherwise."""

    def write(model: onnx.ModelProto, level: str = "all") -> bytes:
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / "model.onnx")
        worker.save(str(tmp_path / "model.onnx"), str(tmp_path / "model.ort"), level)
        return (tmp_path / "model.ort").read_bytes()

    return write


def given(name: str) -> tuple[onnx.ModelProto, ort_models.Feed]:
    return (WRITTEN[name](), X) if name in WRITTEN else ort_models.exported(name)


def bits(model: bytes, feed: ort_models.Feed, level: str = "disabled") -> list[bytes]:
    return [each.tobytes() for each in worker.Session(model, level).run(feed)]


@pytest.mark.parametrize("name", NAMES)
def test_gives_the_same_bits(name: str, save: Save) -> None:
    model, feed = given(name)
    data = save(model)
    read = ort_onnx.as_onnx(data)
    onnx.checker.check_model(read, full_check=True)
    assert bits(read.SerializeToString(), feed) == bits(data, feed)
    assert [port.name for port in read.graph.output] == [port.name for port in model.graph.output]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "called"])  # functions are written out
def test_unoptimised_it_is_the_model_that_went_in(name: str, save: Save) -> None:
    """Nodes, attributes and weights, whatever order they are in."""
    model, _ = given(name)
    read = ort_onnx.as_onnx(save(model, "disabled"))
    nodes = [node for node in model.graph.node if not wiring.is_constant(node)]
    assert sorted(map(spelt, read.graph.node)) == sorted(map(spelt, nodes))
    before, after = (
        {each.name: numpy_helper.to_array(each) for each in m.graph.initializer} for m in (model, read)
    )
    for node in set(map(wiring.gives, model.graph.node)) - set(map(wiring.gives, nodes)):
        del after[node[0]]
    assert before.keys() == after.keys()
    for key, array in before.items():
        assert (array.dtype, array.shape, array.tobytes()) == (
            after[key].dtype, after[key].shape, after[key].tobytes(),
        )  # fmt: skip
    assert read.ir_version == model.ir_version
    assert {(each.domain, each.version) for each in read.opset_import} == {("", 18)}


def spelt(node: onnx.NodeProto) -> str:
    """Everything of a node but its optional outputs at the end; a default may be written out or left out."""
    own = {a.name: value_of(a) for a in node.attribute}
    schema = onnx.defs.get_schema(node.op_type, 18, node.domain)
    defaults = {
        name: value_of(a.default_value) for name, a in schema.attributes.items() if a.default_value.name
    }
    return repr((node.name, node.op_type, [*node.input], [*node.output], sorted({**defaults, **own}.items())))


def value_of(attribute: onnx.AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, onnx.GraphProto):
        return [*map(spelt, value.node)], [port.name for port in value.output]
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value).tolist()
    return value


def test_the_test_model_has_attributes_of_every_type() -> None:
    nodes = [*ort_models.every_attribute().graph.node, *ort_models.branches().graph.node]
    types = {attribute.type for node in nodes for attribute in node.attribute}
    assert types == ort_onnx.ATTRIBUTES.keys() - {onnx.AttributeProto.TENSORS, onnx.AttributeProto.GRAPHS}


def test_fused_operators_come_with_their_domain(save: Save) -> None:
    model, _ = ort_models.exported("convnet")
    read = ort_onnx.as_onnx(save(model))
    fused = [node for node in read.graph.node if node.op_type == "FusedConv"]
    assert len(fused) == 3
    assert {node.domain for node in fused} == {"com.microsoft"}
    assert [a.s for a in fused[0].attribute if a.name == "activation"] == [b"Relu"]
    assert {(each.domain, each.version) for each in read.opset_import} == {("", 18), ("com.microsoft", 1)}


def test_fused_operators_within_a_branch_bring_their_domain(save: Save) -> None:
    def body(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Unsqueeze", ["h", "middle"], [f"{name}-line"]),
            helper.make_node("Conv", [f"{name}-line", "kernel"], [f"{name}-conv"]),
            helper.make_node("Relu", [f"{name}-conv"], [f"{name}-out"]),
        ]
        out = helper.make_tensor_value_info(f"{name}-out", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out])

    nodes = [
        helper.make_node("Neg", ["x"], ["h"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Greater", ["most", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["z"], then_branch=body("yes"), else_branch=body("no")),
        helper.make_node("Squeeze", ["z", "middle"], ["y"]),
    ]
    constants = {"middle": np.array([1]), "kernel": ort_models.weights(1, 1, 1), "zero": np.float32(0)}
    data = save(ort_models.model(nodes, ["y"], constants))
    read = ort_onnx.as_onnx(data)
    assert "FusedConv" not in {node.op_type for node in read.graph.node}
    assert {each.domain for each in read.opset_import} == {"", "com.microsoft"}
    assert bits(read.SerializeToString(), X) == bits(data, X)


def test_nodes_that_were_moved_to_the_end_are_in_order(save: Save) -> None:
    model, _ = ort_models.exported("convnet")
    data = save(model)
    written = flatbuffer.read(data, SCHEMA)["model"]["graph"]["nodes"]
    assert written[0]["op_type"] == b"MaxPool"  # which takes what a later one gives
    there = {"image"} | {each.name for each in ort_onnx.as_onnx(data).graph.initializer}
    for node in ort_onnx.as_onnx(data).graph.node:
        assert set(wiring.takes(node)) <= there
        there |= set(node.output)


def test_types_tell_an_unknown_shape_from_that_of_a_scalar(save: Save) -> None:
    model = ort_models.looped()
    model.graph.node.append(helper.make_node("ReduceMax", ["h"], ["most"], keepdims=0))
    found = ort_onnx.types(save(model, "disabled"))
    assert not found["grown"].type.tensor_type.HasField("shape")
    assert found["most"].type.tensor_type.HasField("shape")
    assert [dim.dim_param or dim.dim_value for dim in found["h"].type.tensor_type.shape.dim] == ["batch", 6]
    assert found["h"].type.tensor_type.elem_type == TensorProto.FLOAT


def test_sparse_weights_and_sequences_stay_what_they_are(save: Save) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("SequenceConstruct", ["product", "x"], ["pair"]),
        helper.make_node("SequenceAt", ["pair", "zero"], ["y"]),
    ]
    model = ort_models.model(nodes, ["y"], {"zero": np.int64(0)})
    values, places = np.float32([1.5, -2]), np.array([[0, 1], [5, 5]])
    sparse = onnx.SparseTensorProto(
        values=numpy_helper.from_array(values, "w"), indices=numpy_helper.from_array(places), dims=[6, 6]
    )
    model.graph.sparse_initializer.append(sparse)
    data = save(model, "disabled")
    read = ort_onnx.as_onnx(data)
    assert [each.values.name for each in read.graph.sparse_initializer] == ["w"]
    assert bits(read.SerializeToString(), X) == bits(data, X)
    pair = ort_onnx.types(data)["pair"].type.sequence_type.elem_type.tensor_type
    assert pair.elem_type == TensorProto.FLOAT


# -- what is refused


def written(graph: dict[str, Any]) -> bytes:
    return flatbuffer.write({"model": {"graph": graph}}, SCHEMA)


@pytest.mark.parametrize("data", [b"", b"no model at all", written({})[:-9]])
def test_what_is_no_such_file_is_refused(data: bytes) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        ort_onnx.as_onnx(data)


def test_a_node_that_was_compiled_for_one_machine_is_refused() -> None:
    node = {"name": b"part", "type": (1).to_bytes(4, "little"), "op_type": b"Compiled"}
    with pytest.raises(RecipeError, match='"part" was compiled for one machine'):
        ort_onnx.as_onnx(written({"nodes": [node]}))


def test_an_attribute_of_an_unknown_type_is_refused() -> None:
    node = {"op_type": b"Relu", "attributes": [{"name": b"new", "type": (13).to_bytes(4, "little")}]}
    with pytest.raises(RecipeError, match='the attribute "new" is of type 13'):
        ort_onnx.as_onnx(written({"nodes": [node]}))


def test_nodes_that_wait_for_each_other_are_refused() -> None:
    nodes = [{"op_type": b"Neg", "inputs": [a], "outputs": [b]} for a, b in ((b"a", b"b"), (b"b", b"a"))]
    with pytest.raises(RecipeError, match="in a circle"):
        ort_onnx.as_onnx(written({"nodes": nodes}))
