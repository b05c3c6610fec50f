"""Looks inside the artefact of a red run: which operation is to blame, on the samples that are worst.

All values that have a counterpart in the reference are asked for at once. Where the output is right then, asking
changed what was optimised, and so the fault was made by that: then one value is asked for at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import localise
from modelbuild.equivalence.localise import Blame, Deviation
from modelbuild.equivalence.noise import Spread
from modelbuild.errors import RecipeError
from modelbuild.recipes.values import Value, limits
from modelbuild.runtimes.base import Inside, Inspectable
from modelbuild.tensors import Arrays

Array = NDArray[Any]
SAMPLES = 7  # a prime: an axis of that length that is not the samples is rare
Truth = Callable[[tuple[int, ...], str | None], tuple[Arrays, Mapping[str, Value]]]
Judged = dict[str, tuple[Deviation, ...]]


@dataclass(frozen=True, slots=True)
class Suspect:
    """An artefact and how it is run; `params` is what `run` is given, `rounds` the run's arithmetic below float32.

    `name` and `version` are the runtime's, `backend` what computed.
    """

    name: str
    runtime: Inspectable
    artifact: Path
    params: Mapping[str, Any]
    rounds: str | None
    version: str
    backend: str


@dataclass(frozen=True, slots=True)
class Culprits:
    """The operations to blame, the first to be named, as seen on `sample`, which is `row` of the call.

    It is the first of `samples`, worst first, that shows it, and on `confirmed` of them the same is named. `data` are
    the inputs of the call, `values` the reference's, `identity` leads from the artefact's names to these; `judged` is
    what was compared, sample by sample, `allowed` the limits.
    """

    blames: tuple[Blame, ...]
    samples: tuple[int, ...]
    sample: int
    confirmed: int
    row: int
    data: Arrays
    values: Mapping[str, Value]
    identity: Mapping[str, str]
    judged: Mapping[str, tuple[Deviation, ...]]
    allowed: Mapping[str, Spread]
    open_batch: bool

    @property
    def worst(self) -> str:
        """Of the failing values of the operation blamed first the one that is off most."""
        return max(self.blames[0].bad, key=lambda value: self.judged[value][self.row].measured.max_abs)


@dataclass(slots=True)
class _Looking:
    """One call of the artefact on the same inputs, asked again and again for other values of it."""

    suspect: Suspect
    inside: Inside
    identity: Mapping[str, str]
    values: Mapping[str, Value]
    data: Arrays
    samples: int
    outputs: tuple[str, ...]
    judged: Judged = field(default_factory=dict)

    @property
    def compared(self) -> tuple[str, ...]:
        """What operations give that the reference has too, in order."""
        return tuple(v for node in self.inside.nodes for v in node.gives if v in self.identity)

    def ask(self, names: Sequence[str]) -> Judged:
        """What of these values is as it should be, sample by sample."""
        suspect = self.suspect
        found = suspect.runtime.intermediates(suspect.artifact, self.data, tuple(names), suspect.params)
        return {name: self._judge(name, found[name]) for name in names}

    def _judge(self, name: str, found: Any) -> tuple[Deviation, ...]:
        value = self.values[self.identity[name]]
        return tuple(
            localise.deviations(value.array, found, self.allowed(name), self.samples, name in self.outputs)
        )

    def allowed(self, name: str) -> Spread:
        return limits(self.values[self.identity[name]], self.suspect.rounds)

    def fails(self, judged: Judged) -> bool:
        return any(each.ok is False for name in self.outputs for each in judged[name])

    def at_once(self) -> bool:
        """Ask for all; whether the output is wrong still."""
        self.judged = self.ask(self.compared)
        return self.fails(self.judged)

    def one_by_one(self) -> bool:
        """Ask for one after the other, and only for as many as needed; whether the output is wrong by itself."""
        self.judged = self.ask(self.outputs)
        if not self.fails(self.judged):
            return False
        wrong = [name for name in self.outputs if any(each.ok is False for each in self.judged[name])]

        def probe(name: str) -> bool | None:
            found = self.ask(list(dict.fromkeys((name, *self.outputs))))
            if not self.fails(found):  # it is inside of what was fused, and to ask for it took that apart
                return None
            self.judged[name] = found[name]
            oks = [each.ok for each in found[name]]
            return None if None in oks else all(oks)

        localise.search(self.inside, wrong, set(self.compared), probe)
        return True


def culprits(suspect: Suspect, output: str, ranked: Sequence[int], truth: Truth) -> Culprits:
    """What is to blame for `output`, looked for on the first of the samples `ranked`, worst first.

    `truth` gives for samples the inputs, and the reference's values in an arithmetic. Raises RecipeError where the
    artefact cannot be looked into or nothing in it is off.
    """
    inside = suspect.runtime.inside(suspect.artifact)
    chosen = tuple(ranked[: inside.batch or SAMPLES])
    rows = tuple(sorted(chosen))  # in their own order, so that other runs may ask for the same
    rows += rows[-1:] * ((inside.batch or 0) - len(rows))
    given, due = truth(rows, suspect.rounds)
    identity = localise.counterparts(inside, due)
    outputs = tuple(name for name in inside.outputs if identity.get(name) == output)
    if not outputs:
        raise RecipeError("repro", f'no operation of the artefact is known to give "{output}"')
    looking = _Looking(suspect, inside, identity, due, given, len(rows), outputs)
    if not looking.at_once() and not looking.one_by_one():
        fact = (
            f'"{output}" is off by no more than noise explains on the samples {", ".join(map(str, chosen))}'
        )
        raise RecipeError("repro", f"{fact}: no operation stands out")
    return _settled(looking, chosen, rows)


def _settled(looking: _Looking, chosen: tuple[int, ...], rows: tuple[int, ...]) -> Culprits:
    inside, outputs = looking.inside, looking.outputs
    by_row = {
        row: localise.blamed(inside, {name: found[row].ok for name, found in looking.judged.items()}, outputs)
        for row in map(rows.index, chosen)
    }
    row = next((row for row, blames in by_row.items() if blames), None)
    if row is None:
        raise RecipeError("repro", "the output is off, and of no sample can it be said where that begins")
    first = by_row[row][0].node
    confirmed = sum(any(each.node == first for each in blames) for blames in by_row.values())
    return Culprits(
        blames=by_row[row],
        samples=chosen,
        sample=rows[row],
        confirmed=confirmed,
        row=row,
        data=looking.data,
        values=looking.values,
        identity=looking.identity,
        judged=looking.judged,
        allowed={name: looking.allowed(name) for name in looking.judged},
        open_batch=inside.batch is None,
    )


def ranked(truth: Array, ran: Array, metric: str = "max_abs") -> list[int]:
    """The samples of one output, the worst by `metric` (rmse, or the largest error) first; in their order where there
    is no number to go by.
    """
    if truth.shape[1:] != ran.shape[1:]:
        return list(range(len(truth)))
    count = min(len(truth), len(ran))
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(truth[:count].astype(np.float64) - ran[:count]).reshape(count, -1)
        apart = np.square(errors).mean(axis=1) if metric == "rmse" else errors.max(axis=1)
    return [int(row) for row in np.argsort(-np.nan_to_num(apart, nan=np.inf, posinf=np.inf), kind="stable")]
