"""Branches and loops: nested, with values from outside, of no round at all, with several variables and open axes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mil
import numpy as np
import pytest
from mil import mb

from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator

COVERS = {"cond": ("float32",), "while_loop": ("float32", "int32")}

F = np.float32
X = np.array([1, 2, 3], F)
ONE = np.array([1], np.int32)


def number(value):
    return np.array([value], np.int32)


def same(found, *wanted):
    assert len(found) == len(wanted)
    for have, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


def calls(build, *inputs, **more):
    """The results of one evaluator for each of `inputs` in turn."""
    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(mil.package(build, inputs[0], Path(folder), **more))
        names = evaluator.function.body.outputs
        return [[found[name] for name in names] for found in map(evaluator, inputs)]


def positive(n):
    return mb.greater(x=mb.squeeze(x=n), y=np.int32(0))


# -- cond


def test_a_branch_is_taken_by_its_condition() -> None:
    def build(x, n):
        return mb.cond(
            pred=positive(n), _true_fn=lambda: mb.add(x=x, y=F(1)), _false_fn=lambda: mb.mul(x=x, y=F(10))
        )

    found = calls(build, {"x": X, "n": number(1)}, {"x": X, "n": number(-1)}, {"x": X, "n": number(1)})
    same([each for (each,) in found], X + 1, X * 10, X + 1)


def test_a_branch_gives_several_results() -> None:
    def build(x, n):
        return mb.cond(
            pred=positive(n),
            _true_fn=lambda: (mb.add(x=x, y=F(1)), mb.identity(x=n)),
            _false_fn=lambda: (mb.mul(x=x, y=F(2)), mb.add(x=n, y=ONE)),
        )

    yes, no = calls(build, {"x": X, "n": number(1)}, {"x": X, "n": number(0)})
    same(yes, X + 1, number(1))
    same(no, X * 2, number(1))


def test_a_branch_may_give_what_it_did_not_make() -> None:
    def build(x, n):
        double = mb.mul(x=x, y=F(2))
        chosen = mb.cond(pred=positive(n), _true_fn=lambda: double, _false_fn=lambda: mb.identity(x=x))
        return mb.add(x=chosen, y=double)

    (yes,), (no,) = calls(build, {"x": X, "n": number(1)}, {"x": X, "n": number(0)})
    same([yes, no], X * 4, X * 3)


def test_a_branch_may_give_a_constant_again_and_again() -> None:
    def build(x, n):
        chosen = mb.cond(
            pred=positive(n),
            _true_fn=lambda: mb.fill(shape=[3], value=F(7)),
            _false_fn=lambda: mb.add(x=x, y=F(1)),
        )
        return mb.scatter(
            data=chosen, indices=[0], updates=mb.slice_by_size(x=x, begin=[2], size=[1]), mode="add"
        )

    inputs = {"x": X, "n": number(1)}
    first, second, third = calls(build, inputs, inputs, {"x": X, "n": number(0)})
    same([*first, *second, *third], np.array([10, 7, 7], F), np.array([10, 7, 7], F), np.array([5, 3, 4], F))


def test_branches_within_branches() -> None:
    def build(x, n):
        def inner():
            big = mb.greater(x=mb.squeeze(x=n), y=np.int32(5))
            return mb.cond(
                pred=big, _true_fn=lambda: mb.add(x=x, y=F(100)), _false_fn=lambda: mb.add(x=x, y=F(1))
            )

        return mb.cond(pred=positive(n), _true_fn=inner, _false_fn=lambda: mb.sub(x=x, y=F(1)))

    found = calls(build, *[{"x": X, "n": number(n)} for n in (9, 2, -3, 9)])
    same([each for (each,) in found], X + 100, X + 1, X - 1, X + 100)


def test_a_condition_that_is_known_beforehand() -> None:
    def build(x):
        return mb.cond(
            pred=np.bool_(False), _true_fn=lambda: mb.add(x=x, y=F(1)), _false_fn=lambda: mb.mul(x=x, y=F(2))
        )

    same(mil.evaluate(build, {"x": X}), X * 2)


def test_only_the_branch_that_is_taken_is_computed() -> None:
    def build(x, n):
        def outside():
            return mb.gather(x=x, indices=n, axis=0, validate_indices=False)

        return mb.cond(
            pred=mb.less(x=mb.squeeze(x=n), y=np.int32(3)),
            _true_fn=outside,
            _false_fn=lambda: mb.slice_by_size(x=x, begin=[0], size=[1]),
        )

    (inside,), (outside,) = calls(build, {"x": X, "n": number(2)}, {"x": X, "n": number(99)})
    same([inside, outside], X[2:], X[:1])


# -- while_loop


def count(build_step, *start, rounds=None):
    """A loop over a counter and `start`; `build_step(i, *variables)` gives the next variables."""

    def build(x, n):
        def more(i, *_):
            return mb.less(x=i, y=n if rounds is None else number(rounds))

        def body(i, *variables):
            left = build_step(x, n, i, *variables)
            return (mb.add(x=i, y=ONE), *left)

        first = [x if each is X else each for each in start]
        return mb.while_loop(_cond=more, _body=body, loop_vars=(number(0), *first))

    return build


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
def test_a_loop_goes_round_as_often_as_it_is_told(rounds) -> None:
    build = count(lambda x, n, i, total: (mb.mul(x=total, y=F(2)),), X)
    same(mil.evaluate(build, {"x": X, "n": number(rounds)}), number(rounds), X * 2**rounds)


def test_a_loop_of_one_variable() -> None:
    def build(x):
        return mb.while_loop(
            _cond=lambda i: mb.less(x=i, y=number(4)), _body=lambda i: mb.add(x=i, y=ONE), loop_vars=(x,)
        )

    same(mil.evaluate(build, {"x": number(1)}), number(4))


def test_variables_may_change_places() -> None:
    build = count(lambda x, n, i, a, b: (mb.identity(x=b), mb.add(x=a, y=b)), X, np.zeros(3, F))
    a, b = X, np.zeros(3, F)
    for _ in range(5):
        a, b = b, a + b
    same(mil.evaluate(build, {"x": X, "n": number(5)}), number(5), a, b)


def test_variables_that_are_handed_on_as_they_are() -> None:
    build = count(lambda x, n, i, a, b: (b, a), X, np.zeros(3, F))
    same(mil.evaluate(build, {"x": X, "n": number(3)}), number(3), np.zeros(3, F), X)


def test_a_loop_sees_values_from_outside() -> None:
    def build(x, n):
        factor = mb.add(x=x, y=F(1))
        return mb.while_loop(
            _cond=lambda i, total: mb.less(x=i, y=n),
            _body=lambda i, total: (mb.add(x=i, y=ONE), mb.add(x=total, y=factor)),
            loop_vars=(number(0), np.zeros(3, F)),
        )

    inputs = {"x": X, "n": number(3)}
    for found in calls(build, inputs, inputs, {"x": X * 2, "n": number(3)}, inputs)[::3]:
        same(found, number(3), (X + 1) * 3)


def test_a_loop_may_fill_a_buffer_of_its_own() -> None:
    def step(x, n, i, buffer):
        value = mb.gather(x=x, indices=i, axis=0, validate_indices=False)
        return (mb.scatter(data=buffer, indices=i, updates=mb.mul(x=value, y=F(2)), mode="update"),)

    inputs = {"x": X, "n": number(3)}
    for found in calls(count(step, np.zeros(3, F)), inputs, inputs):
        same(found, number(3), X * 2)


def test_a_loop_leaves_what_it_starts_from_as_it_is() -> None:
    def build(x, n):
        start = mb.add(x=x, y=F(0))
        _, filled = mb.while_loop(
            _cond=lambda i, buffer: mb.less(x=i, y=n),
            _body=lambda i, buffer: (
                mb.add(x=i, y=ONE),
                mb.scatter(data=buffer, indices=i, updates=np.array([9], F), mode="update"),
            ),
            loop_vars=(number(0), start),
        )
        return filled, start

    same(mil.evaluate(build, {"x": X, "n": number(2)}), np.array([9, 9, 3], F), X)


def test_a_variable_that_is_the_same_after_every_round_stays_so() -> None:
    def step(x, n, i, fresh, seen):
        marked = mb.scatter(data=fresh, indices=i, updates=np.array([5], F), mode="update")
        return mb.fill(shape=[3], value=F(1)), mb.add(x=seen, y=marked)

    inputs = {"x": X, "n": number(3)}
    for found in calls(count(step, np.ones(3, F), np.zeros(3, F)), inputs, inputs):
        same(found, number(3), np.ones(3, F), np.array([7, 7, 7], F))


def test_loops_within_loops() -> None:
    def step(x, n, i, total):
        _, inner = mb.while_loop(
            _cond=lambda j, part: mb.less(x=j, y=i),
            _body=lambda j, part: (mb.add(x=j, y=ONE), mb.add(x=part, y=x)),
            loop_vars=(number(0), np.zeros(3, F)),
        )
        return (mb.add(x=total, y=inner),)

    same(mil.evaluate(count(step, X), {"x": X, "n": number(4)}), number(4), X * (1 + 0 + 1 + 2 + 3))


def test_branches_within_loops() -> None:
    def step(x, n, i, total):
        odd = mb.equal(x=mb.mod(x=mb.squeeze(x=i), y=np.int32(2)), y=np.int32(1))
        added = mb.cond(
            pred=odd, _true_fn=lambda: mb.add(x=total, y=x), _false_fn=lambda: mb.sub(x=total, y=F(1))
        )
        return (added,)

    same(mil.evaluate(count(step, X), {"x": X, "n": number(5)}), number(5), X * 3 - 3)


def test_loops_within_branches() -> None:
    def build(x, n):
        def looped():
            return mb.while_loop(
                _cond=lambda i, total: mb.less(x=i, y=n),
                _body=lambda i, total: (mb.add(x=i, y=ONE), mb.add(x=total, y=x)),
                loop_vars=(number(0), x),
            )[1]

        return mb.cond(pred=positive(n), _true_fn=looped, _false_fn=lambda: mb.sub(x=x, y=F(1)))

    (yes,), (no,) = calls(build, {"x": X, "n": number(2)}, {"x": X, "n": number(0)})
    same([yes, no], X * 3, X - 1)


def test_a_variable_may_grow_along_an_open_axis() -> None:
    def build(x, n):
        start = mb.slice_by_size(x=x, begin=[0], size=mb.shape(x=x))
        return mb.while_loop(
            _cond=lambda i, grown: mb.less(x=i, y=n),
            _body=lambda i, grown: (mb.add(x=i, y=ONE), mb.concat(values=[grown, x], axis=0)),
            loop_vars=(number(0), start),
        )

    for rounds in (0, 3):
        found = mil.evaluate(build, {"x": X, "n": number(rounds)}, open_axes={"x": (0,)})
        same(found, number(rounds), np.tile(X, 1 + rounds))


def test_what_a_loop_holds_can_be_watched() -> None:
    def step(x, n, i, total):
        return (mb.add(x=total, y=x, name="running"),)

    with tempfile.TemporaryDirectory() as folder:
        inputs = {"x": X, "n": number(3)}
        evaluator = Evaluator(
            mil.package(count(step, np.zeros(3, F)), inputs, Path(folder)), watch=["running", "x"]
        )
        evaluator(inputs)
        same([evaluator.watched["running"], evaluator.watched["x"]], X * 3, X)
        evaluator({"x": X * 2, "n": number(1)})
        same([evaluator.watched["running"]], X * 2)


@pytest.mark.parametrize("target", mil.TARGETS)
def test_loops_are_the_same_in_every_op_set(target) -> None:
    build = count(lambda x, n, i, total: (mb.mul(x=total, y=F(3)),), X)
    same(mil.evaluate(build, {"x": X, "n": number(2)}, target), number(2), X * 9)
