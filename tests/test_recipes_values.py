"""What the values inside should be, how far off they may be, and that nothing is guessed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nets
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from modelbuild import network, samples
from modelbuild.equivalence import localise
from modelbuild.equivalence.localise import NO_NUMBER, SAME
from modelbuild.equivalence.noise import Spread
from modelbuild.errors import RecipeError
from modelbuild.recipes import export, identity, rounded, values
from modelbuild.recipes.values import Value, limits

torch.set_num_threads(1)
ARITHMETICS = ("float16", "float16-sums", "int8-symmetric-16-float16")


class Home(NamedTuple):
    """The target folders of a model, and what the recipes are told of it."""

    targets: Mapping[str, Path]
    params: Mapping[str, Any]
    data: Mapping[str, Any]

    def values(self, count: int = 3, rounds: tuple[str, ...] = ()) -> dict[str, Value]:
        few = {name: array[:count] for name, array in self.data.items()}
        return values.torch_values(self.targets["student"], self.targets["onnx"], self.params, few, rounds)


def home(folder: Path, module: nn.Module, data: Mapping[str, Any], **args: Any) -> Home:
    params = nets.params()
    targets = {**nets.targets(folder, module, data, args), "onnx": folder / "onnx"}
    targets["onnx"].mkdir()
    export.export(targets, params, targets["onnx"])
    return Home(targets, params, data)


@pytest.fixture(scope="module")
def convnet(tmp_path_factory: pytest.TempPathFactory) -> Home:
    module = nets.NETS["convnet"].module(width=2)
    return home(tmp_path_factory.mktemp("convnet"), module, nets.image_inputs(), width=2)


@pytest.fixture(scope="module", params=["convnet", "encoder", "plain1d"])
def any_net(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Home:
    net = nets.NETS[request.param]
    return home(tmp_path_factory.mktemp(request.param), net.module(), net.inputs())


def apart(one: Any, two: Any) -> float:
    known = np.isfinite(one.astype(float))
    return float(np.abs(one[known].astype(float) - two[known].astype(float)).max(initial=0.0))


def test_pytorch_and_onnx_agree_on_every_value_that_both_have(any_net: Home) -> None:
    few = {name: array[:3] for name, array in any_net.data.items()}
    ours, theirs = any_net.values(), values.onnx_values(any_net.targets["onnx"], few)
    assert ours.keys() <= theirs.keys()
    names = identity.read(any_net.targets["onnx"]).values
    assert {value for value in theirs if names[value].fx} == ours.keys()
    for name, value in ours.items():
        assert (value.array.shape, value.array.dtype) == (theirs[name].array.shape, theirs[name].array.dtype)
        assert localise.deviation(value.array, theirs[name].array, limits(value, None)).ok, name


def test_values_are_the_modules_own(convnet: Home) -> None:
    found, module = convnet.values(), nets.NETS["convnet"].module(width=2)
    image = torch.tensor(convnet.data["image"][:3])
    with torch.no_grad():
        first = module.features[0](image)
        assert apart(found["relu"].array, first.numpy()) < 1e-6
        assert apart(found["logits"].array, module(image).numpy()) < 1e-6
        # What is called as the exporter calls it is after the normalisation: not the convolution's result.
        assert apart(found["getitem"].array, module.features[0][:2](image).numpy()) < 1e-6
    np.testing.assert_array_equal(found["image"].array, convnet.data["image"][:3])


def test_the_floor_is_what_float64_and_moved_inputs_do(
    convnet: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = convnet.values()
    monkeypatch.setattr(values.exported, "wide_values", lambda *_: {})
    moved = convnet.values()
    monkeypatch.undo()
    monkeypatch.setattr(samples, "DIRECTIONS", ())
    wide = convnet.values()
    for name, value in both.items():
        for metric in ("max_abs", "rmse"):
            parts = [getattr(each[name].floor, metric) for each in (moved, wide)]
            assert getattr(value.floor, metric) == max(parts)
    assert 0 < wide["logits"].floor.rmse < wide["logits"].floor.max_abs < 1e-6
    assert moved["image"].floor.rmse > 0 and wide["image"].floor == SAME


def test_float64_is_float64_inside(convnet: Home) -> None:
    weights = network.restore(convnet.targets["student"])
    made = export.exported(
        weights, values.DataSet(dict(convnet.data), {}), export.Settings(18, 1, 64), "here"
    )
    image = torch.tensor(convnet.data["image"]).double()
    found = values.exported.wide_values(made.program, [image], ["relu_1", "linear"])
    with torch.no_grad():
        want = weights.double()(image)
    assert {array.dtype for array in found.values()} == {np.dtype("float64")}
    assert apart(found["linear"], want.numpy()) < 1e-14 and torch.get_default_dtype() == torch.float32


def test_each_arithmetic_below_float32_moves_the_outputs_as_it_moves_the_modules(convnet: Home) -> None:
    found = convnet.values(rounds=ARITHMETICS)
    few = {"image": convnet.data["image"][:3]}
    for arithmetic in ARITHMETICS:
        module = nets.NETS["convnet"].module(width=2)
        want = rounded.rounded(module, few, arithmetic)["logits"]
        moved = found["logits"].rounded[arithmetic].max_abs
        assert moved == pytest.approx(apart(found["logits"].array, want), rel=0.5) and moved > 1e-5
    relu = {name: each.rmse for name, each in found["relu_1"].rounded.items()}
    assert relu["float16"] < relu["float16-sums"] and relu["float16"] < relu["int8-symmetric-16-float16"]


def test_an_arithmetic_that_is_none_is_refused(convnet: Home) -> None:
    with pytest.raises(RecipeError, match='no "float17" arithmetic'):
        convnet.values(rounds=("float17",))


# -- limits


FLOOR, MOST = Spread(1e-3, 1e-4), Spread(8e-3, 8e-4)


def value(array: Any, floor: Spread = SAME, **apart: Spread) -> Value:
    return Value(np.asarray(array, np.float32), floor, apart)


def test_the_limits_are_those_of_auto() -> None:
    largest, mean = (float(np.spacing(np.float32(size))) for size in (5.0, 2.5))
    assert largest > mean
    assert limits(value([0, 0, 0, -5.0]), None) == Spread(4 * largest, 4 * mean)
    assert limits(value([1.0], FLOOR), None) == MOST
    half = value([1.0], FLOOR, half=Spread(0.25, 0.125))
    assert limits(half, "half") == Spread(0.5, 0.25)
    assert limits(half, None) == limits(half, "other") == MOST


def test_what_is_no_number_makes_no_limit() -> None:
    ulp = 4 * float(np.spacing(np.float32(1)))
    assert limits(value([1.0], FLOOR, half=NO_NUMBER), "half") == MOST
    assert limits(value([1.0, float("inf"), float("nan")]), None) == Spread(ulp, ulp)
    assert limits(value([float("-inf")]), None) == SAME
    whole = Value(np.arange(3), SAME, {})
    assert limits(whole, None) == SAME


@pytest.mark.parametrize(
    ("due", "other", "found"),
    [
        ([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0], SAME),
        ([np.nan, 1.0], [0.0, 1.0], NO_NUMBER),
        ([np.inf, 1.0], [-np.inf, 1.0], NO_NUMBER),
        ([0.0, 1.0], [np.nan, 1.0], NO_NUMBER),
        ([0.0, 1.0], [0.0], NO_NUMBER),
        ([], [], SAME),
    ],
)
def test_one_that_alone_is_no_number_is_infinitely_far(due: Any, other: Any, found: Spread) -> None:
    assert values._apart(np.array(due), np.array(other)) == found
    assert values._apart(np.array(due), None) == SAME


class Steep(nn.Module):
    """`hot` overflows on inputs next to those that are given; a mask of minus infinity is what it is."""

    output_names = ("y",)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        hot = torch.exp(x * self.scale)
        masked = torch.where(x > 0, torch.zeros_like(x), float("-inf"))
        return torch.where(hot > 1e30, x, hot) + torch.exp(masked)


def test_a_value_that_rounding_takes_beyond_all_numbers_is_left_out(tmp_path: Path) -> None:
    edge = np.float32(88.72283)  # the largest whose exponential float32 holds
    with np.errstate(over="ignore"):
        assert np.isfinite(np.exp(edge)) and np.isinf(np.exp(np.nextafter(edge, np.float32(np.inf))))
    found = home(tmp_path, Steep(), {"x": np.array([[edge, -1.0], [1.0, -2.0]], np.float32)}).values(2)
    assert "exp" not in found and {"y", "where"} <= found.keys()
    masked = found["where"]
    assert not np.isfinite(masked.array).all() and masked.floor == SAME


# -- nothing is guessed


def test_a_student_that_is_another_has_no_names(convnet: Home, tmp_path: Path) -> None:
    other = nets.NETS["convnet"].module(width=2)
    with torch.no_grad():
        other.head.bias += 1
    network.save(tmp_path, other, nets.described(type(other), {"width": 2}))
    with pytest.raises(RecipeError, match="does not give the same ONNX file"):
        values.torch_values(tmp_path, convnet.targets["onnx"], convnet.params, convnet.data)


def test_names_of_another_program_are_not_believed(convnet: Home, tmp_path: Path) -> None:
    names = identity.read(convnet.targets["onnx"])
    swapped = {**names.values, "relu": names.values["relu_1"], "relu_1": names.values["relu"]}
    (tmp_path / "model.onnx").write_bytes((convnet.targets["onnx"] / "model.onnx").read_bytes())
    identity.write(tmp_path, names._replace(values=swapped))
    with pytest.raises(RecipeError, match="does not give the same ONNX file"):
        values.torch_values(convnet.targets["student"], tmp_path, convnet.params, convnet.data)


def test_a_program_that_does_not_do_what_the_module_does_is_not_believed(
    convnet: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = network.run
    monkeypatch.setattr(
        values.network, "run", lambda *given: {n: v + 1e-3 for n, v in genuine(*given).items()}
    )
    with pytest.raises(RecipeError, match='gives another "logits" than the module does'):
        convnet.values()


def test_a_fixed_batch_is_kept_to(convnet: Home, tmp_path: Path) -> None:
    params = {**convnet.params, "export": {"dynamic": {"batch": [2, 2]}}}
    export.export(convnet.targets, params, tmp_path)
    for read in (
        lambda data: values.torch_values(convnet.targets["student"], tmp_path, params, data),
        lambda data: values.onnx_values(tmp_path, data),
    ):
        assert len(read({"image": convnet.data["image"][:2]})["logits"].array) == 2
        with pytest.raises(RecipeError, match="takes 2 samples a call, and 3 were given"):
            read({"image": convnet.data["image"][:3]})


# -- ONNX files


def test_a_given_file_without_a_float64_form_has_the_floor_of_moved_inputs(tmp_path: Path) -> None:
    """Nothing knows the operation in float64; a whole number has no floor."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    model = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y]), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    onnx.save(model, tmp_path / "model.onnx")
    found = values.onnx_values(
        tmp_path, {"x": np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)}
    )
    assert found.keys() == {"x", "q", "scale", "zero", "y"}
    assert found["scale"].floor.max_abs > 0 and found["q"].array.dtype == np.uint8


def test_a_file_that_onnx_runtime_refuses_is_refused_in_words(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Nothing", ["x"], ["y"], domain="own")], "g", [x], [x])
    onnx.save(helper.make_model(graph), tmp_path / "model.onnx")
    with pytest.raises(RecipeError, match="ONNX Runtime does not run the model"):
        values.onnx_values(tmp_path, {"x": np.zeros(1, np.float32)})


class Typed(nn.Module):
    """Asks for float32 by name, by dividing whole numbers, and by saying nothing at all."""

    def forward(self, x: Tensor) -> Tensor:
        whole = (x > 0).to(torch.int64)
        steps = torch.arange(0.0, 1.0, 0.2)
        return x.cumsum(1, dtype=torch.float32) + whole / 3 + whole.to(torch.float32) * steps


def test_in_float64_nothing_falls_back_to_float32() -> None:
    x = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))
    data = values.DataSet({"x": x.numpy()}, {})
    made = export.exported(Typed().eval(), data, export.Settings(18, 1, 64), "here")
    nodes = [name.fx for name in made.names.values.values() if name.fx]
    found = values.exported.wide_values(made.program, [x.double()], nodes)
    assert not any(array.dtype == np.float32 for array in found.values())
    whole = (x > 0).double()
    want = x.double().cumsum(1) + whole / 3 + whole * torch.arange(0.0, 1.0, 0.2, dtype=torch.float64)
    assert apart(found[made.names.values["output"].fx], want.numpy()) < 1e-14
