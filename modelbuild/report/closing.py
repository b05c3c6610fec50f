"""The last lines of a run on the terminal: what is red, where the report lies, what to type next."""

from __future__ import annotations

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, figures, findings, sentences
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
        *_red_lines(report),
        *_most([[_failed_line(row)] for row in findings.failed(report)]),
        *_most([[_missing_line(report, row)] for row in findings.missing(report)]),
        f"report: {where}",
        f"next: {sentences.command(report)}",
    ]


def _red_lines(report: Report) -> list[str]:
    """Run by run its verdicts and then why it is red; last who agrees with whom."""
    rows, fellows = findings.foremost(report)
    _, implied = findings.told_apart(report)
    lines: list[str] = []
    for run, found in findings.by_run(_foremost(rows)).items():
        lines += [line for row in found for line in _verdict_lines(row)]
        lines += [f"    {line}" for line in sentences.on_the_run(report, run)]
        lines += [f"    {line}" for line in sentences.the_same(found, fellows)]
    rest = len(rows) - _MOST
    lines += [f"  +{rest} more"] if rest > 0 else []
    if implied:
        lines.append(f"  +{figures.some(len(implied), 'verdict')} of these runs against others")
    return [*lines, *(f"  {name}: {words}" for name, words in sentences.agreements(report))]


def _foremost(rows: list[Verdict]) -> list[Verdict]:
    """As many of `rows`, in their order, as are read; the worst of every run comes before the second of another."""
    ranked = [(rank, row) for found in findings.by_run(rows).values() for rank, row in enumerate(found)]
    kept = [row for _, row in sorted(ranked, key=lambda each: each[0])][:_MOST]
    return [row for row in rows if row in kept]


def _verdict_lines(row: Verdict) -> list[str]:
    output = f", output {clean.line(row.output)}" if row.output else ""
    aside = sentences.aside(row)
    first = f"  {clean.line(findings.pair(row))}{output}: {sentences.against(row)}"
    return [first, f"    {aside}"] if aside else [first]


def _warnings(report: Report) -> list[str]:
    return [f"  warning: {line}" for line in sentences.warnings(report)]


def _headline(report: Report) -> str:
    return f"{clean.line(report.model)}: {sentences.headline(report)}"


def _failed_line(row: TargetRow) -> str:
    name = clean.line(row.name)
    return f"  {name} failed: {sentences.last_line(row.error).removeprefix(f'{name}: ')}"


def _missing_line(report: Report, row: PlatformRow) -> str:
    reason = clean.line(findings.unavailable(report, row))
    return f"  {clean.line(row.name)} is required and not evidenced: {reason}"


def _most(findings_: list[list[str]]) -> list[str]:
    lines = [line for found in findings_[:_MOST] for line in found]
    rest = len(findings_) - _MOST
    return [*lines, f"  +{rest} more"] if rest > 0 else lines
