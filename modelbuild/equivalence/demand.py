"""What a gate of the manifest demands, parsed; a demand that any model would meet, or none could, is refused.

Nothing here needs numpy, so that a manifest can be refused before anything is trained. What only the arrays
can show to be empty (a limit above an output's own range) is refused in `tolerance` and `quality`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelbuild.errors import ManifestError, did_you_mean

CEILINGS = ("max_abs", "max_rel", "l1", "rmse")
FLOORS = ("sqnr_db", "cosine")
SHARES = {"teacher": "agreement", "task": "accuracy"}
ERRORS = ("max_abs", "rmse", "l1")


@dataclass(frozen=True, slots=True)
class RuntimeDemand:
    """`tolerance` is metric -> limit for every output, None for "auto".

    `decision_flips` are those allowed in one comparison; `place` is where in the manifest this stands.
    """

    tolerance: Mapping[str, float] | None = None
    decision_flips: int = 0
    place: str = "gates/runtime"


@dataclass(frozen=True, slots=True)
class QualityDemand:
    """`metric` is to keep to `limit` on `output`, or on every output that the metric fits when it is None.

    `place` says where in the manifest the limit stands.
    """

    metric: str
    limit: float
    output: str | None
    place: str


def within(metric: str, measured: float, limit: float) -> bool:
    """Whether `measured` is at least as good as `limit`; never when either is NaN."""
    return measured >= limit if metric in (*FLOORS, *SHARES.values()) else measured <= limit


def runtime(gate: Mapping[str, Any], place: str = "gates/runtime") -> RuntimeDemand:
    """{"tolerance": "auto" or {metric: limit}, "decision_flips": n}. Raises ManifestError."""
    _known_keys(gate, ["tolerance", "decision_flips"], place)
    flips = gate.get("decision_flips", 0)
    if isinstance(flips, bool) or not isinstance(flips, int) or flips < 0:
        raise ManifestError(
            f"{place}/decision_flips", f"{_shown(flips)} is not a number of samples", "0 is usual"
        )
    return RuntimeDemand(_tolerance(gate.get("tolerance", "auto"), f"{place}/tolerance"), flips, place)


def quality(gate: Mapping[str, Any], name: str) -> QualityDemand:
    """The gate `name`, "teacher" or "task": {"metric": "agreement" or "accuracy", "min": share} or
    {"metric": "max_abs", "rmse" or "l1", "max": error}, with "output" where it is on one output only.

    Raises ManifestError.
    """
    place = f"gates/{name}"
    known = [SHARES[name], *ERRORS]
    metric = gate.get("metric")
    if metric not in known:
        fact = f"{_shown(metric)} is not one of {', '.join(known)}"
        raise ManifestError(f"{place}/metric", fact, did_you_mean(str(metric), known))
    bound = "min" if metric in SHARES.values() else "max"
    _known_keys(gate, ["metric", "output", bound], place)
    if bound not in gate:
        raise ManifestError(place, f'{metric} has no "{bound}"', "A gate without a limit checks nothing")
    limit = _number(gate[bound], f"{place}/{bound}")
    _share(limit, f"{place}/{bound}") if bound == "min" else _not_negative(limit, f"{place}/{bound}")
    return QualityDemand(metric, limit, gate.get("output"), f"{place}/{bound}")


def _tolerance(value: Any, place: str) -> dict[str, float] | None:
    if value == "auto":
        return None
    if not isinstance(value, Mapping) or not value:
        raise ManifestError(place, f"{_shown(value)} demands nothing", 'Say "auto", or limits by metric')
    _known_keys(value, [*CEILINGS, *FLOORS], place)
    return {metric: _limit(metric, value[metric], f"{place}/{metric}") for metric in sorted(value)}


def _limit(metric: str, value: Any, place: str) -> float:
    limit = _number(value, place)
    if metric == "cosine":
        _share(limit, place)
    elif metric == "sqnr_db" and limit <= 0:
        raise ManifestError(place, f"{limit:g} dB lets the error be as loud as the signal", "Say more than 0")
    elif metric in CEILINGS:
        _not_negative(limit, place)
    if metric == "max_rel" and limit >= 1:
        raise ManifestError(place, f"{limit:g} would pass an output of zeros", "Say less than 1")
    return limit


def _share(limit: float, place: str) -> None:
    if limit <= 0:
        raise ManifestError(place, f"{limit:g} is met by anything", "Say more than 0, at most 1")
    if limit > 1:
        raise ManifestError(place, f"{limit:g} is met by nothing", "Say more than 0, at most 1")


def _not_negative(limit: float, place: str) -> None:
    if limit < 0:
        raise ManifestError(place, f"{limit:g} is met by nothing", "Say 0 or more")


def _number(value: Any, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ManifestError(place, f"{_shown(value)} is not a finite number", "Say a number")
    return float(value)


def _known_keys(found: Mapping[str, Any], known: list[str], place: str) -> None:
    for name in found:
        if name not in known:
            raise ManifestError(f"{place}/{name}", "no such demand here", did_you_mean(name, known))


def _shown(value: Any) -> str:
    return json.dumps(value, default=str)
