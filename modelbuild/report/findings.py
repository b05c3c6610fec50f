"""What a report amounts to: which verdicts are red, what is not evidenced, and whether the model passes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from modelbuild.report.record import PlatformRow, Report, TargetRow, VerdictRow

Outcome = Literal["pass", "fail", "unchecked"]

# An evidence that is not one of these, known or not, is no evidence.
_EVIDENCED = frozenset({"executed", "interpreted"})


@dataclass(frozen=True, slots=True)
class Gate:
    """All verdicts of one pair; `verdicts` is ordered worst first."""

    pair: str
    verdicts: tuple[VerdictRow, ...]

    @property
    def red(self) -> int:
        return sum(not row.ok for row in self.verdicts)

    @property
    def held(self) -> int:
        return sum(holds(row) for row in self.verdicts)


def evidenced(row: VerdictRow | PlatformRow) -> bool:
    """Whether the artefact itself was checked."""
    return row.evidence in _EVIDENCED


def holds(row: VerdictRow) -> bool:
    """A verdict holds when it is green and something was checked: no evidence is never a pass."""
    return row.ok and evidenced(row)


def red(report: Report) -> list[VerdictRow]:
    """The red verdicts, worst first."""
    return sorted((row for row in report.verdicts if not row.ok), key=margin)


def held(report: Report) -> list[VerdictRow]:
    """The verdicts that hold, the closest to its limit first."""
    return sorted((row for row in report.verdicts if holds(row)), key=margin)


def unchecked(report: Report) -> list[VerdictRow]:
    """The verdicts that are not red only because nothing was checked."""
    return [row for row in report.verdicts if row.ok and not evidenced(row)]


def failed(report: Report) -> list[TargetRow]:
    """The targets whose recipe failed in this run."""
    return [row for row in report.targets if row.state == "failed"]


def missing(report: Report) -> list[PlatformRow]:
    """The required platforms that nothing evidences."""
    return [row for row in report.platforms if row.required and not evidenced(row)]


def outcome(report: Report) -> Outcome:
    """Fails closed: anything red, failed or missing fails; without one held verdict nothing was checked."""
    if not report.ok or red(report) or failed(report) or missing(report):
        return "fail"
    return "pass" if held(report) else "unchecked"


def bound(row: VerdictRow) -> Literal["max", "min"] | None:
    """Which side of the limit is allowed, read from the numbers and the colour; None without both numbers."""
    if row.measured is None or row.limit is None or math.isnan(row.measured) or math.isnan(row.limit):
        return None
    return "max" if (row.measured <= row.limit) == row.ok else "min"


def margin(row: VerdictRow) -> float:
    """The share of what the limit allows that is left, in 0..1; for a red verdict how far beyond, in -1..0.

    A lower limit between 0 and 1, as on a cosine or an accuracy, allows the distance from the limit to 1. A
    verdict without numbers sorts before all others of its colour: it is about the shape of things.
    """
    side, measured, limit = bound(row), row.measured, row.limit
    if side is None or measured is None or limit is None:
        return -2.0
    if side == "min" and 0 < limit < 1 and measured <= 1:
        measured, limit = 1 - measured, 1 - limit
    if measured == limit == 0:
        return 1.0
    scale = max(abs(measured), abs(limit))
    share = min(abs(limit - measured) / scale, 1.0) if scale < math.inf else 1.0
    return share if row.ok else -share


def subject(row: VerdictRow) -> str:
    """What was judged: platform, version and backend, or the target where no platform is concerned."""
    judged = row.platform or row.target.partition(":")[2] or row.target
    return " ".join(part for part in (judged, row.version, row.backend) if part)


def pair(row: VerdictRow) -> str:
    """`android 1.20.1 cpu against reference`."""
    return f"{subject(row)} against {row.against}" if row.against else subject(row)


def gates(report: Report) -> list[Gate]:
    """The verdicts by pair, pairs with a red verdict first, else in the order in which they were judged."""
    pairs: dict[str, list[VerdictRow]] = {}
    for row in report.verdicts:
        pairs.setdefault(pair(row), []).append(row)
    found = [
        Gate(name, tuple(sorted(rows, key=lambda row: (row.ok, margin(row))))) for name, rows in pairs.items()
    ]
    return sorted(found, key=lambda gate: gate.red == 0)


def next_command(report: Report) -> tuple[str, ...]:
    """The words of the command that explains the worst of it: `doit why digits:android` or `doit status`."""
    worst = [row.target for row in red(report)] + [row.name for row in failed(report)]
    if not worst:
        return ("doit", "status")
    return ("doit", "why", task_name(report.model, worst[0]))


def task_name(model: str, target: str) -> str:
    """The name a target has on the command line: `digits:android`."""
    return target if target.startswith(f"{model}:") else f"{model}:{target}"


def short_name(model: str, target: str) -> str:
    """The name a target has inside a report of its model: `android`."""
    return target.removeprefix(f"{model}:") or target
