"""Export: names, shapes, opset and the canonical form of the ONNX file."""

from __future__ import annotations

import io
import json
import logging
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nets import described
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelbuild import dataset, network
from modelbuild.errors import RecipeError
from modelbuild.recipes import canonical, data, export, opset, signature

torch.set_num_threads(1)
BATCH = {"opset": 18, "dynamic": {"batch": [1, 64]}}


class Twins(nn.Module):
    """Two inputs, and outputs whose names are not in alphabetical order."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"sum": self.layer(left) + right, "difference": self.layer(left) - right}


class Fixed(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return (left + right).reshape(2, 3) * 2.0


class Unexportable(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left if left.sum() > right.sum() else right


class Clash(nn.Module):
    output_names = ("left",)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


def exported(tmp_path: Path, module: type[nn.Module], settings: dict[str, Any] | None = None) -> Path:
    for name in ("student", "evaluation", "onnx"):
        (tmp_path / name).mkdir(exist_ok=True)
    torch.manual_seed(0)
    network.save(tmp_path / "student", module(), described(module))
    rows = np.arange(15, dtype=np.float32).reshape(5, 3)
    dataset.write(tmp_path / "evaluation", data.checked({"left": rows, "right": rows + 1}, "here"))
    params = {"export": settings or BATCH}
    inputs = {"student": tmp_path / "student", "evaluation": tmp_path / "evaluation"}
    export.export(inputs, params, tmp_path / "onnx")
    return tmp_path / "onnx"


def test_a_module_becomes_an_onnx_file_with_its_names_and_its_numbers(tmp_path: Path) -> None:
    out = exported(tmp_path, Twins)
    port = {"dtype": "float32", "shape": ["batch", 3]}
    assert json.loads((out / "model.json").read_text()) == {
        "opset": 18,
        "ir_version": 8,
        "inputs": [{"name": "left", **port}, {"name": "right", **port}],
        "outputs": [{"name": "sum", **port}, {"name": "difference", **port}],
    }
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    module = network.restore(tmp_path / "student")
    for samples in (1, 5):
        left, right = np.random.default_rng(0).normal(size=(2, samples, 3)).astype(np.float32)
        total, difference = session.run(["sum", "difference"], {"left": left, "right": right})
        expected = module(torch.tensor(left), torch.tensor(right))
        assert np.allclose(total, expected["sum"].detach().numpy(), atol=1e-6)
        assert np.allclose(difference, expected["difference"].detach().numpy(), atol=1e-6)


def test_the_file_tells_nothing_of_where_and_by_what_it_was_made(tmp_path: Path) -> None:
    model = onnx.load(exported(tmp_path, Twins) / "model.onnx")
    for message in canonical.walk(model):
        assert not getattr(message, "doc_string", "") and not list(getattr(message, "metadata_props", []))
    assert (model.producer_name, model.producer_version, model.model_version) == ("modelbuild", "", 0)
    text = (tmp_path / "onnx" / "model.onnx").read_bytes()
    assert b"/" not in text.replace(b"onnx/", b"") and torch.__version__.encode() not in text


def test_the_exporter_keeps_quiet_and_leaves_logging_as_it_was(tmp_path: Path) -> None:
    said = io.StringIO()
    logging.disable(5)
    with redirect_stdout(said), redirect_stderr(said):
        exported(tmp_path, Twins)
    left = logging.root.manager.disable
    logging.disable(logging.NOTSET)
    assert said.getvalue() == "" and left == 5


@pytest.mark.parametrize(("dynamic", "batch"), [({}, 1), ({"batch": [4, 4]}, 4)])
def test_without_an_open_batch_every_shape_is_fixed(
    tmp_path: Path, dynamic: dict[str, Any], batch: int
) -> None:
    out = exported(tmp_path, Twins, {"opset": 20, "dynamic": dynamic})
    told = json.loads((out / "model.json").read_text())
    assert told["opset"] == 20 and told["inputs"][0]["shape"] == told["outputs"][0]["shape"] == [batch, 3]


@pytest.mark.parametrize(
    ("module", "settings", "words"),
    [
        (Fixed, BATCH, "its first axis is fixed"),
        (Unexportable, BATCH, "cannot be exported to ONNX"),
        (Clash, BATCH, '"left" names both an input and an output'),
        (Twins, {"opset": 18, "dynamic": {"time": [1, 2]}}, 'export.dynamic names "time"'),
        (Twins, {"opset": 18, "dynamic": {"batch": [8, 2]}}, "goes from 8 to 2"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_words(
    tmp_path: Path, module: type[nn.Module], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        exported(tmp_path, module, settings)
    assert words in str(caught.value) and caught.value.place == f"{__name__}:{module.__name__}"


def small(version: int = 18, **port: Any) -> onnx.ModelProto:
    """y = x + b, and ReduceSum, whose axes moved from attribute to input in opset 13."""
    nodes = [
        helper.make_node("Add", ["x", "b"], ["s"], doc_string="said"),
        helper.make_node("ReduceSum", ["s", "axes"], ["y"], keepdims=0),
    ]
    weights = [
        helper.make_tensor("b", TensorProto.FLOAT, [2], [1.0, 2.0]),
        helper.make_tensor("axes", TensorProto.INT64, [1], [1]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2], doc_string="said")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8
    )
    return made


def test_the_canonical_form_orders_and_clears_at_every_depth() -> None:
    model = small()
    inner = helper.make_graph(list(model.graph.node), "inner", [], [model.graph.output[0]], doc_string="said")
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner))
    branch = model.graph.node[2].attribute[0].g
    helper.set_model_props(model, {"author": "someone"})
    for message in list(canonical.walk(model)):
        if "metadata_props" in message.DESCRIPTOR.fields_by_name:
            message.metadata_props.add(key="source", value="somewhere")
    assert branch.doc_string and branch.metadata_props
    before = model.SerializeToString()
    model.graph.node.pop()  # the checker need not know of the branch
    for name in ("s2", "s"):
        model.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]))
    model.graph.node.append(helper.make_node("Identity", ["s"], ["s2"]))
    result = canonical.canonical(model, "m")
    assert [each.name for each in result.graph.initializer] == ["axes", "b"]
    assert [each.name for each in result.graph.value_info] == ["s", "s2"]
    assert b"some" not in result.SerializeToString() and b"said" not in result.SerializeToString()
    assert b"some" in before and canonical.canonical(result, "m") == result
    assert {"inner", "g"} <= {
        getattr(each, "name", "") for each in canonical.walk(onnx.load_from_string(before))
    }


def test_old_style_inputs_that_are_weights_are_no_inputs() -> None:
    model = small()
    model.graph.input.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [2]))
    assert [port.name for port in canonical.canonical(model, "m").graph.input] == ["x"]


@pytest.mark.parametrize(("version", "ir"), [(13, 8), (18, 8), (20, 9), (21, 10)])
def test_the_file_format_is_the_lowest_for_the_opset_and_at_least_8(version: int, ir: int) -> None:
    assert canonical.canonical(small(version), "m").ir_version == ir


def test_data_outside_the_file_is_refused_wherever_it_hides() -> None:
    model = small()
    hidden = helper.make_tensor("far", TensorProto.FLOAT, [1], [1.0])
    hidden.data_location = TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Constant", [], ["far"], value=hidden))
    with pytest.raises(RecipeError, match='the tensor "far" lies outside the ONNX file'):
        canonical.canonical(model, "m")


def test_a_model_that_the_checker_refuses_is_refused() -> None:
    model = small()
    model.graph.node[0].op_type = "Ad"
    with pytest.raises(RecipeError, match="the ONNX checker refuses the model"):
        canonical.canonical(model, "m")
    model = small()
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    with pytest.raises(RecipeError, match="the ONNX checker refuses the model"):
        canonical.canonical(model, "m")


def test_another_opset_than_asked_for_is_converted_and_read_back() -> None:
    assert opset.version(opset.at(small(18), 17, "m")) == 17
    assert opset.version(opset.at(small(13), 18, "m")) == 18
    same = small(18)
    assert opset.at(same, 18, "m") is same


def test_an_opset_that_cannot_be_had_is_refused_with_the_one_that_can(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(RecipeError, match=r"is 99, the model is in opset 18 .*Set export\.opset to 18\."):
        opset.at(small(18), 99, "m")
    monkeypatch.setattr(onnx.version_converter, "convert_version", lambda model, asked: model)
    with pytest.raises(RecipeError, match="conversion left it in opset 18"):
        opset.at(small(18), 17, "m")


def test_an_exporter_that_gives_another_opset_does_not_go_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = torch.onnx.export
    monkeypatch.setattr(
        torch.onnx, "export", lambda *given, **named: genuine(*given, **{**named, "opset_version": 20})
    )
    out = exported(tmp_path, Twins)
    assert onnx.load(out / "model.onnx").opset_import[0].version == 18


def test_the_signature_tells_open_axes_with_and_without_a_name() -> None:
    model = small()
    model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
    told = signature.describe(model)
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": [None, 2]}]
    assert told["outputs"][0]["shape"] == ["n"]


class Named(nn.Module):
    """Its output is called as the exporter calls the value of an operation inside, and that as another value."""

    output_names = ("add",)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return torch.tanh(left + right) * (left + right + 1)


def test_an_output_may_be_called_like_an_operation_inside(tmp_path: Path) -> None:
    out = exported(tmp_path, Named)
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    left, right = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    (found,) = session.run(["add"], {"left": left, "right": right})
    assert np.allclose(found, np.tanh(left + right) * (left + right + 1), atol=1e-6)
