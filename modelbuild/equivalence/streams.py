"""Arrays of one shape and dtype read side by side, a piece at a time, so that memory does not grow with them.

Pieces that are equal bit for bit are one: what follows is computed once for each distinct piece, and runs that agree
cost next to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.sequences import blank
from modelbuild.tensors import Source

Array = NDArray[Any]
Floats = NDArray[np.float64]
CHUNK = 1 << 15  # values of each side at a time: a dozen sides in float64 fit in a processor's cache
PREFIX = 64  # bytes that tell most pieces apart


@dataclass(frozen=True, slots=True)
class Piece:
    """One range of values of all sides. All of it is good until the next piece is read.

    `which` [sides] names the distinct piece of each side, in the order met, so that the first side's is 0. Of the
    distinct ones `raw` are the values as they are, `wide` the same in float64, `squares` the sum of their squares and
    `finite` whether all are finite; `lengths` [rows] is where each row ends, None where rows have no length of their
    own. The range begins at value `start`, and a sample has `width` values: where samples were asked for whole, it is
    `rows` of them. Where these have lengths, they are `positions` long.
    """

    start: int
    width: int
    positions: int
    which: NDArray[np.intp]
    raw: Sequence[Array]
    wide: Sequence[Floats]
    squares: Sequence[float]
    finite: Sequence[bool]
    lengths: Sequence[Array] | None = None

    @property
    def size(self) -> int:
        return len(self.raw[0])

    @property
    def whole_numbers(self) -> bool:
        return self.raw[0].dtype.kind != "f"

    @property
    def samples(self) -> slice:
        """The samples in it, of which the last may be cut short."""
        return slice(self.start // self.width, -(-(self.start + self.size) // self.width))

    def rows(self, distinct: int) -> Array:
        """(samples, values) of whole samples, as they are."""
        return self.raw[distinct].reshape(-1, self.width)


class Together:
    """The `sources`, all of one shape and dtype and not empty, as pieces of about `chunk` values.

    `whole`: a piece is so many whole samples, at least one. `lengths` [side] of [samples] says where each sample of
    an output (samples, positions, ...) ends: what follows is read as 0, and samples are whole.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        whole: bool = False,
        lengths: Sequence[Array] | None = None,
        chunk: int = CHUNK,
    ) -> None:
        self.sources, self.lengths = sources, lengths
        shape = sources[0].shape
        self.width, self.values = math.prod(shape[1:]), math.prod(shape)
        self.positions = shape[1] if len(shape) > 1 else 1
        self.step = max(1, chunk // self.width) * self.width if whole or lengths is not None else chunk
        self._wide = [np.empty(0)] * len(sources)
        self._spare = np.empty(0)

    def __iter__(self) -> Iterator[Piece]:
        for start in range(0, self.values, self.step):
            stop = min(start + self.step, self.values)
            with np.errstate(all="ignore"):
                piece = self._piece(start, stop)
            yield piece

    def _piece(self, start: int, stop: int) -> Piece:
        ends = self._ends(start, stop)
        read = [self._read(side, start, stop, ends) for side in range(len(self.sources))]
        first, which = _distinct(read, ends)
        raw = [read[side] for side in first]
        wide = [self._widened(place, each) for place, each in enumerate(raw)]
        squares = [self._squares(each) for each in wide]
        finite = [
            math.isfinite(total) or bool(np.isfinite(each).all())
            for total, each in zip(squares, wide, strict=True)
        ]
        lengths = None if ends is None else [ends[side] for side in first]
        return Piece(start, self.width, self.positions, which, raw, wide, squares, finite, lengths)

    def _ends(self, start: int, stop: int) -> list[Array] | None:
        if self.lengths is None:
            return None
        rows = slice(start // self.width, stop // self.width)
        return [np.asarray(each[rows]) for each in self.lengths]

    def _read(self, side: int, start: int, stop: int, ends: list[Array] | None) -> Array:
        values = self.sources[side].read(start, stop)
        if len(values) != stop - start:
            raise ValueError(f"{stop - start} values were asked for, {len(values)} came")
        if ends is None:
            return values
        rows = values.reshape(-1, *self.sources[side].shape[1:])
        return np.ascontiguousarray(blank(rows, ends[side])).reshape(-1)

    def _widened(self, place: int, values: Array) -> Floats:
        if values.dtype == np.float64:
            return values
        if len(self._wide[place]) < len(values):
            self._wide[place] = np.empty(len(values))
        wide = self._wide[place][: len(values)]
        np.copyto(wide, values)
        return wide

    def _squares(self, wide: Floats) -> float:
        if len(self._spare) < len(wide):
            self._spare = np.empty(len(wide))
        return float(np.add.reduce(np.multiply(wide, wide, out=self._spare[: len(wide)])))


def _distinct(pieces: Sequence[Array], ends: Sequence[Array] | None) -> tuple[list[int], NDArray[np.intp]]:
    """The first side that has each distinct piece, and which of them each side has."""
    first, which = list[int](), np.empty(len(pieces), np.intp)
    alike = dict[bytes, list[int]]()
    for side, piece in enumerate(pieces):
        bits = piece.view(np.uint8)
        key = bits[:PREFIX].tobytes() + (b"" if ends is None else ends[side].tobytes())
        known = alike.setdefault(key, [])
        found = next((n for n in known if bool((pieces[first[n]].view(np.uint8) == bits).all())), None)
        if found is None:
            found = len(first)
            first.append(side)
            known.append(found)
        which[side] = found
    return first, which
