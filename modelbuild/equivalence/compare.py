"""Whether two sets of named outputs may be compared at all. Each doubt is a fault with its own words.

Nothing is matched by likeness, cast, broadcast, cut or skipped: each of those has let a broken model pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.streams import Piece, Together
from modelbuild.tensors import Arrays, Source, held

Array = NDArray[Any]
ORDERED = "fiub"  # kinds of dtype whose values can be compared


@dataclass(frozen=True, slots=True)
class Fault:
    """Why `output` cannot be compared; `kind` is one word for machines, `words` are for people."""

    output: str
    kind: str
    words: str


class Unnumbers(NamedTuple):
    """NaN, or Inf, in `samples` samples, the `first` of them being this one."""

    first: int
    samples: int


class Output(NamedTuple):
    """What is known of one output of one side; `constant` is its only value where it has no other."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    nan: Unnumbers | None = None
    inf: Unnumbers | None = None
    constant: Any = None

    @property
    def comparable(self) -> bool:
        """Whether there is anything, of a kind that can be compared."""
        return self.dtype.kind in ORDERED and bool(self.shape) and 0 not in self.shape


@dataclass(frozen=True, slots=True)
class Side:
    """One set of outputs and what to call it in words."""

    name: str
    outputs: Arrays


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a side's outputs once they have been read."""

    name: str
    outputs: Mapping[str, Output]


def known(side: Side) -> Known:
    """Read all of `side`."""
    return Known(side.name, {name: read(source) for name, source in held(side.outputs).items()})


def header(source: Source) -> Output:
    """What is known of it unread."""
    return Output(tuple(source.shape), source.dtype)


def read(source: Source) -> Output:
    """What is known of it once it has been read to the end."""
    about = header(source)
    if not about.comparable:
        return about
    contents = Contents([source])
    for piece in Together([source]):
        contents.add(piece)
    return contents.of(0)


def faults(reference: Side, other: Side) -> tuple[Fault, ...]:
    """Every reason not to compare `other` with `reference`; none means that all their outputs match in name,
    shape and dtype and hold finite numbers.
    """
    return faults_between(known(reference), known(other))


def faults_between(reference: Known, other: Known) -> tuple[Fault, ...]:
    """As `faults`, of sides that have been read."""
    found: list[Fault] = []
    if not reference.outputs:
        found.append(Fault("", "empty", f"{reference.name} has no outputs: nothing was compared"))
    for name in sorted({*reference.outputs, *other.outputs}):
        found += _name_faults(name, reference, other) or _pair_faults(name, reference, other)
    return tuple(found)


def reference_faults(side: Side, samples: int | None) -> tuple[Fault, ...]:
    """What is wrong with a reference by itself, `samples` being how many the evaluation set has, if there is one."""
    return unfit(known(side), samples)


def unfit(side: Known, samples: int | None, lengths: Sequence[str] = ()) -> tuple[Fault, ...]:
    """As `reference_faults`, of a side that has been read. The outputs that are `lengths` may all be the same."""
    found: list[Fault] = []
    for name, output in sorted(side.outputs.items()):
        count = output.shape[0] if output.shape else 0
        found += _array_faults(name, side.name, output) or [
            *_count_faults(name, side.name, count, count if samples is None else samples),
            *_constant_faults(name, side.name, output, name in lengths),
        ]
    return tuple(found)


class Contents:
    """What the pieces of `sources`, read together, tell of each: NaN, Inf, and whether it is ever the same value."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._about = [header(source) for source in sources]
        self._nan = [_Count() for _ in sources]
        self._inf = [_Count() for _ in sources]
        self._constant: list[Any] = [None] * len(sources)
        self._seen = [False] * len(sources)

    def add(self, piece: Piece) -> None:
        for side, each in enumerate(piece.which):
            if not piece.finite[each]:
                self._nan[side].add(piece, np.isnan(piece.wide[each]))
                self._inf[side].add(piece, np.isinf(piece.wide[each]))
            self._note_constant(side, _counted(piece, int(each)))

    def of(self, side: int) -> Output:
        about = self._about[side]
        return about._replace(
            nan=self._nan[side].found, inf=self._inf[side].found, constant=self._constant[side]
        )

    def _note_constant(self, side: int, values: Array) -> None:
        if not len(values):
            return
        first = self._constant[side] if self._seen[side] else values[0]
        self._seen[side] = True
        if first is not None:
            self._constant[side] = first if bool((values == first).all()) else None


def _counted(piece: Piece, which: int) -> Array:
    """The values of a distinct piece that count: where rows have lengths, what lies before their ends."""
    values = piece.raw[which]
    if piece.lengths is None:
        return values
    ends = piece.lengths[which]
    before = np.arange(piece.positions) < ends[:, None]
    counted: Array = values.reshape(len(ends), piece.positions, -1)[before].ravel()
    return counted


class _Count:
    """Samples that hold something; one that lies in two pieces counts once."""

    def __init__(self) -> None:
        self.found: Unnumbers | None = None
        self._last = -1

    def add(self, piece: Piece, bad: NDArray[np.bool_]) -> None:
        samples = np.unique((piece.start + np.flatnonzero(bad)) // piece.width)
        fresh = samples[samples > self._last]
        if len(fresh):
            before = self.found or Unnumbers(int(fresh[0]), 0)
            self.found = Unnumbers(before.first, before.samples + len(fresh))
            self._last = int(fresh[-1])


def _name_faults(name: str, reference: Known, other: Known) -> list[Fault]:
    if name in reference.outputs and name in other.outputs:
        return []
    if name in reference.outputs:
        near = _resembling(name, [n for n in other.outputs if n not in reference.outputs])
        return [Fault(name, "missing", f'{other.name} has no output "{name}"{_got(near, name)}')]
    near = _resembling(name, [n for n in reference.outputs if n not in other.outputs])
    return [Fault(name, "extra", f'{other.name} has an extra output "{name}"{_got(name, near)}')]


def _resembling(name: str, names: list[str]) -> str | None:
    by_fold = {n.casefold(): n for n in sorted(names)}
    close = difflib.get_close_matches(name.casefold(), list(by_fold), n=1, cutoff=0.6)
    return by_fold[close[0]] if close else None


def _got(got: str | None, expected: str | None) -> str:
    if got is None or expected is None:
        return ""
    return f": got '{got}', expected '{expected}', and names are matched exactly"


def _pair_faults(name: str, reference: Known, other: Known) -> list[Fault]:
    one, two = reference.outputs[name], other.outputs[name]
    found = _array_faults(name, reference.name, one) + _array_faults(name, other.name, two)
    if one.dtype != two.dtype:
        words = f'{other.name} gives "{name}" as {two.dtype}, {reference.name} as {one.dtype}'
        found.append(Fault(name, "dtype", words))
    return [*found, *_shape_faults(name, reference, other)]


def _shape_faults(name: str, reference: Known, other: Known) -> list[Fault]:
    """One axis of another length has words of its own: the first has the samples."""
    one, two = reference.outputs[name].shape, other.outputs[name].shape
    if one == two:
        return []
    axes = [axis for axis, (a, b) in enumerate(zip(one, two, strict=False)) if a != b]
    if len(one) != len(two) or len(axes) > 1:
        words = f'{other.name} gives "{name}" in shape {two}, {reference.name} in {one}'
        return [Fault(name, "shape", words)]
    if axes == [0]:
        return _count_faults(name, other.name, two[0], one[0])
    axis = axes[0]
    words = f'{other.name} gives "{name}" {two[axis]} long on axis {axis}, {reference.name} {one[axis]} long'
    return [Fault(name, "length", words)]


def _count_faults(name: str, side: str, samples: int, expected: int) -> list[Fault]:
    if samples == expected:
        return []
    word = "fewer" if samples < expected else "more"
    words = f'{side} has {word} samples in "{name}": {samples} where {expected} are due'
    return [Fault(name, "samples", words)]


def _array_faults(name: str, side: str, output: Output) -> list[Fault]:
    if output.dtype.kind not in ORDERED:
        return [
            Fault(name, "dtype", f'{side} gives "{name}" as {output.dtype}, which has no order to compare by')
        ]
    if not output.comparable:
        return [Fault(name, "empty", f'{side} gives "{name}" empty, in shape {output.shape}')]
    found = {"NaN": output.nan, "Inf": output.inf}
    return [fault for word, bad in found.items() for fault in _unnumbers(name, side, output, word, bad)]


def _unnumbers(name: str, side: str, output: Output, word: str, bad: Unnumbers | None) -> Iterator[Fault]:
    if bad is not None:
        share = f"{bad.samples} of {output.shape[0]}"
        words = f'{side} has {word} in "{name}", first at sample {bad.first} ({share})'
        yield Fault(name, word.lower(), words)


def _constant_faults(name: str, side: str, output: Output, may: bool) -> list[Fault]:
    first = output.constant
    if first is None or (may and first != 0):
        return []
    kind, what = ("zero", "is all zero") if first == 0 else ("constant", f"is {first} everywhere")
    words = f'{side} {what} in "{name}": agreeing with it would prove nothing'
    return [Fault(name, kind, words)]
