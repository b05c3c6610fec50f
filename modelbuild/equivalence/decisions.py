"""What a classifier decides: top-1 answers, flips between two runs, agreement, accuracy and its drift.

An output decides when it is a floating matrix (samples, classes) of two or more classes. Of equal scores
the first class is the answer, in every count alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
