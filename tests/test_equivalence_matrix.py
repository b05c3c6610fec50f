"""All against all as a record, who agrees with whom, and a figure beside its limit in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelbuild.equivalence.clusters import clusters, words
from modelbuild.equivalence.demand import FLOORS, within
from modelbuild.equivalence.figures import in_words, needed
from modelbuild.equivalence.matrix import BEYOND, Cell, Matrix, Pictures, cell, of_output, share
from modelbuild.equivalence.metrics import METRICS
from modelbuild.equivalence.tolerance import Tolerance
from modelbuild.equivalence.verdict import Verdict


def verdict(metric: str, measured: float | None, limit: float | None, ok: bool, **more: Any) -> Verdict:
    return Verdict(
        "m:a", "a", "1", "cpu", "reference", "logits", metric, measured, limit, ok, "executed", "", **more
    )


# -- clusters


def held(names: str, *pairs: str) -> tuple[list[str], list[list[bool | None]]]:
    """One-letter names, R the reference; the `pairs` hold, "a-b" was not compared, all others do not hold."""
    full = ["reference" if each == "R" else each for each in names]
    said = {frozenset(pair): True for pair in pairs if "-" not in pair}
    said |= {frozenset(pair.replace("-", "")): None for pair in pairs if "-" in pair}
    return full, [[a == b or said.get(frozenset(a + b), False) for b in names] for a in names]


@pytest.mark.parametrize(
    ("ok", "groups", "said"),
    [
        (held("Rab", "Ra", "Rb", "ab"), [["reference", "a", "b"]], "reference = a = b"),
        (held("Rabc", "Ra", "Rb", "ab"), [["reference", "a", "b"], ["c"]], "reference = a = b; c differs"),
        (held("Rabc", "Ra", "bc"), [["reference", "a"], ["b", "c"]], "reference = a; b = c differ"),
        (
            held("Rabc", "ab", "ac", "bc"),
            [["a", "b", "c"], ["reference"]],
            "a = b = c differ; reference alone",
        ),
        (held("Rab", "ab"), [["a", "b"], ["reference"]], "a = b differ; reference alone"),
        (held("Ra"), [["reference"], ["a"]], "reference alone; a differs"),
        (held("Rab"), [["reference"], ["a"], ["b"]], "reference alone; a differs; b differs"),
        (held("Rab", "R-a", "R-b", "a-b"), [["reference"], ["a"], ["b"]], "nothing was compared"),
        (
            held("Rab", "Ra", "ab"),
            [["reference", "a", "b"]],
            "reference = a = b (not all alike: reference and b differ)",
        ),
        (
            held("Rabc", "Ra", "ab", "bc"),
            [["reference", "a", "b", "c"]],
            "reference = a = b = c (not all alike: reference and b differ, and so in 3 pairs)",
        ),
    ],
)
def test_who_agrees_with_whom(ok: Any, groups: list[list[str]], said: str) -> None:
    names, hold = ok
    assert [[*group] for group in clusters(names, hold)] == groups
    assert words(names, hold, {}) == said


def test_why_a_run_cannot_be_compared_stands_by_its_name() -> None:
    assert words(*held("Rab", "Ra"), {"b": "nan"}) == "reference = a; b (nan) differs"


def test_no_group_is_right_without_the_reference() -> None:
    said = words(*held("Rabcd", "ab", "ac", "ad", "bc", "bd", "cd"), {})
    assert said.startswith("a = b = c = d differ;")


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=12))
def test_every_name_is_in_one_group_and_pairs_that_hold_in_the_same(pairs: list[tuple[int, int]]) -> None:
    hold = [[(a, b) in pairs or (b, a) in pairs or a == b for b in range(6)] for a in range(6)]
    names = ["reference", *"abcde"]
    found = clusters(names, hold)
    assert sorted(name for group in found for name in group) == sorted(names)
    assert [len(group) for group in found] == sorted((len(group) for group in found), reverse=True)
    where = {name: index for index, group in enumerate(found) for name in group}
    assert all(where[names[a]] == where[names[b]] for a, b in pairs)


# -- matrix


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (verdict("max_abs", 2.0, 4.0, True), 0.5),
        (verdict("max_abs", 8.0, 4.0, False), 2.0),
        (verdict("decision_flips", 0.0, 0.0, True), 0.0),
        (verdict("decision_flips", 3.0, 0.0, False), BEYOND),
        (verdict("rmse", None, 1.0, False), BEYOND),
        (verdict("rmse", 1e300, 1e-300, False), BEYOND),
        (verdict("cosine", 0.98, 0.99, False), 2.0),
        (verdict("cosine", 0.5, 1.0, False), BEYOND),
        (verdict("sqnr_db", 60.0, 40.0, True), 0.1),
        (verdict("sqnr_db", 20.0, 40.0, False), 10.0),
        (verdict("sqnr_db", None, 40.0, True), 0.0),
        (verdict("sqnr_db", -1e9, 40.0, False), BEYOND),
    ],
)
def test_the_share_of_a_limit(row: Verdict, expected: float) -> None:
    assert share(row) == pytest.approx(expected)


def test_a_cell_has_the_worst_metric_and_no_share_without_a_measure() -> None:
    rows = [verdict("max_abs", 1.0, 4.0, True), verdict("rmse", 3.0, 4.0, True), verdict("l1", 9, None, True)]
    assert cell(rows) == Cell(None, 0.75, True)
    assert cell([*rows, verdict("decision_flips", 1, 0, False)]) == Cell(None, BEYOND, False)
    assert cell([verdict("nan", None, None, False)]) == Cell(None, None, False, "nan")
    assert cell([]) == Cell()
    assert cell([verdict("l1", 9, None, True)]) == Cell()


def test_the_record_is_symmetric_and_free_of_what_json_lacks(tmp_path: Path) -> None:
    cells = {
        ("reference", "a"): Cell(None, 0.5, True).with_error(0.25),
        ("reference", "b"): Cell(None, BEYOND, False).with_error(float("inf")),
        ("b", "a"): Cell(None, None, False, "nan"),
    }
    made = of_output(["a", "b"], cells, {"a": Pictures({"counts": [1]}, {"counts": [[1]]})})
    Matrix({"logits": made}).write(tmp_path / "matrix.json")
    found = json.loads((tmp_path / "matrix.json").read_text())["outputs"]["logits"]
    assert found["runs"] == ["reference", "a", "b"]
    assert found["max_abs"] == [[0.0, 0.25, None], [0.25, 0.0, None], [None, None, 0.0]]
    assert found["share"] == [[0.0, 0.5, BEYOND], [0.5, 0.0, None], [BEYOND, None, 0.0]]
    assert found["ok"] == [[True, True, False], [True, True, False], [False, False, True]]
    assert found["clusters"] == [["reference", "a"], ["b"]]
    assert found["words"] == "reference = a; b differs"
    assert (found["histograms"], found["margins"]) == ({"a": {"counts": [1]}}, {"a": {"counts": [[1]]}})


def test_a_number_that_json_lacks_is_refused(tmp_path: Path) -> None:
    made = of_output(["a"], {("reference", "a"): Cell(float("nan"), 0.5, True)}, {})
    with pytest.raises(ValueError, match="JSON"):
        Matrix({"logits": made}).write(tmp_path / "matrix.json")


# -- figures


@pytest.mark.parametrize(
    ("metric", "measured", "expected"),
    [
        ("max_abs", 3.1234e-4, 3.2e-4),
        ("max_abs", 3.2e-4, 3.2e-4),
        ("rmse", 9.95, 10.0),
        ("max_abs", 0.0, 0.0),
        ("cosine", 0.99987, 0.99987),
        ("cosine", 0.9998765, 0.99987),
        ("cosine", 1.0, 1.0),
        ("cosine", -0.2, None),
        ("sqnr_db", 87.31, 87.0),
        ("sqnr_db", -3.0, None),
        ("sqnr_db", float("inf"), None),
        ("rmse", float("inf"), None),
        ("max_rel", float("nan"), None),
    ],
)
def test_the_tightest_limit_that_would_pass(metric: str, measured: float, expected: float | None) -> None:
    assert needed(metric, measured) == expected


@settings(deadline=None)
@given(st.sampled_from([*METRICS]), st.floats(1e-30, 1e30))
def test_it_does_pass_and_is_no_looser_than_two_digits(metric: str, size: float) -> None:
    measured = 1 - min(size, 0.99) if metric == "cosine" else size
    limit = needed(metric, measured)
    assert limit is not None and within(metric, measured, limit)
    if metric != "cosine":
        assert limit == pytest.approx(measured, rel=0.11)
    assert (limit <= measured) if metric in FLOORS else (limit >= measured)


FOUND = Tolerance(
    {"max_abs": 4.6e-5, "cosine": 0.999}, 4.6e-5, "a long story; of parts", {"max_abs": 5.75e-6}
)


@pytest.mark.parametrize(
    ("metric", "measured", "found", "worst", "said"),
    [
        (
            "max_abs", 3.128e-4, FOUND, 17,
            "max_abs 0.000313, limit 4.6e-05 (8 x the floor 5.8e-06); 6.8 times over; worst at sample 17; "
            "would pass from 0.00032",
        ),
        (
            "max_abs", 3.1e-7, FOUND, 3,
            "max_abs 3.1e-07, limit 4.6e-05 (8 x the floor 5.8e-06); 148 times under; worst at sample 3",
        ),
        ("max_abs", 0.0, FOUND, None, "max_abs 0, limit 4.6e-05 (8 x the floor 5.8e-06)"),
        (
            "cosine", 0.9, Tolerance({"cosine": 0.99}, 0, "from the manifest", {}), 1,
            "cosine 0.9, limit 0.99 (from the manifest); worst at sample 1; would pass at 0.9",
        ),
        (
            "max_abs", 2.0, Tolerance({"max_abs": 1.0}, 0, "from the manifest", {"max_abs": 1e-6}), 1,
            "max_abs 2, limit 1 (from the manifest, the floor is 1e-06); 2 times over; worst at sample 1; "
            "would pass from 2",
        ),
        (
            "max_abs", 1.0, Tolerance({"max_abs": 0.0}, 0, "whole numbers must be equal", {"max_abs": 0.0}), 1,
            "max_abs 1, limit 0 (must be equal); worst at sample 1; would pass from 1",
        ),
        (
            "max_abs", 1e-9, Tolerance({"max_abs": 1e-8}, 0, "4 ulp", {"max_abs": 0.0}), 1,
            "max_abs 1e-09, limit 1e-08 (a few ulp, the floor is 0); 10 times under; worst at sample 1",
        ),
    ],
)  # fmt: skip
def test_a_figure_beside_its_limit(
    metric: str, measured: float, found: Tolerance, worst: int | None, said: str
) -> None:
    assert in_words(metric, measured, found, worst) == said


def test_a_rate_with_too_few_samples_behind_it_does_not_set_two_runs_apart() -> None:
    same = verdict("max_abs", 0.0, 1e-5, True)
    rate = verdict("flip_rate", 0.0, 0.01, False, high=0.05)
    found = cell([same, rate])
    assert (found.ok, found.share) == (True, 0.0)
    assert cell([rate]).ok is None
