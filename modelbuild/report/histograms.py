"""How large the errors of each run are: a small drawing each, all of one output on one axis, so that eyes compare."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

from modelbuild.report import axis, clean, figures
from modelbuild.report.axis import Axis
from modelbuild.report.details import Histogram, Matrix

Drawn = TypeVar("Drawn")

_WIDTH, _TOP, _BASE, _HEIGHT = 300, 34.0, 98.0, 116
_SIDE = 22.0
_TEXT = 90.0  # pixels that the longest label takes
_SHOWN = 6


def draw(matrices: Mapping[str, Matrix]) -> str:
    """One drawing for runs that are alike, by output; those that give the reference's very bits are named instead."""
    return "".join(_output(name, matrix.histograms) for name, matrix in matrices.items() if matrix.histograms)


def beyond(histogram: Histogram) -> int:
    """How many values are surely over the limit: a bin that the limit divides is given the benefit."""
    limit = histogram.limit
    if limit is None:
        return 0
    starts = (_exponent(histogram, index) for index in range(len(histogram.counts)))
    least = math.log10(limit) if limit > 0 else -math.inf
    return sum(count for count, start in zip(histogram.counts, starts, strict=True) if start >= least)


def _exponent(histogram: Histogram, index: int) -> float:
    return histogram.least_exponent + index / histogram.per_decade


def _output(name: str, histograms: Mapping[str, Histogram]) -> str:
    some = alike({run: each for run, each in histograms.items() if any(each.counts)})
    equal = [run for run, each in histograms.items() if not any(each.counts) and each.zero]
    shared = axis.spanning(_ends(some), _SIDE, _WIDTH - _SIDE)
    worst = sorted(some, key=lambda run: (-beyond(some[run]), -_ends({run: some[run]})[1]))
    drawn = [_figure(run, some[run], shared) for run in worst]
    words = f"The same as the reference to the bit: {clean.html(', '.join(equal))}."
    same = f'<p class="said">{words}</p>' if equal else ""
    return f"<h3><code>{clean.html(name)}</code></h3>{same}{gallery(drawn, 'More runs')}"


def gallery(drawn: list[str], more: str, shown: int = _SHOWN, kind: str = "gallery") -> str:
    """The first drawings side by side as the page is wide, the rest behind a click."""
    first, rest = (f'<div class="{kind}">{"".join(part)}</div>' for part in (drawn[:shown], drawn[shown:]))
    folded = f"<details><summary>{more} ({len(drawn) - shown})</summary>{rest}</details>"
    return (first if drawn else "") + (folded if len(drawn) > shown else "")


def alike(found: Mapping[str, Drawn]) -> dict[str, Drawn]:
    """One for all the runs of which the same is known, by all their names."""
    names: dict[int, list[str]] = {}
    kept = [*found.values()]
    for run, each in found.items():
        names.setdefault(kept.index(each), []).append(run)
    return {", ".join(runs): kept[at] for at, runs in names.items()}


def _ends(histograms: Mapping[str, Histogram]) -> list[float]:
    """Where the bins with something in them begin and end, and the lines."""
    found: list[float] = []
    for each in histograms.values():
        bins = [index for index, count in enumerate(each.counts) if count]
        found += [10 ** _exponent(each, bins[0]), 10 ** _exponent(each, bins[-1] + 1)]
        found += [line for line in (each.floor, each.limit) if line is not None]
    return found


def _figure(run: str, histogram: Histogram, shared: Axis) -> str:
    over, total = beyond(histogram), sum(histogram.counts) + histogram.zero
    said = f'<span class="bad">{over} of {total} over the limit</span>' if over else f"{total} values"
    equal = f", {histogram.zero} equal to the bit" if histogram.zero else ""
    heading = f"<figcaption><b>{clean.html(run)}</b> <span>{said}{equal}</span></figcaption>"
    words = f"Errors of {run}: {total} values, {histogram.zero} equal, {over} over the limit"
    body = _bars(histogram, shared) + _lines(histogram, shared) + _axis(shared)
    return f"<figure>{heading}{opening(_WIDTH, _HEIGHT, words)}{body}</svg></figure>"


def opening(width: int, height: int, words: str) -> str:
    """The start of a drawing in pixels, so that its text stays as large as it is written."""
    return (
        f'<svg class="plot" role="img" aria-label="{clean.html(words)}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    )


def _bars(histogram: Histogram, shared: Axis) -> str:
    """Heights are logarithms: one value over the limit among a million must be seen."""
    top = math.log1p(max(histogram.counts))
    limit = histogram.limit
    paths = {"bin": "", "bin over": ""}
    for index, count in enumerate(histogram.counts):
        if count:
            start = _exponent(histogram, index)
            left, right = shared.of(start), shared.of(start + 1 / histogram.per_decade)
            high = max((_BASE - _TOP) * math.log1p(count) / top, 3.0)
            over = limit is not None and (limit <= 0 or start >= math.log10(limit))
            paths["bin over" if over else "bin"] += f"M{left} {_BASE}v{-high:.1f}H{right - 0.7:.1f}V{_BASE}z"
    return "".join(f'<path class="{kind}" d="{path}"/>' for kind, path in paths.items() if path)


def _lines(histogram: Histogram, shared: Axis) -> str:
    marks = (("floor", histogram.floor, 11), ("limit", histogram.limit, 25))
    return "".join(_mark(name, value, y, shared) for name, value, y in marks if value is not None)


def _mark(name: str, value: float, y: int, shared: Axis) -> str:
    x = shared.at(value)
    anchor = "end" if x > _WIDTH - _TEXT or (name == "floor" and x > _TEXT) else "start"
    text = f'<text x="{x}" y="{y}" class="{anchor}">{name} {figures.number(value, 2)}</text>'
    return f'<path class="{name}" d="M{x} {_TOP - 5}V{_BASE}"/>{text}'


def _axis(shared: Axis) -> str:
    line = f'<path class="axis" d="M{_SIDE} {_BASE}H{_WIDTH - _SIDE}"/>'
    texts = [
        f'<text x="{shared.of(tick)}" y="{_HEIGHT - 4}" class="middle">{axis.power(tick)}</text>'
        for tick in shared.ticks()
    ]
    return line + "".join(texts)
