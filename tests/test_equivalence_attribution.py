"""Whose difference it is: each step measured from the run before, and the first that is over the limit blamed."""

import json

import numpy as np
import pytest

from modelbuild.equivalence.attribution import State, blamed, waterfall

RNG = np.random.default_rng(5)
TRUTH = RNG.standard_normal((6, 3)).astype(np.float32)
LABELS = TRUTH.argmax(1).astype(np.int64)


def moved(by, start=TRUTH):
    return {"y": (start + np.float32(by)).astype(np.float32)}


def chain(*outputs):
    stages = ("export", "precision", "runtime", "optimisation", "artefact")
    return [State(stage, f"at {stage}", each) for stage, each in zip(stages, outputs, strict=False)]


def steps(states, limit=0.5, **more):
    return waterfall({"y": TRUTH}, states, {"y": limit}, **more)["outputs"]["y"]


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
    found = waterfall({"y": TRUTH}, chain(moved(0), wrong), {"y": None}, wrong, LABELS)["tasks"]["y"]
    assert found == [
        {"stage": "teacher", "accuracy": 0.0},
        {"stage": "distillation", "accuracy": 1.0},
        {"stage": "export", "accuracy": 1.0},
        {"stage": "precision", "accuracy": 0.0},
    ]


@pytest.mark.parametrize("labels", [None, LABELS[:-1], LABELS.astype(np.float32), LABELS - 9, LABELS + 9])
def test_without_class_numbers_for_its_classes_nothing_is_said_of_a_task(labels):
    assert waterfall({"y": TRUTH}, chain(moved(0)), {"y": None}, labels=labels)["tasks"] == {}


def test_what_is_said_is_json_whatever_the_numbers():
    huge = {"y": np.full((6, 3), 3e38, np.float32)}
    opposite = {"y": np.full((6, 3), -3e38, np.float32)}
    found = waterfall({"y": TRUTH}, chain(huge, opposite, moved(np.inf)), {"y": 1.0})
    json.dumps(found, allow_nan=False)
