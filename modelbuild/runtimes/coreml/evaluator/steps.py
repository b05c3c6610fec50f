"""Runs steps: calls kernels on values in memory, and holds every result to the type that the program states."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelbuild.errors import ModelbuildError, RecipeError
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS
from modelbuild.runtimes.coreml.evaluator.kernels import Call
from modelbuild.runtimes.coreml.evaluator.program import Named, TensorType

Memory = list[Any]


class Check(NamedTuple):
    """What a result must be; `dtype` is None for what is no tensor, `axes` are (axis, length) of fixed ones."""

    name: str
    dtype: torch.dtype | None
    rank: int
    axes: tuple[tuple[int, int], ...]


class Step(NamedTuple):
    """One call: from the slots `arguments` to the slots `results`, after which the slots `dead` are emptied.

    `fetch` takes the arguments out of memory at once.
    """

    call: Call
    fetch: Callable[[Memory], Sequence[Any]]
    results: tuple[int, ...]
    checks: tuple[Check, ...]
    dead: tuple[int, ...]
    place: str


def fetching(slots: Sequence[int]) -> Callable[[Memory], Sequence[Any]]:
    """A function that takes the values in `slots` out of memory."""
    if len(slots) > 1:
        return itemgetter(*slots)
    start = slots[0] if slots else 0
    return itemgetter(slice(start, start + len(slots)))


def execute(memory: Memory, steps: Sequence[Step], place: str) -> None:
    """Run `steps` in order. Raises RecipeError with the operation's name when one fails or gives another type."""
    step: Step | None = None
    try:
        for step in steps:
            call, fetch, results, checks, dead, _ = step
            value = call(*fetch(memory))
            if len(results) == 1:
                memory[results[0]] = checked(value, checks[0])
            elif results:
                for index, each, check in zip(results, value, checks, strict=True):
                    memory[index] = checked(each, check)
            for index in dead:
                memory[index] = None
    except ModelbuildError:
        raise
    except Exception as error:
        raise _failed(f"{place}: {step.place if step else ''}", error) from error


def repeating(memory: Memory, steps: Sequence[Step], place: str) -> Callable[[], None]:
    """A function that runs `steps` again: as `execute`, which they have been through, but nothing is checked anew.

    That is for the rounds of a loop, whose values have the same types in each. Nothing is emptied either: the next
    round overwrites it, and `empty` ends it.
    """
    if any(len(step.results) != 1 for step in steps):
        return lambda: execute(memory, steps, place)
    calls = [(step.call, step.fetch, step.results[0]) for step in steps]

    def again() -> None:
        call: Call | None = None
        try:
            for call, fetch, result in calls:
                memory[result] = call(*fetch(memory))
        except ModelbuildError:
            raise
        except Exception as error:
            operation = next((step.place for step in steps if step.call is call), "")
            raise _failed(f"{place}: {operation}", error) from error

    return again


def empty(memory: Memory, steps: Sequence[Step]) -> None:
    """Let go of what is dead after `steps`."""
    for step in steps:
        for index in step.dead:
            memory[index] = None


@contextmanager
def calling(place: str, operation: str) -> Iterator[None]:
    """Say which operation it was when one fails."""
    try:
        yield
    except ModelbuildError:
        raise
    except Exception as error:
        raise _failed(f"{place}: {operation}", error) from error


def _failed(place: str, error: Exception) -> RecipeError:
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return RecipeError(
        place, f"cannot be computed: {lines[0].strip()}", "Is the file whole, and are the inputs its own?"
    )


def results_of(value: Any, count: int) -> tuple[Any, ...]:
    """The results of a call that gives one value, or a tuple of several."""
    return (value,) if count == 1 else tuple(value)


def check_of(result: Named) -> Check:
    """What the program states of `result`."""
    stated = result.type
    if not isinstance(stated, TensorType) or stated.dtype not in HELD_AS:
        return Check(result.name, None, 0, ())
    axes = tuple((axis, size) for axis, size in enumerate(stated.shape) if size is not None)
    return Check(result.name, HELD_AS[stated.dtype], len(stated.shape), axes)


def checked(value: Any, check: Check) -> Any:
    """`value`, if it is what the program states. Raises ValueError otherwise: nothing is cast on the quiet."""
    _, dtype, rank, axes = check
    if dtype is None:
        return value
    if not isinstance(value, Tensor):
        raise ValueError(
            f'"{check.name}" comes out as {type(value).__name__}, and the program states numbers'
        )
    shape = value.shape
    if value.dtype is not dtype or len(shape) != rank:
        raise ValueError(_difference(value, check))
    for axis, size in axes:
        if shape[axis] != size:
            raise ValueError(_difference(value, check))
    return value


def _difference(value: Tensor, check: Check) -> str:
    found = f"{_name(value.dtype)}{list(value.shape)}"
    return f'"{check.name}" comes out as {found}, and the program states {stated(check)}'


def stated(check: Check) -> str:
    """What the program states, such as `float32[?, 10]`."""
    axes = dict(check.axes)
    return f"{_name(check.dtype)}[{', '.join(str(axes.get(axis, '?')) for axis in range(check.rank))}]"


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
