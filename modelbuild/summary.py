"""Gathers the report of a model from what a run did and what the store holds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from modelbuild import ratchet, requirements, search, witness
from modelbuild.declare import Model
from modelbuild.equivalence import verdict
from modelbuild.equivalence.verdict import Verdict
from modelbuild.examine import Examiner
from modelbuild.report import details
from modelbuild.report.details import Details
from modelbuild.report.record import PlatformRow, Report, TargetRow
from modelbuild.runtimes.base import RANK
from modelbuild.targets import Target


def collect(run: Examiner, declared: Model, seconds: float, required: Sequence[str], today: date) -> Report:
    """Return the report of a model: it is ok when every target is there and every verdict holds.

    `required` are platforms, `PLATFORM` or `PLATFORM:WAY`, that the command line wants evidence of; `today` decides
    which waivers hold. Raises ManifestError for a file of accepted figures that is none.
    """
    model = declared.name
    targets = tuple(_row(run, target) for target in run.plan.of(model))
    said = gated(run, model, required)
    verdicts = ratchet.held_to(said, _terms(run, declared, today))
    whole = all(row.state in ("built", "restored", "up-to-date") for row in targets)
    ok = whole and bool(said) and all(row.ok for row in verdicts)
    return Report(model, ok, seconds, targets, verdicts, _platforms(run, model), _details(run, model))


def gated(run: Examiner, model: str, required: Sequence[str]) -> tuple[Verdict, ...]:
    """What the gates say of a model, before accepted figures and waivers."""
    found = (row for name in run.plan.verdicts(model) for row in _verdicts(run, name))
    return tuple(requirements.held_to(row, required) for row in found)


def _terms(run: Examiner, declared: Model, today: date) -> ratchet.Terms:
    whole = all(_whole(run, name) for name in run.plan.verdicts(declared.name))
    measured = f"{declared.name}:noise"
    noise = run.at.out(measured) / "noise.json" if _whole(run, measured) else None
    return ratchet.terms(run.at.root, declared, today, noise, whole)


def _details(run: Examiner, model: str) -> Details:
    def folder(name: str) -> Path | None:
        return run.at.out(f"{model}:{name}") if _whole(run, f"{model}:{name}") else None

    names = [target.name.partition(":")[2] for target in run.plan.of(model)]

    def folders(wanted: Sequence[str]) -> list[Path]:
        return [path for path in map(folder, wanted) if path is not None]

    return details.read(
        folder("verdict.runtime"),
        folders([name for name in names if name.endswith(".steps")]),
        folder("noise"),
        folder("repro"),
        folders(search.cycles(names)),
        folder("student") if "student" in names else None,
        folder("capacity") if "capacity" in names else None,
    )


def _row(run: Examiner, target: Target) -> TargetRow:
    needs = tuple(sorted({*target.inputs.values()}))
    outcome = run.outcomes.get(target.name)
    if outcome is None:
        return TargetRow(target.name, "", "not run", 0.0, "", {}, 0, needs, "")
    built = run.journal.built(target.name)
    if outcome.state == "failed" or built is None:
        state, reason, error = outcome.state, outcome.reason, outcome.error
        return TargetRow(target.name, outcome.key, state, outcome.seconds, reason, {}, 0, needs, error)
    record = run.store.record(outcome.key)
    files = witness.files(built.witness)
    digests = {"": outcome.digest, **{path: digest for path, digest, _ in files}}
    size = sum(size for _, _, size in files)
    seconds = record.seconds if record else 0.0
    return TargetRow(
        target.name, outcome.key, outcome.state, seconds, outcome.reason, digests, size, needs, ""
    )


def _whole(run: Examiner, name: str) -> bool:
    """Whether this run found or made the target whole: only then does its copy speak of this run."""
    outcome = run.outcomes.get(name)
    return outcome is not None and outcome.state != "failed"


def _verdicts(run: Examiner, name: str) -> tuple[Verdict, ...]:
    return verdict.read(run.at.out(name) / "verdicts.json") if _whole(run, name) else ()


def _evidence(run: Examiner, name: str) -> str:
    if not _whole(run, name):
        return "none"
    return str(json.loads((run.at.out(name) / "run.json").read_bytes())["evidence"])


def _best(run: Examiner, model: str, platform: str) -> str:
    """The best evidence that any way of running the platform gave."""
    first = f"{model}:{platform}.run"
    runs = [t.name for t in run.plan.of(model) if t.name == first or t.name.startswith(f"{first}.")]
    return max((_evidence(run, name) for name in runs), key=RANK.index, default="none")


def _platforms(run: Examiner, model: str) -> tuple[PlatformRow, ...]:
    gate = run.plan.targets[f"{model}:verdict.runtime"].params["platforms"]
    rows = []
    for name, platform in gate.items():
        unavailable = platform["unavailable"]
        evidence = "none" if unavailable else _best(run, model, name)
        rows.append(PlatformRow(name, platform["runtime"], platform["required"], evidence, unavailable or ""))
    return tuple(rows)
