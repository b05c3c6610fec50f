"""The task graph as inline SVG: boxes coloured by state, curves from what is needed to what needs it."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection
from html import escape
from itertools import pairwise

from modelbuild.report import clean, figures, findings
from modelbuild.report.graph_layout import Box, Edge, Layout, Point, layout
from modelbuild.report.record import Report, TargetRow

_LABEL_COLUMNS = 30
_COLUMN_PIXELS = 7.3
_PADDING = 11.0
# Up to this width a drawing is shrunk to a whole page, where its text stays large enough; else the reader scrolls.
_FITS = 1180.0


def draw(report: Report) -> str:
    """One `<svg>` element; colours come from the classes that `report.css` knows."""
    rows = {row.name: row for row in report.targets}
    labels = {name: _label(findings.short_name(report.model, name)) for name in rows}
    widths = {
        name: round(_columns(label) * _COLUMN_PIXELS + 2 * _PADDING, 1) for name, label in labels.items()
    }
    placed = layout({name: row.needs for name, row in rows.items()}, widths)
    red = {findings.short_name(report.model, row.target) for row in findings.red(report)}
    places = {row.name: index for index, row in enumerate(report.targets)}
    nodes = [
        _node(
            box,
            rows[box.name],
            labels[box.name],
            findings.short_name(report.model, box.name) in red,
            places[box.name],
        )
        for box in placed.boxes
    ]
    return "\n".join([_opening(placed), *_curves(placed.edges), *nodes, "</svg>"])


def _opening(placed: Layout) -> str:
    wide = "fits" if placed.width <= _FITS else "wide"
    said = (
        f"Task graph: {figures.some(len(placed.boxes), 'target')} in {figures.some(placed.layers, 'layer')}"
    )
    box = f"{placed.width:.0f} {placed.height:.0f}"
    return (
        f'<svg class="graph {wide}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{said}" '
        f'width="{placed.width:.0f}" height="{placed.height:.0f}" viewBox="0 0 {box}">'
    )


def _curves(edges: Collection[Edge]) -> list[str]:
    """Every stretch once: edges of one source share their trunk."""
    stretches = [stretch for edge in edges for stretch in pairwise(edge.points)]
    return [_curve(start, end) for start, end in dict.fromkeys(stretches)]


def _curve(start: Point, end: Point) -> str:
    (x0, y0), (x1, y1) = start, end
    middle = (x0 + x1) / 2
    return f'<path d="M{x0:.1f} {y0:.1f}C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"/>'


def _node(box: Box, row: TargetRow, label: str, red: bool, place: int) -> str:
    kind = row.state.replace(" ", "-") + (" red" if red else "")
    said = f"{clean.line(row.name)}: {row.state}, {figures.duration(row.seconds)}, {figures.size(row.bytes)}"
    title = escape(said + (", a verdict on it is red" if red else ""))
    x, y = box.x + box.width / 2, box.y + box.height / 2 + 4
    return (
        f'<a href="#t{place}"><g class="node {kind}"><title>{title}</title>'
        f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.0f}" rx="7"/>'
        f'<text x="{x:.1f}" y="{y:.1f}">{escape(label)}</text></g></a>'
    )


def _label(name: str) -> str:
    """At most 30 columns: the end of a target's name tells more than its middle."""
    label = clean.line(name)
    if _columns(label) <= _LABEL_COLUMNS:
        return label
    return f"{label[:14]}\N{HORIZONTAL ELLIPSIS}{label[-12:]}"


def _columns(label: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in label)
