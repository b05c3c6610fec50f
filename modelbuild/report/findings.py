"""What a report amounts to: which verdicts are red, what is not evidenced, and whether the model passes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from modelbuild.equivalence import preflight
from modelbuild.equivalence.verdict import Verdict
from modelbuild.report.details import Diagnosis, Matrix
from modelbuild.report.margins import margin
from modelbuild.report.record import PlatformRow, Report, TargetRow

Outcome = Literal["pass", "fail", "unchecked"]

# The metrics of rows that have something to say and nothing to measure: a range, a source of noise that was left out,
# a waiver. And of those that say how the limits of an output came about.
_TOLD = frozenset({preflight.METRIC, "noise", "waiver"})
_DERIVED = "tolerance"
_REFERENCE = "reference"
# An evidence that is not one of these, known or not, is no evidence.
_EVIDENCED = frozenset({"executed", "interpreted"})


@dataclass(frozen=True, slots=True)
class Gate:
    """All verdicts of one pair; `verdicts` is ordered worst first."""

    pair: str
    verdicts: tuple[Verdict, ...]

    @property
    def red(self) -> int:
        return sum(not row.ok for row in self.verdicts)

    @property
    def held(self) -> int:
        return sum(holds(row) for row in self.verdicts)


def evidenced(row: Verdict | PlatformRow) -> bool:
    """Whether the artefact itself was checked."""
    return row.evidence in _EVIDENCED


def demands(row: Verdict) -> bool:
    """False for a green verdict without a limit: a figure worth knowing, of which nothing is demanded."""
    return not (row.ok and evidenced(row) and row.limit is None)


def holds(row: Verdict) -> bool:
    """A verdict holds when it is green, demands something, and something was checked."""
    return row.ok and evidenced(row) and demands(row)


def verdicts(report: Report) -> list[Verdict]:
    """All verdicts but those that restate what a platform's own row says: that nothing evidences it."""
    without = {row.name: row.required for row in report.platforms if not evidenced(row)}
    return [row for row in report.verdicts if not _restates(row, without)]


def _restates(row: Verdict, without: Mapping[str, bool]) -> bool:
    """A red verdict on a platform that is not required says more than its row, and stays."""
    return _on_evidence(row) and row.platform in without and (row.ok or without[row.platform])


def _on_evidence(row: Verdict) -> bool:
    return row.metric == "evidence" and not evidenced(row)


def judged(report: Report) -> list[Verdict]:
    """The verdicts that can be red or green."""
    return [row for row in verdicts(report) if demands(row)]


def observed(report: Report) -> list[Verdict]:
    """The figures of which nothing is demanded."""
    return [row for row in verdicts(report) if not demands(row)]


def red(report: Report) -> list[Verdict]:
    """The red verdicts, worst first; those of two runs last, as one of the two is mostly red for itself."""
    names = _names(report)
    rows = [row for row in verdicts(report) if not row.ok]
    return sorted(rows, key=lambda row: (_of_two(row, names), margin(row)))


def run_of(row: Verdict) -> str:
    """The run a verdict is on, by its name: `android.1.18.1`; its target's where it is on none."""
    return row.run or row.platform or row.target


def platform_of(run: str) -> str:
    """The platform of a run; runs are called `platform` or `platform.way`."""
    return run.partition(".")[0]


def told_apart(report: Report) -> tuple[list[Verdict], list[Verdict]]:
    """The red verdicts, worst first, without and with those that others imply.

    A run that is red against the reference on an output also differs there from runs that are not; that is one fault
    and not a dozen.
    """
    rows, names = red(report), _names(report)
    own = {(run_of(row), row.output) for row in rows if row.against == _REFERENCE}
    apart, implied = list[Verdict](), list[Verdict]()
    for row in rows:
        sides = {(run_of(row), row.output), (row.against, row.output)}
        (implied if _of_two(row, names) and not own.isdisjoint(sides) else apart).append(row)
    return apart, implied


def _names(report: Report) -> frozenset[str]:
    return frozenset(row.name for row in report.platforms)


def _of_two(row: Verdict, names: frozenset[str]) -> bool:
    """Whether the verdict is on two runs, rather than on one against what it should be."""
    return row.against in names or platform_of(row.against) in names


def held(report: Report) -> list[Verdict]:
    """The verdicts that hold, the closest to its limit first."""
    return sorted((row for row in verdicts(report) if holds(row)), key=margin)


def unchecked(report: Report) -> list[Verdict]:
    """The verdicts that are not red only because nothing was checked."""
    return [row for row in verdicts(report) if row.ok and not evidenced(row)]


def unavailable(report: Report, platform: PlatformRow) -> str:
    """Why a platform is not evidenced, in the words of its verdict where it has one: they name the remedy."""
    for row in report.verdicts:
        if row.platform == platform.name and _on_evidence(row) and row.detail.strip():
            return row.detail.removeprefix("not evidenced: ")
    return platform.unavailable if platform.unavailable.strip() else "it was not run"


def warnings(report: Report) -> list[Verdict]:
    """What nothing is demanded of and someone should read all the same."""
    found = [row for row in observed(report) if row.metric in _TOLD and row.measured is None]
    absent = [row for row in unchecked(report) if row.metric == "evidence"]
    return [*found, *(row for row in observed(report) if row.metric == "evidence"), *absent]


def derivations(report: Report) -> list[Verdict]:
    """The rows that say, once, how the limits of an output came about."""
    return [row for row in observed(report) if row.metric == _DERIVED]


def failed(report: Report) -> list[TargetRow]:
    """The targets whose recipe failed in this run."""
    return [row for row in report.targets if row.state == "failed"]


def missing(report: Report) -> list[PlatformRow]:
    """The required platforms that nothing evidences."""
    return [row for row in report.platforms if row.required and not evidenced(row)]


def outcome(report: Report) -> Outcome:
    """Fails closed: anything red, failed or missing fails; without one held verdict nothing was checked."""
    if not report.ok or red(report) or failed(report) or missing(report):
        return "fail"
    return "pass" if held(report) else "unchecked"


def subject(row: Verdict) -> str:
    """What was judged: platform, version and backend, or the target where no platform is concerned."""
    judged = row.platform or row.target.partition(":")[2] or row.target
    return " ".join(part for part in (judged, row.version, row.backend) if part)


def pair(row: Verdict) -> str:
    """`android 1.20.1 cpu against reference`."""
    return f"{subject(row)} against {row.against}" if row.against else subject(row)


def gates(report: Report) -> list[Gate]:
    """What was judged, by pair; pairs with a red verdict first, else in the order in which they were judged."""
    pairs: dict[str, list[Verdict]] = {}
    for row in judged(report):
        pairs.setdefault(pair(row), []).append(row)
    found = [
        Gate(name, tuple(sorted(rows, key=lambda row: (row.ok, margin(row))))) for name, rows in pairs.items()
    ]
    return sorted(found, key=lambda gate: gate.red == 0)


def by_run(rows: Sequence[Verdict]) -> dict[str, list[Verdict]]:
    """`rows` by run, in the order in which the runs come up."""
    found: dict[str, list[Verdict]] = {}
    for row in rows:
        found.setdefault(run_of(row), []).append(row)
    return found


Fellows = dict[tuple[str, str], tuple[str, ...]]


def foremost(report: Report) -> tuple[list[Verdict], Fellows]:
    """The red verdicts that others do not imply, told once where several runs share a fault, and those runs.

    (run, output) -> the other runs of its platform that are red with it and agree with it. Of each such group the run
    that comes first stands for all.
    """
    rows, _ = told_apart(report)
    fellows = _fellows(report, rows)
    followers = {(run, output) for (_, output), runs in fellows.items() for run in runs}
    return [row for row in rows if (run_of(row), row.output) not in followers], fellows


def _fellows(report: Report, rows: Sequence[Verdict]) -> Fellows:
    found: Fellows = {}
    for output, matrix in report.details.matrices.items():
        runs = [run for run, said in by_run(rows).items() if any(row.output == output for row in said)]
        for cluster in matrix.clusters:
            platforms: dict[str, list[str]] = {}
            for run in runs:
                if run in cluster and _REFERENCE not in cluster:
                    platforms.setdefault(platform_of(run), []).append(run)
            found.update({(first, output): tuple(rest) for first, *rest in platforms.values() if rest})
    return found


def diagnoses(report: Report) -> list[Diagnosis]:
    """What is known of the red runs, the worst run first."""
    order = [*by_run(told_apart(report)[0])]
    places = {run: place for place, run in enumerate(order)}
    return sorted(report.details.diagnoses, key=lambda each: places.get(each.run, len(places)))


def parted(report: Report) -> dict[str, Matrix]:
    """The matrices of the outputs on which something is red."""
    outputs = {row.output for row in red(report)}
    return {name: matrix for name, matrix in report.details.matrices.items() if name in outputs}


def next_command(report: Report) -> tuple[str, ...]:
    """The words of the command that explains the worst: a reproducer, `doit why digits:android`, `doit status`."""
    shown = next(filter(None, (reproducer(report.model, each) for each in diagnoses(report))), None)
    if shown:
        return shown
    worst = [row.target for row in red(report)] + [row.name for row in failed(report)]
    if not worst:
        return ("doit", "status")
    return ("doit", "why", task_name(report.model, worst[0]))


def reproducer(model: str, found: Diagnosis) -> tuple[str, ...]:
    """The words of the command that shows a fault by itself; none where there is no such program."""
    if not found.folder or not found.script:
        return ()
    path = "/".join((".cache/out", model, "repro", found.folder, found.script))
    own = f".cache/environments/{found.environment}/bin/python" if found.environment else "python"
    return ("node" if found.script.endswith(".mjs") else own, path)


def task_name(model: str, target: str) -> str:
    """The name a target has on the command line: `digits:android`."""
    return target if target.startswith(f"{model}:") else f"{model}:{target}"


def short_name(model: str, target: str) -> str:
    """The name a target has inside a report of its model: `android`."""
    return target.removeprefix(f"{model}:") or target
