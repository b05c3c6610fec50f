"""Where the boxes of a task graph stand: longest-path layers, barycentre order, least-squares heights.

The scheme is that of Sugiyama, Tagawa and Toda (1981). An edge that spans several layers runs through a slot
in each layer between; all edges of one target share these slots as one trunk, so that a data set with forty
readers draws one line and not forty.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]
Slot = tuple[str, int]  # a target and the layer; a trunk where the layer is not the target's own
Columns = list[list[Slot]]
Links = dict[Slot, list[Slot]]

HEIGHT = 30.0
_BETWEEN_BOXES = 14.0
_BETWEEN_COLUMNS = 46.0
_TRUNK = 6.0
_EDGE = 8.0
_SWEEPS = 12


@dataclass(frozen=True, slots=True)
class Box:
    """The upper left corner and the size of one target, in pixels."""

    name: str
    x: float
    y: float
    width: float
    height: float = HEIGHT


@dataclass(frozen=True, slots=True)
class Edge:
    """From the right side of `source` to the left side of `target`; x grows from point to point."""

    source: str
    target: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing of `width` by `height` pixels that holds all boxes."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    layers: int


def layout(needs: Mapping[str, Sequence[str]], widths: Mapping[str, float]) -> Layout:
    """Place every name of `needs`; needs that are unknown or would run in a circle are left out."""
    known = {
        name: [need for need in found if need in needs and need != name] for name, found in needs.items()
    }
    layers = _layers(known)
    layer = {name: index for index, names in enumerate(layers) for name in names}
    edges = [
        (need, name)
        for name, found in known.items()
        for need in dict.fromkeys(found)
        if layer[need] < layer[name]
    ]
    columns, links = _slots(layers, layer, edges)
    columns = _ordered(columns, links)
    heights = _heights(columns, links, layer)
    return _drawn(columns, heights, layer, edges, widths)


def _layers(needs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    left, placed, layers = dict.fromkeys(needs), set[str](), list[list[str]]()
    while left:
        # In a circle nothing is ready: the first of it goes ahead, and the edge back to it is not drawn.
        ready = [name for name in left if placed.issuperset(needs[name])] or [next(iter(left))]
        layers.append(ready)
        placed.update(ready)
        for name in ready:
            del left[name]
    return layers


def _slots(
    layers: list[list[str]], layer: dict[str, int], edges: list[tuple[str, str]]
) -> tuple[Columns, Links]:
    columns: Columns = [[(name, index) for name in names] for index, names in enumerate(layers)]
    links: Links = {}
    for source, target in edges:
        for index in range(layer[source], layer[target]):
            here = (source, index)
            if here not in links:
                links[here] = []
                if index != layer[source]:
                    columns[index].append(here)
            there = (target, index + 1) if index + 1 == layer[target] else (source, index + 1)
            if there not in links[here]:
                links[here].append(there)
    return columns, links


def _reversed(links: Links) -> Links:
    back: Links = {}
    for here, there in ((here, there) for here, found in links.items() for there in found):
        back.setdefault(there, []).append(here)
    return back


def _ordered(columns: Columns, links: Links) -> Columns:
    back = _reversed(links)
    best, fewest = columns, _crossings(columns, links)
    for sweep in range(_SWEEPS):
        columns = _swept(columns, back) if sweep % 2 == 0 else _swept(columns[::-1], links)[::-1]
        crossings = _crossings(columns, links)
        if crossings < fewest:
            best, fewest = columns, crossings
    return best


def _swept(columns: Columns, neighbours: Links) -> Columns:
    """Each column sorted by the mean place of what it is linked to in the column before."""
    found: Columns = []
    place: dict[Slot, float] = {}
    for column in columns:
        means = {slot: _mean(place, neighbours.get(slot, []), index) for index, slot in enumerate(column)}
        found.append(sorted(column, key=means.__getitem__))
        place = {slot: index * 100 / len(column) for index, slot in enumerate(found[-1])}
    return found


def _mean(place: Mapping[Slot, float], slots: Sequence[Slot], otherwise: float) -> float:
    known = [place[slot] for slot in slots if slot in place]
    return sum(known) / len(known) if known else otherwise


def _crossings(columns: Columns, links: Links) -> int:
    crossings = 0
    for left, right in pairwise(columns):
        place = {slot: index for index, slot in enumerate(right)}
        passed: list[int] = []
        for slot in left:
            ends = [place[end] for end in links.get(slot, [])]
            crossings += sum(len(passed) - bisect_right(passed, end) for end in ends)
            for end in ends:
                insort(passed, end)
    return crossings


def _heights(columns: Columns, links: Links, layer: dict[str, int]) -> dict[Slot, float]:
    """The middle of every slot, drawn towards its neighbours on both sides as far as the order allows."""
    back = _reversed(links)
    middle = {slot: index * HEIGHT for column in columns for index, slot in enumerate(column)}
    for sweep in range(2 * _SWEEPS):
        sides = (back, links) if sweep % 2 == 0 else (links, back)
        for column in columns if sweep % 2 == 0 else columns[::-1]:
            wanted = [_pull(slot, middle, sides) for slot in column]
            sizes = [HEIGHT if layer[name] == index else _TRUNK for name, index in column]
            middle.update(zip(column, _settled(wanted, sizes), strict=True))
    top = min((middle[slot] - HEIGHT / 2 for slot in middle), default=0.0)
    return {slot: round(value - top + _EDGE, 1) for slot, value in middle.items()}


def _pull(slot: Slot, middle: Mapping[Slot, float], sides: tuple[Links, Links]) -> float:
    first, second = (side.get(slot, []) for side in sides)
    near = [middle[other] for other in first] * 2 + [middle[other] for other in second]
    return sum(near) / len(near) if near else middle[slot]


def _settled(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The places nearest to `wanted`, by least squares, at which no two in this order overlap.

    Less the room that each takes this is isotonic regression, solved by pooling adjacent violators.
    """
    room = [0.0]
    for above, below in pairwise(sizes):
        room.append(room[-1] + (above + below) / 2 + _BETWEEN_BOXES)
    pools: list[tuple[float, int]] = []
    for value in (want - taken for want, taken in zip(wanted, room, strict=True)):
        total, count = value, 1
        while pools and pools[-1][0] / pools[-1][1] > total / count:
            total, count = total + pools[-1][0], count + pools[-1][1]
            pools.pop()
        pools.append((total, count))
    means = [total / count for total, count in pools for _ in range(count)]
    return [mean + taken for mean, taken in zip(means, room, strict=True)]


def _drawn(
    columns: Columns,
    middle: Mapping[Slot, float],
    layer: dict[str, int],
    edges: list[tuple[str, str]],
    widths: Mapping[str, float],
) -> Layout:
    spans = [max(widths[name] for name, index in column if layer[name] == index) for column in columns]
    lefts = [_EDGE + sum(spans[:index]) + _BETWEEN_COLUMNS * index for index in range(len(spans))]
    boxes = [
        Box(name, lefts[index], middle[name, index] - HEIGHT / 2, spans[index])
        for name, index in layer.items()
    ]
    wires = [
        Edge(source, target, _points(source, target, middle, layer, lefts, spans)) for source, target in edges
    ]
    width = lefts[-1] + spans[-1] + _EDGE if spans else 0.0
    height = max((value + HEIGHT / 2 for value in middle.values()), default=0.0) + _EDGE
    return Layout(width, height, tuple(boxes), tuple(wires), len(columns))


def _points(
    source: str,
    target: str,
    middle: Mapping[Slot, float],
    layer: dict[str, int],
    lefts: list[float],
    spans: list[float],
) -> tuple[Point, ...]:
    first, last = layer[source], layer[target]
    points = [(lefts[first] + spans[first], middle[source, first])]
    for index in range(first + 1, last):
        y = middle[source, index]
        points += [(lefts[index], y), (lefts[index] + spans[index], y)]
    return (*points, (lefts[last], middle[target, last]))
