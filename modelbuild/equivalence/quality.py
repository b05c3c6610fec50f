"""The two gates on the student itself: against its teacher, and against ground truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import compare, decisions
from modelbuild.equivalence.compare import Side
from modelbuild.equivalence.demand import SHARES, QualityDemand, within
from modelbuild.equivalence.gate import Subject
from modelbuild.equivalence.metrics import METRICS, sums, worst_sample
from modelbuild.equivalence.tolerance import constant_score
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.tensors import Arrays

Array = NDArray[Any]


def teacher_gate(target: str, student: Arrays, teacher: Arrays, demand: QualityDemand) -> tuple[Verdict, ...]:
    """The student's outputs against the teacher's of the same name on the same samples.

    Raises RecipeError for a demand that fits no output, or that a constant would meet.
    """
    subject = Subject(target, "", "", "", "teacher", "executed")

    def against(name: str) -> list[Verdict]:
        truth = {name: teacher[name]} if name in teacher else teacher
        return _judge(subject, name, Side("the teacher", truth), student[name], demand)

    return _each_output(student, demand, against)


def task_gate(target: str, student: Arrays, labels: Array, demand: QualityDemand) -> tuple[Verdict, ...]:
    """The student's outputs against `labels`: class numbers (samples,) for accuracy, else values in the shape
    of the output, which are taken in the output's dtype.

    Raises RecipeError for a demand that fits no output, that a constant would meet, or labels of no class.
    """
    subject = Subject(target, "", "", "", "label", "executed")

    def against(name: str) -> list[Verdict]:
        if demand.metric == "accuracy":
            return _accuracy(subject, name, student[name], labels, demand)
        truth = Side("the label", {name: labels.astype(student[name].dtype)})
        return _judge(subject, name, truth, student[name], demand)

    return _each_output(student, demand, against)


def _each_output(
    student: Arrays, demand: QualityDemand, against: Callable[[str], list[Verdict]]
) -> tuple[Verdict, ...]:
    return tuple(verdict for name in _outputs(student, demand) for verdict in against(name))


def _outputs(student: Arrays, demand: QualityDemand) -> list[str]:
    """The outputs the metric is taken on: the one demanded, else all it fits."""
    names = sorted(student)
    place = f"{demand.place.rpartition('/')[0]}/output"
    if demand.output is not None and demand.output not in names:
        raise RecipeError(
            place, f'the student has no output "{demand.output}"', did_you_mean(demand.output, names)
        )
    chosen = names if demand.output is None else [demand.output]
    if demand.metric not in SHARES.values():
        fitting = chosen
    else:
        fitting = [name for name in chosen if decisions.decides(student[name])]
    if not fitting:
        fact = f"{demand.metric} needs an output of shape (samples, classes); there is {_shapes(student)}"
        raise RecipeError(place, fact, "Take max_abs, rmse or l1 for a model that does not classify")
    return fitting


def _shapes(student: Arrays) -> str:
    return (
        ", ".join(f'"{name}" {array.dtype} {array.shape}' for name, array in sorted(student.items()))
        or "none"
    )


def _judge(subject: Subject, name: str, truth: Side, values: Array, demand: QualityDemand) -> list[Verdict]:
    found = compare.faults(truth, Side("the student", {name: values}))
    found = found or compare.reference_faults(truth, len(values))
    if found:
        return [subject.faulty(fault) for fault in found]
    base = truth.outputs[name]
    if demand.metric == "agreement":
        measured = decisions.agreement(base, values)
        return [_share(subject, name, measured, decisions.answers(base), demand)]
    return [_error(subject, name, base, values, demand)]


def _accuracy(
    subject: Subject, name: str, scores: Array, labels: Array, demand: QualityDemand
) -> list[Verdict]:
    own = {name: scores}
    found = compare.reference_faults(Side("the student", own), len(labels) if labels.ndim else 0)
    if found:
        return [subject.faulty(fault) for fault in found]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        fact = f"the labels are {labels.dtype} in shape {labels.shape}, not class numbers in shape (samples,)"
        raise RecipeError(demand.place, fact, "Have the data loader give one class number a sample")
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        fact = f'the labels go from {labels.min()} to {labels.max()}, "{name}" has {scores.shape[1]} classes'
        raise RecipeError(demand.place, fact, "Class numbers count from 0")
    return [_share(subject, name, decisions.accuracy(scores, labels), labels, demand)]


def _share(subject: Subject, name: str, measured: float, truth: Array, demand: QualityDemand) -> Verdict:
    constant = decisions.constant_share(np.asarray(truth))
    if within(demand.metric, constant, demand.limit):
        fact = f"{demand.limit:g} is met by always giving the commonest answer, which reaches {constant:.4g}"
        raise RecipeError(demand.place, fact, f"Demand more than {constant:.4g}")
    ok = within(demand.metric, measured, demand.limit)
    detail = f"{demand.metric} {measured:.4f} on {len(truth)} samples, at least {demand.limit:g} is due"
    return subject.says(name, demand.metric, measured, demand.limit, ok, detail)


def _error(subject: Subject, name: str, base: Array, values: Array, demand: QualityDemand) -> Verdict:
    constant = constant_score(demand.metric, base)
    if within(demand.metric, constant, demand.limit):
        fact = f'{demand.limit:g} would pass a constant in place of "{name}", which reaches {constant:.3g}'
        raise RecipeError(demand.place, fact, f"Demand less than {constant:.3g}")
    measured = METRICS[demand.metric](sums(base, values))
    ok = within(demand.metric, measured, demand.limit)
    worst = worst_sample(base, values)
    detail = f"{demand.metric} {measured:.3g}, limit {demand.limit:.3g}; worst at sample {worst}"
    return subject.says(name, demand.metric, measured, demand.limit, ok, detail)
