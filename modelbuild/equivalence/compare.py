"""Whether two sets of named outputs may be compared at all. Each doubt is a fault with its own words.

Nothing is matched by likeness, cast, broadcast, cut or skipped: each of those has let a broken model pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.tensors import Arrays

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why `output` cannot be compared; `kind` is one word for machines, `words` are for people."""

    output: str
    kind: str
    words: str


@dataclass(frozen=True, slots=True)
class Side:
    """One set of outputs and what to call it in words."""

    name: str
    outputs: Arrays


def faults(reference: Side, other: Side) -> tuple[Fault, ...]:
    """Every reason not to compare `other` with `reference`; none means that all their outputs match in name,
    shape and dtype and hold finite numbers.
    """
    found: list[Fault] = []
    if not reference.outputs:
        found.append(Fault("", "empty", f"{reference.name} has no outputs: nothing was compared"))
    for name in sorted({*reference.outputs, *other.outputs}):
        found += _name_faults(name, reference, other) or _pair_faults(name, reference, other)
    return tuple(found)


def reference_faults(side: Side, samples: int | None) -> tuple[Fault, ...]:
    """What is wrong with a reference by itself, `samples` being how many the evaluation set has, if there is one."""
    found: list[Fault] = []
    for name, array in sorted(side.outputs.items()):
        found += _array_faults(name, side.name, array) or [
            *_count_faults(name, side.name, len(array), len(array) if samples is None else samples),
            *_constant_faults(name, side.name, array),
        ]
    return tuple(found)


def _name_faults(name: str, reference: Side, other: Side) -> list[Fault]:
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


def _pair_faults(name: str, reference: Side, other: Side) -> list[Fault]:
    one, two = reference.outputs[name], other.outputs[name]
    found = _array_faults(name, reference.name, one) + _array_faults(name, other.name, two)
    if one.dtype != two.dtype:
        words = f'{other.name} gives "{name}" as {two.dtype}, {reference.name} as {one.dtype}'
        found.append(Fault(name, "dtype", words))
    if one.ndim and two.ndim and one.shape[1:] == two.shape[1:]:
        return found + _count_faults(name, other.name, len(two), len(one))
    if one.shape != two.shape:
        words = f'{other.name} gives "{name}" in shape {two.shape}, {reference.name} in {one.shape}'
        found.append(Fault(name, "shape", words))
    return found


def _count_faults(name: str, side: str, samples: int, expected: int) -> list[Fault]:
    if samples == expected:
        return []
    word = "fewer" if samples < expected else "more"
    words = f'{side} has {word} samples in "{name}": {samples} where {expected} are due'
    return [Fault(name, "samples", words)]


def _array_faults(name: str, side: str, array: Array) -> list[Fault]:
    if array.dtype.kind not in "fiub":
        return [
            Fault(name, "dtype", f'{side} gives "{name}" as {array.dtype}, which has no order to compare by')
        ]
    if array.ndim == 0 or array.size == 0:
        return [Fault(name, "empty", f'{side} gives "{name}" empty, in shape {array.shape}')]
    return [*_unnumbers(name, side, array, "NaN"), *_unnumbers(name, side, array, "Inf")]


def _unnumbers(name: str, side: str, array: Array, word: str) -> Iterator[Fault]:
    found = np.isnan(array) if word == "NaN" else np.isinf(array)
    bad = np.flatnonzero(found.reshape(len(array), -1).any(axis=1))
    if len(bad):
        share = f"{len(bad)} of {len(array)}"
        words = f'{side} has {word} in "{name}", first at sample {int(bad[0])} ({share})'
        yield Fault(name, word.lower(), words)


def _constant_faults(name: str, side: str, array: Array) -> list[Fault]:
    first = array.flat[0]
    if not bool((array == first).all()):
        return []
    kind, what = ("zero", "is all zero") if first == 0 else ("constant", f"is {first} everywhere")
    words = f'{side} {what} in "{name}": agreeing with it would prove nothing'
    return [Fault(name, kind, words)]
