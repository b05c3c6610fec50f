"""A measured figure beside its limit, in words: how far over or under, and the tightest limit that would pass."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal

from modelbuild.equivalence.demand import FLOORS, within
from modelbuild.equivalence.tolerance import Tolerance

DIGITS = 2


def needed(metric: str, measured: float) -> float | None:
    """The tightest limit on `metric` that lets `measured` pass, rounded outward to DIGITS significant digits.

    Of a cosine these are the digits of its distance from 1. None where no limit would do that a manifest may say.
    """
    if not math.isfinite(measured):
        return None
    if metric == "sqnr_db":
        return _rounded(measured, up=False) if measured > 0 else None
    if metric == "cosine":
        limit = float(1 - Decimal(repr(_rounded(float(1 - Decimal(repr(measured))), up=True))))
        return limit if limit > 0 else None
    return _rounded(measured, up=True)


def _rounded(value: float, *, up: bool) -> float:
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return float(Context(prec=DIGITS, rounding=rounding).create_decimal(repr(value)))


def in_words(metric: str, measured: float, found: Tolerance, worst: int | None) -> str:
    """`max_abs 0.00031, limit 4.6e-05 (8 x the floor 5.7e-06); 6.7 times over; worst at sample 17; would pass from
    0.00032`. `worst` is the sample with the largest error, None where there is no error.
    """
    limit = found.limits[metric]
    said = [f"{metric} {measured:.3g}, limit {limit:.3g} ({derived(metric, found)})"]
    ok = within(metric, measured, limit)
    said += [each for each in (_headroom(metric, measured, limit, ok),) if each]
    said += [f"worst at sample {worst}"] if worst is not None else []
    tightest = needed(metric, measured)
    if not ok and tightest is not None:
        said.append(f"would pass {'at' if metric in FLOORS else 'from'} {tightest:.8g}")
    return "; ".join(said)


def derived(metric: str, found: Tolerance) -> str:
    """Where the limit comes from, in a few words; the row "tolerance" of the output has all of them."""
    floor, limit = found.floor.get(metric), found.limits[metric]
    if found.source.startswith("from the "):
        return found.source if not floor else f"{found.source}, the floor is {floor:.2g}"
    if floor:
        return f"{limit / floor:.2g} x the floor {floor:.2g}"
    return "a few ulp, the floor is 0" if limit > 0 else "must be equal"


def _headroom(metric: str, measured: float, limit: float, ok: bool) -> str:
    if metric in FLOORS or not (0 < measured < math.inf and 0 < limit < math.inf):
        return ""
    times = limit / measured if ok else measured / limit
    return f"{times:.{2 if times < 100 else 3}g} times {'under' if ok else 'over'}"
