"""A summary in GitHub's Markdown, short enough for a CI page that shows several models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, figures, findings, search, sentences
from modelbuild.report.details import Diagnosis
from modelbuild.report.findings import Gate
from modelbuild.report.record import PlatformRow, Report
from modelbuild.report.student_record import Cycle

_BYTES = 60_000
_ROWS = 30
_CHARS = 200

_HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"})
# A backslash before any of these makes it a plain character, wherever it stands; `www.` alone makes a link.
_MARKS = re.compile(r"[\\`*_{}\[\]()#~|!@$:]|(?<=www)\.", re.IGNORECASE)

_WORDS = {"pass": "PASS", "fail": "FAIL", "unchecked": "NOTHING CHECKED"}


def summary(report: Report) -> str:
    """The summary, at most 60,000 bytes: gates, red verdicts, platforms, what is not evidenced."""
    parts = [
        f"## {escape(report.model)}: {_WORDS[findings.outcome(report)]}",
        escape(sentences.headline(report)),
        *_section("Red verdicts", _red(report)),
        *_section("First diverging operation", _diagnoses(report)),
        *_section("Who agrees", _agreements(report)),
        *_section("Failed targets", _failed(report)),
        *_section("Search", _search(report.details.search)),
        *_section("Gates", _gates(findings.gates(report))),
        *_section("Platforms", _platforms(report.platforms)),
        *_section("Not evidenced", _unevidenced(report)),
    ]
    return _limited("\n\n".join(parts) + "\n")


def escape(raw: str) -> str:
    """`raw` as plain text on one line, whatever HTML, Markdown, table or link it tries to be."""
    return _MARKS.sub(r"\\\g<0>", clean.line(raw, _CHARS)).translate(_HTML)


def _section(title: str, body: str) -> list[str]:
    return [f"### {title}", body] if body else []


def _table(head: str, rows: Sequence[Iterable[str]]) -> str:
    if not rows:
        return ""
    ruler = "|".join("---" for _ in head.split("|"))
    shown = [f"| {' | '.join(row)} |" for row in rows[:_ROWS]]
    return "\n".join([f"| {head} |", f"|{ruler}|", *shown]) + _more(len(rows))


def _more(count: int) -> str:
    return f"\n\n{count - _ROWS} more in the report." if count > _ROWS else ""


def _red(report: Report) -> str:
    rows, implied = findings.told_apart(report)
    head = "pair | output | metric | measured | limit | detail"
    also = (
        f"\n\n{figures.some(len(implied), 'more verdict')} of these runs against others." if implied else ""
    )
    return _table(head, [_red_row(row) for row in rows]) + also


def _diagnoses(report: Report) -> str:
    found = findings.diagnoses(report)
    return "\n".join(_diagnosis(report, each) for each in found[:_ROWS]) + _more(len(found))


def _diagnosis(report: Report, found: Diagnosis) -> str:
    typed = sentences.reproduce(report, found)
    shown = f"<br>reproduce: {escape(typed)}" if typed else ""
    return f"- **{escape(found.run)}** {escape(sentences.diagnosed(found))}{shown}"


def _agreements(report: Report) -> str:
    said = sentences.agreements(report)[:_ROWS]
    return "\n".join(f"- **{escape(name)}** {escape(words)}" for name, words in said)


def _red_row(row: Verdict) -> list[str]:
    measured, limit = figures.measured_and_limit(row)
    bounded = f"{figures.limit_sign(row)} {limit}".strip()
    words = (findings.pair(row), row.output, row.metric)
    return [*map(escape, words), measured, bounded, escape(sentences.aside(row))]


def _failed(report: Report) -> str:
    rows = findings.failed(report)
    return _table(
        "target | error", [(escape(row.name), escape(sentences.last_line(row.error))) for row in rows]
    )


def _search(cycles: Sequence[Cycle]) -> str:
    """The last cycle, with all there ever were."""
    if not cycles:
        return ""
    last = cycles[-1]
    head = "candidate | parameters | quality | limit | steps | state | why"
    rows = [
        (
            *(escape(one.name), search.count(one.parameters), *search.quality(one), f"{one.steps:,}"),
            *(search.state(one, last)[1], escape(one.why)),
        )
        for one in last.candidates
    ]
    said = escape(search.measures(cycles))
    return "\n\n".join(filter(None, (said, _table(head, rows))))


def _gates(gates: list[Gate]) -> str:
    head = "gate | hold | red | closest to its limit"
    return _table(
        head, [(escape(gate.pair), str(gate.held), str(gate.red), _closest(gate)) for gate in gates]
    )


def _closest(gate: Gate) -> str:
    row = gate.verdicts[0]
    if not findings.evidenced(row) and row.ok:
        return "not evidenced"
    return f"{escape(row.metric)} {figures.headroom(row)}"


def _platforms(rows: tuple[PlatformRow, ...]) -> str:
    head = "platform | runtime | evidence | required"
    return _table(
        head, [(escape(row.name), escape(row.runtime), _evidence(row), _required(row)) for row in rows]
    )


def _evidence(row: PlatformRow) -> str:
    return escape(row.evidence) if findings.evidenced(row) else "**not evidenced**"


def _required(row: PlatformRow) -> str:
    return "yes" if row.required else "no"


def _unevidenced(report: Report) -> str:
    without = [row for row in report.platforms if not findings.evidenced(row)]
    lines = [
        f"- **{escape(row.name)}**: {escape(findings.unavailable(report, row))}" for row in without[:_ROWS]
    ]
    return "\n".join(lines) + _more(len(without))


def _limited(text: str) -> str:
    """Cut at a line end: a longer summary is refused as a whole by the page that shows it."""
    raw = text.encode()
    if len(raw) <= _BYTES:
        return text
    kept = raw[:_BYTES].decode(errors="ignore").rpartition("\n")[0]
    return f"{kept}\n\nShortened; the report has the rest.\n"
