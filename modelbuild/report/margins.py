"""How close a verdict is to its limit, and which side of the limit is allowed."""

from __future__ import annotations

import math
from typing import Literal

from modelbuild.equivalence.verdict import Verdict


def bound(row: Verdict) -> Literal["max", "min"] | None:
    """Which side of the limit is allowed, read from the numbers and the colour; None without both numbers."""
    if row.measured is None or row.limit is None or math.isnan(row.measured) or math.isnan(row.limit):
        return None
    return "max" if (row.measured <= row.limit) == row.ok else "min"


def margin(row: Verdict) -> float:
    """The share of what the limit allows that is left, in 0..1; for a red verdict how far beyond, in -1..0.

    A lower limit between 0 and 1, as on a cosine or an accuracy, allows the distance from the limit to 1.
    Without two numbers, red is about the shape of things and comes before all else (-2), green after (2).
    """
    side, measured, limit = bound(row), row.measured, row.limit
    if side is None or measured is None or limit is None:
        return 2.0 if row.ok else -2.0
    if side == "min" and 0 < limit < 1 and measured <= 1:
        measured, limit = 1 - measured, 1 - limit
    if measured == limit == 0:
        return 1.0
    scale = max(abs(measured), abs(limit))
    share = min(abs(limit - measured) / scale, 1.0) if scale < math.inf else 1.0
    return share if row.ok else -share
