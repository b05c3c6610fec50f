"""Outputs whose samples differ in length, read in pieces as the gate compares them: 0 past the end of each sample."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import sequences
from modelbuild.equivalence.demand import OutputDemand
from modelbuild.tensors import Source

Array = NDArray[Any]


class Trimmed:
    """The `source`, [samples, positions, ...], with 0 from position `ends` [samples] of each sample on."""

    def __init__(self, source: Source, ends: Array) -> None:
        self.shape, self.dtype = source.shape, source.dtype
        self._source, self._ends = source, ends

    def read(self, start: int, stop: int) -> Array:
        values = self._source.read(start, stop)
        position = np.arange(start, start + len(values)) // math.prod(self.shape[2:])
        sample, position = np.divmod(position, self.shape[1])
        return np.where(position < self._ends[sample], values, self.dtype.type(0))


def trimmed(name: str, asked: Mapping[str, OutputDemand], *sides: Mapping[str, Source]) -> list[Source]:
    """The output `name` of each of `sides`, the reference first, all cut where the shortest of them ends.

    They have one shape. A side whose lengths cannot be had does not cut: that is a fault of its own wherever these
    are compared. Raises RecipeError where what gives the reference's lengths is no such thing.
    """
    found, by = [side[name] for side in sides], asked[name].lengths if name in asked else None
    due = sides[0].get(by) if by is not None else None
    if by is None or due is None or len(found[0].shape) < 2 or due.shape[:1] != found[0].shape[:1]:
        return found
    given = [side[by] for side in sides if by in side]
    alike = [each for each in given if (each.shape, each.dtype) == (due.shape, due.dtype)]
    ends = np.minimum.reduce([sequences.lengths(by, _whole(each)) for each in alike])
    return [Trimmed(each, ends) for each in found]


def _whole(source: Source) -> Array:
    return np.array(source.read(0, math.prod(source.shape))).reshape(source.shape)
