"""How sure a measured figure is: 95 % confidence intervals, and how many samples a limit needs.

A share of samples has Wilson's interval; the difference of two shares of the same samples has Tango's, the same idea
for pairs: both invert the score test, and so neither shrinks to nothing where no sample fails. Every other figure is
bootstrapped over samples (BCa), with a fixed seed: the same numbers give the same interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]
Figure = Callable[[Floats], Floats]
CONFIDENCE = 0.95
BLOCKS = 4096
RESAMPLES = 2000
SEED = 0
_AT_ONCE = 1 << 18  # resampled rows held at a time: 2 MiB a column
_NORMAL = NormalDist()


class Interval(NamedTuple):
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.4g} to {self.high:.4g}"


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a share that came out as `successes` of `n`; all of 0 to 1 where there is no sample.

    The score interval: E. B. Wilson, JASA 22 (1927) 209-212; equation 4 of Brown, Cai and DasGupta, Statistical
    Science 16 (2001) 101-133, who recommend it for few samples.
    """
    if n == 0:
        return Interval(0.0, 1.0)
    z2 = _z(confidence) ** 2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * share * (1 - share) / n + (z2 / (2 * n)) ** 2) / (1 + z2 / n)
    # For no success the arithmetic gives 0 exactly; for all it may miss 1 by a rounding.
    return Interval(centre - half, 1.0 if successes >= n else centre + half)


def samples_for_rate(limit_rate: float, measured: float = 0.0, confidence: float = CONFIDENCE) -> int | None:
    """How many samples Wilson's interval needs to lie on `measured`'s side of the limit, that share staying as it is.

    None where no number will do: the measured share is the limit, or the limit is 0 or 1. Wilson's interval ends
    at L where (p - L)^2 = z^2 L (1 - L) / n (equation 4 of Brown, Cai and DasGupta, before it is solved for L).
    """
    if measured == limit_rate or not 0 < limit_rate < 1:
        return None
    z2 = _z(confidence) ** 2
    return math.ceil(z2 * limit_rate * (1 - limit_rate) / (measured - limit_rate) ** 2)


def samples_for_limit(interval: Interval, measured: float, limit: float, n: int) -> int | None:
    """About how many samples an interval that `n` of them gave needs to lie on `measured`'s side of `limit`.

    Its ends draw near as the root of the number of samples. None where no number will do.
    """
    if measured == limit:
        return None
    end = interval.high if limit > measured else interval.low
    return max(n, math.ceil(n * ((end - measured) / (limit - measured)) ** 2))


class Table(NamedTuple):
    """Of `samples` judged right or wrong in two runs: how many only the one, and only the other, has right."""

    only_one: int
    only_other: int
    samples: int


def paired_shares(table: Table, confidence: float = CONFIDENCE) -> Interval:
    """The interval of the one run's share of right samples less the other's.

    The score interval for paired shares: T. Tango, Statistics in Medicine 17 (1998) 891-908. A bootstrap over the
    same table is no help where few samples differ: without any it would be 0 to 0, however few were looked at.
    """
    if table.samples == 0:
        return Interval(-1.0, 1.0)
    middle = (table.only_one - table.only_other) / table.samples
    z = _z(confidence)
    return Interval(_crossing(table, z, -1.0, middle), _crossing(table, -z, middle, 1.0))


def _crossing(table: Table, aim: float, low: float, high: float) -> float:
    """Where between `low` and `high` the score statistic, which falls, passes `aim`."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _score(table, middle) > aim else (low, middle)
    return (low + high) / 2


def _score(table: Table, delta: float) -> float:
    """How many standard errors the table lies from a true difference of `delta`; -1 < delta < 1.

    `q` is the likeliest share of samples that only the other run has right, given delta.
    """
    one, other, n = table
    b = (2 * n - one + other) * delta - one - other
    q = (math.sqrt(b * b + 8 * n * other * delta * (1 - delta)) - b) / (4 * n)
    variance = n * (2 * q + delta * (1 - delta))
    distance = one - other - n * delta
    return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)


class Blocks:
    """Rows of numbers, one a sample, summed into at most 4096 blocks of neighbours: memory does not grow.

    `samples` have been added. Up to 4096 samples each is a block of its own; then neighbours are joined, two by two.
    """

    def __init__(self, columns: int) -> None:
        self.samples = 0
        self._size = 1
        self._sums = np.zeros((BLOCKS, columns))

    def add(self, rows: Array) -> None:
        """Add rows (samples, columns), next to those before."""
        while self.samples + len(rows) > BLOCKS * self._size:
            self._sums[: BLOCKS // 2] = self._sums[::2] + self._sums[1::2]
            self._sums[BLOCKS // 2 :] = 0
            self._size *= 2
        where = (self.samples + np.arange(len(rows))) // self._size
        np.add.at(self._sums, where, rows)
        self.samples += len(rows)

    @property
    def sums(self) -> Floats:
        """(blocks, columns), the last block perhaps of fewer samples than the others."""
        return self._sums[: -(-self.samples // self._size)]


def bootstrap(blocks: Floats, figure: Figure, confidence: float = CONFIDENCE, seed: int = SEED) -> Interval:
    """The interval of `figure`, which gives [...] numbers for [..., columns] column sums, over blocks (m, columns).

    Blocks are drawn with replacement, RESAMPLES times; a paired figure has both runs' columns in one row and so stays
    paired. The ends are bias-corrected and accelerated (BCa): B. Efron, JASA 82 (1987) 171-185; Efron and
    Tibshirani, An Introduction to the Bootstrap (1993), equations 14.9 to 14.15. All figures being equal, both ends
    are that figure. Not for a largest value, whose bootstrap does not converge (Bickel and Freedman, Annals of
    Statistics 9 (1981) 1196-1217, section 6).
    """
    measured = float(figure(blocks.sum(axis=0)))
    drawn = _resampled(blocks, figure, seed)
    if len(blocks) < 2 or bool((drawn == measured).all()):
        return Interval(measured, measured)
    # Ties count half: few samples give the same figure often.
    below = float(np.mean(drawn < measured) + np.mean(drawn == measured) / 2)
    bias = _NORMAL.inv_cdf(min(max(below, 0.5 / RESAMPLES), 1 - 0.5 / RESAMPLES))
    acceleration = _acceleration(blocks, figure)
    z = _z(confidence)
    low, high = (_level(bias, acceleration, end) for end in (-z, z))
    return Interval(*(float(end) for end in np.quantile(drawn, [low, high])))


def _resampled(blocks: Floats, figure: Figure, seed: int) -> Floats:
    generator = np.random.default_rng(seed)
    columns = np.ascontiguousarray(blocks.T)
    step = max(1, _AT_ONCE // len(blocks))
    drawn = []
    for start in range(0, RESAMPLES, step):
        picked = generator.integers(0, len(blocks), (min(step, RESAMPLES - start), len(blocks)))
        drawn.append(figure(np.stack([column[picked].sum(axis=1) for column in columns], axis=-1)))
    return np.concatenate(drawn)


def _acceleration(blocks: Floats, figure: Figure) -> float:
    """Equation 14.15: the skewness of the figures without one block each, over 6."""
    left = figure(blocks.sum(axis=0) - blocks)
    away = left.mean() - left
    spread = float(np.sum(away**2))
    return float(np.sum(away**3)) / (6 * spread**1.5) if spread > 0 else 0.0


def _level(bias: float, acceleration: float, z: float) -> float:
    """Equation 14.10: which quantile of the resampled figures is the end that a normal figure has at `z`."""
    shifted = bias + z
    stretch = 1 - acceleration * shifted
    return _NORMAL.cdf(bias + shifted / stretch) if stretch > 0 else (0.0 if z < 0 else 1.0)


def _z(confidence: float) -> float:
    return _NORMAL.inv_cdf((1 + confidence) / 2)
