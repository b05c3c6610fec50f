"""What a teacher of PyTorch or an ONNX file says of a data set, and what of it is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from modelbuild import dataset, network, progress, tensors
from modelbuild.errors import RecipeError
from modelbuild.recipes import given, inference, teacher_outputs
from modelbuild.recipes.onnx_teacher import OnnxTeacher
from modelbuild.recipes.teacher_outputs import Answer, Collected

torch.set_num_threads(1)
Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


class Net(nn.Module):
    """x [n, 3] -> "score" [n, 2], "twice" [n, 3]."""

    output_names = ("score", "twice")

    def __init__(self, odd: str = "", factor: float = 1.0) -> None:
        super().__init__()
        self.first, self.act, self.last = nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)
        self.drop, self.unused, self.pair = nn.Dropout(0.5), nn.Linear(1, 1), nn.GRU(4, 4, batch_first=True)
        self.odd, self.factor = odd, factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.drop(self.act(self.first(x)) * self.factor)
        score = self.last(hidden + self.pair(hidden[:, None])[0][:, 0])
        if self.odd == "nan":
            score[x[:, 0] == 70] = torch.nan
        if self.odd == "flat":
            return score.sum(), x
        if self.odd == "growing":
            return score, x[:, : 1 + int(x[0, 0] > 0)]
        if self.odd == "half":
            return score.bfloat16(), x.double()
        return score, x * 2


def taught(folder: Path, seed: int = 0, **args: Any) -> Path:
    folder.mkdir()
    torch.manual_seed(seed)
    net = {"module": f"{__name__}:Net", "args": args}
    network.save(folder, network.build(net), net)
    return folder


def rows(n: int = 150) -> Arrays:
    """The first number of a sample is its own."""
    x = np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)
    x[:, 0] = np.arange(n)
    return {"x": x}


def data_in(folder: Path, inputs: Arrays) -> Path:
    folder.mkdir()
    dataset.write(folder, dataset.DataSet(inputs, {}))
    return folder


def said(
    tmp_path: Path, teacher: Path, inputs: Arrays, layers: Sequence[str] | None = None, store: str = "float32"
) -> tuple[Arrays, Arrays]:
    """Outputs and hidden states as written; the files are in `out`."""
    place = Path(str(tmp_path / f"run{len([*tmp_path.glob('run*')])}"))
    place.mkdir()
    roles = {"teacher": teacher, "data": data_in(place / "data", inputs)}
    if layers is not None:
        roles["layers"] = place / "layers"
        roles["layers"].mkdir()
        (roles["layers"] / "layers.json").write_text(json.dumps({"depth": 2, "layers": list(layers)}))
    out = place / "out"
    out.mkdir()
    teacher_outputs.outputs(roles, {"hidden": layers is not None, "store": store}, out)
    assert {path.name for path in out.iterdir()} == {
        "outputs.safetensors",
        *(["hidden.safetensors"] if layers is not None else []),
    }
    hidden = tensors.load(out / "hidden.safetensors") if layers is not None else {}
    return tensors.load(out / "outputs.safetensors"), hidden


# -- a teacher of PyTorch


def test_outputs_by_name_are_those_of_the_network_in_evaluation_mode(tmp_path: Path) -> None:
    found, _ = said(tmp_path, taught(tmp_path / "t"), rows())
    expected = inference.outputs(network.restore(tmp_path / "t"), rows())
    assert found.keys() == {"score", "twice"}
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert found["score"].shape == (150, 2)  # three batches, the last one short


def test_hidden_states_are_what_the_layers_gave_whatever_came_after(tmp_path: Path) -> None:
    _, hidden = said(tmp_path, taught(tmp_path / "t"), rows(), ["first", "act", "pair"])
    module, x = network.restore(tmp_path / "t"), torch.tensor(rows()["x"])
    with torch.no_grad():
        first = module.get_submodule("first")(x)
        pair = module.get_submodule("pair")(first.relu()[:, None])[0]
    assert hidden.keys() == {"first", "act", "pair"} and hidden["pair"].shape == (150, 1, 4)
    assert np.allclose(hidden["first"], first, atol=1e-5) and (hidden["first"] < 0).any()
    assert np.allclose(hidden["act"], first.relu(), atol=1e-5)
    assert np.allclose(hidden["pair"], pair, atol=1e-5)


def test_hidden_states_may_be_kept_in_half_precision_and_outputs_are_not(tmp_path: Path) -> None:
    teacher = taught(tmp_path / "t")
    outputs, wide = said(tmp_path, teacher, rows(), ["first"])
    same, half = said(tmp_path, teacher, rows(), ["first"], "float16")
    assert (
        np.array_equal(half["first"], wide["first"].astype(np.float16)) and half["first"].dtype == np.float16
    )
    assert outputs["score"].dtype == np.float32 and np.array_equal(outputs["score"], same["score"])


def test_a_change_of_layers_data_or_teacher_changes_what_it_must(tmp_path: Path) -> None:
    teacher = taught(tmp_path / "t")
    plain, _ = said(tmp_path, teacher, rows())
    layered, hidden = said(tmp_path, teacher, rows(), ["first"])
    more, other = said(tmp_path, teacher, rows(), ["first", "last"])
    assert all(np.array_equal(plain[n], layered[n]) and np.array_equal(plain[n], more[n]) for n in plain)
    assert hidden.keys() == {"first"} and other.keys() == {"first", "last"}
    assert np.array_equal(hidden["first"], other["first"])
    moved, _ = said(tmp_path, teacher, {"x": rows()["x"] + 1})
    retaught, _ = said(tmp_path, taught(tmp_path / "t2", seed=1), rows())
    assert not np.array_equal(moved["score"], plain["score"])
    assert not np.array_equal(retaught["score"], plain["score"])


def test_the_same_bytes_again(tmp_path: Path) -> None:
    teacher = taught(tmp_path / "t")
    for _ in range(2):
        said(tmp_path, teacher, rows(), ["first"])
    for name in ("outputs.safetensors", "hidden.safetensors"):
        first, again = ((tmp_path / run / "out" / name).read_bytes() for run in ("run0", "run1"))
        assert first == again


def test_a_teacher_in_bfloat16_is_written_as_float32_and_float64_as_it_is(tmp_path: Path) -> None:
    found, _ = said(tmp_path, taught(tmp_path / "t", odd="half"), rows())
    assert {name: array.dtype for name, array in found.items()} == {"score": np.float32, "twice": np.float64}


def test_progress_is_told_while_it_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(progress, "_sink", lambda done, total, values: steps.append((done, total)))
    said(tmp_path, taught(tmp_path / "t"), rows())
    assert steps == [(64, 150), (128, 150), (150, 150)]


def test_one_thread_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, seen = network.run, set[tuple[int, bool]]()

    def watched(module: nn.Module, given: Sequence[Tensor]) -> dict[str, Tensor]:
        deterministic = torch.are_deterministic_algorithms_enabled()
        seen.add((torch.get_num_threads(), deterministic and not torch.is_grad_enabled()))
        return real(module, given)

    monkeypatch.setattr(network, "run", watched)
    torch.set_num_threads(2)
    try:
        said(tmp_path, taught(tmp_path / "t"), rows())
    finally:
        torch.set_num_threads(1)
    assert seen == {(1, True)}


@pytest.mark.parametrize(
    ("args", "layers", "store", "words"),
    [
        ({"odd": "nan"}, None, "float32", 'output "score" has NaN or infinity for sample 70.'),
        ({"odd": "flat"}, None, "float32", 'output "score" has shape [] for 64 samples. Its first axis'),
        ({"odd": "growing"}, None, "float32", 'output "twice" has shape [2] from sample 64 on, and [1] before'),
        ({}, ["frist"], "float32", 'it has no layer "frist". Did you mean "first"?'),
        ({}, ["unused"], "float32", 'forward does not come by the layer "unused"'),
        ({"factor": 1e6}, ["drop"], "float16", 'layer "drop" does not fit into float16 for sample 1. Set "store"'),
    ],
)  # fmt: skip
def test_what_cannot_be_learnt_from_is_refused(
    tmp_path: Path, args: dict[str, Any], layers: list[str] | None, store: str, words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        said(tmp_path, taught(tmp_path / "t", **args), rows(), layers, store)
    assert words in str(caught.value)
    assert str(caught.value).startswith((f"{__name__}:Net: ", "Net: "))


class Parted(nn.Module):
    """Says less of later samples; its layers give no real tensor."""

    def __init__(self, odd: str = "") -> None:
        super().__init__()
        self.words, self.counts, self.odd = Words(), Counts(), odd

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.words(x)
        both = {"a": x, "b": self.counts(x)}
        return both if x[0, 0] == 0 else {"a": x}


class Words(nn.Module):
    def forward(self, x: Tensor) -> str:
        return "words"


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.long()


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ([], "it gives a from sample 64 on, and a, b before"),
        (["words"], 'the layer "words" gives str, not a tensor'),
        (["counts"], 'layer "counts" is int64, which is no number to learn from'),
    ],
)
def test_answers_that_are_not_alike_or_no_numbers_are_refused(
    tmp_path: Path, layers: list[str], words: str
) -> None:
    net = {"module": f"{__name__}:Parted", "args": {}}
    (tmp_path / "t").mkdir()
    network.save(tmp_path / "t", network.build(net), net)
    with pytest.raises(RecipeError, match=words):
        said(tmp_path, tmp_path / "t", rows(), layers)


# -- a teacher that is an ONNX file

WEIGHT = np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str], batch: Any = "N", **constants: Array
) -> bytes:
    """x [batch, 3] through `nodes`."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3])
    given_out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 2]) for name in outputs]
    held = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "g", [x], given_out, held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def plain(batch: Any = "N") -> bytes:
    """y = relu(x w), the product is called "product"."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"]),
        helper.make_node("Relu", ["product"], ["y"]),
    ]
    return model_of(nodes, ["y"], batch, w=WEIGHT)


def dynamic(batch: Any = "N") -> bytes:
    """y = x w with the numbers of x as 8-bit integers, on a scale that the largest of them sets."""
    weight = np.clip(np.round(WEIGHT * 50), -127, 127).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Div", ["scaled", "fifty"], ["y"]),
    ]
    return model_of(nodes, ["y"], batch, w=weight, fifty=np.float32(50).reshape(()))


def static() -> bytes:
    """y = x w on a fixed grid of 8-bit integers, written as QuantizeLinear and DequantizeLinear."""
    weight = np.clip(np.round(WEIGHT * 50), -127, 127).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "none"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "step", "none"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["w", "fine", "none"], ["weight"]),
        helper.make_node("MatMul", ["rounded", "weight"], ["y"]),
    ]
    steps = {"step": np.float32(0.05).reshape(()), "fine": np.float32(0.02).reshape(())}
    return model_of(nodes, ["y"], "N", w=weight, none=np.zeros((), np.int8), **steps)


def onnx_taught(folder: Path, content: bytes, through: str | None = None, **args: Any) -> Path:
    folder.mkdir()
    (folder / "theirs.onnx").write_bytes(content)
    params = {"through": through and f"{__name__}:{through}", "args": args}
    given.teacher_onnx({"model": folder / "theirs.onnx"}, params, folder)
    return folder


def small(n: int = 70) -> Arrays:
    return {"x": np.random.default_rng(2).uniform(-1, 1, (n, 3)).astype(np.float32)}


@pytest.mark.parametrize("batch", ["N", 1, 8])
def test_labels_come_from_the_onnx_file_in_batches_of_what_it_takes(tmp_path: Path, batch: Any) -> None:
    found, hidden = said(tmp_path, onnx_taught(tmp_path / "t", plain(batch)), small(), ["product", "x", "y"])
    x = small()["x"]
    assert found.keys() == {"y"} and found["y"].shape == (70, 2)
    assert np.allclose(found["y"], np.maximum(x @ WEIGHT, 0), atol=1e-6)
    assert np.allclose(hidden["product"], x @ WEIGHT, atol=1e-6) and (hidden["product"] < 0).any()
    assert np.array_equal(hidden["y"], found["y"]) and np.array_equal(hidden["x"], x)


def test_an_int8_file_with_a_fixed_scale(tmp_path: Path) -> None:
    found, _ = said(tmp_path, onnx_taught(tmp_path / "t", static()), small())
    grid = np.round(small()["x"] / np.float32(0.05)) * np.float32(0.05)
    assert np.allclose(found["y"], grid @ (np.round(WEIGHT * 50) * np.float32(0.02)), atol=1e-5)


def test_an_int8_file_that_sets_its_scale_labels_every_sample_by_itself(tmp_path: Path) -> None:
    inputs = small(6)
    inputs["x"][5] *= 40  # in one batch with the others it would leave them one or two steps of the scale
    teacher = onnx_taught(tmp_path / "t", dynamic())
    found, hidden = said(tmp_path, teacher, inputs, ["real"])
    alone = np.concatenate([said(tmp_path, teacher, {"x": row[None]})[0]["y"] for row in inputs["x"]])
    assert np.array_equal(found["y"], alone)
    assert np.allclose(found["y"][:5], inputs["x"][:5] @ (np.round(WEIGHT * 50) / 50), atol=0.05)
    assert hidden["real"].dtype == np.float32


def test_nothing_is_optimised_and_one_thread_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = onnxruntime.InferenceSession, list[Any]()

    def opened(model: bytes, options: Any, providers: list[str]) -> Any:
        seen.append(
            (options.graph_optimization_level, options.intra_op_num_threads, options.inter_op_num_threads)
        )
        seen.append((options.use_deterministic_compute, providers))
        return real(model, options, providers=providers)

    monkeypatch.setattr(onnxruntime, "InferenceSession", opened)
    said(tmp_path, onnx_taught(tmp_path / "t", plain()), small())
    off = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert seen == [(off, 1, 1), (True, ["CPUExecutionProvider"])]


def test_exposing_a_value_changes_no_label(tmp_path: Path) -> None:
    teacher = onnx_taught(tmp_path / "t", static())
    without, _ = said(tmp_path, teacher, small())
    shown, hidden = said(tmp_path, teacher, small(), ["rounded"])
    assert np.array_equal(without["y"], shown["y"]) and hidden["rounded"].shape == (70, 3)


@pytest.mark.parametrize(
    ("inputs", "layers", "words"),
    [
        (small(), ["produkt"], 'it has no value "produkt". Did you mean "product"?'),
        (small(), ["w"], 'output "w" has shape (3, 2) for 64 samples'),
        ({"y": small()["x"]}, [], 'the model has no input "y"'),
        ({"x": small()["x"].astype(np.float64)}, [], 'input "x" is float64, the model takes float32'),
        ({"x": np.zeros((4, 5), np.float32)}, [], "has shape (4, 5)"),
        ({**small(), "z": small()["x"]}, [], 'the model has no input "z"'),
        ({"x": np.full((2, 3), 3e38, np.float32)}, [], 'output "y" has NaN or infinity for sample 0'),
    ],
)
def test_what_an_onnx_teacher_cannot_label_is_refused(
    tmp_path: Path, inputs: Arrays, layers: list[str], words: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        said(tmp_path, onnx_taught(tmp_path / "t", plain()), inputs, layers)
    assert words in str(caught.value) and str(caught.value).startswith("the teacher's ONNX file: ")


def test_a_file_that_onnx_runtime_does_not_load_is_refused_with_its_version(tmp_path: Path) -> None:
    unknown = onnx.load_from_string(plain())
    unknown.graph.node[0].op_type = "Unheard"
    teacher = onnx_taught(tmp_path / "t", unknown.SerializeToString())
    with pytest.raises(
        RecipeError, match=rf"ONNX Runtime {onnxruntime.__version__} does not load it: .*Unheard"
    ):
        said(tmp_path, teacher, small())


def test_a_file_without_a_sample_axis_needs_a_function(tmp_path: Path) -> None:
    model = onnx.load_from_string(plain(1))
    model.graph.input.append(helper.make_tensor_value_info("style", TensorProto.FLOAT, [256]))
    inputs = {**small(), "style": np.zeros(70, np.float32)}
    with pytest.raises(RecipeError, match=r'its inputs are 1, 256: none is the samples. .*"through"'):
        said(tmp_path, onnx_taught(tmp_path / "t", model.SerializeToString()), inputs)


# -- through a function of the project

Run = Callable[[Mapping[str, Any], Sequence[str]], list[Any]]


def one_by_one(run: Run, inputs: Mapping[str, Array], scale: float = 1.0) -> Arrays:
    """An inner value, an output and a constant; sums over rows, so that the file's outputs need no sample axis."""
    found = [run({"x": row[None] * np.float32(scale)}, ["product", "y", "w"]) for row in inputs["rows"]]
    assert np.array_equal(found[0][2], WEIGHT)
    return {
        "product": np.concatenate([each[0] for each in found]),
        "total": np.stack([each[1].sum() for each in found]),
    }


def odd(run: Run, inputs: Mapping[str, Array], kind: str = "") -> Any:
    answers: dict[str, Any] = {
        "list": ["y"],
        "number": {1: np.ones(70)},
        "short": {"y": np.ones((3, 2))},
        "scalar": {"y": np.float32(1)},
        "text": {"y": np.array(["a"] * 70)},
        "nan": {"y": np.where(np.arange(70) == 7, np.nan, 1.0)},
        "ragged": {"y": np.array([np.ones(1 + i % 2) for i in range(70)], dtype=object)},
        "none": {},
        "complex": {"y": np.ones(70, np.complex64)},
    }
    if kind == "unknown":
        run({"x": inputs["x"]}, ["prodct"])
    if kind == "failing":
        raise KeyError("no such phoneme")
    if kind == "misfed":
        run({"x": inputs["x"][:, :2]}, ["y"])
    return answers[kind]


def test_a_function_runs_the_file_as_it_likes_and_sees_every_value(tmp_path: Path) -> None:
    teacher = onnx_taught(tmp_path / "t", plain(1), "one_by_one", scale=2.0)
    found, hidden = said(tmp_path, teacher, {"rows": small()["x"]}, ["product"])
    product = 2 * small()["x"] @ WEIGHT
    assert found.keys() == {"product", "total"}
    assert np.allclose(found["product"], product, atol=1e-5) and np.array_equal(
        hidden["product"], found["product"]
    )
    assert np.allclose(found["total"], np.maximum(product, 0).sum(1), atol=1e-5)


def test_progress_is_told_by_the_runs_of_a_function(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(progress, "_sink", lambda done, total, values: steps.append((done, total)))
    said(tmp_path, onnx_taught(tmp_path / "t", plain(1), "one_by_one"), {"rows": small(3)["x"]})
    assert steps == [(1, 3), (2, 3), (3, 3), (3, 3)]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("list", "returned list, not a dict of names to arrays"),
        ("number", "returned dict, not a dict of names"),
        ("short", 'output "y" has shape [3, 2] for 70 samples. Its first axis must be the sample axis.'),
        ("scalar", 'output "y" has shape [] for 70 samples'),
        ("text", 'output "y" is <U1, which is no number to learn from'),
        ("ragged", 'output "y" is object, which is no number'),
        ("complex", 'output "y" is complex64, which is no number'),
        ("nan", 'output "y" has NaN or infinity for sample 7'),
        ("none", "returned no output"),
        ("unknown", 'it has no value "prodct". Did you mean "product"?'),
        ("failing", "failed when called with (kind='failing'): KeyError: 'no such phoneme'"),
        ("misfed", "does not run it: "),
    ],
)
def test_what_a_function_may_not_return_or_do(tmp_path: Path, kind: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        said(tmp_path, onnx_taught(tmp_path / "t", plain(), "odd", kind=kind), small())
    assert words in str(caught.value)
    place = "the teacher's ONNX file" if kind in ("unknown", "misfed") else f"{__name__}:odd"
    assert caught.value.place == place


def test_a_layer_that_a_function_does_not_return_is_refused(tmp_path: Path) -> None:
    teacher = onnx_taught(tmp_path / "t", plain(), "one_by_one")
    with pytest.raises(RecipeError, match='returned no "prodct", a layer that is looked at'):
        said(tmp_path, teacher, {"rows": small()["x"]}, ["prodct"])


def test_answers_on_all_samples_at_once_are_kept_as_they_came() -> None:
    whole = np.ones((3, 2), np.float32)
    kept = Collected("here", 3, "output", ("float32",))
    kept.put(Answer(0, 3, {}, {}), {"y": whole})
    assert kept.arrays["y"] is whole
    halved = Collected("here", 3, "layer", ("float32",), np.dtype("float16"))
    halved.put(Answer(0, 3, {}, {}), {"y": whole})
    assert halved.arrays["y"].dtype == np.float16


def test_values_that_were_asked_for_once_are_asked_of_one_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.onnx").write_bytes(plain())
    real, opened = onnxruntime.InferenceSession, list[list[str]]()

    def watched(model: bytes, *args: Any, **options: Any) -> Any:
        opened.append([port.name for port in onnx.load_from_string(model).graph.output])
        return real(model, *args, **options)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    teacher, feeds = OnnxTeacher(tmp_path / "m.onnx", "here"), small()
    first = teacher.run(feeds, ["product", "y", "product"])
    assert np.array_equal(first[0], first[2]) and len(opened) == 1
    assert np.array_equal(teacher.run(feeds, ["y"])[0], first[1])
    assert np.array_equal(teacher.run(feeds, ["product"])[0], first[0]) and len(opened) == 1
    assert np.array_equal(teacher.run(feeds, ["w", "x"])[1], feeds["x"]) and len(opened) == 2
    assert np.array_equal(teacher.run(feeds, ["product"])[0], first[0]) and len(opened) == 2
    assert opened == [["y", "product"], ["y", "product", "w", "x"]]
