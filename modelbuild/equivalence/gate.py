"""The runtime gate: every run against the reference and against every other run, a verdict each.

In order: is there evidence at all, is the reference fit to compare with, and then, pair by pair and output by
output, may it be compared and by how much does it differ. Finding the operator to blame, attributing the
difference to a step, and intervals for shares would each read these verdicts, not change them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import combinations
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import compare, decisions
from modelbuild.equivalence.compare import Fault, Side
from modelbuild.equivalence.demand import CEILINGS, FLOORS, RuntimeDemand, within
from modelbuild.equivalence.metrics import METRICS, sums, worst_sample
from modelbuild.equivalence.tolerance import Reference, Tolerance, looser, refuse_flips, tolerance
from modelbuild.equivalence.verdict import Verdict
from modelbuild.runtimes.base import RANK, Evidence, Run

Array = NDArray[Any]
NOTHING: Mapping[str, str] = MappingProxyType({})
NO_LIMIT = "for information: no limit is set"


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


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a verdict is about."""

    target: str
    platform: str
    version: str
    backend: str
    against: str
    evidence: Evidence

    def says(
        self, output: str, metric: str, measured: float | None, limit: float | None, ok: bool, detail: str
    ) -> Verdict:
        """One verdict; a number that JSON cannot hold is left to `detail`."""
        finite = measured if measured is not None and math.isfinite(measured) else None
        return Verdict(
            target=self.target,
            platform=self.platform,
            version=self.version,
            backend=self.backend,
            against=self.against,
            output=output,
            metric=metric,
            measured=finite,
            limit=limit,
            ok=ok,
            evidence=self.evidence,
            detail=detail,
        )

    def faulty(self, fault: Fault) -> Verdict:
        return self.says(fault.output, fault.kind, None, None, False, fault.words)


def runtime_gate(
    model: str,
    reference: Reference,
    evaluation: Evaluation,
    platforms: Mapping[str, Platform],
    runs: Mapping[str, Run],
    demand: RuntimeDemand,
    rounds: Mapping[str, str] = NOTHING,
) -> tuple[Verdict, ...]:
    """All verdicts on the `runs`. Raises RecipeError for a vacuous limit.

    A run's name is that of its platform or, where one is run in several ways, `platform.way`; `rounds` tells by the
    run's name in which arithmetic below float32 it computes.
    """
    refuse_flips(demand, evaluation.samples)
    ran = {name: run for name, run in sorted(runs.items()) if run.evidence != "none"}
    verdicts = [*_evidence(model, platforms, ran)]
    subject = Subject(f"{model}:reference", "", "", "", "evaluation", "executed")
    shipped = Side("the reference", reference.outputs)
    unfit = compare.reference_faults(shipped, evaluation.samples)
    verdicts += [subject.faulty(fault) for fault in unfit]
    fit = sorted(reference.outputs.keys() - {fault.output for fault in unfit})
    limits = {}
    for each in ran:
        asked = platforms[platform_of(each)].demand or demand
        limits[each] = {name: tolerance(name, reference, asked, rounds.get(each)) for name in fit}
    for name, run in ran.items():
        subject, sides = _subject(model, name, run, "reference"), (shipped, Side(name, run.outputs))
        verdicts += _compare(subject, sides, reference, limits[name], demand.decision_flips)
        verdicts += _task(subject, reference, run, fit, evaluation)
    for one, two in combinations(ran, 2):
        subject = _pair(_subject(model, one, ran[one], two), ran[two].evidence)
        sides = Side(two, ran[two].outputs), Side(one, ran[one].outputs)
        both = {name: looser(limits[one][name], limits[two][name]) for name in fit}
        verdicts += _compare(subject, sides, reference, both, demand.decision_flips)
    return tuple(verdicts)


def platform_of(run: str) -> str:
    """The platform of a run called `run`."""
    return run.partition(".")[0]


def _subject(model: str, name: str, run: Run, against: str) -> Subject:
    platform = platform_of(name)
    return Subject(f"{model}:{platform}", platform, run.version, run.backend, against, run.evidence)


def _pair(subject: Subject, other: Evidence) -> Subject:
    """A comparison is no better evidenced than the weaker of its sides."""
    return replace(subject, evidence=min(subject.evidence, other, key=RANK.index))


def _evidence(model: str, platforms: Mapping[str, Platform], ran: Mapping[str, Run]) -> Iterator[Verdict]:
    for name, platform in sorted(platforms.items()):
        had = [run.evidence for label, run in ran.items() if platform_of(label) == name]
        best: Evidence = max(had, key=RANK.index, default="none")
        if RANK.index(best) < RANK.index(platform.evidence):
            yield _too_little(Subject(f"{model}:{name}", name, "", "", "reference", best), platform)
        for way, reason in sorted(platform.absent.items()):
            subject = Subject(f"{model}:{name}", name, "", way, "reference", "none")
            yield subject.says("", "evidence", None, None, True, f"not evidenced: {reason}")
    if not ran:
        subject = Subject(f"{model}:reference", "", "", "", "reference", "none")
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


def _compare(
    subject: Subject,
    sides: tuple[Side, Side],
    reference: Reference,
    limits: Mapping[str, Tolerance],
    flips: int,
) -> list[Verdict]:
    found = compare.faults(*sides)
    verdicts = [subject.faulty(fault) for fault in found]
    faulty = {fault.output for fault in found}
    for name, limit in limits.items():
        if name in faulty or not all(name in side.outputs for side in sides):
            continue
        truth, (base, other) = reference.outputs[name], (side.outputs[name] for side in sides)
        if base.shape != truth.shape:
            continue  # both runs of the pair changed alike: each is red against the reference
        verdicts += _measure(subject, name, base, other, limit)
        if decisions.decides(truth):
            flipped = decisions.flips(truth, base, other, limit.margin)
            verdicts.append(_flips(subject, name, flipped, limit.margin, flips))
    return verdicts


def _measure(subject: Subject, name: str, base: Array, other: Array, limit: Tolerance) -> Iterator[Verdict]:
    s = sums(base, other)
    for metric in (*CEILINGS, *FLOORS):
        measured = METRICS[metric](s)
        allowed = limit.limits.get(metric)
        if allowed is None:
            ok, detail = not math.isnan(measured), f"{metric} {measured:.3g}, {NO_LIMIT}"
        else:
            ok = within(metric, measured, allowed)
            where = f"; worst at sample {worst_sample(base, other)}" if s.largest > 0 else ""
            detail = f"{metric} {measured:.3g}, limit {allowed:.3g} ({limit.source}){where}"
        yield subject.says(name, metric, measured, allowed, ok, detail)


def _flips(subject: Subject, name: str, found: decisions.Flips, margin: float, allowed: int) -> Verdict:
    detail = f"{found.count} of {found.decided} decisions flip, {allowed} allowed"
    if found.first is not None:
        detail += f"; first at sample {found.first}"
    if found.near_ties:
        detail += f"; {found.near_ties} more are ties within {margin:.3g} in the reference, not counted"
    return subject.says(name, "decision_flips", found.count, allowed, found.count <= allowed, detail)


def _task(
    subject: Subject, reference: Reference, run: Run, names: list[str], evaluation: Evaluation
) -> Iterator[Verdict]:
    labels = evaluation.labels
    for name in names:
        scores, base = run.outputs.get(name), reference.outputs[name]
        if labels is None or scores is None or scores.shape != base.shape or not _labelled(base, labels):
            continue
        if not np.isfinite(scores).all():
            continue
        measured, before = decisions.accuracy(scores, labels), decisions.accuracy(base, labels)
        moved = decisions.drift(measured, before)
        shown = f"accuracy {measured:.4f}, the reference has {before:.4f}"
        yield subject.says(name, "accuracy", measured, None, True, f"{shown}, {NO_LIMIT}")
        yield subject.says(name, "accuracy_drift", moved, None, True, f"{shown}: {moved:+.4f}, {NO_LIMIT}")


def _labelled(scores: Array, labels: Array) -> bool:
    fits = labels.dtype.kind in "iu" and labels.shape == (len(scores),) and decisions.decides(scores)
    return bool(fits) and bool((labels >= 0).all()) and int(labels.max()) < scores.shape[1]
