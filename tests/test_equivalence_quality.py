from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelbuild.equivalence import demand
from modelbuild.equivalence.quality import task_gate, teacher_gate
from modelbuild.equivalence.verdict import Verdict, passed
from modelbuild.errors import RecipeError

CLASSES = np.array([0, 1, 2, 0, 1, 2, 0, 1])
TEACHER = np.eye(3, dtype=np.float32)[CLASSES] * 5
STUDENT = TEACHER.copy()
STUDENT[7] = [9, 0, 0]


def teach(student: dict[str, Any], teacher: dict[str, Any], **gate: Any) -> tuple[Verdict, ...]:
    return teacher_gate("m:reference", student, teacher, demand.quality(gate, "teacher"))


def do(student: dict[str, Any], labels: Any, **gate: Any) -> tuple[Verdict, ...]:
    return task_gate("m:reference", student, labels, demand.quality(gate, "task"))


@pytest.mark.parametrize(("least", "ok"), [(0.875, True), (0.876, False), (1, False)])
def test_agreement_with_the_teacher(least: float, ok: bool) -> None:
    (verdict,) = teach({"y": STUDENT}, {"y": TEACHER}, metric="agreement", min=least)
    assert (verdict.target, verdict.against, verdict.output) == ("m:reference", "teacher", "y")
    assert (verdict.measured, verdict.limit, verdict.ok) == (0.875, least, ok)
    assert verdict.evidence == "executed"
    assert "on 8 samples" in verdict.detail


@pytest.mark.parametrize(("least", "ok"), [(0.875, True), (0.9, False)])
def test_accuracy_on_the_label(least: float, ok: bool) -> None:
    (verdict,) = do({"y": STUDENT}, CLASSES, metric="accuracy", min=least)
    assert (verdict.metric, verdict.against, verdict.measured, verdict.ok) == ("accuracy", "label", 0.875, ok)


@pytest.mark.parametrize(
    ("metric", "measured"), [("max_abs", 9.0), ("rmse", ((81 + 25) / 24) ** 0.5), ("l1", 14 / 24)]
)
def test_errors_of_a_regression(metric: str, measured: float) -> None:
    constant = {"max_abs": 2.4, "rmse": 2.3, "l1": 1.6}[metric]
    (verdict,) = teach({"y": STUDENT}, {"y": TEACHER}, metric=metric, max=constant)
    assert verdict.measured == pytest.approx(measured)
    assert verdict.ok is (measured <= constant)
    assert "worst at sample 7" in verdict.detail


def test_a_label_is_taken_in_the_dtype_of_the_output() -> None:
    (verdict,) = do({"y": TEACHER}, TEACHER.astype(np.float64), metric="l1", max=0.1)
    assert (verdict.measured, verdict.ok) == (0, True)


@pytest.mark.parametrize(
    ("student", "teacher", "kind"),
    [
        ({"logits": STUDENT}, {"logit": TEACHER}, "missing"),
        ({"y": STUDENT[:-1]}, {"y": TEACHER}, "samples"),
        ({"y": STUDENT[:, :2]}, {"y": TEACHER}, "shape"),
        ({"y": STUDENT.astype(np.float64)}, {"y": TEACHER}, "dtype"),
        ({"y": STUDENT * np.float32(np.nan)}, {"y": TEACHER}, "nan"),
        ({"y": STUDENT}, {"y": np.where(TEACHER > 0, np.float32(np.inf), TEACHER)}, "inf"),
        ({"y": STUDENT}, {"y": TEACHER * 0}, "zero"),
        ({"y": STUDENT[:0]}, {"y": TEACHER[:0]}, "empty"),
    ],
)
def test_what_cannot_be_compared_with_the_teacher_is_red(student: Any, teacher: Any, kind: str) -> None:
    verdicts = teach(student, teacher, metric="agreement", min=0.5)
    assert not passed(verdicts)
    assert kind in {v.metric for v in verdicts}


@pytest.mark.parametrize(
    ("student", "labels", "kind"),
    [
        ({"y": STUDENT}, CLASSES[:-1], "samples"),
        ({"y": STUDENT * np.float32(np.nan)}, CLASSES, "nan"),
        ({"y": STUDENT * 0}, CLASSES, "zero"),
    ],
)
def test_outputs_that_cannot_be_judged_are_red(student: Any, labels: Any, kind: str) -> None:
    verdicts = do(student, labels, metric="accuracy", min=0.5)
    assert not passed(verdicts)
    assert kind in {v.metric for v in verdicts}


@pytest.mark.parametrize(
    "labels", [CLASSES + 1, CLASSES - 1, CLASSES.astype(np.float32), CLASSES[:, None], np.ones(8, bool)]
)
def test_labels_that_are_no_class_numbers(labels: Any) -> None:
    with pytest.raises(RecipeError, match="labels"):
        do({"y": STUDENT}, labels, metric="accuracy", min=0.5)


def test_a_share_that_one_answer_reaches_is_vacuous() -> None:
    with pytest.raises(
        RecipeError, match=r"gates/task/min: 0.375 is met by always giving the commonest answer"
    ):
        do({"y": STUDENT}, CLASSES, metric="accuracy", min=0.375)
    with pytest.raises(RecipeError, match=r"gates/teacher/min: 0\.3"):
        teach({"y": STUDENT}, {"y": TEACHER}, metric="agreement", min=0.3)
    assert passed(do({"y": STUDENT}, CLASSES, metric="accuracy", min=0.376))


def test_an_error_that_a_constant_keeps_to_is_vacuous() -> None:
    with pytest.raises(RecipeError, match="would pass a constant"):
        teach({"y": STUDENT}, {"y": TEACHER}, metric="max_abs", max=2.51)


def test_every_output_that_fits_is_judged_unless_one_is_named() -> None:
    student = {"a": STUDENT, "b": TEACHER, "boxes": STUDENT[:, :, None]}
    teacher = {"a": TEACHER, "b": TEACHER, "boxes": TEACHER[:, :, None]}
    assert [v.output for v in teach(student, teacher, metric="agreement", min=0.9)] == ["a", "b"]
    assert [v.output for v in teach(student, teacher, metric="agreement", min=0.9, output="b")] == ["b"]
    assert [v.output for v in teach(student, teacher, metric="l1", max=0.1)] == ["a", "b", "boxes"]


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match=r'no output "logit"\. Did you mean "logits"'):
        teach({"logits": STUDENT}, {"logits": TEACHER}, metric="agreement", min=0.9, output="logit")


def test_shares_need_an_output_that_decides() -> None:
    with pytest.raises(RecipeError, match=r'there is "y" float32 \(8, 1\)'):
        do({"y": STUDENT[:, :1]}, CLASSES, metric="accuracy", min=0.9)
