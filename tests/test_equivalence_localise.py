"""The walk that finds the operation to blame, on graphs by hand and on random ones with faults planted in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbuild.equivalence.localise import (
    SAME,
    between,
    blamed,
    counterparts,
    deviation,
    deviations,
    search,
    words,
)
from modelbuild.equivalence.noise import Spread
from modelbuild.runtimes.base import Inside, Node


def chain(*names: str, layout: tuple[str, ...] = ()) -> Inside:
    """x -> names[0] -> names[1] ...; an operation called `a` gives the value "a"."""
    reads = ("x", *names[:-1])
    nodes = tuple(
        Node(name, name.upper(), (read,), (name,), name in layout)
        for name, read in zip(names, reads, strict=True)
    )
    return Inside(nodes, ("x",), (names[-1],), {name: name for name in names})


def names(found: Any) -> list[str]:
    return [each.node.name for each in found]


def region(blame: Any) -> list[str]:
    return [node.name for node in blame.region]


# -- by hand


def test_the_first_failing_operation_of_a_chain_is_blamed_and_none_below_it() -> None:
    found = blamed(chain("a", "b", "c", "d"), {"a": True, "b": False, "c": False, "d": False})
    assert names(found) == ["b"]
    assert (found[0].good, found[0].bad, region(found[0])) == (("a",), ("b",), ["b"])


def test_nothing_is_blamed_where_nothing_fails() -> None:
    assert blamed(chain("a", "b"), {"a": True, "b": None}) == ()


def test_what_is_not_compared_is_looked_through_and_makes_a_region() -> None:
    (found,) = blamed(chain("a", "b", "c", "d"), {"a": True, "b": None, "d": False})
    assert found.node.name == "d"
    assert region(found) == ["b", "c", "d"]
    assert found.good == ("a",)


def test_a_failing_operation_behind_uncompared_ones_still_takes_the_blame() -> None:
    found = blamed(chain("a", "b", "c"), {"a": False, "c": False})
    assert names(found) == ["a"]


def test_an_operation_that_computes_is_named_rather_than_the_layout_after_it() -> None:
    (found,) = blamed(chain("a", "b", "c", layout=("b", "c")), {"c": False})
    assert found.node.name == "a"
    assert region(found) == ["a", "b", "c"]


def test_a_layout_operation_that_alone_is_wrong_is_named() -> None:
    assert names(blamed(chain("a", "b", layout=("b",)), {"a": True, "b": False})) == ["b"]


def diamond() -> Inside:
    """x -> left, right; both -> join -> end; right -> aside, an output of its own."""
    nodes = (
        Node("left", "L", ("x",), ("left",)),
        Node("right", "R", ("x",), ("right",)),
        Node("aside", "A", ("right",), ("aside",)),
        Node("join", "J", ("left", "right"), ("join",)),
        Node("end", "E", ("join",), ("end",)),
    )
    return Inside(nodes, ("x",), ("end", "aside"), {})


def test_independent_culprits_are_all_named_in_order() -> None:
    found = blamed(diamond(), {"left": False, "right": False, "join": False, "end": False, "aside": False})
    assert names(found) == ["left", "right"]


def test_a_join_is_blamed_only_when_both_its_sides_pass() -> None:
    assert names(blamed(diamond(), {"left": True, "right": False, "join": False})) == ["right"]
    assert names(blamed(diamond(), {"left": True, "right": True, "join": False})) == ["join"]


def test_what_the_output_does_not_depend_on_is_not_blamed_for_it() -> None:
    passes = {"left": True, "right": True, "aside": False, "join": False}
    assert names(blamed(diamond(), passes)) == ["aside", "join"]
    assert names(blamed(diamond(), passes, ("end",))) == ["join"]


def test_an_operation_that_fails_in_one_of_its_values_clears_what_reads_the_other() -> None:
    nodes = (Node("split", "S", ("x",), ("one", "two")), Node("b", "B", ("one",), ("b",)))
    found = blamed(Inside(nodes, ("x",), ("two", "b"), {}), {"one": None, "two": False, "b": False})
    assert names(found) == ["split"]


def test_what_lies_between_values() -> None:
    assert [node.name for node in between(diamond(), {"right"}, {"end"})] == ["left", "join", "end"]
    assert [node.name for node in between(chain("a", "b", "c"), {"a"}, {"c"})] == ["b", "c"]
    assert between(chain("a", "b"), {"a"}, {"a", "x"}) == ()


# -- random graphs


@st.composite
def graphs(draw: st.DrawFn) -> Inside:
    """Up to 12 operations, each of one to three earlier values and giving one or two."""
    values, nodes = ["x"], []
    for index in range(draw(st.integers(1, 12))):
        reads = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True))
        gives = tuple(f"v{index}.{part}" for part in range(draw(st.integers(1, 2))))
        nodes.append(Node(f"n{index}", "K", tuple(reads), gives, draw(st.booleans())))
        values += gives
    return Inside(tuple(nodes), ("x",), nodes[-1].gives, {})


def spoilt(inside: Inside, at: str) -> set[str]:
    """The values that a fault in the operation `at` reaches: all it gives, and all that depends on these."""
    found: set[str] = set()
    for node in inside.nodes:
        if node.name == at or found & set(node.reads):
            found |= set(node.gives)
    return found


@st.composite
def planted(draw: st.DrawFn) -> tuple[Inside, str, dict[str, bool | None]]:
    """A graph, the operation with the fault, and what is known of each value: some are not compared."""
    inside = draw(graphs())
    at = draw(st.sampled_from(inside.nodes)).name
    bad = spoilt(inside, at)
    passes: dict[str, bool | None] = {
        v: draw(st.sampled_from((v not in bad, None))) for n in inside.nodes for v in n.gives
    }
    return inside, at, passes


@given(planted())
def test_a_fault_that_is_seen_is_found_or_lies_in_the_region(
    case: tuple[Inside, str, dict[str, bool | None]],
) -> None:
    inside, at, passes = case
    found = blamed(inside, passes)
    assert bool(found) == (False in passes.values())
    assert all(at in region(each) for each in found)
    assert all(each.node in each.region for each in found)
    assert all(passes.get(value, value == "x") for each in found for value in each.good)


@given(planted())
def test_where_all_is_compared_exactly_the_fault_is_found(
    case: tuple[Inside, str, dict[str, bool | None]],
) -> None:
    inside, at, _ = case
    bad = spoilt(inside, at)
    found = blamed(inside, {v: v not in bad for node in inside.nodes for v in node.gives})
    assert (names(found), region(found[0])) == ([at], [at])


@given(graphs(), st.data())
def test_nothing_below_a_failing_operation_is_blamed(inside: Inside, data: st.DataObject) -> None:
    """Whatever fails, not only what one fault reaches."""
    passes = {v: data.draw(st.sampled_from((True, False, None))) for node in inside.nodes for v in node.gives}
    makers = {v: node for node in inside.nodes for v in node.gives}
    for each in blamed(inside, passes):
        above = [v for node in each.region for v in node.reads if v not in each.good]
        assert not any(passes[v] is False for node in each.region[:-1] for v in node.gives)
        assert all(makers[v] in each.region for v in above)


@given(planted())
def test_the_search_corners_the_fault_with_few_questions(
    case: tuple[Inside, str, dict[str, bool | None]],
) -> None:
    """What `probe` tells of a value is the truth or nothing; the output must be known to fail."""
    inside, at, passes = case
    bad = spoilt(inside, at)
    outputs = [v for v in inside.outputs if v in bad]
    if not outputs:
        return
    asked: list[str] = []

    def probe(value: str) -> bool | None:
        asked.append(value)
        return passes[value]

    known = search(inside, outputs, passes, probe)
    assert len(asked) == len(set(asked))
    assert all(at in region(each) for each in blamed(inside, known, outputs))


def test_a_long_chain_takes_few_questions() -> None:
    inside = chain(*[f"n{index}" for index in range(100)])
    asked: list[str] = []

    def probe(value: str) -> bool:
        asked.append(value)
        return int(value[1:]) < 37

    known = search(inside, inside.outputs, inside.identity, probe)
    assert names(blamed(inside, known)) == ["n37"]
    assert len(asked) <= 8


# -- values


def test_what_a_cast_gives_is_held_to_what_it_reads_and_the_other_way_round() -> None:
    nodes = (
        Node("a", "Relu", ("x",), ("raw",)),
        Node("down", "Cast", ("raw",), ("half",), True),
        Node("up", "cast", ("half",), ("a",), True),
        Node("again", "Identity", ("a",), ("copy",), True),
        Node("b", "Transpose", ("copy",), ("b",), True),
    )
    found = counterparts(Inside(nodes, ("x",), ("b",), {"a": "a", "half": "half"}), {"a"})
    assert found == {"raw": "a", "half": "a", "a": "a", "copy": "a"}


def test_a_value_that_has_a_counterpart_of_its_own_keeps_it() -> None:
    nodes = (Node("down", "Cast", ("a",), ("b",), True),)
    inside = Inside(nodes, (), ("b",), {"a": "a", "b": "b"})
    assert counterparts(inside, {"a", "b"}) == {"a": "a", "b": "b"}


ONE = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
HALF, NINE = Spread(0.5, 0.5), Spread(9.0, 9.0)


@pytest.mark.parametrize(
    ("found", "limit", "measured", "ok"),
    [
        (ONE, 0.0, 0.0, True),
        (ONE + 0.5, 0.5, 0.5, True),
        (ONE + 0.5, 0.25, 0.5, False),
        (np.where(ONE == 2, np.nan, ONE), 1.0, np.inf, False),
        (np.where(ONE == 2, np.inf, ONE), 1.0, np.inf, False),
        (ONE[:1], 1.0, np.inf, False),
        (ONE.reshape(4), 9.0, np.inf, None),
        (ONE.astype(np.float16), 0.0, 0.0, True),
        (ONE.astype(np.int32), 0.0, np.inf, None),  # a quantised value stands for another number
        (ONE.astype("S"), 0.0, np.inf, None),
    ],
)
def test_how_far_a_value_inside_is_off(found: Any, limit: float, measured: float, ok: bool | None) -> None:
    assert deviation(ONE, found, Spread(limit, limit))[1] is ok
    assert deviation(ONE, found, Spread(limit, limit)).measured.max_abs == measured


def test_an_output_must_have_its_shape() -> None:
    assert deviation(ONE, ONE.reshape(4), NINE, output=True).ok is False
    assert deviation(ONE, ONE.reshape(4), NINE).ok is None


def test_what_the_reference_has_no_number_for_is_not_held_against_anyone() -> None:
    masked = np.array([-np.inf, 1.0, np.nan])
    assert deviation(masked, np.array([-3e38, 1.0, 0.0]), SAME) == (SAME, True)
    assert deviation(masked, np.array([-np.inf, 2.0, np.nan]), HALF) == (Spread(1.0, 1.0), False)
    assert deviation(masked[::2], np.zeros(2), SAME) == (SAME, True)


def test_whole_numbers_are_compared_whatever_their_width() -> None:
    assert deviation(np.array([1, 2]), np.array([1, 2], np.int32), SAME).ok
    found = deviation(np.array([True, False]), np.array([True, True]), SAME)
    assert found == (Spread(1.0, 0.5**0.5), False)


@pytest.mark.parametrize(
    ("limits", "ok"),
    [(Spread(1.0, 0.5), True), (Spread(0.9, 0.5), False), (Spread(1.0, 0.49), False)],
)
def test_a_value_is_held_to_both_limits(limits: Spread, ok: bool) -> None:
    """Of four values one is off by 1, which is a root mean square of 0.5."""
    assert deviation(ONE, np.where(ONE == 2, 3, ONE), limits) == (Spread(1.0, 0.5), ok)


def test_samples_are_told_apart_where_they_come_first() -> None:
    other = ONE + np.array([[0.0], [1.0]], np.float32)
    assert [each.ok for each in deviations(ONE, other, HALF, 2)] == [True, False]
    assert [each.ok for each in deviations(ONE, other, HALF, 4)] == [False] * 4


@pytest.mark.parametrize(
    ("rmse", "oks"),
    [(0.75, [True, True]), (0.7, [True, False]), (0.1, [True, False])],  # of all samples it is 0.707
)
def test_the_rmse_of_one_sample_counts_where_that_of_all_does_not_hold(rmse: float, oks: list[bool]) -> None:
    other = ONE + np.array([[0.0], [1.0]], np.float32)
    assert [each.ok for each in deviations(ONE, other, Spread(9.0, rmse), 2)] == oks


FINDING: Mapping[str, Any] = {
    "run": "android.1.18.1",
    "op": {"name": "node_Conv_55", "kind": "Conv", "module": "features.4.0"},
    "region": ["node_Conv_55"],
    "inside": {"metric": "max_abs", "measured": 0.5, "limit": 1e-5},
    "samples": [17, 3],
    "confirmed": 2,
    "folder": "android.1.18.1",
    "script": "reproduce.py",
    "reason": "",
}


def test_a_finding_is_one_sentence() -> None:
    assert words(FINDING) == (
        "android.1.18.1: Conv node_Conv_55 (module features.4.0) is the first to differ: 0.5 against 1e-05, "
        "in 2 of 2 samples; reproduce it with android.1.18.1/reproduce.py"
    )


def test_a_region_and_a_missing_number_and_no_script_are_said() -> None:
    found = {**FINDING, "region": ["a", "b"], "inside": {**FINDING["inside"], "measured": None}, "script": ""}
    said = words({**found, "op": {**FINDING["op"], "module": ""}})
    assert said == (
        "android.1.18.1: Conv node_Conv_55, one of 2 operations is the first to differ: no number against 1e-05, "
        "in 2 of 2 samples"
    )


def test_a_metric_that_is_not_the_usual_one_is_said() -> None:
    said = words({**FINDING, "inside": {**FINDING["inside"], "metric": "rmse"}})
    assert "is the first to differ: rmse 0.5 against 1e-05, in" in said


def test_a_finding_without_an_operation_says_why() -> None:
    found = {**FINDING, "op": None, "reason": "the artefact has no output logits"}
    assert words(found) == "android.1.18.1: no operation to blame: the artefact has no output logits"
