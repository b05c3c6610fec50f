"""Can a decision flip? How clear each decision of the reference is, against how far a run moved it.

A sample's lead is how far its first choice stands before its second. Where it moves by less than itself the decision
stands; the region where it may not is marked, and within it the part where the lead is noise to begin with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from modelbuild.report import axis, clean, figures
from modelbuild.report.axis import Axis
from modelbuild.report.details import Margins, Matrix
from modelbuild.report.histograms import alike, gallery, opening

_WIDTH, _HEIGHT = 300, 252
_LEFT, _RIGHT, _TOP, _BASE = 44.0, 280.0, 24.0, 208.0
_SHADES, _LEAST = 4, 3.0


class Bin(NamedTuple):
    """`samples` whose lead and its movement begin at these exponents of 10."""

    lead: float
    moved: float
    samples: int


def draw(matrices: Mapping[str, Matrix]) -> str:
    """One drawing for runs that are alike, by output, the closest to a flip first."""
    return "".join(_output(name, matrix.margins) for name, matrix in matrices.items() if matrix.margins)


def at_risk(margins: Margins) -> int:
    """The samples that moved as far as their lead, or to the bin of it, and whose lead is no noise."""
    return sum(each.samples for each in bins(margins) if _may_flip(margins, each))


def bins(margins: Margins) -> list[Bin]:
    """The bins that hold samples."""
    first, step = margins.least_exponent, 1 / margins.per_decade
    return [
        Bin(first + lead * step, first + moved * step, count)
        for lead, row in enumerate(margins.counts)
        for moved, count in enumerate(row)
        if count
    ]


def _may_flip(margins: Margins, each: Bin) -> bool:
    """False also where all leads of the bin are below the noise: their flips are not counted."""
    end, limit = each.lead + 1 / margins.per_decade, margins.margin
    noise = limit is not None and limit > 0 and end <= math.log10(limit)
    return each.moved >= each.lead and not noise


def _closest(margins: Margins) -> float:
    return max((each.moved - each.lead for each in bins(margins)), default=-math.inf)


def _output(name: str, all_margins: Mapping[str, Margins]) -> str:
    some = alike({run: each for run, each in all_margins.items() if bins(each)})
    still = [run for run, each in all_margins.items() if not bins(each) and each.zero]
    order = sorted(some, key=lambda run: (-at_risk(some[run]), -_closest(some[run])))
    moved = [10**each.moved for margins in some.values() for each in bins(margins)]
    leads = [10**each.lead for margins in some.values() for each in bins(margins)]
    ends = [10 ** (1 / margins.per_decade) for margins in some.values()]
    across = axis.spanning([*leads, *(lead * max(ends) for lead in leads)], _LEFT, _RIGHT)
    upward = axis.spanning([*moved, *(each * max(ends) for each in moved), *leads], _BASE, _TOP)
    drawn = [_figure(run, some[run], across, upward) for run in order]
    risky = sum(at_risk(some[run]) > 0 for run in order)
    words = f"No lead of {clean.html(', '.join(still))} moved at all." if still else ""
    said = f'<p class="said">{words}</p>' if words else ""
    shown = gallery(drawn, "Runs further from a flip", max(risky, 3))
    return f"<h3><code>{clean.html(name)}</code></h3>{said}{shown}"


def _figure(run: str, margins: Margins, across: Axis, upward: Axis) -> str:
    risk = at_risk(margins)
    total = sum(each.samples for each in bins(margins)) + margins.zero
    fact = f"{risk} of {total} samples may flip"
    said = f'<span class="bad">{fact}</span>' if risk else f"<span>{fact}</span>"
    cells = "".join(_cell(each, margins, across, upward) for each in bins(margins))
    body = _region(margins, across, upward) + cells + _axes(across, upward)
    heading = f"<figcaption><b>{clean.html(run)}</b> {said}</figcaption>"
    return f"<figure>{heading}{opening(_WIDTH, _HEIGHT, f'{run}: {fact}')}{body}</svg></figure>"


def _region(margins: Margins, across: Axis, upward: Axis) -> str:
    """Above the diagonal a drift can flip; left of the noise that would say nothing."""
    corner = [(low, low) for low in (max(across.low, upward.low), min(across.high, upward.high))]
    (x0, y0), (x1, y1) = ((across.of(lead), upward.of(moved)) for lead, moved in corner)
    if x0 >= x1:
        return ""
    edge = f"M{x0} {y0}L{x1} {y1}"
    shape = f"M{_LEFT} {y0}L{x0} {y0}L{x1} {y1}V{_TOP}H{_LEFT}z"
    text = f'<text x="{_RIGHT}" y="12" class="end flips">red: may flip</text>'
    return f'<path class="flips" d="{shape}"/><path class="edge" d="{edge}"/>{_ties(margins, across)}{text}'


def _ties(margins: Margins, across: Axis) -> str:
    if margins.margin is None or margins.margin <= 0 or across.at(margins.margin) <= _LEFT:
        return ""
    x = across.at(margins.margin)
    words = f"noise {figures.number(margins.margin, 2)}"
    return (
        f'<path class="ties" d="M{_LEFT} {_TOP}H{x}V{_BASE}H{_LEFT}z"/>'
        f'<path class="floor" d="M{x} {_TOP}V{_BASE}"/>'
        f'<text x="{x + 4}" y="{_BASE - 6}" class="start">{words}</text>'
    )


def _cell(each: Bin, margins: Margins, across: Axis, upward: Axis) -> str:
    step = 1 / margins.per_decade
    left, low = across.of(each.lead), upward.of(each.moved)
    width, height = across.of(each.lead + step) - left, low - upward.of(each.moved + step)
    box = f'x="{left}" y="{low - max(height, _LEAST):.1f}" width="{max(width, _LEAST):.1f}"'
    shade = min(int(math.log10(each.samples)) + 1, _SHADES)
    kind = "risk" if _may_flip(margins, each) else f"n{shade}"
    words = f"{figures.some(each.samples, 'sample')}: lead 1e{each.lead:.3g}, moved 1e{each.moved:.3g}"
    return f'<rect class="{kind}" {box} height="{max(height, _LEAST):.1f}"><title>{words}</title></rect>'


def _axes(across: Axis, upward: Axis) -> str:
    lines = f'<path class="axis" d="M{_LEFT} {_TOP}V{_BASE}H{_RIGHT}"/>'
    below = "".join(
        f'<text x="{across.of(tick)}" y="{_BASE + 20}" class="middle">{axis.power(tick)}</text>'
        for tick in across.ticks()
    )
    beside = "".join(
        f'<text x="{_LEFT - 5}" y="{upward.of(tick) + 4:.1f}" class="end">{axis.power(tick)}</text>'
        for tick in upward.ticks()
    )
    name = f'<text x="{_RIGHT}" y="{_BASE + 38}" class="end">lead in the reference</text>'
    up = '<text x="4" y="12" class="start">how far it moved</text>'
    return f"{lines}{below}{beside}{name}{up}"
