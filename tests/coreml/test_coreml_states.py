"""State: read, written, carried from call to call, kept apart from what a caller does with results."""

from __future__ import annotations

from pathlib import Path

import mil
import numpy as np
import pytest
import torch
from mil import mb, types

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.ops.states import read_state, write_state
from modelbuild.runtimes.coreml.evaluator.state import Cell

COVERS = {"read_state": ("float32",), "write_state": ("float32",)}

F = np.float16
X = np.array([1, 2, 3], F)


def stateful(body, folder: Path, **functions) -> Package:
    """A program of a state variable `kept` and an input `x`; `body(kept, x)` gives its results."""
    from coremltools.converters.mil.mil import Program

    spec = [mb.StateTensorSpec((3,), dtype=types.fp16), mb.TensorSpec((3,), dtype=types.fp16)]
    program = Program()
    for name, each in {"main": body, **functions}.items():
        program.add_function(
            name, mb.function(input_specs=spec, opset_version=mil.ct.target.iOS18)(named(each))
        )
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    made = mil.Model_pb2.Model(specificationVersion=9)
    made.mlProgram.CopyFrom(mil.MILProtoExporter(program, str(weights), 9).export())
    return Package(folder / "test.mlpackage", made, folder)


def named(body):
    def function(kept, x):
        return body(kept, x)

    return function


def summing(kept, x):
    return mb.coreml_update_state(state=kept, value=mb.add(x=mb.read_state(input=kept), y=x))


def result(evaluator, x, state=None):
    (value,) = evaluator({"x": x}, state).values()
    return value


def test_state_is_carried_from_call_to_call(tmp_path) -> None:
    evaluator = Evaluator(stateful(summing, tmp_path))
    assert [each.type for each in evaluator.function.body.operations] == [
        "read_state",
        "add",
        "write_state",
        "read_state",
    ]
    state = evaluator.fresh_state()
    assert {name: (each.dtype, each.shape) for name, each in state.items()} == {"kept": (torch.float16, (3,))}
    for times in (1, 2, 3):
        np.testing.assert_array_equal(result(evaluator, X, state), X * times)
        np.testing.assert_array_equal(state["kept"].numpy(), X * times)


def test_without_state_every_call_starts_from_zeros(tmp_path) -> None:
    evaluator = Evaluator(stateful(summing, tmp_path))
    for _ in range(2):
        np.testing.assert_array_equal(result(evaluator, X), X)


def test_two_states_are_kept_apart(tmp_path) -> None:
    evaluator = Evaluator(stateful(summing, tmp_path))
    one, other = evaluator.fresh_state(), evaluator.fresh_state()
    result(evaluator, X, one)
    result(evaluator, X, one)
    np.testing.assert_array_equal(result(evaluator, X, other), X)
    np.testing.assert_array_equal(result(evaluator, X, one), X * 3)


def test_reading_comes_in_the_order_of_the_program(tmp_path) -> None:
    def body(kept, x):
        before = mb.read_state(input=kept)
        written = mb.coreml_update_state(state=kept, value=x)
        mb.coreml_update_state(state=kept, value=mb.add(x=written, y=x))
        return mb.add(x=before, y=F(0)), mb.add(x=mb.read_state(input=kept), y=F(0))

    evaluator = Evaluator(stateful(body, tmp_path))
    state = {"kept": torch.tensor([5, 6, 7], dtype=torch.float16)}
    before, after = evaluator({"x": X}, state).values()
    np.testing.assert_array_equal(before, np.array([5, 6, 7], F))
    np.testing.assert_array_equal(after, X * 2)


def test_a_constant_may_be_written(tmp_path) -> None:
    def body(kept, x):
        mb.coreml_update_state(state=kept, value=np.array([7, 8, 9], F))
        return mb.add(x=x, y=mb.read_state(input=kept))

    evaluator = Evaluator(stateful(body, tmp_path))
    np.testing.assert_array_equal(result(evaluator, X), X + np.array([7, 8, 9], F))


def test_what_a_caller_does_to_inputs_and_results_leaves_the_state_alone(tmp_path) -> None:
    def body(kept, x):
        mb.coreml_update_state(state=kept, value=x)
        return mb.read_state(input=kept)

    evaluator = Evaluator(stateful(body, tmp_path))
    state, x = evaluator.fresh_state(), X.copy()
    found = result(evaluator, x, state)
    found[:], x[:] = 99, 99
    np.testing.assert_array_equal(state["kept"].numpy(), X)


def test_an_operation_that_overwrites_does_not_overwrite_state(tmp_path) -> None:
    def body(kept, x):
        total = mb.coreml_update_state(state=kept, value=mb.add(x=x, y=F(1)))
        return mb.scatter(data=total, indices=[0], updates=np.array([50], F), mode="update")

    evaluator = Evaluator(stateful(body, tmp_path))
    state = evaluator.fresh_state()
    np.testing.assert_array_equal(result(evaluator, X, state), np.array([50, 3, 4], F))
    np.testing.assert_array_equal(state["kept"].numpy(), X + 1)


def test_functions_share_the_state_that_they_are_given(tmp_path) -> None:
    def peek(kept, x):
        return mb.add(x=mb.read_state(input=kept), y=mb.mul(x=x, y=F(0)))

    package = stateful(summing, tmp_path, peek=peek)
    main, other = Evaluator(package), Evaluator(package, function="peek")
    state = main.fresh_state()
    result(main, X, state)
    np.testing.assert_array_equal(result(other, X, state), X)


def test_a_state_that_is_watched_shows_what_was_written_last(tmp_path) -> None:
    evaluator = Evaluator(stateful(summing, tmp_path), watch=["kept"])
    evaluator({"x": X})
    np.testing.assert_array_equal(evaluator.watched["kept"], X)


def test_state_in_a_loop_and_a_branch(tmp_path) -> None:
    def body(kept, x):
        def more(i):
            return mb.less(x=i, y=np.array([3], np.int32))

        def round_(i):
            mb.coreml_update_state(state=kept, value=mb.add(x=mb.read_state(input=kept), y=x))
            return mb.add(x=i, y=np.array([1], np.int32))

        mb.while_loop(_cond=more, _body=round_, loop_vars=(np.array([0], np.int32),))
        return mb.add(x=mb.read_state(input=kept), y=F(0))

    evaluator = Evaluator(stateful(body, tmp_path))
    state = evaluator.fresh_state()
    for times in (3, 6):
        np.testing.assert_array_equal(result(evaluator, X, state), X * times)


def test_state_of_another_program_is_refused(tmp_path) -> None:
    evaluator = Evaluator(stateful(summing, tmp_path))
    with pytest.raises(RecipeError, match=r'read_state.*the state that was given has no "kept"'):
        evaluator({"x": X}, {})
    with pytest.raises(RecipeError, match=r"comes out as float32\[3\], and the program states float16\[3\]"):
        evaluator({"x": X}, {"kept": torch.zeros(3)})


@pytest.mark.parametrize("data", [torch.zeros(3), torch.zeros(4).half(), torch.zeros(1, 3).half()])
def test_writing_another_type_is_refused(data) -> None:
    with pytest.raises(
        ValueError, match=r'state "kept" keeps its type, and this writes .* into float16\[3\]'
    ):
        write_state(Cell({"kept": torch.zeros(3).half()}, "kept"), data)


def test_what_is_no_state_is_refused() -> None:
    with pytest.raises(ValueError, match='"input" is no state of the function'):
        read_state(torch.zeros(3))
