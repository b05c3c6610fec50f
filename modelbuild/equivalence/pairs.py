"""The verdicts on each pair, a run and the reference or two runs, from outputs that are read once for all pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

from numpy.typing import NDArray

from modelbuild.equivalence import compare, figures, intervals, tasks
from modelbuild.equivalence.clusters import REFERENCE
from modelbuild.equivalence.compare import Known
from modelbuild.equivalence.decisions import Flips
from modelbuild.equivalence.demand import RuntimeDemand, within
from modelbuild.equivalence.errors import LEAN
from modelbuild.equivalence.matrix import Cell, Matrix, OutputMatrix, Pictures, cell, of_output
from modelbuild.equivalence.reading import Asked, Reading, read
from modelbuild.equivalence.subject import Subject, platform_of
from modelbuild.equivalence.tasks import NO_LIMIT, UNDECLARED
from modelbuild.equivalence.tolerance import Tolerance, looser
from modelbuild.equivalence.verdict import Verdict
from modelbuild.runtimes.base import RANK, Evidence
from modelbuild.tensors import Source, held

Array = NDArray[Any]
Outputs = Mapping[str, Array | Source]  # by name, whole or to be read in pieces
Pair = tuple[str, str]  # whom a run is held against, and the run
SIDE = "the reference"  # what it is called in words


class Ran(Protocol):
    """A run, whose outputs may be too large to hold; `runtimes.base.Run` is one."""

    @property
    def outputs(self) -> Mapping[str, Any]: ...  # as Outputs
    @property
    def version(self) -> str: ...
    @property
    def backend(self) -> str: ...
    @property
    def evidence(self) -> Evidence: ...


@dataclass(frozen=True, slots=True)
class Case:
    """What there is to judge: the `reference`'s outputs, the runs, and each run's tolerances by output."""

    model: str
    reference: Mapping[str, Source]
    runs: Mapping[str, Ran]
    demand: RuntimeDemand
    limits: Mapping[str, Mapping[str, Tolerance]]
    labels: Array | None = None

    @property
    def pairs(self) -> list[Pair]:
        """Every run with the reference, then every two runs."""
        return [
            *((REFERENCE, run) for run in self.runs),
            *((two, one) for one, two in combinations(self.runs, 2)),
        ]

    def tolerance(self, base: str, other: str, name: str) -> Tolerance:
        """What the pair may differ by in output `name`."""
        found = [self.limits[side][name] for side in (other, base) if side != REFERENCE]
        return looser(found[0], found[-1])


class Judge:
    """Reads every output of a case once, and then says what it finds of each pair."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.outputs = {run: held(ran.outputs) for run, ran in case.runs.items()}
        self.readings = {name: self._read(name) for name in sorted(case.reference)}
        self.known = {REFERENCE: self._known(REFERENCE, SIDE, case.reference)}
        self.known |= {run: self._known(run, run, outputs) for run, outputs in self.outputs.items()}

    def _read(self, name: str) -> Reading:
        case, said = self.case, self.case.demand.outputs.get(name, UNDECLARED)
        limits = [run[name] for run in case.limits.values() if name in run]
        metrics = {metric for each in limits for metric in each.limits}

        def margin(one: str, other: str) -> float:
            return math.inf if one == other or not limits else case.tolerance(one, other, name).margin

        asked = Asked(margin, not metrics <= {*LEAN}, said, case.labels)
        return read(self._sources(name), self._sources(said.lengths), asked)

    def _sources(self, name: str | None) -> dict[str, Source]:
        sides = {REFERENCE: self.case.reference, **self.outputs}
        return {
            side: outputs[name] for side, outputs in sides.items() if name is not None and name in outputs
        }

    def _known(self, side: str, title: str, outputs: Mapping[str, Source]) -> Known:
        """An output that the reference lacks is not read: that it is there is the fault."""
        found = {name: compare.header(source) for name, source in outputs.items()}
        return Known(
            title, found | {n: each.known[side] for n, each in self.readings.items() if side in each.known}
        )

    def verdicts(self, pair: Pair, fit: Sequence[str]) -> list[Verdict]:
        """On the pair; of the reference's outputs those that are `fit` are measured."""
        base, other = pair
        subject = self._subject(base, other)
        faults = compare.faults_between(self.known[base], self.known[other])
        faulty = {fault.output for fault in faults}
        found = [subject.faulty(fault) for fault in faults]
        for name in fit:
            both_read = {base, other} <= {*self.readings[name].sides}  # else both changed alike, and are red
            if name not in faulty and both_read:
                found += self._measured(subject, name, pair)
        return found

    def _subject(self, base: str, other: str) -> Subject:
        """A comparison is no better evidenced than the weaker of its sides."""
        run, platform = self.case.runs[other], platform_of(other)
        sides = [run.evidence, *([self.case.runs[base].evidence] if base != REFERENCE else [])]
        evidence = min(sides, key=RANK.index)
        return Subject(
            f"{self.case.model}:{platform}", platform, run.version, run.backend, base, evidence, other
        )

    def _measured(self, subject: Subject, name: str, pair: Pair) -> Iterator[Verdict]:
        reading, limits = self.readings[name], self.case.tolerance(*pair, name)
        yield from self._errors(subject, name, reading, limits)
        if reading.decisions is not None:
            flips = reading.decisions.flips(*(reading.place(side) for side in pair))
            yield from self._flips(subject, name, flips, limits)
        if reading.lengths:
            one, two = (reading.lengths[side] for side in pair)
            against = SIDE if subject.against == REFERENCE else subject.against
            yield subject.row(name, tasks.length_row(two, one, against))
        if subject.against == REFERENCE:
            for scores in reading.scores[subject.run]:
                for row in tasks.drift_rows(scores.metric, scores.drift()):
                    yield subject.row(name, row)

    def _errors(self, subject: Subject, name: str, reading: Reading, limits: Tolerance) -> Iterator[Verdict]:
        """A figure without a limit is for information, and told of runs against the reference only."""
        base, other = reading.place(subject.against), reading.place(subject.run)
        known = reading.errors.metrics(base, other)
        worst = reading.errors.worst(base, other) if known["max_abs"] > 0 else None
        for metric, measured in known.items():
            if metric in limits.limits:
                yield _limited(subject, name, metric, measured, limits, worst)
            elif subject.against == REFERENCE:
                detail = f"{metric} {measured:.3g}, {NO_LIMIT}"
                said = subject.says(name, metric, measured, None, not math.isnan(measured), detail)
                yield replace(said, floor=limits.floor.get(metric))

    def _flips(self, subject: Subject, name: str, found: Flips, limits: Tolerance) -> Iterator[Verdict]:
        allowed, rate = self.case.demand.decision_flips, intervals.wilson(found.count, found.decided)
        detail = f"{found.count} of {found.decided} decisions flip, {allowed} allowed"
        if found.decided:
            detail += f"; of all that are decided up to {rate.high:.2%} would (95 %)"
        if found.first is not None:
            detail += f"; first at sample {found.first}"
        if found.near_ties:
            detail += (
                f"; {found.near_ties} more are ties within {limits.margin:.3g} in the reference, not counted"
            )
        said = subject.says(name, "decision_flips", found.count, allowed, found.count <= allowed, detail)
        low, high = (found.decided * end for end in rate)
        yield replace(said, needed=float(found.count), low=low, high=high)
        if self.case.demand.flip_rate is not None:
            yield subject.row(name, tasks.flip_rate(found.count, found.decided, self.case.demand.flip_rate))

    def matrix(self, verdicts: Mapping[Pair, Sequence[Verdict]]) -> Matrix:
        """All against all, from what was said of each pair."""
        return Matrix({name: self._output_matrix(name, verdicts) for name in self.readings})

    def _output_matrix(self, name: str, verdicts: Mapping[Pair, Sequence[Verdict]]) -> OutputMatrix:
        reading, cells, pictures = self.readings[name], dict[Pair, Cell](), dict[str, Pictures]()
        for (base, run), said in verdicts.items():
            found = cell([each for each in said if each.output == name])
            if found.share is not None:  # then it was measured
                places = reading.place(base), reading.place(run)
                found = found.with_error(reading.errors.metrics(*places)["max_abs"])
                if base == REFERENCE:
                    pictures[run] = self._pictures(name, run)
            cells[base, run] = found
        return of_output([*self.case.runs], cells, pictures)

    def _pictures(self, name: str, run: str) -> Pictures:
        reading, limits = self.readings[name], self.case.limits[run][name]
        place = reading.place(run)
        errors = reading.errors.histograms[place].to_json(
            limits.floor.get("max_abs"), limits.limits.get("max_abs")
        )
        if reading.decisions is None:
            return Pictures(errors)
        return Pictures(errors, reading.decisions.leads[place].to_json(limits.margin))


def _limited(
    subject: Subject, name: str, metric: str, measured: float, limits: Tolerance, worst: int | None
) -> Verdict:
    allowed = limits.limits[metric]
    detail = figures.in_words(metric, measured, limits, worst)
    said = subject.says(name, metric, measured, allowed, within(metric, measured, allowed), detail)
    return replace(said, floor=limits.floor.get(metric), needed=figures.needed(metric, measured))
