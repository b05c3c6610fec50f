"""Samples on their way into a runtime and out of it: inputs that fit, batches filled up, outputs sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from modelbuild.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from modelbuild.tensors import Arrays


USUAL_BATCH = 64  # samples a call where neither the model nor the platform says
DIRECTIONS = ("up", "down", "random")


class Wanted(NamedTuple):
    """One input of a model: `shape` as messages show it, `fits` whether an array of a given shape will do."""

    name: str
    dtype: str
    shape: object
    fits: Callable[[tuple[int, ...]], bool]


class Port(NamedTuple):
    """One input or output: a fixed axis is a number, a free one its name or None; samples first."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


def wanted(port: Port) -> Wanted:
    """What an array for this input has to be; the number of samples is left open."""

    def fits(shape: tuple[int, ...]) -> bool:
        pairs = zip(port.shape[1:], shape[1:], strict=False)
        return len(shape) == len(port.shape) and all(a == b for a, b in pairs if isinstance(a, int))

    return Wanted(port.name, port.dtype, port.shape, fits)


def batch_of(runtime: str, inputs: Sequence[Port], asked: int | None) -> tuple[int, bool]:
    """Samples a call, and whether the model fixes that number. Raises RecipeError where both say different ones."""
    fixed = {port.shape[0] for port in inputs if port.shape and isinstance(port.shape[0], int)}
    if not fixed:
        return asked or USUAL_BATCH, False
    if len(fixed) > 1 or (asked is not None and {asked} != fixed):
        fact = f"the model takes batches of {', '.join(sorted(map(str, fixed)))}, the platform says {asked}"
        raise RecipeError(runtime, fact, 'Export with a dynamic batch, or leave "batch" out')
    return int(next(iter(fixed))), True


def counted(runtime: str, asked: Sequence[Wanted], inputs: Arrays) -> int:
    """The number of samples, once every input is what the model asks for.

    Raises RecipeError for an input that is missing, not asked for, or of another dtype or shape.
    """
    names = [each.name for each in asked]
    for name in inputs:
        if name not in names:
            raise RecipeError(runtime, f'the model has no input "{name}"', did_you_mean(name, names))
    for each in asked:
        if each.name not in inputs:
            fact = f'input "{each.name}" is missing; given: {", ".join(sorted(inputs)) or "nothing"}'
            raise RecipeError(runtime, fact, "Names are matched exactly")
        _check(runtime, each, inputs[each.name])
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) != 1 or 0 in counts.values():
        fact = f"inputs have these numbers of samples: {counts or 'no input at all'}"
        raise RecipeError(runtime, fact, "Every input needs the same number, one or more")
    return next(iter(counts.values()))


def _check(runtime: str, wanted: Wanted, array: NDArray[np.generic]) -> None:
    if str(array.dtype) != wanted.dtype:
        fact = f'input "{wanted.name}" is {array.dtype}, the model takes {wanted.dtype}'
        raise RecipeError(runtime, fact, "Have the data loader give that dtype; nothing is cast silently")
    if array.ndim == 0 or not wanted.fits(array.shape):
        fact = f'input "{wanted.name}" has shape {array.shape}, the model takes {wanted.shape}'
        raise RecipeError(runtime, fact, "The first axis is the samples")


def batch(inputs: Arrays, start: int, size: int) -> Arrays:
    """`size` samples from `start` on; past the last sample that one again, as an app would have to fill a batch."""
    import numpy as np

    last = len(next(iter(inputs.values()))) - 1
    rows = np.minimum(np.arange(start, start + size), last)
    return {name: np.ascontiguousarray(array[rows]) for name, array in inputs.items()}


def nudged(inputs: Arrays, direction: str = "up") -> dict[str, NDArray[Any]]:
    """`inputs` with every real number moved to the next one that its type can hold, in one of DIRECTIONS.

    Random ones differ from number to number and are the same every time.
    """
    import numpy as np

    random = np.random.default_rng(0)

    def moved(array: NDArray[Any]) -> NDArray[Any]:
        up = {"up": True, "down": False}.get(direction, random.integers(0, 2, array.shape) > 0)
        towards: NDArray[Any] = np.nextafter(array, np.where(up, np.inf, -np.inf).astype(array.dtype))
        return towards

    return {name: moved(array) if array.dtype.kind == "f" else array for name, array in inputs.items()}


def rows_of(runtime: str, name: str, value: Any, fed: int) -> NDArray[np.generic]:
    """Output `value` of a batch of `fed` samples. Raises RecipeError where its first axis is not the samples."""
    if getattr(value, "ndim", 0) == 0 or len(value) != fed:
        shape = tuple(getattr(value, "shape", ()))
        fact = f'output "{name}" has shape {shape} for {fed} samples: its first axis is not the samples'
        raise RecipeError(runtime, fact, "Keep the sample axis first in every output of the model")
    rows: NDArray[np.generic] = value
    return rows
