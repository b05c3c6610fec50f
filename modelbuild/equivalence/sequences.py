"""Sequences and other outputs whose samples differ in length: where each ends, and how far tokens are from others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.demand import OutputDemand
from modelbuild.errors import RecipeError
from modelbuild.tensors import Arrays

Array = NDArray[Any]
_CELLS = 1 << 20  # of the table of edit distances that is held at a time


def lengths(name: str, values: Array) -> NDArray[np.int64]:
    """Each sample's length from the output `name`, (samples,) or (samples, 1) whole numbers.

    Raises RecipeError for anything else.
    """
    if values.dtype.kind not in "iu" or values.shape not in {(len(values),), (len(values), 1)}:
        fact = f'"{name}" gives lengths, and is {values.dtype} {values.shape}'
        raise RecipeError("gates/runtime/outputs", fact, "One whole number a sample is a length")
    return values.reshape(-1).astype(np.int64)


def mask(lengths: Array, positions: int) -> NDArray[np.bool_]:
    """(samples, positions), true before each sample's end."""
    return np.asarray(np.arange(positions) < lengths[:, None])


def blank(values: Array, lengths: Array) -> Array:
    """A copy of (samples, positions, ...) with 0 past each sample's end, so that nothing there counts or is seen."""
    kept = mask(lengths, values.shape[1])
    return np.where(kept.reshape(*kept.shape, *(1,) * (values.ndim - 2)), values, values.dtype.type(0))


def cut(outputs: Arrays, asked: Mapping[str, OutputDemand]) -> dict[str, Array]:
    """All outputs, each that has lengths blanked past them. Raises RecipeError where lengths are no such thing."""

    def shorter(name: str, values: Array) -> Array:
        by = asked[name].lengths if name in asked else None
        if by is None or by not in outputs or values.ndim < 2 or len(outputs[by]) != len(values):
            return values  # what does not fit is a fault of its own wherever outputs are compared
        return blank(values, lengths(by, outputs[by]))

    return {name: shorter(name, values) for name, values in outputs.items()}


def tokens(output: Array) -> Array:
    """(samples, tokens) of a sequence: the whole numbers themselves, or the best class at each position."""
    return np.asarray(np.argmax(output, axis=2)) if output.ndim == 3 else output


def ends(sequences: Array, padding: int | None) -> NDArray[np.int64]:
    """How long each row is without the padding at its end; padding further inside is a token like others."""
    if padding is None:
        return np.full(len(sequences), sequences.shape[1], dtype=np.int64)
    real = sequences != padding
    return np.where(real.any(axis=1), real.shape[1] - np.argmax(real[:, ::-1], axis=1), 0)


def edit_distances(one: Array, one_ends: Array, other: Array, other_ends: Array) -> NDArray[np.int64]:
    """How many tokens to insert, delete or replace to make each row of `one`, up to its end, that of `other`.

    Levenshtein's distance by the recurrence of Wagner and Fischer, JACM 21 (1974) 168-173, for many rows at once.
    """
    step = max(1, _CELLS // (other.shape[1] + 1))
    found = [
        _distances(one[s : s + step], one_ends[s : s + step], other[s : s + step], other_ends[s : s + step])
        for s in range(0, len(one), step)
    ]
    return np.concatenate(found) if found else np.zeros(0, dtype=np.int64)


def _distances(one: Array, one_ends: Array, other: Array, other_ends: Array) -> NDArray[np.int64]:
    samples = np.arange(len(one))
    columns = np.arange(other.shape[1] + 1)
    row = np.broadcast_to(columns, (len(one), len(columns)))
    found = np.where(one_ends == 0, other_ends, 0)
    for position in range(int(one_ends.max(initial=0))):
        other_token = other != one[:, position : position + 1]
        best = np.empty_like(row, subok=False)
        best[:, 0] = position + 1
        best[:, 1:] = np.minimum(row[:, 1:] + 1, row[:, :-1] + other_token)
        # An insertion costs one a column: the running minimum, less its column, carries it along the row.
        row = np.minimum.accumulate(best - columns, axis=1) + columns
        found = np.where(one_ends == position + 1, row[samples, other_ends], found)
    return np.asarray(found, dtype=np.int64)
