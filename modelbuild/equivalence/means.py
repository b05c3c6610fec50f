"""Figures that are the mean of one number a sample, held to a limit; the cosine of two outputs is one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import intervals, tasks
from modelbuild.equivalence.demand import QualityDemand, more_is_better
from modelbuild.equivalence.intervals import Floats, Interval
from modelbuild.equivalence.tasks import Row
from modelbuild.errors import RecipeError

Array = NDArray[Any]


def row(values: Floats, constant: float, what: str, demand: QualityDemand) -> Row:
    """The mean of `values` (samples,), all finite, with its 95 % interval.

    `constant` is the figure that a constant reaches, NaN where there is none, and `what` that constant in words.
    Raises RecipeError for a limit that it meets.
    """
    more, limit, count = more_is_better(demand.metric, demand.more_is_better), demand.limit, len(values)
    if demand.met(constant):
        fact = f"{limit:g} would pass {what}, which reaches {constant:.4g}"
        raise RecipeError(demand.place, fact, f"Demand {'more' if more else 'less'} than {constant:.4g}")
    measured, interval = tasks.estimate(demand.metric, np.stack([values, np.ones(count)], axis=1))
    worst = int(np.argmin(values) if more else np.argmax(values))
    detail = f"{demand.metric} {measured:.4g} on {count} samples (95 %: {interval}), "
    detail += (
        f"{'at least' if more else 'at most'} {limit:g} is due; worst at sample {worst}: {values[worst]:.4g}"
    )
    if _inside(limit, interval, more):
        detail += unsettled(intervals.samples_for_limit(interval, measured, limit, count), "about ")
    ok, known = math.isfinite(measured) and demand.met(measured), not math.isnan(constant)
    better = not known or (measured > constant if more else measured < constant)
    return Row(
        *(demand.metric, measured, limit, ok, detail, measured if better else None, *interval),
        constant if math.isfinite(constant) else None,
        demand.more_is_better,
    )


def _inside(limit: float, interval: Interval, more: bool) -> bool:
    """Whether some of the interval would pass and some not."""
    return interval.low < limit <= interval.high if more else interval.low <= limit < interval.high


def unsettled(samples: int | None, about: str = "") -> str:
    """What to say of an interval that the limit lies inside; `samples` would be enough, None where no number is."""
    if samples is None:
        return "; the limit lies at the end of what samples can tell apart"
    return f"; the limit lies inside that interval: {about}{samples} samples like these would settle it"


def cosine(name: str, base: Array, values: Array, demand: QualityDemand) -> Row:
    """The mean over the samples of the cosine between the two vectors of a sample, each (samples, ...) flattened.

    No sample is all zero. Raises RecipeError for a limit that a constant meets: of unit vectors u the mean of u.c is
    largest where the unit vector c points to their mean, and is then the length of that mean.
    """
    truth, found = _directions(base), _directions(values)
    constant = float(np.linalg.norm(truth.mean(axis=0)))
    cosines = np.clip(np.sum(truth * found, axis=1), -1.0, 1.0)
    return row(cosines, constant, f'a constant in place of "{name}"', demand)


def without_direction(values: Array) -> NDArray[np.intp]:
    """The samples of (samples, ...) that are all zero: no vector is at any angle to them."""
    return np.flatnonzero(~values.reshape(len(values), -1).any(axis=1))


def _directions(values: Array) -> Floats:
    """(samples, values) of length 1; scaled first, as the square of a large or a tiny number is none."""
    wide = values.reshape(len(values), -1).astype(np.float64)
    wide /= np.abs(wide).max(axis=1, keepdims=True)
    return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))
