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
    return teacher_gate("m:reference", student, teacher, demand.qualities(gate, "teacher"))


def do(student: dict[str, Any], labels: Any, outputs: Any = (), **gate: Any) -> tuple[Verdict, ...]:
    truths = labels if isinstance(labels, dict) else {"label": labels}
    asked = demand.qualities(gate, "task")
    return task_gate("m:reference", student, truths, asked, demand.outputs(dict(outputs)))


@pytest.mark.parametrize(("least", "ok"), [(0.875, True), (0.876, False), (1, False)])
def test_agreement_with_the_teacher(least: float, ok: bool) -> None:
    (verdict,) = teach({"y": STUDENT}, {"y": TEACHER}, metric="agreement", min=least)
    assert (verdict.target, verdict.against, verdict.output) == ("m:reference", "teacher", "y")
    assert (verdict.measured, verdict.limit, verdict.ok) == (0.875, least, ok)
    assert verdict.evidence == "executed"
    assert "on 8 samples (95 %: 0.5291 to 0.9776)" in verdict.detail
    assert verdict.needed == 0.875
    assert (verdict.low, verdict.high) == pytest.approx((0.5291, 0.9776), abs=1e-4)


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
        ({"y": STUDENT[:, :2]}, {"y": TEACHER}, "length"),
        ({"y": STUDENT[:, :, None]}, {"y": TEACHER}, "shape"),
        ({"y": STUDENT.astype(np.float64)}, {"y": TEACHER}, "dtype"),
        ({"y": STUDENT * np.float32(np.nan)}, {"y": TEACHER}, "nan"),
        ({"y": STUDENT}, {"y": np.where(TEACHER > 0, np.float32(np.inf), TEACHER)}, "inf"),
        ({"y": STUDENT}, {"y": TEACHER * 0}, "zero"),
        ({"y": STUDENT[:0]}, {"y": TEACHER[:0]}, "empty"),
    ],
)
def test_what_cannot_be_compared_with_the_teacher_is_red(student: Any, teacher: Any, kind: str) -> None:
    verdicts = teach(student, teacher, metric="l1", max=0.5)
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


@pytest.mark.parametrize(
    ("least", "words"),
    [
        (0.6, "the limit lies inside that interval: 13 samples like these would settle it"),
        (0.95, "the limit lies inside that interval: 33 samples like these would settle it"),
        (0.875, "the limit lies at the end of what samples can tell apart"),
        (0.5, None),
        (0.99, None),
    ],
)
def test_a_share_says_how_many_samples_its_limit_needs(least: float, words: str | None) -> None:
    (verdict,) = do({"y": STUDENT}, CLASSES, metric="accuracy", min=least)
    assert words is None or verdict.detail.endswith(words)
    assert ("settle" in verdict.detail or "tell apart" in verdict.detail) is (words is not None)


def test_a_limit_on_a_share_that_no_model_below_chance_could_need() -> None:
    wrong = np.roll(TEACHER, 1, axis=1)
    (verdict,) = do({"y": wrong}, CLASSES, metric="accuracy", min=0.9)
    assert (verdict.measured, verdict.ok, verdict.needed) == (0, False, None)
    (verdict,) = teach({"y": -TEACHER}, {"y": TEACHER}, metric="l1", max=0.1)
    assert verdict.measured is not None
    assert verdict.needed is None


@pytest.mark.parametrize("metric", ["rmse", "l1"])
def test_an_error_has_an_interval_and_says_how_many_samples_its_limit_needs(metric: str) -> None:
    generator = np.random.default_rng(1)
    base = 10 * generator.normal(size=(100, 3)).astype(np.float32)
    values = base + generator.normal(size=(100, 3)).astype(np.float32)
    (verdict,) = teach({"y": values}, {"y": base}, metric=metric, max=1.01)
    assert verdict.low is not None
    assert verdict.measured is not None
    assert verdict.high is not None
    assert verdict.low < verdict.measured < verdict.high
    assert verdict.high - verdict.low == pytest.approx(
        4 * np.sqrt(0.5 if metric == "rmse" else 0.363) / 17.3, rel=0.2
    )
    assert verdict.needed == verdict.measured
    assert f"on 100 samples (95 %: {verdict.low:.4g} to {verdict.high:.4g})" in verdict.detail
    spans = verdict.low <= 1.01 < verdict.high
    assert ("would settle it" in verdict.detail) is spans
    (sure,) = teach({"y": values}, {"y": base}, metric=metric, max=2)
    assert "settle" not in sure.detail
    (close,) = teach({"y": values}, {"y": base}, metric=metric, max=verdict.measured * 1.01)
    assert close.detail.endswith("samples like these would settle it")
    assert "inside that interval: about " in close.detail


def test_a_largest_error_has_no_interval_and_says_what_share_may_be_beyond() -> None:
    (verdict,) = teach({"y": STUDENT}, {"y": TEACHER}, metric="max_abs", max=1)
    assert (verdict.low, verdict.high, verdict.needed) == (None, None, None)  # a constant is nearer
    assert "1 of 8 samples are beyond the limit, and up to 47.09% of all (95 %)" in verdict.detail
    (verdict,) = teach({"y": TEACHER * 1.01}, {"y": TEACHER}, metric="max_abs", max=1)
    assert verdict.needed == verdict.measured
    assert "0 of 8 samples are beyond the limit, and up to 32.44% of all (95 %)" in verdict.detail


@pytest.mark.parametrize("gate", [{"metric": "agreement", "min": 0.9}, {"metric": "l1", "max": 0.1}])
def test_an_output_the_teacher_calls_otherwise_is_the_teachers_lack(gate: dict[str, Any]) -> None:
    student, teacher = {"logits": TEACHER, "more": TEACHER}, {"logit": TEACHER, "more": TEACHER}
    missing, fine = teach(student, teacher, **gate)
    assert (missing.output, missing.metric, missing.ok) == ("logits", "missing", False)
    assert missing.detail == (
        'the teacher has no output "logits": it has "logit", "more", and names are matched exactly'
    )
    assert (fine.output, fine.ok) == ("more", True)
    with pytest.raises(RecipeError, match='the student has no output "logit"'):
        teach(student, teacher, **gate, output="logit")


def test_the_task_speaks_of_the_model() -> None:
    (verdict,) = do({"y": STUDENT[:-1]}, CLASSES, metric="accuracy", min=0.5)
    assert "the model has fewer samples" in verdict.detail
    with pytest.raises(RecipeError, match='the model has no output "z"'):
        do({"y": STUDENT}, CLASSES, metric="accuracy", min=0.5, output="z")


# -- cosine

UNIT = np.array([[3, 4], [0, 2], [-5, 0], [1, 1]], np.float64)


def turned(vectors: Any, degrees: list[float]) -> Any:
    """Each vector turned, and of another length, which does not matter."""
    turns = [np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]) for a in np.radians(degrees)]
    return np.stack(
        [(n + 1.0) * turn @ vector for n, (turn, vector) in enumerate(zip(turns, vectors, strict=True))]
    )


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 2), (4, 2, 1)])
def test_the_cosine_is_the_mean_over_the_samples_of_that_of_two_vectors(shape: tuple[int, ...]) -> None:
    angles = [0.0, 60.0, 90.0, 180.0]
    student, teacher = turned(UNIT, angles).reshape(shape), UNIT.reshape(shape)
    (verdict,) = teach({"y": student}, {"y": teacher}, metric="cosine", min=0.9)
    assert (verdict.metric, verdict.against, verdict.ok) == ("cosine", "teacher", False)
    assert verdict.measured == pytest.approx((1 + 0.5 + 0 - 1) / 4, abs=1e-12)
    assert "at least 0.9 is due; worst at sample 3: -1" in verdict.detail
    assert verdict.low is not None
    assert verdict.low < 0.125 < (verdict.high or 0)
    assert verdict.needed is None, "a constant is nearer"
    directions = UNIT / np.linalg.norm(UNIT, axis=1, keepdims=True)
    assert verdict.constant == pytest.approx(np.linalg.norm(directions.mean(axis=0)))
    (verdict,) = do({"y": student}, teacher, metric="cosine", min=0.9)
    assert (verdict.metric, verdict.against, verdict.ok) == ("cosine", "label", False)


def test_a_cosine_passes_from_its_limit_on_whatever_the_lengths() -> None:
    student = turned(UNIT, [10.0] * 4) * np.array([[1e-200], [1e200], [1], [1e300]])
    (verdict,) = teach({"y": student}, {"y": UNIT}, metric="cosine", min=float(np.cos(np.radians(10.01))))
    assert verdict.ok
    assert verdict.measured == pytest.approx(np.cos(np.radians(10)))
    assert verdict.needed == verdict.measured
    (verdict,) = teach({"y": student}, {"y": UNIT}, metric="cosine", min=float(np.cos(np.radians(9.99))))
    assert not verdict.ok


def test_a_cosine_that_a_constant_reaches_is_vacuous() -> None:
    near = np.array([[1.0, 0.1], [1, -0.1], [1, 0.2], [1, -0.2]])
    best = float(np.mean(1 / np.linalg.norm(near, axis=1)))  # along the first axis
    with pytest.raises(
        RecipeError, match=r'gates/teacher/min: 0\.98 would pass a constant in place of "y", which'
    ):
        teach({"y": near}, {"y": near}, metric="cosine", min=0.98)
    assert 0.98 < best < 0.99
    assert passed(teach({"y": near}, {"y": near}, metric="cosine", min=0.99))
    with pytest.raises(RecipeError, match="would pass a constant"):
        do({"y": near}, near, metric="cosine", min=best)


def test_what_is_all_zero_at_a_sample_has_no_direction() -> None:
    hole = UNIT.copy()
    hole[2] = 0
    (verdict,) = teach({"y": hole}, {"y": UNIT}, metric="cosine", min=0.9)
    assert (verdict.metric, verdict.measured, verdict.ok) == ("zero", None, False)
    assert verdict.detail == 'the student is all zero in "y" at sample 2 (1 in all): that has no direction'
    (verdict,) = teach({"y": UNIT}, {"y": hole}, metric="cosine", min=0.9)
    assert (verdict.metric, verdict.ok) == ("zero", False)
    assert "the teacher is all zero" in verdict.detail


def test_single_numbers_have_no_cosine() -> None:
    single = np.array([1.0, 2, 3, 4])
    both = {"y": UNIT, "z": single, "w": single[:, None]}
    assert [v.output for v in teach(both, both, metric="cosine", min=0.9)] == ["y"]
    with pytest.raises(RecipeError, match=r"cosine needs an output of shape .* two values a sample or more"):
        teach({"z": single}, {"z": single}, metric="cosine", min=0.9)


# -- several demands, several truths


def test_every_demand_of_a_list_has_verdicts_of_its_own() -> None:
    gate = [
        {"metric": "agreement", "min": 0.9},
        {"metric": "l1", "max": 0.7},
        {"metric": "cosine", "min": 0.8},
    ]
    found = teacher_gate("m:reference", {"y": STUDENT}, {"y": TEACHER}, demand.qualities(gate, "teacher"))
    assert [(v.metric, v.ok) for v in found] == [("agreement", False), ("l1", True), ("cosine", True)]
    with pytest.raises(RecipeError, match=r"gates/teacher/1/max: 9 would pass a constant"):
        bad = demand.qualities([gate[0], {"metric": "l1", "max": 9}], "teacher")
        teacher_gate("m:reference", {"y": STUDENT}, {"y": TEACHER}, bad)


def test_a_fault_that_several_demands_meet_is_told_once() -> None:
    gate = demand.qualities([{"metric": "rmse", "max": 0.5}, {"metric": "l1", "max": 0.5}], "teacher")
    (verdict,) = teacher_gate("m:reference", {"y": STUDENT * np.float32(np.nan)}, {"y": TEACHER}, gate)
    assert (verdict.metric, verdict.ok) == ("nan", False)


def test_the_truth_of_an_output_is_its_own_or_else_the_label() -> None:
    student = {"a": TEACHER, "b": STUDENT}
    wrong = np.roll(CLASSES, 1)
    truths = {"label": wrong, "label.a": CLASSES}
    a, b = do(student, truths, metric="accuracy", min=0.5)
    assert (a.output, a.measured) == ("a", 1.0)
    assert (b.output, b.measured) == ("b", 1 / 8)
    (b,) = do(student, {"label.b": CLASSES, "label.a": wrong}, metric="accuracy", min=0.5, output="b")
    assert b.measured == 0.875


def test_an_output_without_any_truth_is_an_error_where_it_is_gated() -> None:
    student = {"a": TEACHER, "b": STUDENT}
    words = r'gates/task/output: the evaluation data has neither "label.b" nor "label": it has label.a'
    for more in ({}, {"output": "b"}):
        with pytest.raises(RecipeError, match=words):
            do(student, {"label.a": CLASSES}, metric="accuracy", min=0.5, **more)
    (found,) = do(student, {"label.a": CLASSES}, metric="accuracy", min=0.5, output="a")
    assert found.ok
    with pytest.raises(RecipeError, match="gates/task: the evaluation data has no label"):
        do(student, {}, metric="accuracy", min=0.5)


def test_a_named_output_is_all_that_the_teacher_needs() -> None:
    student = {"a": TEACHER, "more": STUDENT}
    (found,) = teach(student, {"a": TEACHER, "else": TEACHER}, metric="l1", max=0.1, output="a")
    assert found.ok


def test_every_figure_says_what_a_constant_reaches() -> None:
    (share,) = do({"y": STUDENT}, CLASSES, metric="accuracy", min=0.5)
    assert share.constant == 0.375
    (error,) = teach({"y": STUDENT}, {"y": TEACHER}, metric="max_abs", max=2)
    assert error.constant == 2.5
    (rate,) = do({"y": SAID}, DUE, TEXT, metric="token_error_rate", max=0.2)
    assert rate.constant is not None
    assert rate.constant > 0.2
    assert {share.more_is_better, error.more_is_better, rate.more_is_better} == {None}


SAID = np.array([[1, 2, 3, 0], [4, 5, 0, 0], [7, 1, 6, 0], [2, 2, 2, 2]])
DUE = np.array([[1, 2, 3, 0], [4, 5, 6, 0], [7, 6, 0, 0], [2, 2, 2, 2]])
TEXT = {"y": {"kind": "sequence", "padding": 0}}


@pytest.mark.parametrize(("most", "ok"), [(0.2, True), (1 / 6, True), (0.16, False), (0, False)])
def test_the_token_error_rate_on_the_label(most: float, ok: bool) -> None:
    (verdict,) = do({"y": SAID}, DUE, TEXT, metric="token_error_rate", max=most)
    assert (verdict.metric, verdict.against, verdict.limit, verdict.ok) == (
        "token_error_rate",
        "label",
        most,
        ok,
    )
    assert verdict.measured == verdict.needed == pytest.approx(2 / 12)
    assert verdict.low is not None
    assert verdict.low < 2 / 12 < (verdict.high or 0)
    assert "2 edits on 12 tokens; worst at sample 1" in verdict.detail


def test_a_sequence_of_scores_is_judged_by_its_best_classes() -> None:
    scores = np.eye(9, dtype=np.float32)[SAID]
    (verdict,) = do({"y": scores, "z": TEACHER}, DUE, TEXT, metric="token_error_rate", max=0.2)
    assert (verdict.output, verdict.measured) == ("y", pytest.approx(2 / 12))


def test_a_sequence_ends_at_its_length() -> None:
    said = np.where(SAID == 0, 9, SAID)
    outputs = {"y": {**TEXT["y"], "lengths": "n"}}
    student = {"y": said, "n": np.array([3, 2, 3, 4])}
    (verdict,) = do(student, DUE, outputs, metric="token_error_rate", max=0.2)
    assert verdict.measured == pytest.approx(2 / 12)
    for n in ([[3], [2], [3], [4]], [3, 2, 3, 4]):  # whole numbers, and yet no sequence of their own
        assert len(do({**student, "n": np.array(n)}, DUE, outputs, metric="token_error_rate", max=0.2)) == 1


def test_a_regression_ends_at_its_length() -> None:
    base = np.arange(1.0, 13, dtype=np.float32).reshape(2, 3, 2)
    base[0, 2] = 0
    said = base.copy()
    said[0, 2] = np.nan
    outputs = {"y": {"lengths": "n"}}
    (verdict,) = do({"y": said, "n": np.array([2, 3])}, base, outputs, metric="l1", max=0.1, output="y")
    assert (verdict.metric, verdict.measured) == ("l1", 0)
    (verdict,) = do({"y": said, "n": np.array([1, 3])}, base, outputs, metric="l1", max=0.1, output="y")
    assert (verdict.measured, verdict.ok) == (pytest.approx(7 / 12), False)
    asked, gate = (
        demand.outputs(outputs),
        demand.qualities({"metric": "l1", "max": 0.1, "output": "y"}, "teacher"),
    )
    both = {"y": said, "n": np.array([2, 3])}
    (verdict,) = teacher_gate("m:reference", both, both, gate, asked)
    assert (verdict.metric, verdict.measured) == ("l1", 0)


@pytest.mark.parametrize("labels", [DUE[:, 0], DUE.astype(np.float32), DUE[:, :, None]])
def test_labels_that_are_no_sequences(labels: Any) -> None:
    with pytest.raises(RecipeError, match="the labels are"):
        do({"y": SAID}, labels, TEXT, metric="token_error_rate", max=0.2)


@pytest.mark.parametrize(("said", "kind"), [(SAID[:-1], "samples"), (SAID * 0 + 3, "constant")])
def test_sequences_that_cannot_be_judged_are_red(said: Any, kind: str) -> None:
    verdicts = do({"y": said}, DUE, TEXT, metric="token_error_rate", max=0.2)
    assert not passed(verdicts)
    assert {v.metric for v in verdicts} == {kind}


def test_a_rate_that_one_sequence_reaches_is_vacuous() -> None:
    due = np.array([[1, 2, 3, 0], [1, 2, 3, 0], [1, 2, 3, 4], [5, 6, 0, 0]])
    with pytest.raises(
        RecipeError, match=r"gates/task/max: 0\.4 is met by .* the commonest sequence, which reaches 0\.33"
    ):
        do({"y": SAID}, due, TEXT, metric="token_error_rate", max=0.4)
    assert not passed(do({"y": SAID}, due, TEXT, metric="token_error_rate", max=0.3))
    with pytest.raises(RecipeError, match="the labels hold padding alone"):
        do({"y": SAID}, due * 0, TEXT, metric="token_error_rate", max=0.2)


def test_a_token_error_rate_needs_a_sequence() -> None:
    with pytest.raises(RecipeError, match=r'there is "y" float32 \(8, 3\)\. Say "kind": "sequence"'):
        do({"y": STUDENT}, DUE, metric="token_error_rate", max=0.2)


def test_what_the_manifest_calls_a_regression_decides_nothing() -> None:
    student = {"y": STUDENT, "z": TEACHER}
    asked = {"y": {"kind": "regression"}}
    assert [v.output for v in do(student, CLASSES, asked, metric="accuracy", min=0.5)] == ["z"]
    with pytest.raises(RecipeError, match="needs an output of shape"):
        do({"y": STUDENT}, CLASSES, asked, metric="accuracy", min=0.5)
    with pytest.raises(RecipeError, match='there is no output "x"'):
        do(student, CLASSES, {"x": {"kind": "scores"}}, metric="accuracy", min=0.5)
