"""The errors of every pair of arrays read side by side: the sums that `metrics` are functions of, all in one pass."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.histograms import ErrorHistogram, cells
from modelbuild.equivalence.metrics import METRICS, Sums, difference
from modelbuild.equivalence.sequences import mask
from modelbuild.equivalence.streams import Floats, Piece

LARGEST, RELATIVE = range(2)  # the most of all pieces
SQUARED, ABSOLUTE, PRODUCT = range(3)  # added up over pieces
LEAN = ("max_abs", "rmse")


class Errors:
    """Of `sides`, the first being the reference. Against it every metric is known, and a histogram of the errors.

    Of two others those in LEAN, and all where `every` is true.
    """

    def __init__(self, sides: int, every: bool = False) -> None:
        self.every = every
        self.histograms = [ErrorHistogram() for _ in range(sides)]
        self._count = 0
        self._most = np.zeros((2, sides, sides))  # [base, other]
        self._total = np.zeros((3, sides, sides))
        self._squares = np.zeros(sides)
        self._worst = np.zeros((sides, sides), np.int64)
        self._error, self._spare = np.empty(0), np.empty(0)
        self._cells = np.empty(0, np.int64)

    def add(self, piece: Piece) -> None:
        """Add the errors of all pairs in `piece`."""
        if len(self._error) < piece.size:
            self._error, self._spare = np.empty(piece.size), np.empty(piece.size)
            self._cells = np.empty(piece.size, np.int64)
        distinct = len(piece.raw)
        most, total = np.zeros((2, distinct, distinct)), np.zeros((3, distinct, distinct))
        for each in range(distinct):
            total[PRODUCT, each, each] = piece.squares[each]
            if not piece.finite[each]:  # the same bits are no agreement then
                most[:, each, each] = total[:, each, each] = np.nan
        with np.errstate(all="ignore"):
            for one, two in combinations(range(distinct), 2):
                self._pair(piece, one, two, most, total)
            self._fold(piece, most, total)

    def metrics(self, base: int, other: int) -> Mapping[str, float]:
        """The metrics known of `other` against `base`."""
        known = METRICS if self.every or base == 0 else LEAN
        sums = self._sums(base, other)
        return {metric: METRICS[metric](sums) for metric in known}

    def worst(self, one: int, other: int) -> int:
        """The first sample with the largest error."""
        return int(self._worst[one, other])

    def _sums(self, base: int, other: int) -> Sums:
        at = base, other
        return Sums(
            count=self._count,
            largest=float(self._most[LARGEST][at]),
            largest_relative=float(self._most[RELATIVE][at]),
            absolute=float(self._total[ABSOLUTE][at]),
            squared=float(self._total[SQUARED][at]),
            reference=float(self._squares[base]),
            other=float(self._squares[other]),
            product=float(self._total[PRODUCT][at]),
        )

    def _pair(self, piece: Piece, one: int, two: int, most: Floats, total: Floats) -> None:
        error, spare = self._between(piece, one, two), self._spare[: piece.size]
        both = ([one, two], [two, one])
        most[LARGEST][both] = np.maximum.reduce(error)
        total[SQUARED][both] = np.add.reduce(np.multiply(error, error, out=spare))
        if one == 0:
            where = cells(error, self._cells[: piece.size])
            for side in np.flatnonzero(piece.which == two):
                self.histograms[side].add(where)
        if self.every or one == 0:
            total[ABSOLUTE][both] = np.add.reduce(error)
            product = np.multiply(piece.wide[one], piece.wide[two], out=spare)
            total[PRODUCT][both] = np.add.reduce(product)
        for base, other in ((one, two), (two, one)):
            if self.every or base == 0:
                found = self._relative(error, piece.wide[base])
                most[RELATIVE, base, other] = np.nan if np.isnan(most[LARGEST, base, other]) else found

    def _between(self, piece: Piece, one: int, two: int) -> Floats:
        """|x - r| value by value; 0 past the end of the shorter of two rows."""
        if piece.whole_numbers:
            error = difference(piece.raw[one], piece.raw[two])
        else:
            error = np.subtract(piece.wide[two], piece.wide[one], out=self._error[: piece.size])
            np.abs(error, out=error)
        if piece.lengths is not None:
            shorter = np.minimum(piece.lengths[one], piece.lengths[two])
            rows = error.reshape(len(shorter), piece.positions, -1)
            rows[~mask(shorter, piece.positions)] = 0
        return error

    def _relative(self, error: Floats, base: Floats) -> float:
        """The largest error / |base|, where 0 / 0 is no error. Of numbers: a NaN would be passed over."""
        ratio = np.abs(base, out=self._spare[: len(base)])
        largest = float(np.fmax.reduce(np.divide(error, ratio, out=ratio)))
        return 0.0 if np.isnan(largest) else largest

    def _fold(self, piece: Piece, most: Floats, total: Floats) -> None:
        """Give each pair of sides what its pair of distinct pieces has."""
        one, two = piece.which[:, None], piece.which[None, :]
        larger = np.triu(most[LARGEST][one, two] > self._most[LARGEST])
        self._note_worst(piece, larger)
        np.maximum(self._most, most[:, one, two], out=self._most)
        self._total += total[:, one, two]
        self._squares += np.asarray(piece.squares)[piece.which]
        self._count += piece.size
        for side in np.flatnonzero(piece.which == 0):
            self.histograms[side].add_zeros(piece.size)

    def _note_worst(self, piece: Piece, larger: NDArray[np.bool_]) -> None:
        known = dict[tuple[int, int], int]()
        for one, two in np.argwhere(larger):
            pair = int(piece.which[one]), int(piece.which[two])
            if pair not in known:
                known[pair] = (piece.start + int(np.argmax(self._between(piece, *pair)))) // piece.width
            self._worst[one, two] = self._worst[two, one] = known[pair]
