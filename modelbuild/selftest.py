"""Proof that the gate is alive: faults put into recorded outputs must turn it red, clean runs must leave it green.

A clean run is the canonical ONNX file once more, on the same samples in another order and in batches of other sizes,
with every real input moved by one unit in the last place at random: what differs then is nobody's fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild import dataset, tensors
from modelbuild.equivalence import demand, liveness, noise
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.gate import Evaluation, Platform, runtime_gate
from modelbuild.equivalence.liveness import Recorded
from modelbuild.equivalence.noise import Noise
from modelbuild.equivalence.tolerance import tolerance
from modelbuild.equivalence.verdict import Verdict, passed
from modelbuild.errors import CommandError
from modelbuild.recipes import unoptimised
from modelbuild.recipes.verdicts import read_run
from modelbuild.runtimes.base import Run
from modelbuild.tensors import Arrays

Array = NDArray[Any]
PLATFORM = "selftest"


class Tally(NamedTuple):
    """`did` of `tried` cases did what they should; `missed` did not, `no_place` could not be tried here."""

    tried: int
    did: int
    missed: tuple[str, ...]
    no_place: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bench:
    """One model's recorded reference and noise, and what one of its runs is held to."""

    reference: Arrays
    noise: Noise
    samples: int
    labels: Array | None
    demand: RuntimeDemand
    rounds: str | None

    def judged(self, reference: Arrays, run: Run) -> tuple[Verdict, ...]:
        """The gate's own verdicts on `run` alone."""
        return runtime_gate(
            "selftest",
            reference,
            self.noise,
            Evaluation(self.samples, self.labels),
            {PLATFORM: Platform()},
            {PLATFORM: run},
            self.demand,
            {PLATFORM: self.rounds} if self.rounds else {},
        ).verdicts

    def limits(self) -> dict[str, float | None]:
        """What the gate allows of max_abs, by output."""
        return {
            name: tolerance(name, each, self.demand, self.rounds).limits.get("max_abs")
            for name, each in self.noise.outputs.items()
        }


def bench(inputs: Mapping[str, Path], gate: Mapping[str, Any], place: str, rounds: str | None) -> Bench:
    """From the target folders reference, noise and evaluation. Raises ModelbuildError."""
    data = dataset.read(inputs["evaluation"])
    return Bench(
        tensors.load(inputs["reference"] / "outputs.safetensors"),
        noise.read(inputs["noise"] / noise.FILE),
        data.samples,
        data.label,
        demand.runtime(gate, place),
        rounds,
    )


def faults(on: Bench, folder: Path) -> Tally:
    """Put every fault into the run recorded in `folder`. Raises CommandError where it is red already."""
    run = read_run(folder)
    red = [row for row in on.judged(on.reference, run) if not row.ok]
    if red:
        fact = f"is red already: {red[0].detail}"
        raise CommandError(folder.name, fact, "Faults put into it would prove nothing.")
    case = _recorded(on, run, folder.name)
    missed, no_place = list[str](), list[str]()
    for fault in liveness.FAULTS:
        faulty = fault.put(case)
        if faulty is None:
            no_place.append(fault.name)
        elif passed(on.judged(faulty.reference, faulty.run)):
            missed.append(fault.name)
    tried = len(liveness.FAULTS) - len(no_place)
    return Tally(tried, tried - len(missed), tuple(missed), tuple(no_place))


def _recorded(on: Bench, run: Run, place: str) -> Recorded:
    try:
        return liveness.recorded(on.reference, run, on.limits())
    except LookupError as error:
        raise CommandError(place, str(error), "") from None


def clean(on: Bench, onnx: Path, evaluation: Path, seeds: Sequence[int]) -> Tally:
    """Run the canonical file in folder `onnx` once for every seed, each time with other noise."""
    run, inputs = unoptimised.runner((onnx / "model.onnx").read_bytes()), dataset.read(evaluation).inputs
    missed = []
    for seed in seeds:
        outputs = again(run, inputs, np.random.default_rng(seed))
        red = [row for row in on.judged(on.reference, _as_run(outputs)) if not row.ok]
        if red:
            missed.append(f"seed {seed}: {red[0].detail}")
    return Tally(len(seeds), len(seeds) - len(missed), tuple(missed))


def _as_run(outputs: Arrays) -> Run:
    return Run(outputs, "clean", "", "executed")


def again(run: unoptimised.Call, inputs: Arrays, rng: np.random.Generator) -> dict[str, Array]:
    """The outputs once more, sample by sample as they were."""
    count = len(next(iter(inputs.values())))
    order = rng.permutation(count)
    given = {name: _moved(array[order], rng) for name, array in inputs.items()}
    parts = [
        run({name: array[start:end] for name, array in given.items()}) for start, end in _batches(count, rng)
    ]
    back = np.argsort(order)
    return {name: np.concatenate([part[name] for part in parts])[back] for name in parts[0]}


def _batches(count: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    start = 0
    while start < count:
        end = min(count, start + int(rng.integers(16, 65)))
        yield start, end
        start = end


def _moved(array: Array, rng: np.random.Generator) -> Array:
    """Each real number one up, one down, or as it is."""
    if array.dtype.kind != "f":
        return array
    towards = rng.choice(np.array([-np.inf, 0, np.inf]), array.shape)
    to = np.where(towards == 0, array, towards).astype(array.dtype)
    return np.asarray(np.nextafter(array, to))
