"""Runs steps: calls kernels on values in memory, and holds every result to the type that the program states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from modelbuild.errors import ModelbuildError, RecipeError
from modelbuild.runtimes.coreml.constants import HELD_AS
from modelbuild.runtimes.coreml.kernels import Call
from modelbuild.runtimes.coreml.program import Named, TensorType

Memory = list[Any]


class Check(NamedTuple):
    """What a result must be: `dtype` None for what is no tensor; `axes` are (axis, length) of those that are fixed."""

    name: str
    dtype: torch.dtype | None
    rank: int
    axes: tuple[tuple[int, int], ...]


class Step(NamedTuple):
    """One call: from the slots `arguments` to the slots `results`, after which the slots `dead` are emptied."""

    call: Call
    arguments: tuple[int, ...]
    results: tuple[int, ...]
    checks: tuple[Check, ...]
    dead: tuple[int, ...]
    place: str


def execute(memory: Memory, steps: Sequence[Step], place: str) -> None:
    """Run `steps` in order. Raises RecipeError with the operation's name when one fails or gives another type."""
    step: Step | None = None
    try:
        for step in steps:
            call, arguments, results, checks, dead, _ = step
            value = call(*[memory[index] for index in arguments])
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
    return RecipeError(place, f"cannot be computed: {lines[0].strip()}", "Is the file whole, and are the inputs its own?")


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
    shape = value.shape
    if value.dtype is not dtype or len(shape) != rank:
        raise ValueError(_difference(value, check))
    for axis, size in axes:
        if shape[axis] != size:
            raise ValueError(_difference(value, check))
    return value


def _difference(value: Tensor, check: Check) -> str:
    stated = dict(check.axes)
    shape = ", ".join(str(stated.get(axis, "?")) for axis in range(check.rank))
    return (
        f'"{check.name}" comes out as {_name(value.dtype)}{list(value.shape)}, '
        f"and the program states {_name(check.dtype)}[{shape}]"
    )


def _name(dtype: torch.dtype | None) -> str:
    return str(dtype).removeprefix("torch.")
