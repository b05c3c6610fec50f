"""The two gates on the student itself: against its teacher, and against ground truth.

A figure is judged as measured; its 95 % interval stands beside it, and where the limit lies inside that interval the
words say how many samples would settle the question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import compare, decisions, intervals, means, project_metrics, sequences, tasks
from modelbuild.equivalence.compare import Fault, Side
from modelbuild.equivalence.demand import COSINE, SHARES, TOKENS, OutputDemand, QualityDemand
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
Demands = Sequence[QualityDemand]
NOTHING: Asked = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Gate:
    """A gate on the outputs of `side`, not yet cut to the lengths that `asked` tells of, against `truth`.

    `against(demand, name, values)` judges one output, cut, by a metric that is built in.
    """

    subject: Subject
    side: Side
    truth: Side
    asked: Asked
    against: Callable[[QualityDemand, str, Array], list[Verdict]]

    def verdicts(self, demands: Demands) -> tuple[Verdict, ...]:
        """On all demands; a fault that several of them meet is told once."""
        tasks.refuse_unknown(self.side.outputs, self.asked)
        cut = sequences.cut(self.side.outputs, self.asked)
        return tuple(dict.fromkeys(row for demand in demands for row in self._on(demand, cut)))

    def _on(self, demand: QualityDemand, cut: Arrays) -> Iterator[Verdict]:
        if demand.function is not None:
            yield from self._by_project(demand, cut)
            return
        for name in _outputs(self.side, demand, self.asked):
            yield from self.against(demand, name, cut[name])

    def _by_project(self, demand: QualityDemand, cut: Arrays) -> Iterator[Verdict]:
        _refuse_unknown(self.side, demand)
        faults = self._faults(cut)
        if not faults:
            found = project_metrics.judged(demand, cut, self.truth.outputs)
            if not isinstance(found, Fault):
                yield self.subject.row(demand.output or "", found)
                return
            faults = [found]
        yield from map(self.subject.faulty, faults)

    def _faults(self, cut: Arrays) -> list[Fault]:
        """What is wrong with either side; a truth may be the same everywhere, as its lengths may."""
        samples = next((len(each) for each in self.truth.outputs.values() if each.ndim), 0)
        truth = compare.reference_faults(self.truth, samples)
        lengths = [each.lengths for each in self.asked.values() if each.lengths is not None]
        found = [each for each in truth if each.kind not in ("zero", "constant")]
        found += compare.unfit(compare.known(Side(self.side.name, cut)), samples, lengths)
        if not cut:
            found.append(Fault("", "empty", f"{self.side.name} has no outputs: nothing was compared"))
        return found


def teacher_gate(
    target: str, student: Arrays, teacher: Arrays, demands: Demands, asked: Asked = NOTHING
) -> tuple[Verdict, ...]:
    """The student's outputs against the teacher's of the same name on the same samples; `asked` tells what they are.

    A metric of the project is given all outputs of both. Raises RecipeError for a demand that fits no output, or that
    a constant would meet.
    """
    subject = Subject(target, "", "", "", "teacher", "executed")
    taught = sequences.cut(teacher, asked)

    def against(demand: QualityDemand, name: str, values: Array) -> list[Verdict]:
        if name not in taught:
            has = ", ".join(f'"{each}"' for each in sorted(taught)) or "none"
            words = f'the teacher has no output "{name}": it has {has}, and names are matched exactly'
            return [subject.faulty(Fault(name, "missing", words))]
        truth, side = Side("the teacher", {name: taught[name]}), Side("the student", {name: values})
        return _judge(subject, name, truth, side, demand)

    gate = _Gate(subject, Side("the student", student), Side("the teacher", taught), asked, against)
    return gate.verdicts(demands)


def task_gate(
    target: str, student: Arrays, truths: Arrays, demands: Demands, asked: Asked = NOTHING
) -> tuple[Verdict, ...]:
    """The model's outputs against ground truth: that of output NAME is "label.NAME" or, without one, "label".

    It is class numbers (samples,) for accuracy, tokens (samples, tokens) for token_error_rate, else values in the
    shape of the output, which are taken in the output's dtype. A metric of the project is given all truths by their
    names. `asked` tells what the outputs are. Raises RecipeError for a demand that fits no output, that a constant
    would meet, or a truth that is missing or no such thing.
    """
    if not truths:
        raise RecipeError("gates/task", "the evaluation data has no label", "Name one, or leave the gate out")
    subject = Subject(target, "", "", "", "label", "executed")

    def against(demand: QualityDemand, name: str, values: Array) -> list[Verdict]:
        labels, side = _truth(name, truths, demand), Side("the model", {name: values})
        if demand.metric == "accuracy":
            return _accuracy(subject, name, side, labels, demand)
        if demand.metric == TOKENS:
            return _tokens(subject, name, side, labels, demand, asked.get(name, UNDECLARED), student)
        truth = Side("the label", {name: labels.astype(values.dtype)})
        return _judge(subject, name, truth, side, demand)

    gate = _Gate(subject, Side("the model", student), Side("the label", truths), asked, against)
    return gate.verdicts(demands)


def _truth(name: str, truths: Arrays, demand: QualityDemand) -> Array:
    found = tasks.truth_of(name, truths)
    if found is None:
        place, has = _at(demand, "output"), ", ".join(sorted(truths))
        fact = f'the evaluation data has neither "label.{name}" nor "label": it has {has}'
        raise RecipeError(place, fact, "Name an output that it has the truth of, or let the loader give it")
    return found


def _at(demand: QualityDemand, key: str) -> str:
    return f"{demand.place.rpartition('/')[0]}/{key}"


def _refuse_unknown(side: Side, demand: QualityDemand) -> None:
    names = sorted(side.outputs)
    if demand.output is not None and demand.output not in names:
        fact = f'{side.name} has no output "{demand.output}"'
        raise RecipeError(_at(demand, "output"), fact, did_you_mean(demand.output, names))


def _outputs(side: Side, demand: QualityDemand, asked: Asked) -> list[str]:
    """The outputs the metric is taken on: the one demanded, else all it fits."""
    _refuse_unknown(side, demand)
    chosen = sorted(side.outputs) if demand.output is None else [demand.output]
    wanted = _WANTED.get(demand.metric)
    if wanted is None:
        return chosen
    lengths = {each.lengths for each in asked.values()}
    fitting = [
        n for n in chosen if n not in lengths and wanted.fits(side.outputs[n], asked.get(n, UNDECLARED))
    ]
    if not fitting:
        fact = f"{demand.metric} needs an output of shape {wanted.shape}; there is {_shapes(side.outputs)}"
        said = [f'"{n}" is of kind {asked[n].kind}' for n in chosen if n in asked and asked[n].kind]
        fact += f", and gates/runtime/outputs says that {', '.join(said)}" if said else ""
        raise RecipeError(_at(demand, "output"), fact, wanted.remedy)
    return fitting


class _Wanted(NamedTuple):
    """What a metric can be taken of, in code and in words."""

    fits: Callable[[Array, OutputDemand], bool]
    shape: str
    remedy: str


_CLASSES = _Wanted(
    lambda output, asked: tasks.kind(output, asked) == "scores",
    "(samples, classes)",
    "Take max_abs, rmse or l1 for a model that does not classify",
)
_WANTED = {
    "accuracy": _CLASSES,
    "agreement": _CLASSES,
    TOKENS: _Wanted(
        lambda output, asked: tasks.kind(output, asked) == "sequence",
        "(samples, tokens) of whole numbers or (samples, tokens, classes)",
        'Say "kind": "sequence" in gates/runtime/outputs where it is one',
    ),
    COSINE: _Wanted(
        lambda output, asked: math.prod(output.shape[1:]) >= 2,
        "(samples, ...) of two values a sample or more",
        "Take rmse or l1 for single numbers, which have no direction",
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
    if demand.metric == COSINE:
        return _cosine(subject, name, truth, side, demand)
    return [subject.row(name, _error(name, base, values, demand))]


def _cosine(subject: Subject, name: str, truth: Side, side: Side, demand: QualityDemand) -> list[Verdict]:
    lacking = {each.name: means.without_direction(each.outputs[name]) for each in (truth, side)}
    words = {
        who: f'{who} is all zero in "{name}" at sample {where[0]} ({len(where)} in all): that has no direction'
        for who, where in lacking.items()
        if len(where)
    }
    if words:
        return [subject.faulty(Fault(name, "zero", each)) for each in words.values()]
    return [subject.row(name, means.cosine(name, truth.outputs[name], side.outputs[name], demand))]


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
    constant = _refuse_constant_tokens(labels, asked.padding, demand)
    lengths = None if asked.lengths is None else sequences.lengths(asked.lengths, outputs[asked.lengths])
    scores = tasks.scores(TOKENS, side.outputs[name], labels, asked, lengths)
    measured, interval = tasks.estimate(TOKENS, scores)
    worst = int(np.argmax(scores[:, 0]))
    about = f"{int(scores[:, 0].sum())} edits on {int(scores[:, 1].sum())} tokens; worst at sample {worst}"
    row = _limited(measured, interval, len(labels), about, demand)
    return [subject.row(name, row._replace(constant=constant))]


def _refuse_constant_tokens(labels: Array, padding: int | None, demand: QualityDemand) -> float:
    """The error rate of always giving the commonest sequence."""
    ends = sequences.ends(labels, padding)
    real = np.where(sequences.mask(ends, labels.shape[1]), labels, 0)
    rows, counts = np.unique(np.column_stack([ends, real]), axis=0, return_counts=True)
    ends_of, common = rows[np.argmax(counts)][0], rows[np.argmax(counts)][1:]
    same = np.broadcast_to(common, labels.shape)
    edits = sequences.edit_distances(same, np.full(len(labels), ends_of), labels, ends)
    constant = float(edits.sum() / ends.sum())
    if demand.met(constant):
        fact = (
            f"{demand.limit:g} is met by always giving the commonest sequence, which reaches {constant:.4g}"
        )
        raise RecipeError(demand.place, fact, f"Demand less than {constant:.4g}")
    return constant


def _share(right: Array, truth: Array, demand: QualityDemand) -> Row:
    constant = decisions.constant_share(np.asarray(truth))
    if demand.met(constant):
        fact = f"{demand.limit:g} is met by always giving the commonest answer, which reaches {constant:.4g}"
        raise RecipeError(demand.place, fact, f"Demand more than {constant:.4g}")
    measured, limit, n = float(np.mean(right)), demand.limit, len(right)
    interval = intervals.wilson(int(np.sum(right)), n)
    detail = f"{demand.metric} {measured:.4f} on {n} samples (95 %: {interval}), at least {limit:g} is due"
    if interval.low < limit <= interval.high:
        detail += means.unsettled(intervals.samples_for_rate(limit, measured))
    needed = measured if measured > constant else None
    return Row(demand.metric, measured, limit, demand.met(measured), detail, needed, *interval, constant)


def _error(name: str, base: Array, values: Array, demand: QualityDemand) -> Row:
    constant = constant_score(demand.metric, base)
    if demand.met(constant):
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
    return row._replace(constant=constant, needed=measured if measured < constant else None)


def _limited(
    measured: float, interval: Interval | None, samples: int, about: str, demand: QualityDemand
) -> Row:
    """An error held to its limit."""
    metric, limit = demand.metric, demand.limit
    known = "" if interval is None else f" on {samples} samples (95 %: {interval})"
    detail = f"{metric} {measured:.3g}{known}, limit {limit:.3g}; {about}"
    if interval is not None and interval.low <= limit < interval.high:
        detail += means.unsettled(intervals.samples_for_limit(interval, measured, limit, samples), "about ")
    low, high = interval or (None, None)
    return Row(metric, measured, limit, demand.met(measured), detail, measured, low, high)
