"""The two gates on the student itself: against its teacher, and against ground truth.

A figure is judged as measured; its 95 % interval stands beside it, and where the limit lies inside that interval the
words say how many samples would settle the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import compare, decisions, intervals, sequences, tasks
from modelbuild.equivalence.compare import Fault, Side
from modelbuild.equivalence.demand import SHARES, TOKENS, OutputDemand, QualityDemand, within
from modelbuild.equivalence.intervals import Interval
from modelbuild.equivalence.metrics import METRICS, sums, worst_sample
from modelbuild.equivalence.subject import Subject
from modelbuild.equivalence.tasks import UNDECLARED, Row
from modelbuild.equivalence.tolerance import constant_score
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.tensors import Arrays

Array = NDArray[Any]
Asked = Mapping[str, OutputDemand]
NOTHING: Asked = MappingProxyType({})


def teacher_gate(
    target: str, student: Arrays, teacher: Arrays, demand: QualityDemand, asked: Asked = NOTHING
) -> tuple[Verdict, ...]:
    """The student's outputs against the teacher's of the same name on the same samples; `asked` tells what they are.

    Raises RecipeError for a demand that fits no output, or that a constant would meet.
    """
    subject = Subject(target, "", "", "", "teacher", "executed")
    taught = sequences.cut(teacher, asked)

    def against(name: str, values: Array) -> list[Verdict]:
        if name not in taught:
            has = ", ".join(f'"{each}"' for each in sorted(taught)) or "none"
            words = f'the teacher has no output "{name}": it has {has}, and names are matched exactly'
            return [subject.faulty(Fault(name, "missing", words))]
        truth, side = Side("the teacher", {name: taught[name]}), Side("the student", {name: values})
        return _judge(subject, name, truth, side, demand)

    return _each_output(Side("the student", student), demand, asked, against)


def task_gate(
    target: str, student: Arrays, labels: Array, demand: QualityDemand, asked: Asked = NOTHING
) -> tuple[Verdict, ...]:
    """The model's outputs against `labels`: class numbers (samples,) for accuracy, tokens (samples, tokens) for
    token_error_rate, else values in the shape of the output, which are taken in the output's dtype.

    `asked` tells what the outputs are. Raises RecipeError for a demand that fits no output, that a constant would
    meet, or labels that are no such thing.
    """
    subject = Subject(target, "", "", "", "label", "executed")

    def against(name: str, values: Array) -> list[Verdict]:
        side = Side("the model", {name: values})
        if demand.metric == "accuracy":
            return _accuracy(subject, name, side, labels, demand)
        if demand.metric == TOKENS:
            return _tokens(subject, name, side, labels, demand, asked.get(name, UNDECLARED), student)
        truth = Side("the label", {name: labels.astype(values.dtype)})
        return _judge(subject, name, truth, side, demand)

    return _each_output(Side("the model", student), demand, asked, against)


def _each_output(
    side: Side, demand: QualityDemand, asked: Asked, against: Callable[[str, Array], list[Verdict]]
) -> tuple[Verdict, ...]:
    tasks.refuse_unknown(side.outputs, asked)
    cut = sequences.cut(side.outputs, asked)
    return tuple(verdict for name in _outputs(side, demand, asked) for verdict in against(name, cut[name]))


def _outputs(side: Side, demand: QualityDemand, asked: Asked) -> list[str]:
    """The outputs the metric is taken on: the one demanded, else all it fits."""
    names = sorted(side.outputs)
    place = f"{demand.place.rpartition('/')[0]}/output"
    if demand.output is not None and demand.output not in names:
        fact = f'{side.name} has no output "{demand.output}"'
        raise RecipeError(place, fact, did_you_mean(demand.output, names))
    chosen = names if demand.output is None else [demand.output]
    wanted = _WANTED.get(demand.metric)
    if wanted is None:
        return chosen
    kinds = {name: tasks.kind(side.outputs[name], asked.get(name, UNDECLARED)) for name in chosen}
    lengths = {each.lengths for each in asked.values()}
    fitting = [name for name in chosen if kinds[name] == wanted[0] and name not in lengths]
    if not fitting:
        fact = f"{demand.metric} needs an output of shape {wanted[1]}; there is {_shapes(side.outputs)}"
        said = [
            f'"{name}" is of kind {asked[name].kind}' for name in chosen if name in asked and asked[name].kind
        ]
        fact += f", and gates/runtime/outputs says that {', '.join(said)}" if said else ""
        raise RecipeError(place, fact, wanted[2])
    return fitting


_CLASSES = ("scores", "(samples, classes)", "Take max_abs, rmse or l1 for a model that does not classify")
_WANTED = {
    "accuracy": _CLASSES,
    "agreement": _CLASSES,
    TOKENS: (
        "sequence",
        "(samples, tokens) of whole numbers or (samples, tokens, classes)",
        'Say "kind": "sequence" in gates/runtime/outputs where it is one',
    ),
}


def _shapes(outputs: Arrays) -> str:
    return (
        ", ".join(f'"{name}" {array.dtype} {array.shape}' for name, array in sorted(outputs.items()))
        or "none"
    )


def _judge(subject: Subject, name: str, truth: Side, side: Side, demand: QualityDemand) -> list[Verdict]:
    base, values = truth.outputs[name], side.outputs[name]
    found = compare.faults(truth, side) or compare.reference_faults(truth, len(values))
    if found:
        return [subject.faulty(fault) for fault in found]
    if demand.metric in SHARES.values():
        right = decisions.answers(base) == decisions.answers(values)
        return [subject.row(name, _share(right, decisions.answers(base), demand))]
    return [subject.row(name, _error(name, base, values, demand))]


def _accuracy(subject: Subject, name: str, side: Side, labels: Array, demand: QualityDemand) -> list[Verdict]:
    scores = side.outputs[name]
    found = compare.reference_faults(side, len(labels) if labels.ndim else 0)
    if found:
        return [subject.faulty(fault) for fault in found]
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        fact = f"the labels are {labels.dtype} in shape {labels.shape}, not class numbers in shape (samples,)"
        raise RecipeError(demand.place, fact, "Have the data loader give one class number a sample")
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        fact = f'the labels go from {labels.min()} to {labels.max()}, "{name}" has {scores.shape[1]} classes'
        raise RecipeError(demand.place, fact, "Class numbers count from 0")
    return [subject.row(name, _share(decisions.answers(scores) == labels, labels, demand))]


def _tokens(
    subject: Subject,
    name: str,
    side: Side,
    labels: Array,
    demand: QualityDemand,
    asked: OutputDemand,
    outputs: Arrays,
) -> list[Verdict]:
    found = compare.reference_faults(side, len(labels) if labels.ndim else 0)
    if found:
        return [subject.faulty(fault) for fault in found]
    if labels.dtype.kind not in "iu" or labels.ndim != 2:
        fact = f"the labels are {labels.dtype} in shape {labels.shape}, not token numbers (samples, tokens)"
        raise RecipeError(demand.place, fact, "Have the data loader give one sequence of tokens a sample")
    if not sequences.ends(labels, asked.padding).any():
        raise RecipeError(demand.place, "the labels hold padding alone", "Give the tokens that are due")
    _refuse_constant_tokens(labels, asked.padding, demand)
    lengths = None if asked.lengths is None else sequences.lengths(asked.lengths, outputs[asked.lengths])
    scores = tasks.scores(TOKENS, side.outputs[name], labels, asked, lengths)
    measured, interval = tasks.estimate(TOKENS, scores)
    worst = int(np.argmax(scores[:, 0]))
    about = f"{int(scores[:, 0].sum())} edits on {int(scores[:, 1].sum())} tokens; worst at sample {worst}"
    return [subject.row(name, _limited(measured, interval, len(labels), about, demand))]


def _refuse_constant_tokens(labels: Array, padding: int | None, demand: QualityDemand) -> None:
    ends = sequences.ends(labels, padding)
    real = np.where(sequences.mask(ends, labels.shape[1]), labels, 0)
    rows, counts = np.unique(np.column_stack([ends, real]), axis=0, return_counts=True)
    ends_of, common = rows[np.argmax(counts)][0], rows[np.argmax(counts)][1:]
    same = np.broadcast_to(common, labels.shape)
    edits = sequences.edit_distances(same, np.full(len(labels), ends_of), labels, ends)
    constant = float(edits.sum() / ends.sum())
    if within(TOKENS, constant, demand.limit):
        fact = (
            f"{demand.limit:g} is met by always giving the commonest sequence, which reaches {constant:.4g}"
        )
        raise RecipeError(demand.place, fact, f"Demand less than {constant:.4g}")


def _share(right: Array, truth: Array, demand: QualityDemand) -> Row:
    constant = decisions.constant_share(np.asarray(truth))
    if within(demand.metric, constant, demand.limit):
        fact = f"{demand.limit:g} is met by always giving the commonest answer, which reaches {constant:.4g}"
        raise RecipeError(demand.place, fact, f"Demand more than {constant:.4g}")
    measured, limit, n = float(np.mean(right)), demand.limit, len(right)
    interval = intervals.wilson(int(np.sum(right)), n)
    detail = f"{demand.metric} {measured:.4f} on {n} samples (95 %: {interval}), at least {limit:g} is due"
    if interval.low < limit <= interval.high:
        detail += _unsettled(intervals.samples_for_rate(limit, measured))
    needed = measured if measured > constant else None
    return Row(
        demand.metric, measured, limit, within(demand.metric, measured, limit), detail, needed, *interval
    )


def _error(name: str, base: Array, values: Array, demand: QualityDemand) -> Row:
    constant = constant_score(demand.metric, base)
    if within(demand.metric, constant, demand.limit):
        fact = f'{demand.limit:g} would pass a constant in place of "{name}", which reaches {constant:.3g}'
        raise RecipeError(demand.place, fact, f"Demand less than {constant:.3g}")
    measured = METRICS[demand.metric](sums(base, values))
    scores = tasks.scores(demand.metric, values, base)
    about = f"worst at sample {worst_sample(base, values)}"
    if demand.metric == "max_abs":
        beyond = int(np.sum(scores[:, 0] > demand.limit))
        most = intervals.wilson(beyond, len(base)).high
        about += f"; {beyond} of {len(base)} samples are beyond the limit, and up to {most:.2%} of all (95 %)"
        row = _limited(measured, None, len(base), about, demand)
    else:
        row = _limited(measured, tasks.estimate(demand.metric, scores)[1], len(base), about, demand)
    return row if measured < constant else row._replace(needed=None)


def _limited(
    measured: float, interval: Interval | None, samples: int, about: str, demand: QualityDemand
) -> Row:
    """An error held to its limit."""
    metric, limit = demand.metric, demand.limit
    known = "" if interval is None else f" on {samples} samples (95 %: {interval})"
    detail = f"{metric} {measured:.3g}{known}, limit {limit:.3g}; {about}"
    if interval is not None and interval.low <= limit < interval.high:
        detail += _unsettled(intervals.samples_for_limit(interval, measured, limit, samples), "about ")
    low, high = interval or (None, None)
    return Row(metric, measured, limit, within(metric, measured, limit), detail, measured, low, high)


def _unsettled(samples: int | None, about: str = "") -> str:
    """What to say of an interval that the limit lies inside."""
    if samples is None:
        return "; the limit lies at the end of what samples can tell apart"
    return f"; the limit lies inside that interval: {about}{samples} samples like these would settle it"
