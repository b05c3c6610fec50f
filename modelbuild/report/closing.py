"""The last lines of a run on the terminal: what is red, where the report lies, what to type next."""

from __future__ import annotations

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, findings, sentences
from modelbuild.report.record import PlatformRow, Report, TargetRow

_MOST = 10


def closing_lines(report: Report, page: str | None = None) -> list[str]:
    """One line when green, and warnings; else every finding, the path of the report and the next command.

    `page` is the path of `report.html` as the user should see it, `.cache/out/MODEL/report.html` unless told.
    """
    where = clean.line(page or f".cache/out/{report.model}/report.html")
    if findings.outcome(report) != "fail":
        return [f"{_headline(report)}, report: {where}", *_warnings(report)]
    return [
        _headline(report),
        *_warnings(report),
        *_most([_verdict_lines(row) for row in findings.red(report)]),
        *_most([[_failed_line(row)] for row in findings.failed(report)]),
        *_most([[_missing_line(report, row)] for row in findings.missing(report)]),
        f"report: {where}",
        f"next: {sentences.command(report)}",
    ]


def _verdict_lines(row: Verdict) -> list[str]:
    output = f", output {clean.line(row.output)}" if row.output else ""
    first = f"  {clean.line(findings.pair(row))}{output}: {sentences.against(row)}"
    return [first, f"    {clean.line(row.detail)}"] if row.detail.strip() else [first]


def _warnings(report: Report) -> list[str]:
    return [f"  warning: {_about(row)}{clean.line(row.detail)}" for row in findings.warnings(report)]


def _about(row: Verdict) -> str:
    """The platform, and the way of running it that this machine does not have."""
    way = f" {row.backend}" if row.backend and not findings.evidenced(row) else ""
    return f"{clean.line(row.platform + way)}: " if row.platform else ""


def _headline(report: Report) -> str:
    return f"{clean.line(report.model)}: {sentences.headline(report)}"


def _failed_line(row: TargetRow) -> str:
    return f"  {clean.line(row.name)} failed: {sentences.last_line(row.error)}"


def _missing_line(report: Report, row: PlatformRow) -> str:
    reason = clean.line(findings.unavailable(report, row))
    return f"  {clean.line(row.name)} is required and not evidenced: {reason}"


def _most(findings_: list[list[str]]) -> list[str]:
    lines = [line for found in findings_[:_MOST] for line in found]
    rest = len(findings_) - _MOST
    return [*lines, f"  +{rest} more"] if rest > 0 else lines
