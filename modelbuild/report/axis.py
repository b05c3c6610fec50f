"""A logarithmic axis over whole decades, and the marks on it: what all drawings of errors share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_MOST_TICKS = 6
_MOST_DECADES = 18


@dataclass(frozen=True, slots=True)
class Axis:
    """From 10 ** `low` at pixel `start` to 10 ** `high` at pixel `end`."""

    low: int
    high: int
    start: float
    end: float

    def of(self, exponent: float) -> float:
        """The pixel of 10 ** `exponent`, held to the axis."""
        share = (exponent - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * min(max(share, 0.0), 1.0), 1)

    def at(self, value: float) -> float:
        """The pixel of `value`; nothing and less lies at the start."""
        return self.of(math.log10(value)) if value > 0 else self.start

    def ticks(self) -> list[int]:
        """Exponents to label, few enough to read."""
        step = math.ceil((self.high - self.low) / _MOST_TICKS)
        return [*range(self.low, self.high + 1, step)]


def spanning(values: Iterable[float | None], start: float, end: float) -> Axis:
    """The axis of whole decades that holds every positive one of `values`; 1e-9 to 1 where there is none.

    What lies further below the largest than eyes can tell apart is held to its start.
    """
    exponents = [math.log10(value) for value in values if value is not None and 0 < value < math.inf]
    low, high = (min(exponents), max(exponents)) if exponents else (-9.0, 0.0)
    last = math.ceil(high)
    first = max(math.floor(low), last - _MOST_DECADES)
    return Axis(first, max(last, first + 1), start, end)


def power(exponent: int) -> str:
    """`1e-8`, and `1` and `10` as they are."""
    return {0: "1", 1: "10"}.get(exponent, f"1e{exponent}")
