"""The targets from teacher to student: what each depends on, and what it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import modelbuild
from modelbuild import distillation, manifest
from modelbuild.closure import ClosureReader
from modelbuild.graph import plan
from modelbuild.targets import Plan

LAYERS = {"kind": "l2", "student": "layers", "teacher": "layers", "store": "float16"}
BASE: dict[str, Any] = {
    "model": "tiny",
    "data": {
        "train": {"loader": "nets:load"},
        "unlabelled": {"augment": "train", "by": "nets:change", "copies": 2},
        "evaluation": {"loader": "nets:load", "files": {"table": "t.csv"}},
    },
    "teacher": {"module": "nets:Net", "train": {"steps": 3}},
    "student": {"module": "small:Net", "args": {"width": 2}, "train": {"steps": 5}},
    "platforms": {
        "watch": {"runtime": "onnxruntime", "device": {"memory": 1000}},
        "phone": {"runtime": "onnxruntime", "device": {"memory": 9000}},
    },
    "gates": {"teacher": {"metric": "agreement", "min": 0.9}},
}
SEARCH = {
    "cycles": [{"steps": 1}, {"steps": 2, "keep": 1}, {"steps": 3, "keep": 1}],
    "candidates": {"other": {"module": "nets:Net"}},
}
Planner = Callable[..., Plan]


@pytest.fixture
def planned(tmp_path: Path) -> Planner:
    """Plan BASE with some of its sections replaced."""
    for name in ("nets", "small", "measures"):
        (tmp_path / f"{name}.py").write_text("def load(): ...\ndef change(): ...\nclass Net: ...\n")
    (tmp_path / "t.csv").write_text("t")
    (tmp_path / "m.onnx").write_text("m")
    (tmp_path / "manifests").mkdir()

    def planned(**changes: Any) -> Plan:
        (tmp_path / "manifests" / "tiny.json").write_text(json.dumps({**BASE, **changes}))
        return plan(manifest.load(tmp_path, set()))

    return planned


def student(**changes: Any) -> dict[str, Any]:
    return {**BASE["student"], **changes}


def test_every_part_of_the_data_is_labelled_by_itself(planned: Planner) -> None:
    targets = planned().targets
    for part in ("train", "unlabelled", "evaluation"):
        said = targets[f"tiny:teacher.outputs.{part}"]
        assert said.inputs == {"teacher": "tiny:teacher", "data": f"tiny:data.{part}"}
        assert said.params == {"hidden": False, "store": "float32"} and said.modules == ("nets",)
    assert targets["tiny:data.unlabelled"].modules == ("nets",)
    assert targets["tiny:data.evaluation"].files == {"table": "t.csv"}
    assert targets["tiny:student"].inputs == {
        "train": "tiny:data.train",
        "unlabelled": "tiny:data.unlabelled",
        "said.train": "tiny:teacher.outputs.train",
        "said.unlabelled": "tiny:teacher.outputs.unlabelled",
    }


def test_hidden_states_are_kept_of_what_is_learnt_and_of_nothing_else(planned: Planner) -> None:
    targets = planned(student=student(distil={"layers": LAYERS})).targets
    for part, hidden in (("train", True), ("unlabelled", True), ("evaluation", False)):
        said = targets[f"tiny:teacher.outputs.{part}"]
        assert said.params == {"hidden": hidden, "store": "float16" if hidden else "float32"}
        assert ("layers" in said.inputs) is hidden
    assert targets["tiny:student"].inputs["layers"] == "tiny:teacher.layers"
    assert set(targets["tiny:teacher.layers"].modules) == {"nets", "small"}


def test_a_student_that_starts_from_its_teacher_depends_on_it_and_on_its_code(planned: Planner) -> None:
    found = planned(student=student(distil={"initial": {}})).targets["tiny:student"]
    assert found.inputs["teacher"] == "tiny:teacher"
    assert found.modules == ("small", "nets")


def test_the_losses_of_the_project_are_code_that_the_training_runs(planned: Planner) -> None:
    for distil in (
        {"task": {"kind": "measures:load"}},
        {"soft": [{"kind": "l2"}, {"kind": "measures:load"}]},
    ):
        assert planned(student=student(distil=distil)).targets["tiny:student"].modules == (
            "small",
            "measures",
        )


def test_the_metrics_of_the_project_are_code_that_the_gates_run(planned: Planner) -> None:
    own = {"metric": "measures:load", "max": 1}
    targets = planned(gates={"teacher": [BASE["gates"]["teacher"], own], "task": own}).targets
    assert targets["tiny:verdict.teacher"].modules == ("measures",)
    assert targets["tiny:verdict.task"].modules == ("measures",)


def test_the_lowest_budget_is_that_of_the_weakest_device_and_trains_through_the_network(
    planned: Planner,
) -> None:
    targets = planned(student=student(capacity={"budget": "lowest"})).targets
    asked = {"capacity": {"budget": 1000, "fraction": 0.65}, "platform": "watch"}
    assert asked.items() <= targets["tiny:capacity"].params.items()
    found = targets["tiny:student"]
    assert found.inputs["network"] == "tiny:student.network" and set(found.params) == {"distil", "train"}
    assert "capacity" not in found.inputs
    given = planned(student=student(capacity={"budget": 77})).targets["tiny:capacity"].params
    assert (given["capacity"]["budget"], given["platform"]) == (77, "")


def test_a_teacher_that_is_a_file_is_run_and_not_trained(planned: Planner) -> None:
    targets = planned(teacher={"onnx": "m.onnx", "through": "measures:load"}).targets
    assert targets["tiny:teacher"].files == {"model": "m.onnx"} and not targets["tiny:teacher"].inputs
    said = targets["tiny:teacher.outputs.train"]
    assert said.modules == ("measures",) and "onnxruntime" in said.tools


def test_a_search_is_judged_on_validation_data_where_there_is_some(planned: Planner) -> None:
    for data, part in (
        (BASE["data"], "evaluation"),
        ({**BASE["data"], "validation": {"loader": "nets:load"}}, "validation"),
    ):
        targets = planned(data=data, search=SEARCH).targets
        judged = targets["tiny:search.other.assessment-1"].inputs
        assert judged["data"] == f"tiny:data.{part}" and judged["said"] == f"tiny:teacher.outputs.{part}"
    assert set(targets["tiny:reference"].modules) == {"nets"}


def test_what_labels_data_knows_no_loss_and_no_training() -> None:
    root = Path(modelbuild.__file__).parents[1]
    reader = ClosureReader(root, lambda path: path.read_text(), {})
    code = {name for name, _ in reader.closure((distillation.TEACHER_OUTPUTS.module,)).files}
    trains = {
        f"modelbuild.training.{name}" for name in ("losses", "objective", "settings", "streams", "loop")
    }
    assert code & trains == set() and "modelbuild.training.learner" in code
