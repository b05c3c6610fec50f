from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from modelbuild import validate
from modelbuild.declare import Document
from modelbuild.equivalence import demand
from modelbuild.errors import ManifestError


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ({}, demand.RuntimeDemand(None, 0)),
        ({"tolerance": "auto", "decision_flips": 2}, demand.RuntimeDemand(None, 2)),
        ({"tolerance": {"max_abs": 0}}, demand.RuntimeDemand({"max_abs": 0.0}, 0)),
        (
            {"tolerance": {"cosine": 1, "sqnr_db": 40, "rmse": 1e-3, "l1": 1e-3, "max_rel": 0.1}},
            demand.RuntimeDemand({"cosine": 1, "l1": 1e-3, "max_rel": 0.1, "rmse": 1e-3, "sqnr_db": 40}, 0),
        ),
    ],
)
def test_a_runtime_gate(gate: dict[str, Any], expected: demand.RuntimeDemand) -> None:
    assert demand.runtime(gate) == expected


@pytest.mark.parametrize(
    ("gate", "place", "words"),
    [
        ({"tolerance": {"cosine": 0}}, "tolerance/cosine", "met by anything"),
        ({"tolerance": {"cosine": -1}}, "tolerance/cosine", "met by anything"),
        ({"tolerance": {"cosine": 1.5}}, "tolerance/cosine", "met by nothing"),
        ({"tolerance": {"cosine": math.nan}}, "tolerance/cosine", "not a finite number"),
        ({"tolerance": {"max_abs": math.nan}}, "tolerance/max_abs", "not a finite number"),
        ({"tolerance": {"max_abs": math.inf}}, "tolerance/max_abs", "not a finite number"),
        ({"tolerance": {"max_abs": -1e-3}}, "tolerance/max_abs", "met by nothing"),
        ({"tolerance": {"max_abs": True}}, "tolerance/max_abs", "not a finite number"),
        ({"tolerance": {"max_abs": "1"}}, "tolerance/max_abs", "not a finite number"),
        ({"tolerance": {"max_rel": 1}}, "tolerance/max_rel", "would pass an output of zeros"),
        ({"tolerance": {"sqnr_db": 0}}, "tolerance/sqnr_db", "as loud as the signal"),
        ({"tolerance": {"max_bas": 1}}, "tolerance/max_bas", 'Did you mean "max_abs"'),
        ({"tolerance": {}}, "tolerance", "demands nothing"),
        ({"tolerance": None}, "tolerance", "demands nothing"),
        ({"tolerance": "none"}, "tolerance", "demands nothing"),
        ({"decision_flips": -1}, "decision_flips", "not a number of samples"),
        ({"decision_flips": 0.5}, "decision_flips", "not a number of samples"),
        ({"decision_flips": True}, "decision_flips", "not a number of samples"),
        ({"tolerence": "auto"}, "tolerence", 'Did you mean "tolerance"'),
        ({"flip_rate": 0}, "flip_rate", "met by no number of samples"),
        ({"flip_rate": -0.1}, "flip_rate", "met by no number of samples"),
        ({"flip_rate": 1}, "flip_rate", "lets every decision flip"),
        ({"flip_rate": True}, "flip_rate", "not a finite number"),
        ({"flip_rate": None}, "flip_rate", "not a finite number"),
        ({"outputs": []}, "outputs", "not a set of outputs"),
        ({"outputs": {"y": {}}}, "outputs/y", "says nothing"),
        ({"outputs": {"y": "scores"}}, "outputs/y", "says nothing"),
        ({"outputs": {"y": {"kind": "score"}}}, "outputs/y/kind", 'Did you mean "scores"'),
        ({"outputs": {"y": {"kind": None}}}, "outputs/y/kind", "not one of scores"),
        ({"outputs": {"y": {"knd": "scores"}}}, "outputs/y/knd", 'Did you mean "kind"'),
        ({"outputs": {"y": {"lengths": 3}}}, "outputs/y/lengths", "not the name of an output"),
        ({"outputs": {"y": {"lengths": "y"}}}, "outputs/y/lengths", "cut to the lengths in itself"),
        ({"outputs": {"y": {"kind": "scores", "lengths": "n"}}}, "outputs/y/lengths", "one score a class"),
        (
            {"outputs": {"n": {"lengths": "m"}, "y": {"lengths": "n"}}},
            "outputs/y/lengths",
            '"n" gives lengths, and is itself cut',
        ),
        ({"outputs": {"y": {"padding": 0}}}, "outputs/y/padding", 'Say "kind": "sequence" too'),
        ({"outputs": {"y": {"kind": "regression", "padding": 0}}}, "outputs/y/padding", "only a sequence"),
        ({"outputs": {"y": {"kind": "sequence", "padding": "0"}}}, "outputs/y/padding", "not a token"),
        ({"outputs": {"y": {"kind": "sequence", "padding": True}}}, "outputs/y/padding", "not a token"),
    ],
)
def test_an_empty_demand_is_refused(gate: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        demand.runtime(gate)
    assert caught.value.place == f"gates/runtime/{place}"


def test_outputs_and_a_flip_rate() -> None:
    asked = {"y": {"kind": "sequence", "lengths": "n", "padding": -1}, "a": {"lengths": "n"}}
    found = demand.runtime({"outputs": asked, "flip_rate": 0.01})
    assert found.flip_rate == 0.01
    assert found.outputs == {
        "a": demand.OutputDemand(None, "n", None, "gates/runtime/outputs/a"),
        "y": demand.OutputDemand("sequence", "n", -1, "gates/runtime/outputs/y"),
    }
    assert (demand.runtime({}).outputs, demand.runtime({}).flip_rate) == ({}, None)


@pytest.mark.parametrize(
    ("outputs", "place", "words"),
    [
        ({"y": {"lengths": "y"}}, "/y/lengths", "cut to the lengths in itself"),
        ({"y": {"kind": "scores", "lengths": "n"}}, "/y/lengths", "one score a class"),
        ({"y": {"lengths": "n"}, "n": {"lengths": "m"}}, "/y/lengths", "is itself cut"),
        ({"y": {"kind": "score"}}, "/y/kind", "is not one of"),
    ],
)
def test_a_manifest_with_such_outputs_is_refused_before_anything_is_built(
    outputs: Any, place: str, words: str, tmp_path: Path
) -> None:
    document = Document("m.json", {"gates": {"runtime": {"outputs": outputs}}})
    problems = validate.problems(validate.Manifest(tmp_path, document, {}))
    (found,) = [each for each in problems if "gates/runtime" in each.place]
    assert found.place == f"m.json#/gates/runtime/outputs{place}"
    assert words in found.fact


def test_quality_gates() -> None:
    share = demand.quality({"metric": "agreement", "min": 0.97}, "teacher")
    assert share == demand.QualityDemand("agreement", 0.97, None, "gates/teacher/min")
    error = demand.quality({"metric": "rmse", "max": 0.1, "output": "mel"}, "task")
    assert error == demand.QualityDemand("rmse", 0.1, "mel", "gates/task/max")
    rate = demand.quality({"metric": "token_error_rate", "max": 0}, "task")
    assert rate == demand.QualityDemand("token_error_rate", 0, None, "gates/task/max")


@pytest.mark.parametrize(
    ("name", "gate", "words"),
    [
        ("teacher", {"metric": "agreement", "min": 0}, "met by anything"),
        ("teacher", {"metric": "agreement", "min": 1.01}, "met by nothing"),
        ("teacher", {"metric": "agreement"}, 'no "min"'),
        ("teacher", {"metric": "agreement", "max": 0.9}, "no such demand"),
        ("teacher", {"metric": "accuracy", "min": 0.9}, "not one of agreement, cosine"),
        ("teacher", {"min": 0.9}, "not one of"),
        ("task", {"metric": "accurracy", "min": 0.9}, 'Did you mean "accuracy"'),
        ("task", {"metric": "accuracy", "min": math.nan}, "not a finite number"),
        ("task", {"metric": "l1", "min": 0.9}, "no such demand"),
        ("task", {"metric": "l1", "max": -1}, "met by nothing"),
        ("task", {"metric": "max_abs"}, 'no "max"'),
        ("task", {"metric": "token_error_rate", "max": 1}, "met by an answer without a single token"),
        ("task", {"metric": "token_error_rate", "min": 0.1}, "no such demand"),
        ("teacher", {"metric": "token_error_rate", "max": 0.1}, "not one of agreement"),
        ("task", {"metric": "cosine", "min": 0}, "met by anything"),
        ("task", {"metric": "cosine", "min": 1.01}, "met by nothing"),
        ("task", {"metric": "cosine", "max": 0.5}, "no such demand"),
        ("task", {"metric": "cosine", "min": 0.5, "args": {}}, "no such demand"),
        ("task", {"metric": "mine:far"}, "neither"),
        ("task", {"metric": "mine:far", "min": 1, "max": 2}, "both"),
        ("task", {"metric": "mine:far", "max": math.inf}, "not a finite number"),
        ("task", {"metric": "mine:far", "max": True}, "not a finite number"),
        ("task", {"metric": "mine:far", "max": 1, "limit": 1}, "no such demand"),
        ("task", {"metric": "mine:far", "max": 1, "args": [1]}, "no set of arguments"),
        ("task", {"metric": "mine:", "max": 1}, "not of the form"),
        ("task", {"metric": "mine:rmse", "max": 1}, "the name of another verdict"),
        ("task", {"metric": "mine:accepted", "max": 1}, "the name of another verdict"),
        ("task", ["accuracy"], "demands nothing"),
    ],
)
def test_an_empty_quality_gate_is_refused(name: str, gate: Any, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        demand.quality(gate, name)
    assert caught.value.place.startswith(f"gates/{name}")


def test_a_metric_of_the_project() -> None:
    asked = {"metric": "mine.metrics:far", "max": -0.5, "output": "mel", "args": {"hop": 4}}
    (found,) = demand.qualities(asked, "teacher")
    place = "gates/teacher/max"
    assert found == demand.QualityDemand("far", -0.5, "mel", place, "mine.metrics:far", {"hop": 4}, False)
    (near,) = demand.qualities([{"metric": "mine.metrics:near", "min": 0.5}], "task")
    assert (near.place, near.args, near.more_is_better) == ("gates/task/0/min", {}, True)
    assert near.met(0.5)
    assert not near.met(0.4)
    assert found.met(-0.6)
    assert not found.met(0.5)


def test_several_demands_of_a_gate_have_places_of_their_own() -> None:
    listed = [{"metric": "cosine", "min": 0.8}, {"metric": "l1", "max": 1, "output": "y"}]
    found = demand.qualities([*listed, {"metric": "l1", "max": 1, "output": "z"}], "teacher")
    assert [each.place for each in found] == [f"gates/teacher/{end}" for end in ("0/min", "1/max", "2/max")]
    assert demand.qualities({"metric": "l1", "max": 1}, "task")[0].place == "gates/task/max"


L1, FAR = {"metric": "l1", "max": 1}, {"metric": "mine:far", "max": 1}


@pytest.mark.parametrize(
    ("second", "place", "words"),
    [
        (None, "", "demands nothing"),
        ([], "", "demands nothing"),
        ("l1", "", "demands nothing"),
        ([L1, L1], "/1", "on l1 of the same output"),
        ([L1, {**L1, "output": "y"}], "/1", "on l1 of the same output"),
        ([{**L1, "output": "y"}, L1], "/1", "on l1 of the same output"),
        ([{**L1, "output": "y"}, {**L1, "output": "z"}, {**L1, "output": "y"}], "/2", "of the same output"),
        ([FAR, FAR], "/1", "on far of the same output"),
        ([{**FAR, "output": "y"}, {**FAR, "output": "y"}], "/1", "on far of the same output"),
        (
            [FAR, {**FAR, "metric": "yours:far", "output": "y"}],
            "/1/metric",
            '"mine:far" before it is called far',
        ),
        ([L1, {"metric": "l1"}], "/1", 'no "max"'),
    ],
)
def test_a_list_of_demands_that_is_none_or_says_a_thing_twice(second: Any, place: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        demand.qualities(second, "task")
    assert caught.value.place == f"gates/task{place}"


def test_a_metric_of_the_project_may_be_on_several_outputs() -> None:
    assert len(demand.qualities([FAR, {**FAR, "output": "y"}, {**FAR, "output": "z"}], "task")) == 3


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [
        ("max_abs", 1, 3), ("max_rel", 1, 3), ("l1", 1, 3), ("rmse", 1, 3),
        ("token_error_rate", 1, 3), ("cosine", 3, 1), ("sqnr_db", 3, 1), ("agreement", 3, 1), ("accuracy", 3, 1),
    ],
)  # fmt: skip
def test_within(metric: str, good: float, bad: float) -> None:
    assert demand.within(metric, good, 2)
    assert demand.within(metric, 2, 2)
    assert not demand.within(metric, bad, 2)
    assert not demand.within(metric, math.nan, 2)
    assert not demand.within(metric, good, math.nan)


def test_which_way_is_better_is_said_where_no_name_tells() -> None:
    assert demand.within("far", 3, 2, more=True)
    assert not demand.within("far", 3, 2, more=False)
    assert not demand.within("far", math.nan, 2, more=True)
    assert demand.more_is_better("far", True)
    assert not demand.more_is_better("far")


def test_a_demand_is_read_without_numpy() -> None:
    code = "import sys, modelbuild.equivalence.demand; print({'numpy', 'torch', 'onnx'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
