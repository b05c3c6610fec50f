"""What a report is: one frozen record of a model's targets, verdicts and platforms, and its JSON form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import details
from modelbuild.report.details import Details

State = Literal["built", "restored", "up-to-date", "failed", "not run"]


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One target: `seconds` are those of its recipe when it was built, `digests` has "" for the folder."""

    name: str
    key: str
    state: State
    seconds: float
    reason: str
    digests: Mapping[str, str]
    bytes: int
    needs: tuple[str, ...]
    error: str


@dataclass(frozen=True, slots=True)
class PlatformRow:
    """One platform: `evidence` is "executed", "interpreted" or "none", `unavailable` the reason for none."""

    name: str
    runtime: str
    required: bool
    evidence: str
    unavailable: str


@dataclass(frozen=True, slots=True)
class Report:
    """One model at the end of one run that took `seconds`."""

    model: str
    ok: bool
    seconds: float
    targets: tuple[TargetRow, ...]
    verdicts: tuple[Verdict, ...]
    platforms: tuple[PlatformRow, ...]
    details: Details = field(default_factory=Details)


def to_json(report: Report) -> dict[str, Any]:
    """The report as JSON values. NaN and infinity, which JSON cannot say, become null (0 for seconds)."""
    return {
        "model": report.model,
        "ok": report.ok,
        "seconds": _seconds(report.seconds),
        "targets": [_target(row) for row in report.targets],
        "verdicts": [_verdict(row) for row in report.verdicts],
        "platforms": [asdict(row) for row in report.platforms],
        "details": details.to_json(report.details),
    }


def from_json(document: Mapping[str, Any]) -> Report:
    """The report that `to_json` wrote.

    Raises KeyError or TypeError where a field is missing or unknown, RecipeError where one of the details is wrong.
    """
    return Report(
        model=document["model"],
        ok=document["ok"],
        seconds=document["seconds"],
        targets=tuple(TargetRow(**{**row, "needs": tuple(row["needs"])}) for row in document["targets"]),
        verdicts=tuple(Verdict(**row) for row in document["verdicts"]),
        platforms=tuple(PlatformRow(**row) for row in document["platforms"]),
        details=details.from_json(document["details"]),
    )


def _target(row: TargetRow) -> dict[str, Any]:
    values = {field.name: getattr(row, field.name) for field in fields(row)}
    return {
        **values,
        "seconds": _seconds(row.seconds),
        "digests": dict(row.digests),
        "needs": list(row.needs),
    }


def _verdict(row: Verdict) -> dict[str, Any]:
    return {name: _finite(value) for name, value in asdict(row).items()}


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _seconds(value: float) -> float:
    return value if math.isfinite(value) else 0.0
