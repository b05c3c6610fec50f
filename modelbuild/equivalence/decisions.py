"""What a classifier decides: top-1 answers, flips between two runs, agreement, accuracy and its drift.

An output decides when it is a floating matrix (samples, classes) of two or more classes. Of equal scores
the first class is the answer, in every count alike. `Decisions` counts the flips of all pairs of runs in one pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.histograms import LeadHistogram, bins
from modelbuild.equivalence.streams import Floats, Piece

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Flips:
    """Samples with another answer: `count` of the `decided` ones, and `near_ties` that were too close to call.

    `first` is the index of the first of the `count`, None when there is none.
    """

    count: int
    decided: int
    near_ties: int
    first: int | None


def decides(output: Array) -> bool:
    """Whether the rows of `output` are scores over classes."""
    return output.dtype.kind == "f" and output.ndim == 2 and output.shape[1] >= 2


def answers(scores: Array) -> NDArray[np.intp]:
    """The top-1 class of each row of (samples, classes)."""
    return np.asarray(np.argmax(scores, axis=1), dtype=np.intp)


def margins(scores: Array) -> NDArray[np.float64]:
    """By how much the best class leads the second, per row, in the unit of the scores."""
    best = np.partition(scores.astype(np.float64), -2, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def flips(reference: Array, one: Array, other: Array, limit: float) -> Flips:
    """Samples that `one` and `other` answer differently, where the reference's margin exceeds `limit`.

    Below that margin the allowed noise alone may change the answer.
    """
    decided = margins(reference) > limit
    differ = answers(one) != answers(other)
    where = np.flatnonzero(differ & decided)
    return Flips(
        len(where), int(decided.sum()), int((differ & ~decided).sum()), int(where[0]) if len(where) else None
    )


class Decisions:
    """The flips of all pairs of sides, the first being the reference, and how far each moves the reference's leads.

    `margins` [side, side] is the lead of the reference up to which a changed answer of the pair is noise.
    """

    def __init__(self, margins: Floats) -> None:
        self.leads = [LeadHistogram() for _ in margins]
        self._margins, self._kinds = margins, np.unique(margins)
        self._decided = np.zeros(len(self._kinds), np.int64)
        self._count, self._ties = np.zeros(margins.shape, np.int64), np.zeros(margins.shape, np.int64)
        self._first = np.full(margins.shape, -1)

    def add(self, piece: Piece) -> None:
        """Count the piece's samples, which are whole."""
        given = np.stack([answers(piece.rows(each)) for each in range(len(piece.raw))])
        best, second, lead = _leading(piece.wide[0].reshape(-1, piece.width), given[0])
        self._decided += (lead > self._kinds[:, None]).sum(axis=1)
        self._count_flips(given[piece.which], lead, piece.samples.start)
        drifts = [_drift(wide.reshape(-1, piece.width), best, second, lead) for wide in piece.wide]
        leads = bins(lead)
        for side, each in enumerate(piece.which):
            self.leads[side].add(leads, drifts[each]) if each else self.leads[side].add_unmoved(len(lead))

    def flips(self, one: int, other: int) -> Flips:
        pair = one, other
        kind = int(np.searchsorted(self._kinds, self._margins[pair]))
        first = int(self._first[pair])
        return Flips(
            int(self._count[pair]),
            int(self._decided[kind]),
            int(self._ties[pair]),
            first if first >= 0 else None,
        )

    def _count_flips(self, given: NDArray[np.intp], lead: Floats, start: int) -> None:
        """`given` [side, sample] are the answers. Nearly all samples are answered alike by all: done with at once."""
        apart = np.flatnonzero((given != given[0]).any(axis=0))
        if not len(apart):
            return
        some = given[:, apart]
        differ = some[:, None] != some[None, :]
        decided = lead[apart] > self._margins[:, :, None]
        flipped = differ & decided
        self._count += flipped.sum(axis=2)
        self._ties += (differ & ~decided).sum(axis=2)
        fresh = (self._first < 0) & flipped.any(axis=2)
        self._first[fresh] = start + apart[flipped.argmax(axis=2)[fresh]]


def _leading(rows: Floats, best: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """The best class of each row, the next best, and the lead of the one over the other."""
    others = rows.copy()
    np.put_along_axis(others, best[:, None], -np.inf, axis=1)
    second = np.argmax(others, axis=1)
    return best, second, _taken(rows, best) - _taken(rows, second)


def _drift(rows: Floats, best: NDArray[np.intp], second: NDArray[np.intp], lead: Floats) -> Floats:
    """How far the lead of the reference's best class over its next best is from `lead`, its own."""
    return np.abs(_taken(rows, best) - _taken(rows, second) - lead)


def _taken(rows: Floats, classes: NDArray[np.intp]) -> Floats:
    return np.asarray(rows[np.arange(len(rows)), classes])


def agreement(one: Array, other: Array) -> float:
    """Share of samples with the same answer, 0 to 1."""
    return float(np.mean(answers(one) == answers(other)))


def accuracy(scores: Array, labels: Array) -> float:
    """Share of samples whose answer is the label, 0 to 1; labels are class numbers of shape (samples,)."""
    return float(np.mean(answers(scores) == labels))


def drift(measured: float, reference: float) -> float:
    """What a run's task metric gained (above 0) or lost against the reference's, in the metric's own unit."""
    return measured - reference


def constant_share(decided: NDArray[np.integer[Any]]) -> float:
    """What a model that always gives one answer would reach at best: the share of the commonest answer.

    Never below one over the number of classes, so a limit above it is also above chance.
    """
    return float(np.unique(decided, return_counts=True)[1].max() / len(decided))
