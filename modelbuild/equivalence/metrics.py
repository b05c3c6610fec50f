"""How far one array is from another, as numbers.

All error metrics are functions of one set of sums, taken in float64, that adds up over chunks of samples:
an evaluation set larger than memory needs `sums(chunk) + sums(chunk)` and nothing else.
In the formulas r is the reference, x the other array, n the number of values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sums:
    """What every error metric needs of a pair of arrays of one shape."""

    count: int
    largest: float
    largest_relative: float
    absolute: float
    squared: float
    reference: float
    other: float
    product: float

    def __add__(self, more: Sums) -> Sums:
        """The sums of both chunks together; NaN in either stays NaN."""
        return Sums(
            self.count + more.count,
            float(np.maximum(self.largest, more.largest)),
            float(np.maximum(self.largest_relative, more.largest_relative)),
            self.absolute + more.absolute,
            self.squared + more.squared,
            self.reference + more.reference,
            self.other + more.other,
            self.product + more.product,
        )


def sums(reference: Array, other: Array) -> Sums:
    """The sums of one pair of arrays of the same shape, not empty, of bool, whole or floating numbers."""
    error = difference(reference, other)
    r, x = reference.astype(np.float64), other.astype(np.float64)
    with np.errstate(all="ignore"):
        return Sums(
            error.size,
            float(np.max(error)),
            float(np.max(_relative(error, r))),
            float(np.sum(error)),
            float(np.sum(error * error)),
            float(np.sum(r * r)),
            float(np.sum(x * x)),
            float(np.sum(r * x)),
        )


def difference(reference: Array, other: Array) -> NDArray[np.float64]:
    """|x - r| value by value; whole numbers as such, for in float64 2**53 and 2**53 + 1 are equal."""
    if reference.dtype.kind in "iub" and reference.dtype == other.dtype:
        low, high = np.minimum(reference, other), np.maximum(reference, other)
        exact = _bits(high) - _bits(low)  # modulo 2**64 the distance comes out right for signed numbers too
        return exact.astype(np.float64)
    with np.errstate(all="ignore"):
        return np.abs(other.astype(np.float64) - reference.astype(np.float64))


def _bits(array: Array) -> NDArray[np.uint64]:
    wide = np.uint64 if array.dtype.kind in "ub" else np.int64
    return array.astype(wide).view(np.uint64)


def _relative(error: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(error == 0, 0.0, error / np.abs(reference))


def max_abs(s: Sums) -> float:
    """The largest |x - r|, in the output's own unit."""
    return s.largest


def max_rel(s: Sums) -> float:
    """The largest |x - r| / |r| value by value, a ratio; infinite where r is 0 and x is not.

    Componentwise relative error: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., 1.2.
    """
    return s.largest_relative


def l1(s: Sums) -> float:
    """Mean |x - r|, in the output's own unit."""
    return s.absolute / s.count


def rmse(s: Sums) -> float:
    """Root of the mean of (x - r)^2, in the output's own unit."""
    return math.sqrt(s.squared / s.count)


def sqnr_db(s: Sums) -> float:
    """Signal to quantisation noise, 10 log10(sum r^2 / sum (x - r)^2), in dB; infinite without any error.

    Proakis and Manolakis, Digital Signal Processing, 4th ed., 6.3.3, with the error's power as the noise.
    """
    if s.squared == 0:
        return math.nan if s.reference == 0 else math.inf
    if s.reference == 0:
        return -math.inf
    return 10 * (math.log10(s.reference) - math.log10(s.squared))


def cosine(s: Sums) -> float:
    """The angle's cosine, sum r x / sqrt(sum r^2 sum x^2), -1 to 1, with all values as one vector.

    NaN for a vector of zeros, which has no direction.
    """
    length = math.sqrt(s.reference) * math.sqrt(s.other)
    return float(np.clip(s.product / length, -1.0, 1.0)) if length > 0 else math.nan


METRICS: Mapping[str, Callable[[Sums], float]] = {
    "max_abs": max_abs,
    "max_rel": max_rel,
    "l1": l1,
    "rmse": rmse,
    "sqnr_db": sqnr_db,
    "cosine": cosine,
}


def worst_sample(reference: Array, other: Array) -> int:
    """The index of the sample with the largest |x - r|; of several, the first."""
    error = difference(reference, other)
    return int(np.argmax(error.reshape(len(error), -1).max(axis=1)))
