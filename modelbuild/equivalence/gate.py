"""The runtime gate: every run against the reference and against every other run, a verdict each.

In order: is there evidence at all, is the reference fit to compare with, and then, pair by pair and output by
output, may it be compared and by how much does it differ. Each output is read once, a piece of all runs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from modelbuild.equivalence import compare, tasks
from modelbuild.equivalence.clusters import REFERENCE
from modelbuild.equivalence.compare import Fault
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.matrix import Matrix
from modelbuild.equivalence.noise import Noise, OutputNoise
from modelbuild.equivalence.pairs import Case, Judge, Outputs, Ran
from modelbuild.equivalence.subject import Subject, platform_of
from modelbuild.equivalence.tolerance import Tolerance, refuse_flips, tolerance
from modelbuild.equivalence.verdict import Verdict
from modelbuild.runtimes.base import RANK, Evidence
from modelbuild.tensors import Source, held

Array = NDArray[Any]
NOTHING: Mapping[str, str] = MappingProxyType({})
__all__ = ["Evaluation", "Judged", "Platform", "Subject", "platform_of", "runtime_gate"]


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate says: the verdicts, and all runs against all others."""

    verdicts: tuple[Verdict, ...]
    matrix: Matrix


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform of the manifest; `unavailable` is why it was not run, None when nothing is known.

    `demand` is its own, None where the gate's holds. `evidence` is the least that counts for it. `absent`: ways
    of running it that this machine does not have, and why.
    """

    required: bool = True
    unavailable: str | None = None
    demand: RuntimeDemand | None = None
    evidence: Evidence = "interpreted"
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How many samples the evaluation set has, and their class numbers where it has such labels.

    `samples` is None where there is no set, and the reference's own length is all that is known.
    """

    samples: int | None
    labels: Array | None = None


def runtime_gate(
    model: str,
    reference: Outputs,
    noise: Noise,
    evaluation: Evaluation,
    platforms: Mapping[str, Platform],
    runs: Mapping[str, Ran],
    demand: RuntimeDemand,
    rounds: Mapping[str, str] = NOTHING,
) -> Judged:
    """All verdicts on the `runs`. Raises RecipeError for a vacuous limit, or a demand on what is no output.

    A run's name is that of its platform or, where one is run in several ways, `platform.way`; `rounds` tells by the
    run's name in which arithmetic below float32 it computes.
    """
    refuse_flips(demand, evaluation.samples)
    truth = held(reference)
    tasks.refuse_unknown(truth, demand.outputs)
    ran = {name: run for name, run in sorted(runs.items()) if run.evidence != "none"}
    strange = {fault.output: fault for fault in _strange(truth, noise)}
    measured = {name: noise.of(name) for name in sorted(truth.keys() - strange.keys())}
    limits = {
        run: _limits(measured, platforms[platform_of(run)].demand or demand, rounds.get(run)) for run in ran
    }
    judge = Judge(Case(model, truth, ran, demand, limits, evaluation.labels))
    doubts = _doubts(judge, evaluation, strange)
    fit = sorted(truth.keys() - {fault.output for fault in doubts})
    pairs = {pair: judge.verdicts(pair, fit) for pair in judge.case.pairs}
    subject = Subject(f"{model}:reference", "", "", "", "evaluation", "executed")
    verdicts = [
        *_evidence(model, platforms, ran),
        *(subject.faulty(fault) for fault in doubts),
        *(verdict for said in pairs.values() for verdict in said),
        *_told(model, noise, limits, fit),
    ]
    return Judged(tuple(verdicts), judge.matrix(pairs))


def _limits(
    measured: Mapping[str, OutputNoise], demand: RuntimeDemand, rounds: str | None
) -> dict[str, Tolerance]:
    return {name: tolerance(name, each, demand, rounds) for name, each in measured.items()}


def _doubts(judge: Judge, evaluation: Evaluation, strange: Mapping[str, Fault]) -> list[Fault]:
    """What is wrong with the reference, by output; of one that is unfit in itself nothing is said of its noise."""
    lengths = [each.lengths for each in judge.case.demand.outputs.values() if each.lengths is not None]
    found = compare.unfit(judge.known[REFERENCE], evaluation.samples, lengths)
    more = [strange[name] for name in strange.keys() - {fault.output for fault in found}]
    return sorted([*found, *more], key=lambda fault: fault.output)


def _strange(truth: Mapping[str, Source], noise: Noise) -> Iterator[Fault]:
    """The outputs that no limit can be derived for, as their noise is not known or is that of another reference."""
    for name, source in sorted(truth.items()):
        if name not in noise.outputs:
            yield Fault(
                name, "noise", f'no noise was measured of "{name}": there is nothing to derive a limit from'
            )
            continue
        found, shape = noise.outputs[name], tuple(source.shape)
        if (found.dtype, found.samples, found.values) != (str(source.dtype), *shape[:1], math.prod(shape)):
            words = (
                f'the noise of "{name}" is of {found.values} values of {found.dtype} in {found.samples} samples, '
                f"the reference gives {source.dtype} in shape {shape}"
            )
            yield Fault(name, "noise", words)


def _told(
    model: str, noise: Noise, limits: Mapping[str, Mapping[str, Tolerance]], fit: Sequence[str]
) -> Iterator[Verdict]:
    """For information: how each limit was derived, said once, and the sources of noise that were left out."""
    subject = Subject(f"{model}:noise", "", "", "", "", "executed")
    for name in fit:
        held_to = dict[tuple[str, str], list[str]]()
        for run, found in limits.items():
            shown = ", ".join(f"{metric} {limit:.3g}" for metric, limit in sorted(found[name].limits.items()))
            held_to.setdefault((shown, found[name].source), []).append(run)
        for (shown, source), held_runs in held_to.items():
            detail = f"{', '.join(held_runs)} may differ by {shown}: {source}"
            yield subject.says(name, "tolerance", None, None, True, detail)
        for kind, why in sorted(noise.outputs[name].uncounted.items()):
            yield subject.says(name, "noise", None, None, True, f"{kind} is not counted as noise: {why}")


def _evidence(model: str, platforms: Mapping[str, Platform], ran: Mapping[str, Ran]) -> Iterator[Verdict]:
    for name, platform in sorted(platforms.items()):
        had = [run.evidence for label, run in ran.items() if platform_of(label) == name]
        best: Evidence = max(had, key=RANK.index, default="none")
        if RANK.index(best) < RANK.index(platform.evidence):
            yield _too_little(Subject(f"{model}:{name}", name, "", "", REFERENCE, best), platform)
        for way, reason in sorted(platform.absent.items()):
            subject = Subject(f"{model}:{name}", name, "", way, REFERENCE, "none")
            yield subject.says("", "evidence", None, None, True, f"not evidenced: {reason}")
    if not ran:
        subject = Subject(f"{model}:reference", "", "", "", REFERENCE, "none")
        yield subject.says("", "evidence", None, None, False, "nothing was checked: no platform was run")


def _too_little(subject: Subject, platform: Platform) -> Verdict:
    """Red where the platform is required, else for the record."""
    if subject.evidence == "none":
        reasons = "; ".join(dict.fromkeys(platform.absent.values()))
        detail = f"not evidenced: {platform.unavailable or reasons or 'it was not run'}"
    else:
        detail = f"only {subject.evidence}, and the manifest demands that it is {platform.evidence}"
    if platform.required:
        detail += '. Build it where it runs, or say "required": false to ship it unchecked'
    return subject.says("", "evidence", None, None, not platform.required, detail)
