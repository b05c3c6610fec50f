"""The search for the student, cycle by cycle: a drawing of each, and a table of everyone in it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

from modelbuild.report import clean, figures, pareto
from modelbuild.report.histograms import gallery
from modelbuild.report.student_record import Candidate, Cycle
from modelbuild.report.tables import Row, badge, note, table

_HEADS = ("Candidate", "Parameters", "Memory", "Quality", "Limit", "Steps", "State", "Why")
_SAID = (
    "All candidates are trained a little, the better ones some more. Of those that pass every gate on the validation "
    "data the smallest is chosen. The line in a drawing is the Pareto front: nobody is both smaller and better."
)


def shown(cycles: Sequence[Cycle]) -> Iterator[tuple[Cycle, list[Candidate]]]:
    """Each cycle with the candidates that it is about: those that went no further before are told of there."""
    out: set[str] = set()
    for each in cycles:
        yield each, [one for one in each.candidates if one.name not in out]
        out |= {one.name for one in each.candidates if not one.goes_on}


def state(one: Candidate, cycle: Cycle) -> tuple[str, str]:
    """What became of a candidate, as the kind of a badge and its words."""
    if one.state == "over":
        return "none", "out"
    if one.state != "trained":
        return ("none", "failed") if one.state == "failed" else ("off", "stopped")
    if one.name == cycle.chosen:
        return "held", "chosen"
    if one.goes_on:
        return "built", "goes on"
    if cycle.keep is not None:
        return "off", "stops here"
    if one.ok:
        return "off", "passes"
    return "off" if cycle.chosen else "red", "short of the gates"


def measures(cycles: Sequence[Cycle]) -> str:
    """What quality is here: `Quality is agreement on logits against the teacher, at least 0.95.`"""
    figure = next((one.quality for each in cycles for one in each.candidates if one.quality), None)
    if figure is None:
        return ""
    where = f" on {figure.output}" if figure.output else ""
    bound = "least" if figure.more_is_better else "most"
    limit = figures.number(figure.limit)
    return clean.line(f"Quality is {figure.metric}{where} against the {figure.against}, at {bound} {limit}.")


def heading(cycle: Cycle) -> str:
    """`Cycle 2 of 3, up to step 600`."""
    return f"Cycle {cycle.cycle} of {cycle.cycles}, up to step {cycle.steps:,}"


def differs(one: Candidate) -> str:
    """`args.width 8, train.lr 0.01`."""
    return clean.line(", ".join(f"{path} {_value(value)}" for path, value in one.differs.items()))


def _value(text: str) -> str:
    """JSON as people read it: numbers as long as it helps, words without quotes."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, float) and math.isfinite(value):
        return figures.number(value)
    return value if isinstance(value, str) else text


def draw(cycles: Sequence[Cycle]) -> str:
    """A drawing for every cycle, and below them its table; nothing where there was no search."""
    if not cycles:
        return ""
    parts = [*shown(cycles)]
    plots = [pareto.Plot(heading(each), each.chosen, _points(each, found)) for each, found in parts]
    listed = (f"<h3>{heading(each)}</h3>{_table(each, found)}" for each, found in parts)
    said = " ".join(filter(None, (_SAID, measures(cycles), _limit(cycles[-1]))))
    drawn = gallery(pareto.draw(plots), "More cycles")
    return f'<p class="said">{clean.html(said, 1000)}</p>{drawn}{"".join(listed)}'


def _points(cycle: Cycle, found: Sequence[Candidate]) -> list[pareto.Point]:
    return [
        pareto.Point(one.name, one.parameters, one.quality, *state(one, cycle))
        for one in found
        if one.state == "trained" and one.parameters and one.quality and one.quality.measured is not None
    ]


def _limit(cycle: Cycle) -> str:
    return "" if cycle.limit is None else f"Each may take {figures.size(cycle.limit)} of memory."


def _table(cycle: Cycle, found: Sequence[Candidate]) -> str:
    return table(f"Cycle {cycle.cycle}", _HEADS, [_row(cycle, one) for one in found])


def _row(cycle: Cycle, one: Candidate) -> Row:
    kind, words = state(one, cycle)
    cells = (
        f"<b>{clean.html(one.name)}</b>{note(differs(one))}",
        count(one.parameters),
        figures.NOTHING if one.bytes is None else figures.size(one.bytes),
        *quality(one),
        f"{one.steps:,}" if one.steps else figures.NOTHING,
        badge(kind, words),
        clean.html(one.why, 600),
    )
    return Row(cells, kind if kind in ("red", "none") else "")


def count(number: int | None) -> str:
    """`4,810`, or a dash."""
    return figures.NOTHING if number is None else f"{number:,}"


def quality(one: Candidate) -> tuple[str, str]:
    """What was measured and its limit, with as many digits as it takes to tell them apart."""
    if one.quality is None:
        return figures.NOTHING, figures.NOTHING
    measured, limit = figures.apart(one.quality.measured, one.quality.limit)
    sign = "\N{GREATER-THAN OR EQUAL TO}" if one.quality.more_is_better else "\N{LESS-THAN OR EQUAL TO}"
    return measured, f"{sign} {limit}"
