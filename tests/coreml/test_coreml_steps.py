"""Steps by themselves: what a failure says, what is let go, and that a round of a loop is as its first one."""

from __future__ import annotations

from pathlib import Path

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.limits import LIMITS
from modelbuild.runtimes.coreml.evaluator import compile as compiling
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.steps import (
    Check,
    Step,
    calling,
    checked,
    empty,
    execute,
    fetching,
    repeating,
)

ANY = Check("y", None, 0, ())


def step(call, slots=(), results=(0,), checks=None, dead=(), place="op"):
    return Step(call, fetching(slots), results, checks or (ANY,) * len(results), dead, place)


def fail(error):
    def call(*_):
        raise error

    return call


def again(memory, steps, place):
    repeating(memory, steps, place)()


@pytest.mark.parametrize("run", [execute, again])
def test_steps_take_from_memory_and_leave_in_it(run) -> None:
    memory = [1, 2, None, None, None]
    run(
        memory,
        [step(lambda a, b: a + b, (0, 1), (2,)), step(lambda: 7, (), (3,)), step(str, (2,), (4,))],
        "m",
    )
    assert memory == [1, 2, 3, 7, "3"]


@pytest.mark.parametrize("run", [execute, again])
def test_steps_of_several_results_and_of_none(run) -> None:
    memory, seen = [5, None, None], []
    run(memory, [step(lambda a: (a, a + 1), (0,), (1, 2)), step(seen.append, (2,), ())], "m")
    assert (memory, seen) == ([5, 5, 6], [6])


@pytest.mark.parametrize("run", [execute, again])
def test_too_many_results_and_too_few_are_refused(run) -> None:
    for results in ((1, 2, 3), (1,)):
        with pytest.raises(RecipeError, match="cannot be computed") as caught:
            run([None, None], [step(lambda results=results: results, (), (0, 1))], "m")
        assert caught.value.place == "m: op"


@pytest.mark.parametrize("run", [execute, again])
def test_a_failure_names_the_operation_and_the_first_line_that_says_something(run) -> None:
    for error, words in (
        (ValueError("\n\n  too long \nand more"), "too long"),
        (IndexError(), "IndexError"),
        (RuntimeError(" \n "), "RuntimeError"),
    ):
        steps = [
            step(lambda: 1, place="first"),
            step(fail(error), place="second"),
            step(lambda: 1, place="third"),
        ]
        with pytest.raises(RecipeError, match="cannot be computed") as caught:
            run([None], steps, "m")
        assert (caught.value.place, caught.value.fact) == ("m: second", f"cannot be computed: {words}")
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("run", [execute, again])
def test_an_error_that_says_where_it_was_stays_as_it_is(run) -> None:
    error = RecipeError("elsewhere", "a fact", "")
    with pytest.raises(RecipeError) as caught:
        run([None], [step(fail(error))], "m")
    assert caught.value is error
    with pytest.raises(RecipeError) as caught, calling("m", "op"):
        raise error
    assert caught.value is error


def test_a_failure_before_a_call_names_the_operation_too() -> None:
    with pytest.raises(RecipeError, match="cannot be computed: no") as caught, calling("m", "op"):
        raise ValueError("no")
    assert caught.value.place == "m: op"


def test_what_is_dead_is_let_go_at_once_and_in_a_loop_at_its_end() -> None:
    steps = [step(lambda a: a, (0,), (1,), dead=(0,)), step(lambda a: a, (1,), (2,), dead=(1, 3))]
    memory = [1, None, None, 4]
    execute(memory, steps, "m")
    assert memory == [None, None, 1, None]
    memory = [1, None, None, 4]
    repeating(memory, steps, "m")()
    assert memory == [1, 1, 1, 4]
    empty(memory, steps)
    assert memory == [None, None, 1, None]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (3, "comes out as int, and the program states numbers"),
        (torch.zeros(2, 3, dtype=torch.float64), r"float64\[2, 3\], and the program states float32\[2, \?\]"),
        (torch.zeros(2), r"float32\[2\], and the program states float32\[2, \?\]"),
        (torch.zeros(3, 2), r"float32\[3, 2\], and the program states float32\[2, \?\]"),
    ],
)
def test_a_result_is_what_the_program_states(value, words) -> None:
    check = Check("y", torch.float32, 2, ((0, 2),))
    with pytest.raises(ValueError, match=words):
        checked(value, check)
    for results in ((0,), (0, 1)):
        made = value if len(results) == 1 else (torch.zeros(2, 1), value)
        stated = step(lambda made=made: made, (), results, (check,) * len(results))
        with pytest.raises(RecipeError, match=words):
            execute([None, None], [stated], "m")
    for right in (torch.zeros(2, 0), torch.zeros(2, 9)):
        assert checked(right, check) is right


# -- in loops

F = np.float32
ONE = np.array([1], np.int32)


def number(value):
    return np.array([value], np.int32)


def loop(body, start):
    def build(x, n):
        return mb.while_loop(
            _cond=lambda i, each: mb.squeeze(x=mb.less(x=i, y=n)),
            _body=lambda i, each: (mb.add(x=i, y=ONE), body(x, i, each)),
            loop_vars=(number(0), start),
        )

    return build


def made(build, folder: Path, n):
    inputs = {"x": np.arange(3, dtype=F), "n": number(n)}
    return Evaluator(mil.package(build, inputs, folder)), inputs


@pytest.mark.parametrize("rounds", [1, 4])
def test_a_round_that_fails_names_its_operation(tmp_path, rounds) -> None:
    def body(x, i, total):
        place = mb.sub(x=mb.add(x=i, y=number(4 - rounds)), y=number(0), name="place")
        taken = mb.gather(x=x, indices=place, axis=0, validate_indices=False, name="taken")
        return mb.add(x=total, y=taken, name="total")

    evaluator, inputs = made(loop(body, np.zeros(1, F)), tmp_path, 9)
    with pytest.raises(RecipeError, match="cannot be computed") as caught:
        evaluator(inputs)
    assert caught.value.place == 'test.mlpackage: gather "taken"'


def test_a_loop_without_end_is_refused_and_within_another_it_is_the_one_that_is_named(
    tmp_path, monkeypatch
) -> None:
    def build(x, n):
        def inner(i):
            return mb.while_loop(
                _cond=lambda j: mb.squeeze(x=mb.less(x=j, y=mb.mul(x=i, y=n))),
                _body=lambda j: mb.add(x=j, y=ONE),
                loop_vars=(number(0),),
            )

        return mb.while_loop(
            _cond=lambda i, each: mb.squeeze(x=mb.less(x=i, y=number(3))),
            _body=lambda i, each: (mb.add(x=i, y=ONE), inner(i)),
            loop_vars=(number(0), number(0)),
        )

    monkeypatch.setattr(compiling, "LIMITS", LIMITS._replace(loop_rounds=5))
    evaluator, inputs = made(build, tmp_path, 2)
    assert [each.tolist() for each in evaluator(inputs).values()] == [[3], [4]]
    with pytest.raises(RecipeError, match="a loop goes on after 5 rounds") as caught:
        evaluator({**inputs, "n": number(3)})
    assert caught.value.place == "test.mlpackage"
    assert LIMITS.loop_rounds == 10_000_000


@pytest.mark.parametrize("rounds", [0, 1, 2, 5])
def test_a_loop_holds_no_more_after_it_than_when_all_is_let_go_at_once(tmp_path, monkeypatch, rounds) -> None:
    def body(x, i, total):
        return mb.add(x=total, y=mb.mul(x=mb.mul(x=x, y=F(2)), y=F(3)))

    held = []
    for again in (repeating, lambda memory, steps, place: lambda: execute(memory, steps, place)):
        monkeypatch.setattr(compiling, "repeating", again)
        evaluator, inputs = made(loop(body, np.zeros(3, F)), tmp_path / str(len(held)), rounds)
        evaluator(inputs)
        held.append([number for number, value in enumerate(evaluator._ready.memory) if value is not None])
    assert held[0] == held[1]


def test_rounds_after_the_first_are_not_checked_anew(tmp_path, monkeypatch) -> None:
    seen = []

    def counting(memory, steps, place):
        seen.append(place)
        execute(memory, steps, place)

    monkeypatch.setattr(compiling, "execute", counting)
    evaluator, inputs = made(loop(lambda x, i, total: mb.add(x=total, y=x), np.zeros(3, F)), tmp_path, 5)
    evaluator(inputs)
    assert len(seen) == 2


@pytest.mark.parametrize("kind", ["less", "mul"])
@pytest.mark.parametrize("rounds", [1, 3])
def test_the_first_round_is_held_to_what_the_program_states(tmp_path, kind, rounds) -> None:
    build = loop(lambda x, i, total: mb.add(x=total, y=mb.mul(x=x, y=F(2))), np.zeros(3, F))
    inputs = {"x": np.arange(3, dtype=F), "n": number(rounds)}
    package = mil.package(build, inputs, tmp_path)
    (function,) = package.spec.mlProgram.functions.values()
    outer = function.block_specializations[function.opset].operations
    (looped,) = [each for each in outer if each.type == "while_loop"]
    (wrong,) = [each for block in looped.blocks for each in block.operations if each.type == kind]
    wrong.outputs[0].type.tensorType.dimensions[0].constant.size = 9
    with pytest.raises(RecipeError, match="comes out as") as caught:
        Evaluator(package)(inputs)
    assert caught.value.place.startswith(f"test.mlpackage: {kind} ")
