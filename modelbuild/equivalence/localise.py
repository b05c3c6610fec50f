"""Which operation made an output wrong: the first whose result is off while all it depends on is right.

An artefact is a graph of operations whose values are held against those of the reference. A value passes, fails, or
is not compared (it has no counterpart, or another layout); what is not compared is looked through. So there is always
an answer: an operation, or the region between the last values that are right and the first that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence.noise import Spread
from modelbuild.runtimes.base import Inside, Node

Array = NDArray[Any]
Passes = Mapping[str, bool | None]
ALIKE = ("cast", "identity")  # operations that give what they read
SAME, NO_NUMBER = Spread(0.0, 0.0), Spread(np.inf, np.inf)


class Blame(NamedTuple):
    """`node` is to be named. It lies in `region`, the operations from the values `good` to the failing values `bad`.

    All of `good` pass or are inputs; between them and `bad` nothing is compared.
    """

    node: Node
    bad: tuple[str, ...]
    good: tuple[str, ...]
    region: tuple[Node, ...]


class Deviation(NamedTuple):
    """`measured` is how far a value is off, infinite where there is no number; `ok` None where not comparable."""

    measured: Spread
    ok: bool | None


def blamed(inside: Inside, passes: Passes, outputs: Collection[str] = ()) -> tuple[Blame, ...]:
    """Every operation that gives a failing value although all it depends on passes, in the order of `inside`.

    Where `outputs` are named, of the operations that these depend on alone.
    """
    makers = _makers(inside)
    failing = {index for index, node in enumerate(inside.nodes) if _bad(node, passes)}
    kept = _ancestors(inside, makers, outputs) if outputs else failing
    found = []
    for index in sorted(failing & kept):
        region, good = _looked_through(index, inside, makers, passes)
        if not failing & (region - {index}):
            between = tuple(inside.nodes[each] for each in sorted(region))
            found.append(Blame(_named(between), _bad(inside.nodes[index], passes), good, between))
    return tuple(found)


def _makers(inside: Inside) -> dict[str, int]:
    """Value -> index of the operation that gives it; not every operation has a name of its own."""
    return {value: index for index, node in enumerate(inside.nodes) for value in node.gives}


def _bad(node: Node, passes: Passes) -> tuple[str, ...]:
    return tuple(value for value in node.gives if passes.get(value) is False)


def _looked_through(
    index: int, inside: Inside, makers: Mapping[str, int], passes: Passes
) -> tuple[set[int], tuple[str, ...]]:
    """The operations back to the nearest values that pass, and these."""
    region, good, waiting = {index}, dict[str, None](), list(inside.nodes[index].reads)
    while waiting:
        value = waiting.pop(0)
        if value not in makers or passes.get(value):
            good[value] = None
        elif makers[value] not in region:
            region.add(makers[value])
            waiting += inside.nodes[makers[value]].reads
    return region, tuple(good)


def _named(region: tuple[Node, ...]) -> Node:
    """The last of them that computes something; the last where none does."""
    return next((node for node in reversed(region) if not node.layout), region[-1])


def _ancestors(inside: Inside, makers: Mapping[str, int], values: Collection[str]) -> set[int]:
    found, waiting = set[int](), list(values)
    while waiting:
        index = makers.get(waiting.pop())
        if index is not None and index not in found:
            found.add(index)
            waiting += inside.nodes[index].reads
    return found


def between(inside: Inside, reads: Collection[str], gives: Collection[str]) -> tuple[Node, ...]:
    """The operations that compute `gives` from `reads` and inputs, in order."""
    makers, found = _makers(inside), set[int]()
    for value in gives:
        if value in makers and value not in reads:
            region, _ = _looked_through(makers[value], inside, makers, dict.fromkeys(reads, True))
            found |= region
    return tuple(inside.nodes[each] for each in sorted(found))


def search(
    inside: Inside, outputs: Collection[str], compared: Collection[str], probe: Callable[[str], bool | None]
) -> dict[str, bool | None]:
    """What `probe` says of as few of the `compared` values as it takes to corner what makes `outputs` fail.

    By halves: of the region that is still open the value in its middle is asked for next.
    """
    passes: dict[str, bool | None] = dict.fromkeys(outputs, False)
    while True:
        region = blamed(inside, passes, outputs)[0].region
        open_ = [v for node in region for v in node.gives if v in compared and v not in passes]
        if not open_:
            return passes
        middle = open_[len(open_) // 2]
        passes[middle] = probe(middle)


def counterparts(inside: Inside, known: Collection[str]) -> dict[str, str]:
    """`identity` as far as its values are `known`, and what a cast makes the same.

    Of a pair of casts that was put between two operations each can so be held to what goes in.
    """
    found = {value: other for value, other in inside.identity.items() if other in known}
    same = [(n.reads[0], n.gives[0]) for n in inside.nodes if n.kind.lower() in ALIKE and n.reads and n.gives]
    for read, given in same:
        if read in found:
            found.setdefault(given, found[read])
    for read, given in reversed(same):
        if given in found:
            found.setdefault(read, found[given])
    return found


def distance(reference: Array, found: Array) -> Spread:
    """Between arrays of one shape; what the reference itself has no number for proves nothing."""
    one, two = reference.astype(np.float64), found.astype(np.float64)
    due = np.isfinite(one)
    if not due.any():
        return SAME
    apart = np.abs(one[due] - two[due])
    with np.errstate(over="ignore"):
        measured = Spread(float(apart.max()), float(np.sqrt(np.mean(apart * apart))))
    return measured if measured.finite else NO_NUMBER


def within(measured: Spread, limits: Spread) -> bool:
    return measured.max_abs <= limits.max_abs and measured.rmse <= limits.rmse


def deviation(reference: Array, found: Array, limits: Spread, output: bool = False) -> Deviation:
    """How far `found` is from `reference`; `output`: of a value inside another layout is none of our business."""
    kinds = reference.dtype.kind + found.dtype.kind
    if reference.shape != found.shape:
        other_layout = reference.size == found.size and not output
        return Deviation(NO_NUMBER, None if other_layout else False)
    if not set(kinds) <= set("fiub") or kinds in ("fi", "fu"):
        return Deviation(NO_NUMBER, None)
    measured = distance(reference, found)
    return Deviation(measured, within(measured, limits))


def deviations(
    reference: Array, found: Array, limits: Spread, samples: int, output: bool = False
) -> Iterator[Deviation]:
    """The same sample by sample, where both have the samples on their first axis; else of all for each of them.

    The rmse is that of all samples, as in the gate: where it holds, a single sample is not accused of its own.
    """
    by_sample = all(array.ndim and len(array) == samples for array in (reference, found))
    whole = deviation(reference, found, limits, output)
    own = limits if whole.measured.rmse > limits.rmse else replace(limits, rmse=np.inf)
    for row in range(samples):
        yield deviation(reference[row], found[row], own, output) if by_sample else whole


def words(finding: Mapping[str, Any]) -> str:
    """One sentence of a finding, for the terminal."""
    start = f"{finding['run']}: "
    if finding["op"] is None:
        return f"{start}no operation to blame: {finding['reason']}"
    inside, op = finding["inside"], finding["op"]
    module = f" (module {op['module']})" if op["module"] else ""
    many = f", one of {len(finding['region'])} operations" if len(finding["region"]) > 1 else ""
    measured = "no number" if inside["measured"] is None else f"{inside['measured']:.3g}"
    metric = "" if inside["metric"] == "max_abs" else f"{inside['metric']} "
    agree = f"in {finding['confirmed']} of {len(finding['samples'])} samples"
    differs = f"is the first to differ: {metric}{measured} against {inside['limit']:.3g}"
    if finding["script"]:
        again = f"; reproduce it with {finding['folder']}/{finding['script']}"
    else:
        again = f"; {finding['reason']}" if finding["reason"] else ""
    return f"{start}{op['kind']} {op['name']}{module}{many} {differs}, {agree}{again}"
