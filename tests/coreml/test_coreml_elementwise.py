"""What the builder cannot write: arguments left out, and arguments that are refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mil import mb, package

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator

rng = np.random.default_rng(4)
BLOCK = rng.uniform(0.1, 2.0, (2, 3, 2, 2)).astype(np.float32)
PAIR = np.array([1, 2], np.int32)
Edit = Callable[[Any], None]


def evaluated(
    folder: Path, build: Any, inputs: dict[str, Any], edit: Edit, target: str = "iOS17"
) -> np.ndarray[Any, Any]:
    """The output of the program after `edit` has changed its last operation."""
    made = package(build, inputs, folder, target)
    edit(operations(made)[-1])
    evaluator = Evaluator(made)
    return np.asarray(evaluator(inputs)[evaluator.function.body.outputs[0]])


def operations(made: Any) -> Any:
    (block,) = made.spec.mlProgram.functions["main"].block_specializations.values()
    return block.operations


def leave_out(*names: str) -> Edit:
    def edit(operation: Any) -> None:
        for name in names:
            del operation.inputs[name]

    return edit


def nothing(operation: Any) -> None:
    """No change."""


def text(name: str, value: str) -> Edit:
    def edit(operation: Any) -> None:
        argument = operation.inputs[name].arguments[0]
        argument.Clear()
        argument.value.type.tensorType.dataType = 2  # a string
        argument.value.immediateValue.tensor.strings.values.append(value)

    return edit


ONES = np.ones(3, np.float32)
OPTIONAL: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("inverse", {}, ("epsilon",)),
    ("rsqrt", {}, ("epsilon",)),
    ("log", {}, ("epsilon",)),
    ("gelu", {}, ("mode",)),
    ("softmax", {}, ("axis",)),
    ("reduce_argmax", {}, ("axis", "keep_dims", "output_dtype")),
    ("reduce_argmin", {}, ("axis", "keep_dims", "output_dtype")),
    ("reduce_sum", {"axes": [1]}, ("keep_dims",)),
    ("reduce_max", {"axes": [1]}, ("keep_dims",)),
    ("cumsum", {}, ("axis", "exclusive", "reverse")),
    ("batch_norm", {"mean": ONES, "variance": ONES / 100}, ("epsilon",)),
    ("instance_norm", {}, ("epsilon",)),
    ("layer_norm", {"axes": [-1]}, ("epsilon",)),
    ("l2_norm", {}, ("epsilon",)),
    ("local_response_norm", {"size": 3}, ("alpha", "beta", "k")),
]


@pytest.mark.parametrize(("op", "given", "optional"), OPTIONAL, ids=lambda each: str(each)[:20])
def test_an_argument_left_out_has_the_value_that_the_builder_writes(
    tmp_path: Path, op: str, given: dict[str, Any], optional: tuple[str, ...]
) -> None:
    x = BLOCK * 1e-3 if op.endswith("norm") and op != "local_response_norm" else BLOCK * 3

    def build(x: Any) -> Any:
        return getattr(mb, op)(x=x, **given)

    written = evaluated(tmp_path / "a", build, {"x": x}, nothing)
    found = evaluated(tmp_path / "b", build, {"x": x}, leave_out(*optional))
    np.testing.assert_allclose(found, written, rtol=1e-6)


def test_the_logarithm_of_a_float16_zero_is_minus_infinity_without_epsilon_and_finite_for_float32(
    tmp_path: Path,
) -> None:
    for dtype, value in ((np.float16, -np.inf), (np.float32, np.log(np.float64(np.float32(1e-45))))):
        zero = np.zeros(1, dtype)
        found = evaluated(tmp_path / dtype.__name__, lambda x: mb.log(x=x), {"x": zero}, leave_out("epsilon"))
        np.testing.assert_allclose(found, [value], rtol=1e-6)


def test_layer_norm_is_over_all_axes_when_none_are_given(tmp_path: Path) -> None:
    found = evaluated(tmp_path, lambda x: mb.layer_norm(x=x, axes=[0]), {"x": BLOCK}, leave_out("axes"))
    wide = BLOCK.astype(np.float64)
    np.testing.assert_allclose(found, (wide - wide.mean()) / np.sqrt(wide.var() + 1e-5), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [1, -1])
def test_layer_norm_takes_beta_without_gamma(tmp_path: Path, axis: int) -> None:
    """coremltools' type inference reads the shape of gamma for beta's, so that there is always one to leave out."""
    one, two = np.full(BLOCK.shape[axis], 5, np.float32), np.arange(BLOCK.shape[axis], dtype=np.float32)

    def build(x: Any) -> Any:
        return mb.layer_norm(x=x, axes=[axis], gamma=one, beta=two)

    found = evaluated(tmp_path, build, {"x": BLOCK}, leave_out("gamma"))
    wide = np.moveaxis(BLOCK.astype(np.float64), axis, -1)
    want = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5) + two
    np.testing.assert_allclose(found, np.moveaxis(want, -1, axis), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("axes", [(), None])
@pytest.mark.parametrize(
    "op", ["reduce_sum", "reduce_max", "reduce_prod", "reduce_log_sum_exp", "reduce_mean"]
)
def test_a_reduction_over_no_axes_leaves_values_as_they_are(tmp_path: Path, op: str, axes: Any) -> None:
    """`axes` that are empty reduce nothing; without any, a value without axes has none to reduce."""
    x = BLOCK if axes == () else BLOCK[:1, 0, 0, 0]

    def build(x: Any) -> Any:
        if axes is None:
            return getattr(mb, op)(x=mb.reduce_sum(x=x), axes=None)
        return getattr(mb, op)(x=x, axes=np.zeros(0, np.int32))

    found = evaluated(tmp_path, build, {"x": x}, nothing)
    np.testing.assert_allclose(found, x if axes == () else x[0], rtol=1e-6)


@pytest.mark.parametrize(
    ("op", "given", "edit", "says"),
    [
        (
            "cast",
            {"dtype": "int32"},
            text("dtype", "complex64"),
            '"complex64" is no dtype that values can be cast to',
        ),
        (
            "gelu",
            {"mode": "EXACT"},
            text("mode", "TANH"),
            '"TANH" is no mode of gelu: EXACT, TANH_APPROXIMATION',
        ),
        ("reduce_argmax", {}, text("output_dtype", "int8"), '"int8" is no dtype for positions'),
        ("reduce_argmin", {}, text("output_dtype", "fp16"), '"fp16" is no dtype for positions'),
        ("reduce_argmax", {}, text("output_dtype", "uint16"), "comes out as uint16"),
        ("cast", {"dtype": "int32"}, text("dtype", "fp16"), "comes out as float16"),
    ],
)
def test_an_argument_that_is_not_supported_is_refused(
    tmp_path: Path, op: str, given: dict[str, Any], edit: Edit, says: str
) -> None:
    with pytest.raises(RecipeError, match=says):
        evaluated(tmp_path, lambda x: getattr(mb, op)(x=x, **given), {"x": BLOCK}, edit)


def test_an_integer_to_a_negative_power_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="an integer to a negative power is no integer"):
        evaluated(tmp_path, lambda x, y: mb.pow(x=x, y=y), {"x": PAIR, "y": -PAIR}, nothing)


@pytest.mark.parametrize("op", ["real_div", "floor_div", "mod"])
def test_an_integer_over_zero_is_refused(tmp_path: Path, op: str) -> None:
    with pytest.raises(RecipeError, match="ZeroDivisionError"):
        evaluated(tmp_path, lambda x, y: getattr(mb, op)(x=x, y=y), {"x": PAIR, "y": PAIR * 0}, nothing)


@pytest.mark.parametrize("rank", [3, 5])
def test_local_response_norm_is_refused_where_it_is_not_known_which_axis_is_meant(
    tmp_path: Path, rank: int
) -> None:
    x = BLOCK.reshape((2, 3, 4, 1, 1)[:rank])
    with pytest.raises(RecipeError, match=f"which axis of a rank {rank} holds the channels is not settled"):
        evaluated(tmp_path, lambda x: mb.local_response_norm(x=x, size=3), {"x": x}, nothing)


def test_a_selection_whose_stated_shape_forgets_the_condition_is_refused(tmp_path: Path) -> None:
    """coremltools states the shape that `a` and `b` have together: the file then contradicts itself."""
    choice = np.array([[True], [False]])
    with pytest.raises(
        RecipeError, match=r"comes out as float32\[2, 2\], and the program states float32\[2\]"
    ):
        evaluated(
            tmp_path,
            lambda c, a: mb.select(cond=c, a=a, b=a),
            {"c": choice, "a": np.ones(2, np.float32)},
            nothing,
        )
