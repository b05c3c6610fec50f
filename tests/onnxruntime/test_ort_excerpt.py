"""Parts cut out of a model: the same bits from the same values, in a file that the checker and ONNX Runtime take."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import ort_models
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtime_conformance import dense, dense_inputs, write_onnx

from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Inspectable
from modelbuild.runtimes.onnxruntime import RUNTIME, excerpt, worker

X = {"x": ort_models.weights(4, 6)}
MADE = {
    "branches": ort_models.branches,
    "qdq": ort_models.quantised,
    "looped": ort_models.looped,
    "parts": ort_models.parts,
    "called": ort_models.called,
    "attributes": ort_models.every_attribute,
}
assert isinstance(RUNTIME, Inspectable)


def given(name: str) -> tuple[onnx.ModelProto, ort_models.Feed]:
    return (MADE[name](), X) if name in MADE else ort_models.exported(name)


def run(model: onnx.ModelProto, feed: Mapping[str, Any]) -> dict[str, Any]:
    """What ONNX Runtime gives for exactly these inputs."""
    session = worker.Session(model.SerializeToString(), "disabled")
    assert {name for name, _, _ in session.inputs} == set(feed)
    return dict(zip([name for name, _, _ in session.outputs], session.run(feed), strict=True))


def shape(port: onnx.ValueInfoProto) -> list[int | str]:
    return [dim.dim_param or dim.dim_value for dim in port.type.tensor_type.shape.dim]


@pytest.mark.parametrize("form", ["onnx", "ort"])
@pytest.mark.parametrize("name", ["convnet", "encoder", "plain1d", *MADE])
def test_every_operation_alone_gives_the_bits_that_it_gives_in_the_whole(
    name: str, form: str, tmp_path: Path
) -> None:
    """Of a transformer block, of branches and loops, of fused operations: with the artefact's own weights."""
    model, inputs = given(name)
    out = tmp_path / "artefact"
    out.mkdir()
    params = {"options": {"format": form}}
    RUNTIME.convert({"onnx": write_onnx(tmp_path / "onnx", model)}, out, params)
    inside = RUNTIME.inside(out)
    values = tuple(value for node in inside.nodes for value in node.gives)
    params = {"options": {"format": form, "optimisation": "disabled"}}
    inner = {**inputs, **RUNTIME.intermediates(out, inputs, values, params)}
    looked_at = [node for node in inside.nodes if name != "encoder" or not node.layout][:40]
    for number, node in enumerate(looked_at):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert RUNTIME.excerpt(out, folder, node.reads, node.gives) == "shipped.onnx"
        part = onnx.load(folder / "shipped.onnx")
        onnx.checker.check_model(part, full_check=True)
        assert len(part.graph.node) - len([n for n in part.graph.node if n.op_type == "Constant"]) == 1
        found = run(part, {name: inner[name] for name in node.reads})
        for value in node.gives:
            assert found[value].tobytes() == inner[value].tobytes(), node
    assert {path.name for path in (tmp_path / "0").iterdir()} == {"shipped.onnx"}


def test_takes_what_is_between_and_nothing_else() -> None:
    model, inputs = ort_models.exported("convnet")
    by_name = {node.name: node for node in model.graph.node}
    reads, gives = [by_name["node_max_pool2d"].output[0]], [by_name["node_relu_2"].output[0]]
    part = excerpt.cut(model, reads, gives)
    assert [node.op_type for node in part.graph.node] == ["Conv", "Relu", "MaxPool", "Conv", "Relu"]
    used = {name for node in part.graph.node for name in node.input if "weight" in name or "bias" in name}
    assert len(used) == 4
    assert {each.name for each in part.graph.initializer} == used
    assert [port.name for port in part.graph.input] == reads
    assert [port.name for port in part.graph.output] == gives
    assert shape(part.graph.input[0])[0] == "batch"
    assert all(isinstance(size, int) for size in shape(part.graph.input[0])[1:])
    before = run(excerpt.cut(model, ["image"], reads), inputs)
    after = run(part, before)[gives[0]]
    assert after.tobytes() == run(excerpt.cut(model, ["image"], gives), inputs)[gives[0]].tobytes()
    assert part.ir_version == model.ir_version


def test_what_is_left_out_leaves_nothing_behind() -> None:
    """Functions, opsets and weights of other nodes."""
    part = excerpt.cut(ort_models.called(), ["x"], ["product"])
    assert [*part.functions] == []
    assert [(each.domain, each.version) for each in part.opset_import] == [("", 18)]
    part = excerpt.cut(ort_models.called(), ["product"], ["y"])
    assert [each.name for each in part.functions] == ["Plus", "Doubled"]
    assert [*part.graph.initializer] == []
    assert {each.domain for each in part.opset_import} == {"", "own"}


def test_reads_keep_their_order_and_none_is_lost() -> None:
    part = excerpt.cut(ort_models.parts(), ["right", "left", "x", "left"], ["both"])
    assert [port.name for port in part.graph.input] == ["right", "left", "x"]
    feed = {name: ort_models.weights(4, 3) for name in ("left", "right")}
    found = run(part, {**feed, **X})["both"]
    np.testing.assert_array_equal(found, np.concatenate([-feed["left"], feed["right"]], axis=1))


def test_a_value_that_is_read_is_not_made_anew() -> None:
    """One of two halves is read: the node that gives the other would give it, too."""
    part = excerpt.cut(ort_models.parts(), ["left", "x"], ["both"])
    left = ort_models.weights(4, 3)
    found = run(part, {"left": left, **X})["both"]
    np.testing.assert_array_equal(found, np.concatenate([-left, 2 * X["x"][:, 3:]], axis=1))
    onnx.checker.check_model(part, full_check=True)


def test_weights_that_only_a_branch_reads_go_along() -> None:
    part = excerpt.cut(ort_models.branches(), ["positive", "h"], ["y"])
    assert {each.name for each in part.graph.initializer} == {"a", "b", "c"}


def test_what_the_model_says_of_its_values_is_not_believed() -> None:
    """A shape that holds for one sample only, as some exporters write it."""
    model = dense()
    model.graph.value_info.append(helper.make_tensor_value_info("product", TensorProto.FLOAT, [1, 8]))
    part = excerpt.cut(model, ["product"], ["raw"])
    assert shape(part.graph.input[0]) == ["batch", 8]
    assert model.graph.value_info[0].name == "product"


def test_a_shape_that_is_not_inferred_is_tried_out() -> None:
    part = excerpt.cut(ort_models.looped(), ["grown"], ["y"])
    assert shape(part.graph.input[0]) == [0, 0]
    assert not part.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")
    assert run(part, {"grown": X["x"]})["y"].tobytes() == (-X["x"]).tobytes()


def test_an_axis_of_which_nothing_is_known_has_no_name() -> None:
    part = excerpt.cut(ort_models.parts(), ["x"], ["shaped"])
    assert shape(part.graph.output[0]) == [0]


def test_a_shape_that_cannot_be_tried_out_is_told() -> None:
    model = ort_models.looped()
    model.graph.node.insert(2, helper.make_node("Reshape", ["grown", "seven"], ["line"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([7, -1]), "seven"))
    with pytest.raises(RecipeError, match='the shape of "grown" follows from what is computed, and a trial'):
        excerpt.cut(model, ["grown"], ["line"])


def test_an_operator_that_onnx_runtime_adds_to_the_domain_of_onnx(tmp_path: Path) -> None:
    """The ONNX checker does not know it; ONNX Runtime runs it."""
    nodes = [
        helper.make_node("SimplifiedLayerNormalization", ["x", "scale"], ["even"], axis=-1, epsilon=1e-5),
        helper.make_node("Neg", ["even"], ["y"]),
    ]
    model = ort_models.model(nodes, ["y"], {"scale": ort_models.weights(6)})
    assert excerpt.write(model, tmp_path, ["x"], ["even"]) == "shipped.onnx"
    x = X["x"]
    expected = x / np.sqrt((x**2).mean(axis=1, keepdims=True) + 1e-5) * ort_models.weights(6)
    np.testing.assert_allclose(run(onnx.load(tmp_path / "shipped.onnx"), X)["even"], expected, atol=1e-5)


def test_what_the_checker_refuses_is_not_written(tmp_path: Path) -> None:
    """ONNX Runtime takes nodes in any order."""
    model = dense()
    model.graph.node.insert(0, model.graph.node.pop(1))
    with pytest.raises(RecipeError, match="the ONNX checker refuses"):
        excerpt.write(model, tmp_path, ["x"], ["hidden"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("reads", "gives", "words"),
    [
        (["hidden"], ["product"], '"product" cannot be computed from "hidden": "x" is needed'),
        ([], ["logits", "hidden"], '"logits", "hidden" cannot be computed from nothing: "x" is needed'),
        (["produkt"], ["hidden"], '"produkt" is no value of the model. Did you mean "product"'),
        (["w1"], ["hidden"], '"w1" is no value of the model'),
        (["product"], ["hiden"], '"hiden" is given by no node. Did you mean "hidden"'),
        (["product"], ["x"], '"x" is given by no node'),
        (["product", "hidden"], ["hidden"], '"hidden" is read and given'),
        (["product"], [], "no value is asked for"),
    ],
)
def test_what_cannot_be_cut_is_told(reads: list[str], gives: list[str], words: str) -> None:
    with pytest.raises(RecipeError, match=words.replace(".", r"\.")) as caught:
        excerpt.cut(dense(), reads, gives)
    assert caught.value.place == "onnxruntime"
    assert caught.value.remedy


def test_a_branch_needs_what_it_captures() -> None:
    with pytest.raises(RecipeError, match='"x" is needed'):
        excerpt.cut(ort_models.branches(), ["positive"], ["y"])


def test_a_value_that_is_no_tensor_is_told() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["pair"]),
        helper.make_node("SequenceAt", ["pair", "zero"], ["y"]),
    ]
    model = ort_models.model(nodes, ["y"], {"zero": np.int64(0)})
    with pytest.raises(RecipeError, match=r"seq\(tensor\(float\)\)"):
        excerpt.cut(model, ["pair"], ["y"])


def test_of_a_file_that_lies_there_nothing_is_changed(tmp_path: Path) -> None:
    folder = write_onnx(tmp_path / "onnx", dense())
    before = (folder / "model.onnx").read_bytes()
    (tmp_path / "out").mkdir()
    RUNTIME.excerpt(folder, tmp_path / "out", ("product",), ("hidden",))
    assert (folder / "model.onnx").read_bytes() == before
    found = run(onnx.load(tmp_path / "out" / "shipped.onnx"), {"product": dense_inputs()["x"][:, [0] * 8]})
    assert set(found) == {"hidden"}
