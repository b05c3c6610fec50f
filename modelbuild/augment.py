"""The augmentations that come along: new samples of what is there, which the teacher will label.

Each is `fn(arrays, rng, **args)`: inputs and ground truth by name, samples first, and the same back. It changes what
`inputs` names or, where that names nothing, every input of real numbers that has the right number of axes. Several
inputs of a sample are changed alike, but for noise: what belongs together stays together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild import dataset
from modelbuild.errors import RecipeError, did_you_mean

Array = NDArray[Any]
Arrays = Mapping[str, Array]


def shift(
    arrays: Arrays, rng: np.random.Generator, pixels: int = 1, inputs: Sequence[str] = ()
) -> dict[str, Array]:
    """Images [n, c, h, w] moved by up to `pixels` along each axis, zeros coming in: a whole number, all alike likely.

    One of the distortions of LeCun et al., Gradient-based learning applied to document recognition (1998), III.
    """
    named = _chosen("shift", arrays, inputs, 4, "images [n, c, h, w]")
    smallest = min(min(array.shape[2:]) for array in named.values())
    _demand("shift", "pixels", pixels, 1 <= pixels < smallest, f"between 1 and {smallest - 1}")
    moves = rng.integers(0, 2 * pixels + 1, (_count(named), 2))
    return {**arrays, **{name: _shifted(array, moves, pixels) for name, array in named.items()}}


def _shifted(array: Array, moves: NDArray[np.int64], pixels: int) -> Array:
    edge, (height, width) = (pixels, pixels), array.shape[2:]
    padded, moved = np.pad(array, ((0, 0), (0, 0), edge, edge)), np.empty_like(array)
    for sample, (down, right) in enumerate(moves):
        moved[sample] = padded[sample, :, down : down + height, right : right + width]
    return moved


def noise(
    arrays: Arrays, rng: np.random.Generator, sd: float = 0.1, inputs: Sequence[str] = ()
) -> dict[str, Array]:
    """Real numbers plus independent normal ones of standard deviation `sd`.

    Bishop, Training with noise is equivalent to Tikhonov regularization (1995).
    """
    _demand("noise", "sd", sd, sd > 0, "above 0")
    named = _chosen("noise", arrays, inputs)
    return {**arrays, **{name: _like(x, x + rng.normal(0, sd, x.shape)) for name, x in named.items()}}


def scale(
    arrays: Arrays,
    rng: np.random.Generator,
    low: float = 0.8,
    high: float = 1.2,
    inputs: Sequence[str] = (),
) -> dict[str, Array]:
    """Real numbers times one factor a sample, between `low` and `high`: the brightness of images, the gain of sound.

    Howard, Some improvements on deep convolutional neural network based image classification, arXiv:1312.5402, 2.1.
    """
    _demand("scale", "low", low, low < high, f"below high, {high}")
    named = _chosen("scale", arrays, inputs)
    factors = rng.uniform(low, high, _count(named))
    return {**arrays, **{name: _like(x, x * _column(factors, x)) for name, x in named.items()}}


def mask(
    arrays: Arrays,
    rng: np.random.Generator,
    time: int = 0,
    features: int = 0,
    time_axis: int = 1,
    inputs: Sequence[str] = (),
) -> dict[str, Array]:
    """Sequences, [n, time, features] or with `time_axis` 2 [n, features, time], with a stretch of both set to 0.

    The stretch is up to `time` steps and up to `features` features long, 0 leaving that axis alone. Park et al.,
    SpecAugment, arXiv:1904.08779, 2: its time masking and frequency masking, once each.
    """
    _demand("mask", "time_axis", time_axis, time_axis in (1, 2), "1 or 2")
    named = _chosen("mask", arrays, inputs, 3, "sequences [n, time, features]")
    _demand("mask", "time", time, min(time, features) >= 0 < time + features, "0 or more, nor both of them 0")
    changed = {name: array.copy() for name, array in named.items()}
    for longest, axis in ((time, time_axis), (features, 3 - time_axis)):
        size = min(array.shape[axis] for array in named.values())
        _demand(
            "mask", "time" if axis == time_axis else "features", longest, longest <= size, f"at most {size}"
        )
        lengths = rng.integers(0, longest + 1, _count(named))
        starts = rng.integers(0, size - lengths + 1)
        for array in changed.values():
            _clear(np.moveaxis(array, axis, 1), starts, starts + lengths)
    return {**arrays, **changed}


def _clear(array: Array, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> None:
    for sample, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        array[sample, start:stop] = 0


def mixup(arrays: Arrays, rng: np.random.Generator, alpha: float = 0.2) -> dict[str, Array]:
    """Every sample mixed with another one, weights l and 1 - l, l drawn from Beta(alpha, alpha).

    Zhang et al., mixup: beyond empirical risk minimization, arXiv:1710.09412, 2. There the labels are mixed too; here
    they are left out: the teacher labels what it is shown, and knows better than a mean of two truths.
    """
    _demand("mixup", "alpha", alpha, alpha > 0, "above 0")
    given = {name: array for name, array in arrays.items() if not dataset.is_truth(name)}
    for name, array in given.items():
        if array.dtype.kind != "f":
            fact = f'input "{name}" is {array.dtype}: there is no mean of two of its values'
            raise RecipeError("mixup", fact, "Use another augmentation.")
    count = _count(given)
    weights, others = rng.beta(alpha, alpha, count), rng.permutation(count)
    return {name: _like(x, x[others] + (x - x[others]) * _column(weights, x)) for name, x in given.items()}


def _chosen(
    name: str, arrays: Arrays, inputs: Sequence[str], axes: int | None = None, what: str = "real numbers"
) -> dict[str, Array]:
    """The inputs that `name` changes. Raises RecipeError for one that it cannot change, and when there is none."""
    fitting = {key: array for key, array in arrays.items() if _fits(key, array, axes)}
    for each in inputs:
        if each not in fitting:
            fact = (
                f'"{each}" is {_told(arrays[each])}, not {what}'
                if each in arrays
                else f'there is no input "{each}"'
            )
            raise RecipeError(name, fact, did_you_mean(each, [*fitting]))
    if not fitting:
        told = ", ".join(f'"{key}" {_told(array)}' for key, array in arrays.items())
        raise RecipeError(name, f"there are no {what} among {told}", "Use another augmentation.")
    return {key: fitting[key] for key in inputs or fitting}


def _fits(name: str, array: Array, axes: int | None) -> bool:
    return not dataset.is_truth(name) and array.dtype.kind == "f" and axes in (None, array.ndim)


def _told(array: Array) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _demand(name: str, what: str, value: object, holds: bool, words: str) -> None:
    if not holds:
        raise RecipeError(name, f'"{what}" is {value}', f"It must be {words}.")


def _count(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))


def _column(values: NDArray[np.float64], array: Array) -> NDArray[np.float64]:
    """One value a sample, in the shape in which it meets every number of `array`'s samples."""
    return values.reshape(-1, *[1] * (array.ndim - 1))


def _like(array: Array, values: Array) -> Array:
    return values.astype(array.dtype)
