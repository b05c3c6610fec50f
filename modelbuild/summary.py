"""Gathers the report of a model from what a run did and what the store holds."""

from __future__ import annotations

import json
from typing import Any

from modelbuild.build import Builder
from modelbuild.graph import Target
from modelbuild.report.record import PlatformRow, Report, TargetRow, VerdictRow
from modelbuild.store import LostError, Record


def collect(builder: Builder, model: str, seconds: float) -> Report:
    """Return the report of `model`: it is ok when every target is there and every verdict holds."""
    targets = tuple(_row(builder, target) for target in builder.plan.of(model))
    verdicts = tuple(row for name in builder.plan.verdicts(model) for row in _verdicts(builder, name))
    whole = all(row.state in ("built", "restored", "up-to-date") for row in targets)
    ok = whole and bool(verdicts) and all(row.ok for row in verdicts)
    return Report(model, ok, seconds, targets, verdicts, _platforms(builder, model))


def _record(builder: Builder, name: str) -> Record | None:
    outcome = builder.outcomes.get(name)
    return builder.store.record(outcome.key) if outcome and outcome.key else None


def _row(builder: Builder, target: Target) -> TargetRow:
    needs = tuple(sorted({*target.inputs.values()}))
    outcome = builder.outcomes.get(target.name)
    if outcome is None:
        return TargetRow(target.name, "", "not run", 0.0, "", {}, 0, needs, "")
    record = _record(builder, target.name)
    seconds = record.seconds if record else outcome.seconds
    files = {e.path: e.digest for e in record.tree.entries} if record else {}
    size = record.tree.size if record else 0
    digests = {"": outcome.digest, **files} if record else {}
    return TargetRow(target.name, outcome.key, outcome.state, seconds, outcome.reason, digests, size, needs, outcome.error)


def read_json(builder: Builder, name: str, path: str) -> dict[str, Any]:
    """Return a JSON file of a target this run brought up to date, {} when there is none."""
    record = _record(builder, name)
    if record is None or all(entry.path != path for entry in record.tree.entries):
        return {}
    try:
        found: dict[str, Any] = json.loads(builder.store.read(record.tree, path))
    except LostError:
        found = json.loads((builder.at.out(name) / path).read_bytes())
    return found


def _verdicts(builder: Builder, name: str) -> list[VerdictRow]:
    return [VerdictRow(**row) for row in read_json(builder, name, "verdicts.json").get("verdicts", [])]


def _platforms(builder: Builder, model: str) -> tuple[PlatformRow, ...]:
    gate = builder.plan.targets[f"{model}:verdict.runtime"].params["platforms"]
    rows = []
    for name, platform in gate.items():
        run = read_json(builder, f"{model}:{name}.run", "run.json")
        why = platform["unavailable"] or ""
        rows.append(PlatformRow(name, platform["runtime"], platform["required"], run.get("evidence", "none"), why))
    return tuple(rows)
