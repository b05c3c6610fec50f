"""Whose difference it is: each step measured from the run before, and the first that is over the limit blamed."""

import json

import numpy as np
import pytest

from modelbuild.equivalence.attribution import ONNX, STUDENT, State, blamed, waterfall
from modelbuild.equivalence.demand import OutputDemand

RNG = np.random.default_rng(5)
TRUTH = RNG.standard_normal((6, 3)).astype(np.float32)
LABELS = TRUTH.argmax(1).astype(np.int64)


def moved(by, start=TRUTH):
    return {"y": (start + np.float32(by)).astype(np.float32)}


def chain(*outputs):
    stages = ("export", "precision", "runtime", "optimisation", "artefact")
    return [State(stage, f"at {stage}", each) for stage, each in zip(stages, outputs, strict=False)]


def steps(states, limit=0.5, **more):
    limits = {} if limit is None else {"max_abs": limit}
    return waterfall({"y": TRUTH}, states, {"y": limits}, **more)["outputs"]["y"]


def test_each_step_is_measured_from_the_one_before_and_its_total_from_the_student():
    found = steps(chain(moved(0.125), moved(0.125), moved(0.375)))
    assert [step["max_abs"] for step in found] == pytest.approx([0.125, 0, 0.25], abs=1e-6)
    assert [step["rmse"] for step in found] == pytest.approx([0.125, 0, 0.25], abs=1e-6)
    assert [step["total"] for step in found] == pytest.approx([0.125, 0.125, 0.375], abs=1e-6)
    assert [step["from"] for step in found] == [
        "the student in PyTorch, float32",
        "at export",
        "at precision",
    ]
    assert [step["to"] for step in found] == ["at export", "at precision", "at runtime"]
    assert all(step["ok"] for step in found)


@pytest.mark.parametrize("at", range(5))
def test_the_stage_that_takes_it_over_the_limit_is_blamed_and_no_later_one(at):
    outputs = [moved(0.01)] * at + [moved(1.0)] + [moved(1.01)] * (4 - at)
    stages = ("export", "precision", "runtime", "optimisation", "artefact")
    assert blamed(steps(chain(*outputs))) == stages[at]


def test_small_steps_that_add_up_blame_the_one_that_goes_over():
    assert blamed(steps(chain(moved(0.3), moved(0.45), moved(0.6)))) == "runtime"


def test_nothing_is_blamed_within_the_limit_nor_without_one():
    assert blamed(steps(chain(moved(0.3)))) == ""
    free = steps(chain(moved(9)), limit=None)
    assert blamed(free) == "" and free[0]["ok"] is None and free[0]["total"] == pytest.approx(9, abs=1e-5)


def test_a_state_that_could_not_be_had_is_a_note_and_the_next_is_measured_from_the_last_that_was():
    states = [
        State("export", "exported", moved(0.1)),
        State("runtime", "old", None, "does not load"),
        State("artefact", "ships", moved(0.3)),
    ]
    _, runtime, artefact = steps(states)
    assert runtime["note"] == "does not load" and runtime["ok"] is None and runtime["max_abs"] is None
    assert artefact["from"] == "exported" and artefact["max_abs"] == pytest.approx(0.2, abs=1e-6)


@pytest.mark.parametrize(
    ("outputs", "note"),
    [
        ({}, 'it gives no "y"'),
        ({"y": TRUTH[:-1]}, "it gives float32 (5, 3) where float32 (6, 3) is due"),
        ({"y": TRUTH.astype(np.float64)}, "it gives float64 (6, 3) where float32 (6, 3) is due"),
        (moved(np.nan), "it gives NaN or Inf"),
    ],
)
def test_outputs_that_cannot_be_compared_are_that_stages_fault(outputs, note):
    found = steps(chain(moved(0), moved(0), outputs))
    assert found[-1]["note"] == note and found[-1]["ok"] is False and blamed(found) == "runtime"


def test_the_teacher_comes_first_without_a_limit():
    first, *_ = steps(chain(moved(0)), teacher=moved(-2))
    assert first["stage"] == "distillation" and first["from"] == "the teacher"
    assert first["max_abs"] == pytest.approx(2, abs=1e-6) and first["limit"] is None and first["ok"] is None


def test_a_teacher_of_another_shape_is_a_note():
    first, *_ = steps(chain(moved(0)), teacher={"y": TRUTH[:, :2]})
    assert (
        first["note"] == "the teacher's output has shape (6, 2), the student's (6, 3)"
        and first["max_abs"] is None
    )


def test_accuracy_is_told_at_every_stage_of_a_classifier():
    wrong = {"y": np.roll(TRUTH, 1, axis=1)}
    found = waterfall({"y": TRUTH}, chain(moved(0), wrong), {}, wrong, LABELS)["tasks"]["y"]
    assert found == [
        {"stage": "teacher", "metric": "accuracy", "value": 0.0},
        {"stage": "distillation", "metric": "accuracy", "value": 1.0},
        {"stage": "export", "metric": "accuracy", "value": 1.0},
        {"stage": "precision", "metric": "accuracy", "value": 0.0},
    ]


@pytest.mark.parametrize(("origin", "stage"), [(STUDENT, "student"), (ONNX, "onnx")])
def test_where_nothing_was_distilled_the_origins_own_figure_goes_by_its_name(origin, stage):
    found = waterfall({"y": TRUTH}, chain(moved(0)), {}, labels=LABELS, origin=origin)["tasks"]["y"]
    assert [each["stage"] for each in found] == [stage, "export"]


def figures(outputs, states, labels, **asked):
    said = {name: OutputDemand(**each) for name, each in asked.items()}
    found = waterfall(outputs, chain(*states), {}, labels=labels, asked=said)["tasks"]
    return {name: [(each["metric"], each["value"]) for each in rows] for name, rows in found.items()}


def test_what_an_output_is_decides_its_metric():
    """(samples, two or more) of floating numbers are scores, unless the manifest says otherwise."""
    truth, worse = {"y": TRUTH}, {"y": TRUTH + np.float32(0.5)}
    assert figures(truth, [worse], LABELS, y={"kind": "regression"}) == {}
    found = figures(truth, [worse], TRUTH, y={"kind": "regression"})
    assert found == {"y": [("rmse", 0.0), ("rmse", pytest.approx(0.5))]}
    assert figures(truth, [worse], TRUTH) == {}


TOKENS = np.array([[1, 2, 3], [4, 5, 0]], np.int64)


def test_sequences_have_a_token_error_rate():
    wrong = {"t": np.array([[1, 9, 3], [4, 5, 0]], np.int64)}
    said = {"kind": "sequence", "padding": 0}
    assert figures({"t": TOKENS}, [wrong], TOKENS, t=said) == {
        "t": [("token_error_rate", 0.0), ("token_error_rate", 0.2)]
    }
    assert figures({"t": TOKENS}, [wrong], TOKENS)["t"][1] == ("token_error_rate", pytest.approx(1 / 6))


def long(junk, ends=(3, 2), start=TOKENS):
    """Outputs of which the second sample ends before `junk`."""
    tokens = start.copy()
    tokens[1, 2] = junk
    return {"t": tokens, "n": np.array(ends, np.int64)}


def test_past_its_own_length_a_sequence_is_not_read():
    found = figures(
        long(0), [long(7), long(7, (3, 3))], TOKENS, t={"lengths": "n", "kind": "sequence", "padding": 0}
    )
    assert [value for _, value in found["t"]] == [0.0, 0.0, 0.2]


def test_past_its_own_length_nothing_is_measured():
    def told(junk):
        outputs = long(0)
        return {**outputs, "t": np.where([[1, 1, 1], [1, 1, 0]], np.float32(1), np.float32(junk))}

    said = {"t": OutputDemand(lengths="n")}
    states = chain(told(np.nan), told(9))
    found = waterfall(told(0), states, {"t": {"max_abs": 0.0}}, told(np.inf), asked=said)["outputs"]["t"]
    assert [(step["max_abs"], step["note"]) for step in found] == [(0.0, "")] * 3 and blamed(found) == ""
    unsaid = waterfall(told(0), states, {"t": {"max_abs": 0.0}})["outputs"]["t"]
    assert unsaid[0]["note"] == "it gives NaN or Inf" and blamed(unsaid) == "export"


@pytest.mark.parametrize("ends", [np.array([3.0, 2.0]), np.array([3]), None])
def test_lengths_that_are_none_are_a_fault_of_the_stage_that_gives_them_and_no_error(ends):
    strange = {"t": long(7)["t"], **({} if ends is None else {"n": ends})}
    said = {"t": OutputDemand("sequence", "n", 0)}
    found = waterfall(long(0), chain(strange), {"n": {"max_abs": 0.0}}, labels=TOKENS, asked=said)
    assert blamed(found["outputs"]["n"]) == "export"
    assert found["tasks"]["t"][-1]["value"] == 0.2


@pytest.mark.parametrize(
    ("limits", "stage", "note"),
    [
        ({"max_abs": 0.6, "rmse": 0.6}, "", ""),
        ({"max_abs": 0.6, "rmse": 0.4}, "export", "in all rmse 0.5, limit 0.4"),
        ({"cosine": 0.999}, "export", "in all cosine"),
        ({"max_abs": 0.4, "rmse": 0.4}, "export", ""),
    ],
)
def test_the_total_is_held_to_every_limit(limits, stage, note):
    found = waterfall({"y": TRUTH}, chain(moved(0.5)), {"y": limits})["outputs"]["y"]
    assert (
        blamed(found) == stage and found[0]["note"].startswith(note) and bool(found[0]["note"]) == bool(note)
    )
    assert found[0]["limit"] == limits.get("max_abs")


@pytest.mark.parametrize("labels", [None, LABELS[:-1], LABELS.astype(np.float32), LABELS - 9, LABELS + 9])
def test_without_class_numbers_for_its_classes_nothing_is_said_of_a_task(labels):
    assert waterfall({"y": TRUTH}, chain(moved(0)), {}, labels=labels)["tasks"] == {}


def test_what_is_said_is_json_whatever_the_numbers():
    huge = {"y": np.full((6, 3), 3e38, np.float32)}
    opposite = {"y": np.full((6, 3), -3e38, np.float32)}
    found = waterfall({"y": TRUTH}, chain(huge, opposite, moved(np.inf)), {"y": {"max_abs": 1.0}})
    json.dumps(found, allow_nan=False)
