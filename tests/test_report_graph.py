"""The drawing of a task graph: no boxes overlap, edges run forward and around boxes, circles do no harm."""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st
from test_report import NEEDS, every_field, failing, green, target

from modelbuild.report.graph_layout import Layout, layout
from modelbuild.report.graph_svg import draw
from modelbuild.report.record import Report

SVG = "{http://www.w3.org/2000/svg}"


def placed(needs: Mapping[str, Sequence[str]]) -> Layout:
    return layout(needs, {name: 40.0 + 7 * len(name) for name in needs})


@st.composite
def graphs(draw: st.DrawFn, forward: bool = True) -> dict[str, list[str]]:
    count = draw(st.integers(0, 24))
    sources = [st.integers(0, max(index - 1, 0) if forward else count) for index in range(count)]
    picked = [draw(st.lists(source, max_size=4)) if index else [] for index, source in enumerate(sources)]
    return {f"n{index}": [f"n{need}" for need in found] for index, found in enumerate(picked)}


@given(graphs())
@settings(deadline=None)
def test_no_two_boxes_overlap_and_all_lie_inside(needs: dict[str, list[str]]) -> None:
    drawing = placed(needs)
    assert {box.name for box in drawing.boxes} == set(needs)
    for one, other in combinations(drawing.boxes, 2):
        beside = one.x + one.width < other.x or other.x + other.width < one.x
        assert beside or one.y + one.height < other.y or other.y + other.height < one.y
    for box in drawing.boxes:
        assert min(box.x, box.y) >= 0
        assert box.x + box.width <= drawing.width
        assert box.y + box.height <= drawing.height


@given(graphs())
@settings(deadline=None)
def test_every_need_is_an_edge_that_runs_forward_from_box_to_box(needs: dict[str, list[str]]) -> None:
    drawing = placed(needs)
    boxes = {box.name: box for box in drawing.boxes}
    assert {(edge.source, edge.target) for edge in drawing.edges} == {
        (need, name) for name, found in needs.items() for need in found
    }
    for edge in drawing.edges:
        source, end = boxes[edge.source], boxes[edge.target]
        assert edge.points[0] == (source.x + source.width, source.y + source.height / 2)
        assert edge.points[-1] == (end.x, end.y + end.height / 2)
        assert all(left[0] < right[0] for left, right in zip(edge.points, edge.points[1:], strict=False))


@given(graphs())
@settings(deadline=None)
def test_long_edges_run_around_boxes(needs: dict[str, list[str]]) -> None:
    drawing = placed(needs)
    through = [
        pair for edge in drawing.edges for pair in zip(edge.points[1::2], edge.points[2::2], strict=False)
    ]
    for (left, y), _ in through:
        in_the_way = [box for box in drawing.boxes if box.x == left and box.y <= y <= box.y + box.height]
        assert not in_the_way


@given(graphs(forward=False))
@settings(deadline=None)
def test_circles_and_unknown_needs_are_left_out(needs: dict[str, list[str]]) -> None:
    drawing = placed(needs)
    assert {box.name for box in drawing.boxes} == set(needs)
    assert all(edge.points[0][0] < edge.points[-1][0] for edge in drawing.edges)


def test_a_circle_is_opened_at_one_place() -> None:
    drawing = placed({"a": ["b"], "b": ["a"], "c": ["b"]})
    assert [(edge.source, edge.target) for edge in drawing.edges] == [("a", "b"), ("b", "c")]
    assert placed({"a": ["a"], "b": []}).layers == 1


def test_layers_are_longest_paths() -> None:
    drawing = placed({"a": [], "b": ["a"], "c": ["a", "b"], "d": ["c", "a"], "alone": []})
    left = {box.name: box.x for box in drawing.boxes}
    assert drawing.layers == 4
    assert left["a"] == left["alone"] < left["b"] < left["c"] < left["d"]


def test_edges_that_need_not_cross_do_not() -> None:
    drawing = placed({"a": [], "b": [], "c": [], "x": ["c"], "y": ["b"], "z": ["a"]})
    middle = {box.name: box.y for box in drawing.boxes}
    order = sorted(["a", "b", "c"], key=middle.__getitem__)
    assert sorted(["x", "y", "z"], key=middle.__getitem__) == [
        {"a": "z", "b": "y", "c": "x"}[n] for n in order
    ]


def test_a_chain_is_a_straight_line() -> None:
    drawing = placed({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
    assert len({box.y for box in drawing.boxes}) == 1


def test_readers_of_one_target_share_its_trunk() -> None:
    chain = {f"c{index}": [f"c{index - 1}"] if index else [] for index in range(6)}
    readers = {f"r{index}": ["c5", "data"] for index in range(40)}
    drawing = placed({**chain, "data": [], **readers})
    stretches = {pair for e in drawing.edges for pair in zip(e.points, e.points[1:], strict=False)}
    assert len(stretches) < 5 + 2 * 40 + 12
    rows = tuple(target(n, needs=tuple(f)) for n, f in {**chain, "data": [], **readers}.items())
    assert draw(Report("m", True, 1.0, rows, (), ())).count("<path") == len(stretches)


def test_two_hundred_targets() -> None:
    wide = {f"p{index}": ["onnx"] for index in range(95)} | {
        f"p{index}.run": [f"p{index}"] for index in range(95)
    }
    report = Report(
        "m", True, 1.0, tuple(target(n, needs=tuple(f)) for n, f in {**NEEDS, **wide}.items()), (), ()
    )
    drawing = ElementTree.fromstring(draw(report))
    assert len(drawing.findall(f".//{SVG}rect")) == len(NEEDS) + 190
    assert drawing.get("aria-label") == f"Task graph: {len(NEEDS) + 190} targets in 8 layers"


def test_boxes_are_coloured_by_state_and_ringed_by_red_verdicts() -> None:
    text = draw(failing())
    kinds = {
        title.split(":")[0]: kind for kind, title in re.findall(r'class="node ([^"]+)"><title>([^<]+)', text)
    }
    assert kinds["jetson"] == "failed"
    assert kinds["android"] == "restored red"
    assert kinds["ios"] == "restored"
    assert "red" not in draw(green()).replace("restored", "")


def test_names_are_escaped_and_cut() -> None:
    for payload in ("<script>alert(1)</script>", "'\"&]]>", "\x00\x1b[1m\ud800", "漢" * 90, "x" * 5000):
        drawing = ElementTree.fromstring(draw(every_field(payload)))
        assert len(drawing.findall(f".//{SVG}text")) == 2
        assert float(drawing.get("width", "0")) < 2000


def test_no_targets_is_an_empty_drawing() -> None:
    ElementTree.fromstring(draw(Report("m", True, 0.0, (), (), ())))
