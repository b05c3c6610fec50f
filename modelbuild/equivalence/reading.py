"""One output of the reference and of every run, read once: all that the gate wants to know of it.

Runs that have the reference's shape and dtype are read side by side, the others each alone, for what they hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import compare, sequences, tasks
from modelbuild.equivalence.clusters import REFERENCE
from modelbuild.equivalence.compare import Contents, Output
from modelbuild.equivalence.decisions import Decisions
from modelbuild.equivalence.demand import OutputDemand
from modelbuild.equivalence.errors import Errors
from modelbuild.equivalence.streams import Floats, Piece, Together
from modelbuild.equivalence.tasks import Pairs
from modelbuild.tensors import Source

Array = NDArray[Any]
Sources = Mapping[str, Source]  # by side: REFERENCE, and runs


@dataclass(frozen=True, slots=True)
class Asked:
    """What is wanted of an output beside the errors of each pair.

    `margin` gives the lead of the reference up to which a flip of two sides is noise. `every`: of two runs all
    metrics, not only the lean ones. `output` is what the manifest says of it, `labels` are None where there are none.
    """

    margin: Callable[[str, str], float]
    every: bool = False
    output: OutputDemand = tasks.UNDECLARED
    labels: Array | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """`sides`, the reference first, were read side by side; `known` has every side that has the output at all.

    `decisions` is None where the output decides nothing. `scores` are by run and metric of the task, `lengths` by
    side where samples have lengths.
    """

    sides: Sequence[str]
    known: Mapping[str, Output]
    errors: Errors
    decisions: Decisions | None = None
    scores: Mapping[str, Sequence[Pairs]] = field(default_factory=dict)
    lengths: Mapping[str, Array] = field(default_factory=dict)

    def place(self, side: str) -> int:
        return self.sides.index(side)


def read(sources: Sources, ends: Sources, asked: Asked) -> Reading:
    """Read one output: `sources` are the sides that have it, `ends` those that have the output with its lengths.

    Raises RecipeError for lengths that are none.
    """
    truth = sources[REFERENCE]
    fits = compare.header(truth).comparable
    beside = [side for side in sorted(sources) if side != REFERENCE and fits and _alike(sources[side], truth)]
    alone = {side: compare.read(each) for side, each in sources.items() if side not in (REFERENCE, *beside)}
    if not fits:
        return Reading((), {**alone, REFERENCE: compare.header(truth)}, Errors(0))
    sides = (REFERENCE, *beside)
    lengths = _lengths(truth, ends, sides, asked.output.lengths)
    return _together({side: sources[side] for side in sides}, lengths, asked, alone)


def _alike(one: Source, other: Source) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype


def _lengths(truth: Source, ends: Sources, sides: Sequence[str], name: str | None) -> dict[str, Array]:
    """Where each side's samples end; a side whose lengths cannot be had is read to the end."""
    if name is None:
        return {}
    found = {}
    for side in sides:
        source = ends.get(side)
        if source is None or not _alike(source, ends[REFERENCE]) or source.shape[0] != truth.shape[0]:
            found[side] = np.full(truth.shape[0], truth.shape[1], np.int64)
        else:
            values = source.read(0, math.prod(source.shape)).reshape(source.shape)
            found[side] = sequences.lengths(name, np.array(values))
    return found


def _together(
    sources: Sources, lengths: Mapping[str, Array], asked: Asked, alone: Mapping[str, Output]
) -> Reading:
    sides, truth = tuple(sources), sources[REFERENCE]
    contents, errors = Contents([*sources.values()]), Errors(len(sides), asked.every)
    decisions = None
    if tasks.kind(truth, asked.output) == "scores":
        decisions = Decisions(np.array([[asked.margin(one, two) for two in sides] for one in sides]))
    scores = _Scores(sides, truth, asked)
    whole = decisions is not None or bool(scores.metrics)
    for piece in Together([*sources.values()], whole, [lengths[side] for side in sides] if lengths else None):
        contents.add(piece)
        errors.add(piece)
        with np.errstate(all="ignore"):  # NaN and Inf are faults of their own
            if decisions is not None:
                decisions.add(piece)
            scores.add(piece)
    read = {side: contents.of(place) for place, side in enumerate(sides)}
    return Reading(sides, {**alone, **read}, errors, decisions, scores.pairs, lengths)


class _Scores:
    """What each run's samples score in the task, beside what the reference's do."""

    def __init__(self, sides: Sequence[str], truth: Source, asked: Asked) -> None:
        self._labels, self._asked, self._shape = asked.labels, asked.output, truth.shape[1:]
        self.metrics = () if asked.labels is None else tasks.metrics(truth, asked.labels, asked.output)
        self.pairs = {side: [Pairs(metric) for metric in self.metrics] for side in sides[1:]}

    def add(self, piece: Piece) -> None:
        for place, metric in enumerate(self.metrics):
            found = [self._scored(piece, metric, each) for each in range(len(piece.raw))]
            for pairs, distinct in zip(self.pairs.values(), piece.which[1:], strict=True):
                pairs[place].add(found[distinct], found[0])

    def _scored(self, piece: Piece, metric: str, distinct: int) -> Floats:
        assert self._labels is not None
        rows = piece.raw[distinct].reshape(-1, *self._shape)
        ends = None if piece.lengths is None else piece.lengths[distinct]
        return tasks.scores(metric, rows, self._labels[piece.samples], self._asked, ends)
