"""What a report says in words: its headline, a verdict's numbers, the next command to type."""

from __future__ import annotations

import shlex

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, figures, findings
from modelbuild.report.record import Report


def headline(report: Report) -> str:
    """`14 verdicts hold, 2 platforms executed`, or what is wrong in the same form."""
    wrong = _wrong(report)
    if wrong:
        return ", ".join(wrong)
    if findings.outcome(report) == "fail":
        return "failed"
    count = len(findings.held(report))
    held = (
        f"{figures.some(count, 'verdict')} {'holds' if count == 1 else 'hold'}"
        if count
        else "no verdict rests on evidence"
    )
    return ", ".join([held, *_evidence(report)])


def red_of(red: int, count: int) -> str:
    """`1 of 7 verdicts is red`."""
    return f"{red} of {figures.some(count, 'verdict')} {'is' if red == 1 else 'are'} red"


def _wrong(report: Report) -> list[str]:
    red, failed, missing = findings.red(report), findings.failed(report), findings.missing(report)
    parts = []
    if red:
        parts.append(red_of(len(red), len(findings.judged(report))))
    if failed:
        parts.append(f"{figures.some(len(failed), 'target')} failed")
    if missing:
        parts.append(f"{figures.some(len(missing), 'required platform')} not evidenced")
    return parts


def _evidence(report: Report) -> list[str]:
    counts = {
        kind: sum(row.evidence == kind for row in report.platforms) for kind in ("executed", "interpreted")
    }
    parts = [f"{figures.some(count, 'platform')} {kind}" for kind, count in counts.items() if count]
    without = sum(not findings.evidenced(row) for row in report.platforms)
    return [*parts, f"{without} not evidenced"] if without else parts


def against(row: Verdict) -> str:
    """`max_abs 0.0031 against a limit of 0.001`, or the metric alone where nothing could be measured."""
    measured, limit = figures.measured_and_limit(row)
    if row.measured is None:
        return clean.line(row.metric)
    return f"{clean.line(row.metric)} {measured}" + (
        f" against a limit of {limit}" if row.limit is not None else ""
    )


def command(report: Report) -> str:
    """The next command to type, quoted for a shell."""
    return shlex.join(clean.line(word) for word in findings.next_command(report))


def last_line(error: str) -> str:
    """The last line of an error: where Python, and most tools, say what happened."""
    return clean.line((clean.text(error).strip().splitlines() or ["no reason was given"])[-1])
