"""The tables of the HTML report; on a narrow screen each row stands as a card, its cells labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, figures, findings, sentences
from modelbuild.report.details import OutputNoise, Spread
from modelbuild.report.record import PlatformRow, Report, TargetRow

INTERPRETED = (
    "interpreted: the very file that ships was evaluated, operation by operation, by a reference interpreter; "
    "executed: its own runtime ran it."
)
# Rows that show at once; the rest waits behind a click, so that the page stays one to read.
_VERDICTS_SHOWN = 12
_TARGETS_SHOWN = 60
_EMPTY = ("", figures.NOTHING)


@dataclass(frozen=True, slots=True)
class Row:
    """One row: cells are HTML, in the order of the heads; the first names the row."""

    cells: tuple[str, ...]
    kind: str = ""
    anchor: str = ""


def platforms(report: Report) -> str:
    """Every platform with its evidence; without evidence it says so and never counts as a pass."""
    rows = [Row(_platform_cells(report, row), _platform_kind(report, row)) for row in report.platforms]
    shown = table("Platforms", ("Platform", "Runtime", "Evidence", "Verdicts", "Required"), rows)
    interpreted = any(row.evidence == "interpreted" for row in report.platforms)
    return shown + (f"<p>{note(INTERPRETED)}</p>" if interpreted else "")


def verdicts(report: Report) -> str:
    """Red first, then what nothing evidences, then the rest by headroom, the tightest first."""
    red, implied = findings.told_apart(report)
    none, held = findings.unchecked(report), findings.held(report)
    first = [_verdict(row) for row in [*red, *none, *held[:_VERDICTS_SHOWN]]]
    rest = [_verdict(row) for row in held[_VERDICTS_SHOWN:]]
    derived = findings.derivations(report)
    free = [_verdict(row) for row in findings.observed(report) if row not in derived]
    shown = table("Verdicts", _VERDICT_HEADS, first) if first else ""
    rest_of = _fold("Verdicts", _VERDICT_HEADS, rest, "More that hold, with more headroom")
    pairs = _fold("Verdicts", _VERDICT_HEADS, [_verdict(row) for row in implied], "Red because of these")
    return shown + pairs + rest_of + _fold("Figures", _VERDICT_HEADS, free, "Measured, with no limit set")


def targets(report: Report) -> str:
    """Every target in the order in which the build knows them."""
    rows = [_target(report, row, index) for index, row in enumerate(report.targets)]
    rest = _fold("Targets", _TARGET_HEADS, rows[_TARGETS_SHOWN:], "More targets")
    return table("Targets", _TARGET_HEADS, rows[:_TARGETS_SHOWN]) + rest


def badge(kind: str, words: str) -> str:
    """A short coloured word; the word says it all, the colour helps."""
    return f'<span class="badge {kind}">{escape(words)}</span>'


def noise(report: Report) -> str:
    """What moves each output that is nobody's fault: what limits are derived from, said once."""
    rows = [row for name, each in report.details.noise.items() for row in _noises(name, each)]
    return table("Noise", ("Source", "Output", "Max abs", "RMSE", "Counts as"), rows) if rows else ""


def _noises(name: str, each: OutputNoise) -> list[Row]:
    counted = [_noise(name, source, found, "noise of this model") for source, found in each.sources.items()]
    rounded = [_noise(name, source, found, "lower precision") for source, found in each.rounded.items()]
    left = [
        Row(
            (
                f"<b>{clean.html(source)}</b>{note(why)}",
                _code(name),
                figures.NOTHING,
                figures.NOTHING,
                "not counted",
            )
        )
        for source, why in each.uncounted.items()
    ]
    return [*counted, *rounded, *left]


def _noise(name: str, source: str, found: Spread, counts: str) -> Row:
    numbers = figures.number(found.max_abs, 3), figures.number(found.rmse, 3)
    return Row((f"<b>{clean.html(source)}</b>", _code(name), *numbers, counts))


def _code(name: str) -> str:
    return f"<code>{clean.html(name, 80)}</code>" if name else ""


_COLOURS = {"red": "red", "held": "holds", "none": "not evidenced", "free": "no limit"}
_VERDICT_HEADS = (
    *(
        "Pair",
        "Output",
        "Metric",
        "Measured",
        "95 % interval",
        "Limit",
        "Floor",
        "Headroom",
        "Would pass",
        "Verdict",
    ),
)
_TARGET_HEADS = ("Target", "State", "Time", "Size", "Reason", "Key")
_FIGURES = frozenset(
    {
        "Measured",
        "95 % interval",
        "Limit",
        "Floor",
        "Headroom",
        "Would pass",
        "Max abs",
        "RMSE",
        "Time",
        "Size",
        "Parameters",
        "Memory",
        "Quality",
        "Steps",
    }
)


def _verdict(row: Verdict) -> Row:
    measured, limit = figures.measured_and_limit(row)
    kind = _colour(row)
    detail = sentences.aside(row) if kind in ("red", "none") or row.measured is None else ""
    cells = (
        _pair(row, detail),
        _code(row.output),
        clean.html(row.metric),
        measured,
        figures.interval(row),
        _titled(f"{figures.limit_sign(row)} {limit}".strip(), row.detail if row.limit is not None else ""),
        figures.number(row.floor, 3),
        figures.headroom(row),
        figures.number(row.needed, 3),
        badge(kind, _COLOURS[kind]) + _evidence(row),
    )
    return Row(cells, kind)


def _titled(shown: str, words: str) -> str:
    return f'<span title="{clean.html(words, 600)}">{shown}</span>' if words.strip() else shown


def _pair(row: Verdict, detail: str) -> str:
    subject = clean.html(findings.subject(row))
    against = f' <span class="against">against {clean.html(row.against)}</span>' if row.against else ""
    return f"<b>{subject}</b>{against}{note(detail)}"


def note(words: str) -> str:
    """What a row has to say beyond its figures, below them."""
    return f'<span class="note">{clean.html(words, 600)}</span>' if words.strip() else ""


def _colour(row: Verdict) -> str:
    if not row.ok:
        return "red"
    if not findings.evidenced(row):
        return "none"
    return "held" if findings.demands(row) else "free"


def _evidence(row: Verdict) -> str:
    return f" <small>{row.evidence}</small>" if findings.evidenced(row) else ""


def _platform_kind(report: Report, row: PlatformRow) -> str:
    if row in findings.missing(report) or any(not verdict.ok for verdict in _verdicts_of(report, row)):
        return "red"
    return "held" if findings.evidenced(row) else "none"


def _platform_cells(report: Report, row: PlatformRow) -> tuple[str, ...]:
    known = findings.evidenced(row)
    reason = "" if known else findings.unavailable(report, row)
    evidence = badge(row.evidence, row.evidence) if known else badge("none", "not evidenced")
    required = "yes" if row.required else "no"
    return (
        f"<b>{clean.html(row.name)}</b>{note(reason)}",
        clean.html(row.runtime, 60),
        evidence,
        _tally(report, row),
        required,
    )


def _verdicts_of(report: Report, row: PlatformRow) -> list[Verdict]:
    """A verdict on a pair of runs is of the platforms of both."""
    return [
        verdict
        for verdict in findings.verdicts(report)
        if row.name in (verdict.platform, findings.platform_of(verdict.against))
    ]


def _tally(report: Report, row: PlatformRow) -> str:
    rows = _verdicts_of(report, row)
    held, red = sum(findings.holds(verdict) for verdict in rows), sum(not verdict.ok for verdict in rows)
    if not held + red:
        return "none"
    return f"{held} hold" + (f', <span class="bad">{red} red</span>' if red else "")


def _target(report: Report, row: TargetRow, index: int) -> Row:
    state = row.state.replace(" ", "-")
    error = f"<pre>{escape(clean.tail(row.error))}</pre>" if row.error.strip() else ""
    cells = (
        f"<b>{clean.html(findings.short_name(report.model, row.name))}</b>{error}",
        badge(state, row.state),
        figures.duration(row.seconds) if row.state != "not run" else "",
        figures.size(row.bytes) if row.bytes else "",
        clean.html(row.reason),
        _key(row),
    )
    return Row(cells, state, f"t{index}")


def _key(row: TargetRow) -> str:
    return (
        f'<code title="{clean.html(row.key)}">{clean.html(figures.short(row.key))}</code>' if row.key else ""
    )


def _fold(caption: str, heads: tuple[str, ...], rows: list[Row], what: str) -> str:
    if not rows:
        return ""
    return f"<details><summary>{what} ({len(rows)})</summary>{table(caption, heads, rows)}</details>"


def table(caption: str, heads: tuple[str, ...], rows: Sequence[Row]) -> str:
    """Rows under their heads; a column that no row has anything in is left out."""
    kept = [0, *(at for at in range(1, len(heads)) if any(row.cells[at] not in _EMPTY for row in rows))]
    heads = tuple(heads[at] for at in kept)
    rows = [replace(row, cells=tuple(row.cells[at] for at in kept)) for row in rows]
    top = "".join(f'<th scope="col"{_aligned(head)}>{head}</th>' for head in heads)
    body = "\n".join(_row(heads, row) for row in rows)
    head = f"<caption>{caption}</caption><thead><tr>{top}</tr></thead>"
    return f'<div class="scroll"><table class="rows">{head}<tbody>\n{body}\n</tbody></table></div>'


def _row(heads: tuple[str, ...], row: Row) -> str:
    anchor = f' id="{row.anchor}"' if row.anchor else ""
    first = f'<th scope="row">{row.cells[0]}</th>'
    rest = [_cell(head, cell) for head, cell in zip(heads[1:], row.cells[1:], strict=True)]
    return f'<tr class="{row.kind}"{anchor}>{first}{"".join(rest)}</tr>'


def _cell(head: str, cell: str) -> str:
    shown = cell if cell != figures.NOTHING else f'<span class="blank">{cell}</span>'
    return f'<td data-head="{head}"{_aligned(head)}>{shown}</td>'


def _aligned(head: str) -> str:
    return ' class="figure"' if head in _FIGURES else ""
