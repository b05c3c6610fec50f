"""How well a run solves the task, and whether that drifted from the reference: the figure of a task metric, paired.

What an output is decides the metric: scores over classes have an accuracy, sequences a token error rate, all else a
distance from the labels. Each sample adds a numerator and a weight (`scores`); the figure is their ratio over all
samples.

Where outputs have lengths (`lengths` in the manifest), a gate does this for each pair: `length_row` of both sides'
`sequences.lengths`; then, before it looks for NaN or measures, `sequences.blank` both with the shorter of the two
lengths (and the noise with the reference's). `scores` is given the lengths of the run that it scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import intervals
from modelbuild.equivalence.decisions import answers
from modelbuild.equivalence.demand import TOKENS, OutputDemand
from modelbuild.equivalence.intervals import Blocks, Figure, Floats, Interval, Table
from modelbuild.equivalence.metrics import difference
from modelbuild.equivalence.sequences import blank, edit_distances, ends, tokens
from modelbuild.errors import RecipeError, did_you_mean

Array = NDArray[Any]
METRICS: Mapping[str, tuple[str, ...]] = {
    "scores": ("accuracy",),
    "sequence": (TOKENS,),
    "regression": ("rmse", "l1", "max_abs"),
}
NO_LIMIT = "for information: no limit is set"
UNDECLARED = OutputDemand()


def truth_of(output: str, truths: Mapping[str, Array]) -> Array | None:
    """The ground truth of the output: "label.NAME" of a data set, else its "label", None where it has neither."""
    return truths.get(f"label.{output}", truths.get("label"))


class Shaped(Protocol):
    """An array, or what is read in chunks as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...


class Row(NamedTuple):
    """What a verdict says, without whom it is about; the fields are those of a verdict."""

    metric: str
    measured: float
    limit: float | None
    ok: bool
    detail: str
    needed: float | None = None
    low: float | None = None
    high: float | None = None
    constant: float | None = None
    more_is_better: bool | None = None


class Drift(NamedTuple):
    """A run's figure beside the reference's: `drift` is the first less the second, `low` to `high` its 95 % interval.

    `own` is the interval of `measured`. A largest value (max_abs) has no interval: no sample tells what the next may
    do; nor has what is not finite. `changed` of the `samples` score otherwise than in the reference.
    """

    measured: float
    reference: float
    drift: float
    low: float | None
    high: float | None
    own: Interval | None
    samples: int
    changed: int


def refuse_unknown(outputs: Mapping[str, Shaped], asked: Mapping[str, OutputDemand]) -> None:
    """Raises RecipeError where the manifest speaks of an output that is not there, or is no such thing."""
    for name, output in asked.items():
        for said, place in ((name, output.place), (output.lengths, f"{output.place}/lengths")):
            if said is not None and said not in outputs:
                raise RecipeError(place, f'there is no output "{said}"', did_you_mean(said, sorted(outputs)))
        found, wanted = outputs[name], _SHAPES.get(output.kind or "")
        if wanted is not None and not _is(output.kind, found):
            fact = f'"{name}" is {found.dtype} {tuple(found.shape)}, and {output.kind} are {wanted}'
            raise RecipeError(f"{output.place}/kind", fact, "Say what it is, or leave it out")
        if output.lengths is not None and len(found.shape) < 2:
            fact = f'"{name}" has shape {tuple(found.shape)}: a sample is one number and has no length'
            raise RecipeError(f"{output.place}/lengths", fact, "Leave it out")


_SHAPES = {
    "scores": "floating, (samples, classes) of two classes or more",
    "sequence": "whole numbers (samples, tokens) or floating (samples, tokens, classes)",
}


def _is(kind: str | None, output: Shaped) -> bool:
    form = (output.dtype.kind if output.dtype.kind not in "iu" else "i", len(output.shape))
    if kind == "scores":
        return form == ("f", 2) and output.shape[1] >= 2
    return kind == "regression" or form in {("i", 2), ("f", 3)}


def kind(output: Shaped, asked: OutputDemand = UNDECLARED) -> str:
    """What an output is, one of KINDS: as declared, else scores for a floating (samples, two or more), a sequence for
    whole numbers (samples, tokens), and a regression for the rest.
    """
    if asked.kind is not None:
        return asked.kind
    if _is("scores", output):
        return "scores"
    return "sequence" if len(output.shape) == 2 and output.dtype.kind in "iu" else "regression"


def metrics(output: Shaped, labels: Array, asked: OutputDemand = UNDECLARED) -> tuple[str, ...]:
    """The task metrics that can be taken of `output` against `labels`: none where they do not fit each other.

    Scores take class numbers (samples,), sequences token numbers (samples, tokens), a regression values in its shape.
    """
    what, whole = kind(output, asked), labels.dtype.kind in "iu"
    if labels.ndim == 0 or labels.size == 0 or len(labels) != output.shape[0]:
        return ()
    if what == "scores":
        fits = whole and labels.ndim == 1 and int(labels.min()) >= 0 and int(labels.max()) < output.shape[1]
    elif what == "sequence":
        fits = whole and labels.ndim == 2 and bool(ends(labels, asked.padding).any())
    else:
        fits = labels.dtype.kind in "fiu" and labels.shape == tuple(output.shape)
    return METRICS[what] if fits else ()


def scores(
    metric: str,
    output: Array,
    labels: Array,
    asked: OutputDemand = UNDECLARED,
    lengths: Array | None = None,
) -> Floats:
    """What each sample adds to numerator and weight of the figure, (samples, 2); both arrays hold the same samples.

    accuracy: 1 where the answer is the label, of 1. token_error_rate: edit distance to the label, of its tokens.
    rmse, l1: squared or absolute errors, of the number of values. max_abs: the largest error, of 1. `lengths` are the
    output's own (samples,): of a sequence no more is read, of a regression what follows is 0, as it should be in the
    label, so that ending early is no way to make fewer errors.
    """
    if metric == "accuracy":
        right = answers(output) == labels
        return np.stack([right, np.ones(len(right))], axis=1).astype(np.float64)
    if metric == TOKENS:
        return _token_errors(output, labels, asked, lengths)
    error = difference(labels, output if lengths is None else blank(output, lengths)).reshape(len(labels), -1)
    if metric == "max_abs":
        return np.stack([error.max(axis=1), np.ones(len(error))], axis=1)
    total = np.sum(error * error if metric == "rmse" else error, axis=1)
    return np.stack([total, np.full(len(error), error.shape[1])], axis=1)


def figure(metric: str) -> Figure:
    """The figure of (..., 2) sums of numerators and weights; NaN where nothing was weighed."""

    def of(sums: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = sums[..., 0] / sums[..., 1]
        return np.asarray(np.sqrt(ratio) if metric == "rmse" else ratio, dtype=np.float64)

    return of


def estimate(metric: str, found: Floats) -> tuple[float, Interval]:
    """The figure of the `scores` of one run, not max_abs, and its 95 % interval."""
    blocks = Blocks(2)
    blocks.add(found)
    of = figure(metric)
    return float(of(blocks.sums.sum(axis=0))), intervals.bootstrap(blocks.sums, of)


class Pairs:
    """The scores of a run and of the reference on the same samples, chunk by chunk, in constant memory."""

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._blocks = Blocks(4)
        self._largest = np.zeros(2)
        self._changed = self._only_run = self._only_reference = 0

    def add(self, run: Floats, reference: Floats) -> None:
        """Add the `scores` of the next samples."""
        ahead = run[:, 0] - reference[:, 0]
        self._changed += int(np.count_nonzero(ahead))
        self._only_run += int(np.count_nonzero(ahead > 0))
        self._only_reference += int(np.count_nonzero(ahead < 0))
        self._blocks.add(np.concatenate([run, reference], axis=1))
        if len(run):
            self._largest = np.maximum(self._largest, [run[:, 0].max(), reference[:, 0].max()])

    def drift(self) -> Drift:
        """Raises RecipeError where no sample was added."""
        samples = self._blocks.samples
        if not samples:
            raise RecipeError("evaluation", f"{self.metric} of no sample at all", "Give evaluation data")
        if self.metric == "max_abs":
            run, reference = map(float, self._largest)
            return Drift(run, reference, run - reference, None, None, None, samples, self._changed)
        sums, of = self._blocks.sums, figure(self.metric)
        run, reference = (float(of(sums[:, part].sum(axis=0))) for part in (slice(0, 2), slice(2, 4)))
        if not math.isfinite(run - reference):
            return Drift(run, reference, run - reference, None, None, None, samples, self._changed)
        paired, own = self._intervals(run)
        return Drift(run, reference, run - reference, *paired, own, samples, self._changed)

    def _intervals(self, measured: float) -> tuple[Interval, Interval]:
        """Of the drift and of the run's own figure."""
        samples, of = self._blocks.samples, figure(self.metric)
        if self.metric == "accuracy":
            table = Table(self._only_run, self._only_reference, samples)
            return intervals.paired_shares(table), intervals.wilson(round(measured * samples), samples)
        paired = intervals.bootstrap(self._blocks.sums, lambda sums: of(sums[..., :2]) - of(sums[..., 2:]))
        return paired, intervals.bootstrap(self._blocks.sums[:, :2], of)


def drift(metric: str, run_scores: Floats, reference_scores: Floats) -> Drift:
    """The drift of a whole evaluation set; `Pairs` is the same in chunks."""
    pairs = Pairs(metric)
    pairs.add(run_scores, reference_scores)
    return pairs.drift()


def drift_rows(metric: str, found: Drift) -> tuple[Row, Row]:
    """The run's figure and its drift, for information."""
    shown = f"{metric} {found.measured:.4f}"
    beside = f"the reference has {found.reference:.4f}"
    own = "" if found.own is None else f" (95 %: {found.own})"
    moved = "" if found.low is None else f" (95 %: {found.low:.4g} to {found.high:.4g})"
    few = ""
    if found.changed == 0:
        most = intervals.wilson(0, found.samples).high
        few = f"; no sample of {found.samples} changed, so at most {most:.2%} of all would"
    low, high = found.own or (None, None)
    return (
        Row(metric, found.measured, None, True, f"{shown}{own}, {beside}, {NO_LIMIT}", None, low, high),
        Row(
            f"{metric}_drift",
            found.drift,
            None,
            True,
            f"{shown}, {beside}: {found.drift:+.4f}{moved}{few}, {NO_LIMIT}",
            None,
            found.low,
            found.high,
        ),
    )


def flip_rate(flips: int, decided: int, limit: float) -> Row:
    """Whether the 95 % interval of the share of flipped decisions stays at or under `limit`; too few samples are red.

    `flips` of `decided`: those where the reference's lead exceeds the noise.
    """
    interval = intervals.wilson(flips, decided)
    ok = interval.high <= limit
    share = flips / decided if decided else 0.0
    detail = (
        f"{flips} of {decided} decisions flip: up to {interval.high:.4g} of all would (95 %), limit {limit:g}"
    )
    if not ok:
        enough = intervals.samples_for_rate(limit, share) if share < limit else None
        at_rate = "without a flip" if flips == 0 else "at this rate"
        detail += (
            f". The share itself is {share:.4g}: more samples would not help"
            if enough is None
            else f". That is too few samples: {enough} decided ones {at_rate} would do"
        )
    return Row("flip_rate", share, limit, ok, detail, interval.high, interval.low, interval.high)


def length_row(run: Array, reference: Array, against: str = "the reference") -> Row:
    """Samples of the run whose length is another than `against` has; none may be. Both are (samples,)."""
    where = np.flatnonzero(run != reference)
    detail = f"{len(where)} of {len(run)} samples have another length"
    if len(where):
        first = int(where[0])
        detail += f"; first at sample {first}: {int(run[first])}, {against} has {int(reference[first])}"
    return Row("length", float(len(where)), 0.0, not len(where), detail, float(len(where)))


def _token_errors(output: Array, labels: Array, asked: OutputDemand, lengths: Array | None) -> Floats:
    said = tokens(output)
    stop = ends(said, asked.padding) if lengths is None else np.clip(lengths, 0, said.shape[1])
    due = ends(labels, asked.padding)
    return np.stack([edit_distances(said, stop, labels, due), due], axis=1).astype(np.float64)
