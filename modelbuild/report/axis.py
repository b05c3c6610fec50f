"""Axes of drawings and the marks on them: logarithmic over whole decades, or linear over round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_MOST_TICKS = 6
_ROUND = (1.0, 2.0, 5.0, 10.0)  # distances of marks, in decades
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


@dataclass(frozen=True, slots=True)
class Linear:
    """From `low` at pixel `start` to `high` at pixel `end`, marked every `step`."""

    low: float
    high: float
    step: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of `value`, held to the axis."""
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + (self.end - self.start) * min(max(share, 0.0), 1.0), 1)

    def ticks(self) -> list[float]:
        """The values to label."""
        count = round((self.high - self.low) / self.step)
        return [float(f"{self.low + at * self.step:.12g}") for at in range(count + 1)]


def linear(values: Iterable[float], start: float, end: float) -> Linear:
    """The axis between round numbers that holds all of `values`; 0 to 1 where there is none."""
    known = [*values] or [0.0, 1.0]
    low, high = min(known), max(known)
    span = high - low or abs(high) or 1.0
    decade = 10.0 ** math.floor(math.log10(span / (_MOST_TICKS - 1)))
    step = next(each * decade for each in _ROUND if each * decade * (_MOST_TICKS - 1) >= span)
    first, last = math.floor(low / step), math.ceil(high / step)
    return Linear(first * step, max(last, first + 1) * step, step, start, end)
