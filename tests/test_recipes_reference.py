"""The reference: float32, float64 and nudged, in PyTorch and from an ONNX file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nets import described
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from modelbuild import dataset, network, samples, tensors
from modelbuild.errors import RecipeError
from modelbuild.recipes import canonical, data, double, reference, unoptimised

torch.set_num_threads(1)
NUDGED = ("nudged", "nudged-down", "nudged-random")


class Scale(nn.Module):
    """Adds a square that float32 rounds, and counts in integers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.1]))

    def forward(self, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        return x - 1 + self.weight * self.weight, n * 2


class OnlyFloat(nn.Module):
    def forward(self, x: Tensor, n: Tensor) -> Tensor:
        if x.dtype != torch.float32:
            raise TypeError("float32 alone")
        return x


def evaluation(tmp_path: Path, samples: int = 5) -> Path:
    folder = tmp_path / "evaluation"
    folder.mkdir(exist_ok=True)
    arrays = {"x": np.ones((samples, 1), np.float32), "n": np.arange(samples)}
    dataset.write(folder, data.checked(arrays, "here"))
    return folder


def torch_reference(tmp_path: Path, module: type[nn.Module]) -> dict[str, dict[str, Any]]:
    (tmp_path / "student").mkdir()
    network.save(tmp_path / "student", module(), described(module))
    inputs = {"student": tmp_path / "student", "evaluation": evaluation(tmp_path)}
    reference.torch_outputs(inputs, {}, tmp_path)
    return written(tmp_path)


def written(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: tensors.load(path) for path in folder.glob("*.safetensors")}


def test_the_torch_reference_has_three_readings(tmp_path: Path) -> None:
    found = torch_reference(tmp_path, Scale)
    assert set(found) == {"outputs", "outputs64", *NUDGED}
    assert all(set(each) == {"output_0", "output_1"} for each in found.values())
    plain, wide, moved = (found[name]["output_0"] for name in ("outputs", "outputs64", "nudged"))
    assert plain.dtype == np.float32 and wide.dtype == np.float64
    weight = np.float32(0.1)
    assert (plain == weight * weight).all()
    assert np.allclose(wide, np.float64(weight) ** 2, rtol=1e-14, atol=0)
    assert np.allclose(moved - plain, 2**-23, rtol=0.02)
    assert np.allclose(found["nudged-down"]["output_0"] - plain, -(2**-24), rtol=0.02)
    either = found["nudged-random"]["output_0"] - plain
    assert {*np.sign(either).ravel()} == {-1, 1}
    assert all(each["output_1"].tolist() == [0, 2, 4, 6, 8] for each in found.values())
    told = json.loads((tmp_path / "reference.json").read_text())
    assert told == {"outputs64": True, "reason": None}


def test_a_module_without_a_float64_form_says_why(tmp_path: Path) -> None:
    assert set(torch_reference(tmp_path, OnlyFloat)) == {"outputs", *NUDGED}
    told = json.loads((tmp_path / "reference.json").read_text())
    assert told["outputs64"] is False and "float32 alone" in told["reason"]


def test_a_nudge_is_one_unit_in_the_last_place_of_real_inputs_only() -> None:
    given = {"x": np.array([1, -1, 0], np.float32), "n": np.array([3]), "h": np.ones(4, np.float16)}
    ways = {
        "up": [1 + 2**-23, -1 + 2**-24, 2.0**-149],
        "down": [1 - 2**-24, -1 - 2**-23, -(2.0**-149)],
    }
    for direction, expected in ways.items():
        moved = samples.nudged(given, direction)
        assert moved["x"].tolist() == expected and moved["n"].tolist() == [3]
        assert moved["x"].dtype == np.float32 and moved["h"].dtype == np.float16
        assert (moved["h"] == np.nextafter(given["h"], np.float16(4 if direction == "up" else 0))).all()
    assert samples.nudged(given)["x"].tolist() == ways["up"]


def test_a_random_nudge_goes_either_way_and_always_the_same() -> None:
    given = {name: np.ones((20, 5), np.float32) for name in "ab"}
    moved = samples.nudged(given, "random")
    assert {*moved["a"].ravel().tolist()} == {1 + 2**-23, 1 - 2**-24}
    assert (moved["a"] != moved["b"]).any()
    again = samples.nudged(given, "random")
    assert all((again[name] == moved[name]).all() for name in given)


def model(batch: int | str, *, convolution: bool = False) -> onnx.ModelProto:
    """x + 1e-9 through every way of writing a float, and n doubled; with a convolution if asked for."""
    nodes = [
        helper.make_node("Constant", [], ["c"], value_float=1e-9),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Cast", ["n"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "zero"], ["nothing"]),
        helper.make_node("Unsqueeze", ["nothing", "axis"], ["column"]),
        helper.make_node("Sum", ["x", "c", "zeros", "column"], ["y"]),
        helper.make_node("Add", ["n", "n"], ["twice"]),
    ]
    weights = [
        numpy_helper.from_array(np.zeros(1, np.float32), "zero"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    if convolution:
        weights.append(numpy_helper.from_array(np.ones((1, 1, 1), np.float32), "kernel"))
        nodes[6].output[0] = "sum"
        nodes += [
            helper.make_node("Unsqueeze", ["sum", "axis"], ["image"]),
            helper.make_node("Conv", ["image", "kernel"], ["convolved"], kernel_shape=[1]),
            helper.make_node("Squeeze", ["convolved", "axis"], ["y"]),
        ]
    ports = [("x", TensorProto.FLOAT, [batch, 1]), ("n", TensorProto.INT64, [batch])]
    results = [("y", TensorProto.FLOAT, [batch, 1]), ("twice", TensorProto.INT64, [batch])]
    infos = [[helper.make_tensor_value_info(*each) for each in group] for group in (ports, results)]
    graph = helper.make_graph(nodes, "g", *infos, weights)
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.checker.check_model(made, full_check=True)
    return made


def onnx_reference(tmp_path: Path, given: onnx.ModelProto, samples: int = 5) -> dict[str, dict[str, Any]]:
    (tmp_path / "onnx").mkdir()
    onnx.save(given, tmp_path / "onnx" / "model.onnx")
    reference.onnx_outputs(
        {"onnx": tmp_path / "onnx", "evaluation": evaluation(tmp_path, samples)}, {}, tmp_path
    )
    return written(tmp_path)


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize("batch", ["batch", 3])
def test_the_onnx_reference_has_the_same_three(tmp_path: Path, batch: int | str, convolution: bool) -> None:
    """ONNX Runtime has no float64 convolution: then ONNX's own evaluator stands in."""
    found = onnx_reference(tmp_path, model(batch, convolution=convolution))
    assert set(found) == {"outputs", "outputs64", *NUDGED}
    assert (found["outputs"]["y"] == 1).all() and found["outputs"]["y"].shape == (5, 1)
    assert found["outputs64"]["y"].dtype == np.float64
    assert np.allclose(found["outputs64"]["y"] - 1, 1e-9, rtol=1e-6)
    assert (found["nudged"]["y"] == np.nextafter(np.float32(1), np.float32(2))).all()
    assert (found["nudged-down"]["y"] == np.nextafter(np.float32(1), np.float32(0))).all()
    assert found["outputs64"]["twice"].tolist() == [0, 2, 4, 6, 8]


def test_the_widened_model_leaves_no_float32_behind_and_the_given_one_alone() -> None:
    given = model("batch")
    before = given.SerializeToString()
    wide = double.widened(given)
    assert given.SerializeToString() == before
    kinds = {each.data_type for each in canonical.walk(wide) if isinstance(each, TensorProto)}
    assert TensorProto.FLOAT not in kinds and TensorProto.DOUBLE in kinds
    onnx.checker.check_model(wide, full_check=True)  # the types at every node agree
    assert wide.graph.input[0].type.tensor_type.elem_type == TensorProto.DOUBLE


def test_an_onnx_model_without_a_float64_form_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(wide: onnx.ModelProto) -> None:
        raise RecipeError("reference", "no float64 form of the model: of all")

    monkeypatch.setattr(reference, "_evaluator", refuse)
    assert set(onnx_reference(tmp_path, model("batch", convolution=True))) == {"outputs", *NUDGED}
    told = json.loads((tmp_path / "reference.json").read_text())
    assert told == {"outputs64": False, "reason": "no float64 form of the model: of all"}


def test_inputs_of_other_names_or_types_are_refused() -> None:
    run = unoptimised.runner(model("batch").SerializeToString())
    column, count = np.ones((2, 1), np.float32), np.ones(2, np.int64)
    with pytest.raises(RecipeError, match="the model's inputs are x, n, and those of the data set x, m"):
        run({"x": column, "m": count})
    with pytest.raises(RecipeError, match="does not run the model"):
        run({"x": column.astype(np.float64), "n": count})


def test_an_output_without_a_sample_axis_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'"y" has shape \(1,\) for 2 samples'):
        unoptimised.batched(lambda feed: {"y": np.zeros(1)}, None, {"x": np.zeros((2, 1))})


def test_the_session_is_plain_and_has_one_thread() -> None:
    options = unoptimised.session_of(model("batch").SerializeToString()).get_session_options()
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert options.intra_op_num_threads == options.inter_op_num_threads == 1
    assert options.use_deterministic_compute


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(RecipeError, match="does not load it"):
        unoptimised.runner(b"nothing")
