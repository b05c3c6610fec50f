"""Gathers the report of a model from what a run did and what the store holds."""

from __future__ import annotations

import json

from modelbuild import witness
from modelbuild.equivalence import verdict
from modelbuild.equivalence.verdict import Verdict
from modelbuild.examine import Examiner
from modelbuild.graph import Target
from modelbuild.report.record import PlatformRow, Report, TargetRow


def collect(run: Examiner, model: str, seconds: float) -> Report:
    """Return the report of `model`: it is ok when every target is there and every verdict holds."""
    targets = tuple(_row(run, target) for target in run.plan.of(model))
    verdicts = tuple(row for name in run.plan.verdicts(model) for row in _verdicts(run, name))
    whole = all(row.state in ("built", "restored", "up-to-date") for row in targets)
    ok = whole and bool(verdicts) and all(row.ok for row in verdicts)
    return Report(model, ok, seconds, targets, verdicts, _platforms(run, model))


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


def _platforms(run: Examiner, model: str) -> tuple[PlatformRow, ...]:
    gate = run.plan.targets[f"{model}:verdict.runtime"].params["platforms"]
    rows = []
    for name, platform in gate.items():
        unavailable = platform["unavailable"]
        evidence = "none" if unavailable else _evidence(run, f"{model}:{name}.run")
        rows.append(PlatformRow(name, platform["runtime"], platform["required"], evidence, unavailable or ""))
    return tuple(rows)
