"""Models from elsewhere: weights that fit, ONNX files in canonical form, and both as teachers."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import load_file, save_file
from torch import nn

from modelbuild import network
from modelbuild.errors import RecipeError
from modelbuild.limits import Limits
from modelbuild.recipes import given as given_teacher
from modelbuild.recipes import source

torch.set_num_threads(1)
LINEAR = {"module": "torch.nn:Linear", "args": {"in_features": 2, "out_features": 3}}
State = dict[str, torch.Tensor]


def given(tmp_path: Path, state: State) -> Path:
    save_file(state, tmp_path / "mine.safetensors")
    source.weights({"weights": tmp_path / "mine.safetensors"}, LINEAR, tmp_path)
    return tmp_path / "weights.safetensors"


def test_weights_that_fit_become_the_students(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    loaded = load_file(given(tmp_path, dict(state)))
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    assert network.described(tmp_path) == LINEAR


def test_half_precision_weights_are_taken_in_the_precision_of_the_module(tmp_path: Path) -> None:
    state = {name: value.bfloat16() for name, value in nn.Linear(2, 3).state_dict().items()}
    assert {value.dtype for value in load_file(given(tmp_path, state)).values()} == {torch.float32}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"weight": torch.zeros(3, 2)}, "it is missing bias"),
        (
            {"weight": torch.zeros(3, 2), "biases": torch.zeros(3)},
            'it is missing bias and it has unexpected biases. Did you mean "bias"?',
        ),
        (
            {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)},
            '"weight" has shape [2, 3], and the module wants [3, 2]',
        ),
        (
            {"weight": torch.zeros(3, 2), "bias": torch.zeros(3, dtype=torch.int64)},
            '"bias" is torch.int64, and the module wants torch.float32',
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused_in_words(tmp_path: Path, state: State, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        given(tmp_path, state)
    assert words in str(caught.value) and str(caught.value).startswith("mine.safetensors: ")


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("unpickled",)


def test_a_pickle_is_refused_and_never_opened(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(RecipeError, match=r"is not a safetensors file.*save_file"):
        source.weights({"weights": path}, LINEAR, tmp_path)


def test_a_file_beyond_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LIMITS", Limits(arrays_bytes=10))
    with pytest.raises(RecipeError, match="more than 10"):
        given(tmp_path, dict(nn.Linear(2, 3).state_dict()))


def linear(batch: object, opset: int = 13, domain: str = "", op: str = "Gemm") -> onnx.ModelProto:
    axis = "N" if batch is None else batch
    weight = numpy_helper.from_array(np.ones((2, 3), np.float32), "w")
    node = helper.make_node(op, ["x", "w"], ["y"], domain=domain, doc_string="/home/me/train.py")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [axis, 2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [axis, 3])
    if batch is None:
        for port in (x, y):
            port.type.tensor_type.shape.dim[0].Clear()
    imports = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    graph = helper.make_graph([node], "g", [x], [y], [weight])
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=imports, producer_name="tool", ir_version=7
    )
    return made


def taken(tmp_path: Path, model: onnx.ModelProto, opset: int | None = None) -> onnx.ModelProto:
    onnx.save(model, tmp_path / "mine.onnx")
    export = {"dynamic": {}, **({"opset": opset} if opset else {})}
    source.onnx({"model": tmp_path / "mine.onnx"}, {"export": export}, tmp_path)
    loaded: onnx.ModelProto = onnx.load(tmp_path / "model.onnx")
    return loaded


@pytest.mark.parametrize(("batch", "shape"), [("N", "batch"), (None, "batch"), (4, 4)])
def test_an_open_first_axis_is_the_batch_and_a_fixed_one_stays(
    tmp_path: Path, batch: object, shape: object
) -> None:
    taken(tmp_path, linear(batch))
    told = json.loads((tmp_path / "model.json").read_text())
    assert told["inputs"] == [{"name": "x", "dtype": "float32", "shape": [shape, 2]}]
    assert told["outputs"][0]["shape"] == [shape, 3]


def test_a_file_is_cleared_and_brought_to_the_opset(tmp_path: Path) -> None:
    kept, moved = taken(tmp_path, linear("N")), taken(tmp_path, linear("N"), 18)
    assert (kept.opset_import[0].version, moved.opset_import[0].version) == (13, 18)
    assert kept.producer_name == "modelbuild" and not kept.graph.node[0].doc_string
    assert (kept.ir_version, moved.ir_version) == (8, 8)
    assert json.loads((tmp_path / "model.json").read_text())["opset"] == 18


def test_its_values_are_named_and_come_from_nowhere(tmp_path: Path) -> None:
    taken(tmp_path, linear("N"), 18)
    nothing = {"module": "", "op": "", "fx": ""}
    told = {"origins": {}, "values": {"x": nothing, "y": nothing}}
    assert json.loads((tmp_path / "names.json").read_text()) == told


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    first = taken(tmp_path, linear("N"), 18).SerializeToString()
    again = taken(tmp_path, taken(tmp_path, linear("N"), 18), 18).SerializeToString()
    assert first == again == (tmp_path / "model.onnx").read_bytes()


def test_operators_of_another_domain_pass_unless_the_checker_refuses(tmp_path: Path) -> None:
    assert taken(tmp_path, linear("N", 18, "my.company", "Special")).graph.node[0].op_type == "Special"
    with pytest.raises(RecipeError, match=r"mine\.onnx: the ONNX checker refuses the model"):
        taken(tmp_path, linear("N", 18, "", "Special"))


def test_data_outside_the_file_is_refused_before_it_is_looked_at(tmp_path: Path) -> None:
    model = linear("N")
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RecipeError, match='the tensor "w" lies outside the ONNX file'):
        source.onnx({"model": tmp_path / "mine.onnx"}, {"export": {}}, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an onnx file at all", b"\x08\x07"])
def test_what_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.onnx").write_bytes(content)
    with pytest.raises(RecipeError, match=r"mine\.onnx: is not an ONNX file"):
        source.onnx({"model": tmp_path / "mine.onnx"}, {"export": {}}, tmp_path)


# -- teachers


def taught(tmp_path: Path, state: State, *ignore: str) -> Path:
    save_file(state, tmp_path / "theirs.safetensors")
    out = tmp_path / "teacher"
    out.mkdir()
    params = {**LINEAR, "ignore": list(ignore)}
    given_teacher.teacher_weights({"weights": tmp_path / "theirs.safetensors"}, params, out)
    return out


def test_a_given_teacher_is_a_network_that_can_be_restored(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    further = {"pooler.weight": torch.zeros(2), "pooler.bias": torch.zeros(1), "ids": torch.arange(4)}
    out = taught(tmp_path, {**state, **further}, "pooler.*", "ids")
    restored = network.restore(out).state_dict()
    assert restored.keys() == state.keys()
    assert all(torch.equal(restored[name], state[name]) for name in state)
    assert network.described(out) == LINEAR


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_teacher_in_half_precision_is_taken_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    state = {name: value.to(dtype) for name, value in nn.Linear(2, 3).state_dict().items()}
    restored = network.restore(taught(tmp_path, state)).state_dict()
    for name, value in restored.items():
        assert value.dtype == torch.float32 and torch.equal(value, state[name].float())


@pytest.mark.parametrize(
    ("further", "ignore", "words"),
    [
        ({"pooler": 1}, (), 'it has unexpected pooler. Name what the module has no use for in "ignore".'),
        (
            {"pooler": 1},
            ("Pooler",),
            'no weight is called as "Pooler" in "ignore" says. Did you mean "pooler"?',
        ),
        ({"pooler": 1}, ("pooler", "head.*"), 'no weight is called as "head.*"'),
        ({"pooler": 1}, ("*",), '"ignore" leaves out bias, and torch.nn:Linear has it'),
        ({}, ("weight",), '"ignore" leaves out weight'),
    ],
)
def test_patterns_that_leave_out_too_much_or_nothing_are_refused(
    tmp_path: Path, further: dict[str, float], ignore: tuple[str, ...], words: str
) -> None:
    state = {**nn.Linear(2, 3).state_dict(), **{name: torch.tensor([v]) for name, v in further.items()}}
    with pytest.raises(RecipeError) as caught:
        taught(tmp_path, state, *ignore)
    assert words in str(caught.value) and str(caught.value).startswith("theirs.safetensors: ")


def test_a_teacher_with_weights_of_another_shape_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'"weight" has shape \[2, 3\]'):
        taught(tmp_path, {"weight": torch.zeros(2, 3), "bias": torch.zeros(3)})
    (tmp_path / "none.safetensors").write_bytes(b"none")
    with pytest.raises(RecipeError, match="is not a safetensors file"):
        given_teacher.teacher_weights({"weights": tmp_path / "none.safetensors"}, LINEAR, tmp_path)


def test_a_teacher_whose_sizes_only_a_batch_tells_takes_no_weights(tmp_path: Path) -> None:
    lazy = {"module": "torch.nn:LazyLinear", "args": {"out_features": 3}}
    with pytest.raises(RecipeError, match='the shape of "weight" is not known'):
        given_teacher.teacher_weights({"weights": tmp_path / "none.safetensors"}, lazy, tmp_path)


def test_an_onnx_teacher_is_the_file_as_it_came(tmp_path: Path) -> None:
    model = linear("N", 13, "com.microsoft", "Special")
    (tmp_path / "theirs.onnx").write_bytes(model.SerializeToString())
    out = tmp_path / "teacher"
    out.mkdir()
    params = {"through": "shop.teach:spoken", "args": {"speed": 2}}
    given_teacher.teacher_onnx({"model": tmp_path / "theirs.onnx"}, params, out)
    assert (out / "model.onnx").read_bytes() == (tmp_path / "theirs.onnx").read_bytes()
    assert network.described(out) == {"onnx": "model.onnx", **params}
    given_teacher.teacher_onnx({"model": tmp_path / "theirs.onnx"}, {}, out)
    assert network.described(out) == {"onnx": "model.onnx", "through": None, "args": {}}


@pytest.mark.parametrize("content", [b"", b"not an onnx file at all"])
def test_a_teacher_that_is_no_onnx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.onnx").write_bytes(content)
    with pytest.raises(RecipeError, match=r"mine\.onnx: is not an ONNX file"):
        given_teacher.teacher_onnx({"model": tmp_path / "mine.onnx"}, {}, tmp_path)


def test_a_teacher_with_data_outside_its_file_is_refused(tmp_path: Path) -> None:
    model = linear("N")
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../etc/passwd")
    (tmp_path / "mine.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(RecipeError, match='the tensor "w" lies outside the ONNX file'):
        given_teacher.teacher_onnx({"model": tmp_path / "mine.onnx"}, {}, tmp_path)
