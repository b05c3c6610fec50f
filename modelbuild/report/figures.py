"""How numbers read: counts, measured against limit, headroom, times, sizes, digests."""

from __future__ import annotations

import math

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report.margins import bound

_UNITS = ("KiB", "MiB", "GiB", "TiB")
NOTHING = "\N{EN DASH}"


def number(value: float | None, digits: int = 4) -> str:
    """`0.9705`, `3.4e-8`; an en dash for no number."""
    if value is None:
        return NOTHING
    mantissa, e, exponent = f"{value:.{digits}g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if e else mantissa


def measured_and_limit(row: Verdict) -> tuple[str, str]:
    """Both numbers, told `apart`."""
    return apart(row.measured, row.limit)


def apart(measured: float | None, limit: float | None) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart: never `0.95 against 0.95` in red."""
    for digits in (4, 6, 9, 17):
        texts = number(measured, digits), number(limit, digits)
        if texts[0] != texts[1] or measured == limit:
            return texts
    return texts


def limit_sign(row: Verdict) -> str:
    """`≤` or `≥`, or nothing where there is no limit."""
    return {"max": "\N{LESS-THAN OR EQUAL TO}", "min": "\N{GREATER-THAN OR EQUAL TO}", None: ""}[bound(row)]


def interval(row: Verdict) -> str:
    """The 95 % confidence interval of the measured value, `0.9786 to 0.9964`."""
    if row.low is None or row.high is None:
        return NOTHING
    return f"{number(row.low)} to {number(row.high)}"


def headroom(row: Verdict) -> str:
    """How far from the limit: 8.3 times below an upper limit, `+0.02` above a lower one, `0.05 short`."""
    side, measured, limit = bound(row), row.measured, row.limit
    if side is None or measured is None or limit is None or not math.isfinite(limit - measured):
        return NOTHING
    if measured == limit:
        return "exact" if measured == 0 else "at the limit"
    if side == "max" and limit > 0:
        return (
            _ratio(limit / measured if measured > 0 else math.inf)
            if row.ok
            else f"{_ratio(measured / limit)} over"
        )
    difference = number(abs(limit - measured), 3)
    return f"+{difference}" if row.ok else f"{difference} {'over' if side == 'max' else 'short'}"


def _ratio(times: float) -> str:
    if times >= 1000:
        return "> 1000\N{MULTIPLICATION SIGN}"
    digits = 0 if times >= 100 else 1 if times >= 1.1 else 3
    return f"{times:.{digits}f}\N{MULTIPLICATION SIGN}"


def duration(seconds: float) -> str:
    """`0.04 s`, `12.3 s`, `3 min 10 s`, `1 h 05 min`."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: int) -> str:
    """`412 B`, `13.2 KiB`."""
    if count < 1024:
        return f"{count} B"
    power = min(int(math.log(count, 1024)), len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"


def some(count: int, noun: str) -> str:
    """`1 verdict`, `2 verdicts`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def short(digest: str) -> str:
    """The first characters of a key or digest, enough to tell two apart by eye."""
    return digest[:10]
