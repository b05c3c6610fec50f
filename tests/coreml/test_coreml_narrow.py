"""Loops whose variables travel narrow give the bits that they give when every round casts them."""

from __future__ import annotations

import mil
import numpy as np
import pytest
from mil import mb

from modelbuild.runtimes.coreml.evaluator import compile as compiling
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.narrow import Loop, narrowed
from modelbuild.runtimes.coreml.evaluator.program import (
    Block,
    ListType,
    Literal,
    Named,
    Operation,
    TensorType,
)

F, H = np.float32, np.float16
X = np.array([1 / 3, -2.7, 1e-5, 3e4], F)
ONE = np.array([1], np.int32)


def down(x):
    return mb.cast(x=x, dtype="fp16")


def up(x):
    return mb.cast(x=x, dtype="fp32")


def loop(body, test=None, start=X):
    """A counter and variables that begin with `start`; `body(x, i, *variables)` gives the next ones."""
    start = start if isinstance(start, tuple) else (start,)

    def build(x, n):
        def more(i, *variables):
            under = mb.squeeze(x=mb.less(x=i, y=n))
            return mb.logical_and(x=under, y=test(*variables)) if test else under

        def once(i, *variables):
            left = body(x, i, *variables)
            return (mb.add(x=i, y=ONE), *(left if isinstance(left, tuple) else (left,)))

        first = [x if each is X else each for each in start]
        return mb.while_loop(_cond=more, _body=once, loop_vars=(np.zeros(1, np.int32), *first))

    return build


def third(x, i, total):
    """A round in float16: a third of the sum, and x."""
    return up(mb.add(x=mb.mul(x=down(total), y=H(1 / 3)), y=down(x)))


@pytest.fixture
def both(tmp_path, monkeypatch):
    """Outputs and watched values of a loop, which must be the same with and without narrowing, and what is narrow."""

    def run(build, rounds, x=X, watch=()):
        inputs, inside, found = {"x": x, "n": np.array([rounds], np.int32)}, [], []

        def told(operation, kept):
            made = narrowed(operation, kept)
            inside.append(dict(made.inside))
            return made

        for number, how in enumerate((told, lambda operation, kept: Loop(*operation.blocks, {}))):
            monkeypatch.setattr(compiling, "narrowed", how)
            evaluator = Evaluator(mil.package(build, inputs, tmp_path / str(number)), watch=watch)
            for _ in range(2):
                outputs = evaluator(inputs)
                found.append([*outputs.values(), *(evaluator.watched[name] for name in watch)])
        for other in found[1:]:
            for one, two in zip(found[0], other, strict=True):
                assert (one.dtype, one.tobytes()) == (two.dtype, two.tobytes())
        return found[0], inside

    return run


@pytest.mark.parametrize("rounds", [0, 1, 2, 7])
def test_a_variable_that_is_cast_down_first_and_up_last_travels_narrow(both, rounds) -> None:
    (count, total), inside = both(loop(third), rounds)
    assert inside == [{1: "float16"}]
    assert (count.tolist(), total.dtype) == ([rounds], F)
    want = X
    for _ in range(rounds):
        want = (want.astype(H) * H(1 / 3) + X.astype(H)).astype(F)
    np.testing.assert_array_equal(total, want)


def test_what_no_round_touches_is_not_rounded(both) -> None:
    (_, total), inside = both(loop(third), 0)
    assert inside == [{1: "float16"}]
    np.testing.assert_array_equal(total, X)
    assert (total != X.astype(H).astype(F)).any()


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_what_float16_cannot_hold_is_the_same(both, rounds) -> None:
    odd = np.array([np.nan, np.inf, -np.inf, 1e6, -1e6, 65519, 65520, 1e-8, -0.0, 6.1e-5, 2049], F)
    _, inside = both(loop(lambda x, i, total: up(mb.mul(x=down(total), y=H(1.5)))), rounds, x=odd)
    assert inside == [{1: "float16"}]


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_a_variable_that_the_test_reads_stays_wide(both, rounds) -> None:
    low = F(1 / 3)  # above what float16 makes of it

    def test(total):
        return mb.greater_equal(x=mb.reduce_max(x=total), y=low)

    found, inside = both(
        loop(lambda x, i, total: up(mb.mul(x=down(total), y=H(1))), test), rounds, np.array([low, 0], F)
    )
    assert inside == [{}]
    assert found[0].tolist() == [min(rounds, 1)]


# Each reads a variable, or what it becomes, a second time.
ELSEWHERE = {
    "the variable by an operation": lambda x, i, a, b: (third(x, i, a), mb.add(x=b, y=a)),
    "the variable by another cast": lambda x, i, a, b: (third(x, i, a), mb.add(x=b, y=up(down(a)))),
    "the variable by the next round": lambda x, i, a, b: (third(x, i, a), a),
    "the variable by an inner block": lambda x, i, a, b: (third(x, i, a), inner(i, a, b)),
    "the result by an operation": lambda x, i, a, b: twice(third(x, i, a), lambda c: (c, mb.add(x=b, y=c))),
    "the result by another variable": lambda x, i, a, b: twice(third(x, i, a), lambda c: (c, c)),
    "the result by an inner block": lambda x, i, a, b: twice(third(x, i, a), lambda c: (c, inner(i, c, b))),
}


def twice(value, use):
    return use(value)


def inner(i, a, b):
    odd = mb.less(x=mb.squeeze(x=i), y=np.int32(2))
    return mb.cond(pred=odd, _true_fn=lambda: mb.add(x=a, y=b), _false_fn=lambda: mb.mul(x=a, y=b))


@pytest.mark.parametrize("rounds", [0, 1, 4])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_value_that_is_read_elsewhere_too_stays_wide(both, name, rounds) -> None:
    _, inside = both(loop(ELSEWHERE[name], start=(X, X)), rounds)
    assert inside == [{}]


def test_the_narrow_value_may_be_read_as_often_as_one_likes(both) -> None:
    def body(x, i, a, b):
        narrow = down(a)
        left = mb.add(x=narrow, y=mb.mul(x=narrow, y=H(1 / 3)))
        return up(left), mb.add(x=b, y=up(mb.add(x=left, y=narrow)))

    _, inside = both(loop(body, start=(X, X)), 3)
    assert inside == [{1: "float16"}]


# -- casts of other kinds


def test_casts_to_whole_numbers_are_not_moved(both) -> None:
    """A whole number that float32 does not hold is rounded at the end of every round."""
    far = np.int32(2**24 + 1)

    def body(x, i, total):
        return up(mb.sub(x=mb.add(x=mb.cast(x=total, dtype="int32"), y=far), y=np.int32(2**24 - 3)))

    found, inside = both(loop(body, start=np.array([2**24, 3.7], F)), 5)
    assert inside == [{}]
    assert found[1].dtype == F


@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_a_whole_number_that_is_computed_in_float16_is_cut_in_every_round(both, rounds) -> None:
    def body(x, i, total):
        return mb.cast(x=mb.mul(x=down(total), y=H(1.5)), dtype="int32")

    (_, total), inside = both(loop(body, start=np.array([1, 3, 5], np.int32)), rounds)
    assert inside == [{}]
    want = np.array([1, 3, 5])
    for _ in range(rounds):
        want = np.trunc(want * 1.5)
    np.testing.assert_array_equal(total, want)


def test_a_narrow_variable_that_is_computed_in_float32_is_rounded_in_every_round(both) -> None:
    def body(x, i, total):
        return down(mb.mul(x=up(total), y=F(1.001)))

    (_, total), inside = both(loop(body, start=X.astype(H)), 9)
    assert inside == [{}]
    assert total.dtype == H


@pytest.mark.parametrize("way", ["in", "out"])
def test_a_variable_that_is_float16_on_one_side_only_stays_wide(both, way) -> None:
    def body(x, i, total):
        if way == "in":
            return up(mb.cast(x=mb.mul(x=down(total), y=H(3)), dtype="int32"))
        return up(mb.cast(x=mb.cast(x=total, dtype="int32"), dtype="fp16"))

    _, inside = both(loop(body, start=np.array([1.75, 2049.5], F)), 2)
    assert inside == [{}]


@pytest.mark.parametrize("way", ["neither", "no cast in", "no cast out", "another operation in"])
def test_a_variable_without_both_casts_stays_wide(both, way) -> None:
    bodies = {
        "neither": lambda x, i, total: mb.mul(x=total, y=F(1 / 3)),
        "no cast in": lambda x, i, total: up(mb.mul(x=down(x), y=H(1 / 3))),
        "no cast out": lambda x, i, total: mb.mul(x=up(down(total)), y=F(1 / 3)),
        "another operation in": lambda x, i, total: up(down(mb.identity(x=total))),
    }
    _, inside = both(loop(bodies[way]), 3)
    assert inside == [{}]


# -- shapes that loops take


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_a_variable_that_is_only_cast(both, rounds) -> None:
    (_, total), inside = both(loop(lambda x, i, total: up(down(total))), rounds)
    assert inside == [{1: "float16"}]
    np.testing.assert_array_equal(total, X.astype(H).astype(F) if rounds else X)


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_narrow_variables_may_change_places(both, rounds) -> None:
    def body(x, i, a, b):
        narrow = down(a), down(b)
        return up(mb.mul(x=narrow[1], y=H(1 / 3))), up(mb.add(x=narrow[0], y=narrow[1]))

    _, inside = both(loop(body, start=(X, X * F(0.7))), rounds)
    assert inside == [{1: "float16", 2: "float16"}]


def test_a_narrow_variable_beside_a_wide_one(both) -> None:
    def body(x, i, a, b):
        return mb.mul(x=a, y=F(1 / 3)), third(x, i, b)

    (_, wide, _), inside = both(loop(body, start=(X, X)), 3)
    assert inside == [{2: "float16"}]
    np.testing.assert_array_equal(wide, X * F(1 / 3) * F(1 / 3) * F(1 / 3))


def test_one_narrow_value_for_two_variables(both) -> None:
    def body(x, i, a, b):
        narrow = mb.add(x=down(a), y=down(b))
        return up(narrow), up(narrow)

    both(loop(body, start=(X, X * F(0.7))), 3)


def test_a_narrow_buffer_is_filled_row_by_row_and_its_start_stays(both) -> None:
    def build(x, n):
        start = mb.add(x=x, y=F(0))

        def body(i, buffer):
            row = mb.mul(x=mb.cast(x=i, dtype="fp16"), y=H(1 / 3))
            return mb.add(x=i, y=ONE), up(
                mb.scatter(data=down(buffer), indices=i, updates=row, mode="update")
            )

        _, filled = mb.while_loop(
            _cond=lambda i, buffer: mb.squeeze(x=mb.less(x=i, y=n)),
            _body=body,
            loop_vars=(np.zeros(1, np.int32), start),
        )
        return filled, start

    (filled, start), inside = both(build, 2)
    assert inside == [{1: "float16"}]
    np.testing.assert_array_equal(start, X)
    np.testing.assert_array_equal(filled, np.array([0, H(1 / 3), H(X[2]), H(X[3])], F))


def test_loops_within_loops_travel_narrow_too(both) -> None:
    def body(x, i, total):
        _, part = mb.while_loop(
            _cond=lambda j, part: mb.squeeze(x=mb.less(x=j, y=i)),
            _body=lambda j, part: (mb.add(x=j, y=ONE), third(x, j, part)),
            loop_vars=(np.zeros(1, np.int32), x),
        )
        return up(mb.add(x=down(total), y=down(part)))

    _, inside = both(loop(body), 3)
    assert inside == [{1: "float16"}, {1: "float16"}]


# -- watched values


def seen(x, i, total):
    narrow = mb.cast(x=total, dtype="fp16", name="entered")
    left = mb.mul(x=narrow, y=H(1 / 3), name="made")
    return mb.cast(x=left, dtype="fp32", name="left")


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize(
    ("watch", "inside"), [("entered", {1: "float16"}), ("made", {1: "float16"}), ("left", {})]
)
def test_watched_values_are_those_of_the_last_round(both, watch, inside, rounds) -> None:
    found, narrow = both(loop(seen), rounds, watch=[watch])
    assert narrow == [inside]
    assert found[-1].dtype == (F if watch == "left" else H)


# -- the rules by themselves


def value(name, dtype="float16"):
    return Named(name, TensorType(dtype, (2,)))


def op(kind, output, x, dtype="float16", blocks=()):
    return Operation(kind, output, {"x": (x,)}, {}, (value(output, dtype),), tuple(blocks))


def inside(operations, outputs=("out",), inputs=(("v", "float32"),), test=("ok",), kept=(), reads="other"):
    made = tuple(value(*each) for each in inputs)
    told = tuple(value(f"{name}.test", dtype) for name, dtype in inputs)
    asking = Block(told, (op("exp", "ok", reads),), tuple(test))
    looped = Operation("while_loop", "loop", {}, {}, made, (asking, Block(made, tuple(operations), outputs)))
    return narrowed(looped, frozenset(kept))


IN, WORK, OUT = op("cast", "a", "v"), op("exp", "b", "a"), op("cast", "out", "b", "float32")


def test_both_casts_go_and_nothing_else() -> None:
    found = inside([IN, WORK, OUT])
    assert found.inside == {0: "float16"}
    assert found.body == Block((value("a"),), (WORK,), ("b",))


@pytest.mark.parametrize("kept", [["v"], ["out"], ["out", "other"]])
def test_what_is_kept_stays_as_it_is(kept) -> None:
    found = inside([IN, WORK, OUT], kept=kept)
    assert found.inside == {}
    assert found.body.operations == (IN, WORK, OUT)


def test_the_test_neither_reads_nor_gives_a_narrow_variable() -> None:
    assert inside([IN, WORK, OUT], test=("v.test",)).inside == {}
    assert inside([IN, WORK, OUT], reads="v.test").inside == {}
    assert inside([IN, WORK, OUT], reads="v").inside == {0: "float16"}


@pytest.mark.parametrize("dtype", ["int32", "int16", "uint8", "bool", "float16"])
def test_only_a_float32_variable_travels_narrow(dtype) -> None:
    assert inside([IN, WORK, op("cast", "out", "b", dtype)], inputs=(("v", dtype),)).inside == {}


def test_what_the_body_does_not_make_by_a_cast_is_left_alone() -> None:
    for operations in (
        [IN, WORK],
        [IN, WORK, op("exp", "out", "b", "float32")],
        [IN, WORK, op("cast", "out", "outside", "float32")],
        [IN, WORK, op("cast", "out", Literal(None), "float32")],
        [op("exp", "a", "v"), WORK, OUT],
        [WORK, OUT],
        [IN, op("exp", "c", "v"), WORK, OUT],
        [IN, WORK, OUT, op("exp", "c", "out", "float32")],
        [IN, op("cond", "c", "a", blocks=[Block((), (), ("v",))]), WORK, OUT],
    ):
        assert inside(operations).inside == {}, operations
    assert inside([IN, WORK, OUT], ("out", "out"), (("v", "float32"), ("w", "float32"))).inside == {}
    assert inside([IN, WORK, OUT], ("out", "v"), (("v", "float32"), ("w", "float32"))).inside == {}


def test_a_list_is_no_number_to_be_narrowed() -> None:
    held = Named("a", ListType(TensorType("float16", (2,)), None))
    entering = Operation("cast", "a", {"x": ("v",)}, {}, (held,), ())
    assert inside([entering, WORK, OUT]).inside == {}
