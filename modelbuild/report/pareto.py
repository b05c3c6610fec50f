"""Size against quality, a drawing a cycle of a search: the Pareto front, the limit, and who is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from modelbuild.report import axis, clean, figures
from modelbuild.report.axis import Axis, Linear
from modelbuild.report.histograms import opening
from modelbuild.report.student_record import Figure

_WIDTH, _HEIGHT = 300, 252
_LEFT, _RIGHT, _TOP, _BASE = 50.0, 284.0, 30.0, 208.0
_RADIUS, _GAP = 5.0, 12.0
_ASCENT, _DESCENT = 10.0, 3.0
_CHAR = 7.2  # pixels, of a text of 12: more than characters take on average
_LONGEST = 16  # characters of a name
_PREFIXES = ("", "k", "M", "G", "T")


class Point(NamedTuple):
    """A candidate whose quality was measured; `kind` and `words` are what became of it."""

    name: str
    parameters: int
    quality: Figure
    kind: str
    words: str

    @property
    def measured(self) -> float:
        return self.quality.measured or 0.0


class Plot(NamedTuple):
    """What one drawing shows; `chosen` is the name of the student's candidate, where there is one."""

    title: str
    chosen: str | None
    points: Sequence[Point]


class _Dot(NamedTuple):
    point: Point
    x: float
    y: float
    front: bool


class _Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: _Box) -> bool:
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


def draw(plots: Sequence[Plot]) -> list[str]:
    """A drawing for each of `plots` that has points, all on the same axes."""
    points = [point for plot in plots for point in plot.points]
    values = [value for point in points for value in (point.measured, point.quality.limit)]
    across = axis.spanning([point.parameters for point in points], _LEFT, _RIGHT)
    upward = axis.linear(values, _BASE, _TOP)
    return [_figure(plot, across, upward) for plot in plots if plot.points]


def front(points: Sequence[Point]) -> list[Point]:
    """Those that nobody beats: smaller and no worse, or better and no larger."""
    return [point for point in points if not any(_beats(other, point) for other in points)]


def _beats(other: Point, point: Point) -> bool:
    theirs, mine = (_standing(each) for each in (other, point))
    return theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True))


def _standing(point: Point) -> tuple[float, float]:
    """Less is better in both."""
    return point.parameters, -point.measured if point.quality.more_is_better else point.measured


def _figure(plot: Plot, across: Axis, upward: Linear) -> str:
    figure, known = plot.points[0].quality, figures.some(len(plot.points), "candidate")
    best = front(plot.points)
    order = sorted(plot.points, key=lambda point: point.name == plot.chosen)  # what is drawn last lies on top
    dots = [_Dot(p, across.at(p.parameters), upward.at(p.measured), p in best) for p in order]
    words = f"{plot.title}: parameters against {figure.metric} of {known}"
    limit = upward.at(figure.limit)
    body = _axes(figure, across, upward) + f'<path class="limit" d="M{_LEFT} {limit}H{_RIGHT}"/>'
    body += (
        _line(dots)
        + "".join(_drawn(dot, plot.chosen) for dot in dots)
        + "".join(_texts(dots, plot.chosen, limit))
    )
    caption = f"<figcaption><b>{clean.html(plot.title)}</b> <span>{known}</span></figcaption>"
    return f"<figure>{caption}{opening(_WIDTH, _HEIGHT, words)}{body}</svg></figure>"


def _line(dots: Sequence[_Dot]) -> str:
    points = sorted({(dot.x, dot.y) for dot in dots if dot.front})
    path = "L".join(f"{x} {y}" for x, y in points)
    return f'<path class="front" d="M{path}"/>' if len(points) > 1 else ""


def _drawn(dot: _Dot, chosen: str | None) -> str:
    point = dot.point
    measured, limit = figures.apart(point.measured, point.quality.limit)
    said = f"{point.parameters:,} parameters, {point.quality.metric} {measured} against a limit of {limit}"
    title = f"<title>{clean.html(f'{point.name}: {said}, {point.words}')}</title>"
    at = f'cx="{dot.x}" cy="{dot.y}"'
    ring = f'<circle class="ring" {at} r="{_RADIUS + 4}"/>' if point.name == chosen else ""
    return f'{ring}<circle class="dot {point.kind}" {at} r="{_RADIUS}">{title}</circle>'


def _texts(dots: Sequence[_Dot], chosen: str | None, limit: float) -> Iterator[str]:
    """The word at the limit, and the names for which there is room, those on the front first."""
    taken = [_Box(dot.x - _RADIUS, dot.y - _RADIUS, dot.x + _RADIUS, dot.y + _RADIUS) for dot in dots]
    ends = [(x, y) for x in (_RIGHT - 5 * _CHAR, _LEFT + 4) for y in (limit - 5, limit + 14)]
    yield _placed("limit", ends, taken)
    for dot in sorted(dots, key=lambda dot: (dot.point.name != chosen, not dot.front, dot.x)):
        name = clean.line(dot.point.name, _LONGEST)
        width = len(name) * _CHAR
        sides = [(x, dot.y + 4) for x in (dot.x + _GAP, dot.x - _GAP - width)]
        yield _placed(
            name, [*sides, *((dot.x - width / 2, dot.y + down) for down in (-_GAP, _GAP + 9))], taken
        )


def _placed(words: str, places: Sequence[tuple[float, float]], taken: list[_Box]) -> str:
    """The text at the first of `places`, its left end, that is free; nothing where none is."""
    for x, y in places:
        box = _Box(x, y - _ASCENT, x + len(words) * _CHAR, y + _DESCENT)
        across, down = box.left > _LEFT and box.right < _WIDTH, box.top > _TOP - _GAP and box.bottom < _BASE
        if across and down and not any(map(box.meets, taken)):
            taken.append(box)
            return f'<text x="{x:.1f}" y="{y:.1f}" class="name">{clean.html(words)}</text>'
    return ""


def _axes(figure: Figure, across: Axis, upward: Linear) -> str:
    line = f'<path class="axis" d="M{_LEFT} {_TOP}V{_BASE}H{_RIGHT}"/>'
    below = "".join(_label(across.of(tick), _BASE + 20, _power(tick), "middle") for tick in across.ticks())
    beside = "".join(
        _label(_LEFT - 6, upward.at(tick) + 4, figures.number(tick), "end") for tick in upward.ticks()
    )
    better = "more" if figure.more_is_better else "less"
    up = _label(4, 12, f"{clean.line(figure.metric, 24)}, {better} is better", "start")
    return f"{line}{below}{beside}{up}{_label(_RIGHT, _BASE + 38, 'parameters', 'end')}"


def _label(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x}" y="{y:.1f}" class="{anchor}">{clean.html(words)}</text>'


def _power(exponent: int) -> str:
    """`100`, `10k`, `1M`."""
    if not 0 <= exponent < 3 * len(_PREFIXES):
        return axis.power(exponent)
    return f"{10 ** (exponent % 3)}{_PREFIXES[exponent // 3]}"
