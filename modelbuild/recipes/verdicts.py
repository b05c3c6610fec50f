"""The verdicts of the three gates: read the arrays, ask `equivalence`, write verdicts.json.

A red gate is a result and is written like a green one; only a gate that cannot be judged is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelbuild import tensors
from modelbuild.equivalence import budget, demand, observations, preflight, verdict
from modelbuild.equivalence.gate import Evaluation, Platform, platform_of, runtime_gate
from modelbuild.equivalence.quality import task_gate, teacher_gate
from modelbuild.equivalence.tolerance import Reference
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import RANK, Run

RUN_ROLE, ROUNDED_ROLE = "run.", "rounded."


def teacher(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Gate 1: the student's reference outputs against the teacher's on the evaluation set."""
    asked = demand.quality(params["gate"], "teacher")
    student = tensors.load(inputs["reference"] / "outputs.safetensors")
    taught = tensors.load(inputs["outputs"] / "evaluation.safetensors")
    verdict.write(out_dir / "verdicts.json", teacher_gate(params["target"], student, taught, asked))


def task(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Gate 2: the student's reference outputs against the evaluation set's label."""
    asked = demand.quality(params["gate"], "task")
    student = tensors.load(inputs["reference"] / "outputs.safetensors")
    labels = _evaluation(inputs["evaluation"]).labels
    if labels is None:
        raise RecipeError("gates/task", "the evaluation data has no label", "Name one, or leave the gate out")
    verdict.write(out_dir / "verdicts.json", task_gate(params["target"], student, labels, asked))


def runtime(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Gate 3: every platform's run against the reference and against every other run."""
    asked = demand.runtime(params["gate"])
    platforms = {name: _platform(params["gate"], name, each) for name, each in params["platforms"].items()}
    runs = {
        role.removeprefix(RUN_ROLE): _run(path) for role, path in inputs.items() if role.startswith(RUN_ROLE)
    }
    unknown = sorted(name for name in runs if platform_of(name) not in platforms)
    if unknown:
        raise RecipeError("gates/runtime", f"a run of {', '.join(unknown)}, which is no platform here", "")
    found = runtime_gate(
        params["model"],
        reference(inputs),
        _evaluation(inputs["evaluation"]),
        platforms,
        runs,
        asked,
        params.get("rounds", {}),
    )
    more = (*_budgets(inputs, params), *_warnings(inputs, params), *_observations(inputs, params))
    verdict.write(out_dir / "verdicts.json", [*found, *more])


def _warnings(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> Iterator[Verdict]:
    if "preflight" in inputs:
        record = json.loads((inputs["preflight"] / "preflight.json").read_text())
        yield preflight.warning(params["model"], record)


def _observations(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> Iterator[Verdict]:
    said = set()  # what is so of the artefact is so in every run of it
    for role, path in inputs.items():
        if role.startswith(RUN_ROLE):
            platform = platform_of(role.removeprefix(RUN_ROLE))
            record = json.loads((path / "run.json").read_text())
            for row in observations.rows(f"{params['model']}:{platform}", platform, record):
                if (row.target, row.metric, row.detail) not in said:
                    said.add((row.target, row.metric, row.detail))
                    yield row


def _budgets(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> Iterator[Verdict]:
    for name, platform in params["platforms"].items():
        runs = [each for each in inputs if platform_of(each.partition(RUN_ROLE)[2]) == name]
        if runs:  # each is a run of the same artefact
            record = json.loads((inputs[runs[0]] / "run.json").read_text())
            target = f"{params['model']}:{name}"
            yield from budget.verdicts(target, name, record, platform.get("budgets", {}))


def _platform(gate: Mapping[str, Any], name: str, platform: Mapping[str, Any]) -> Platform:
    return Platform(
        platform["required"],
        platform["unavailable"],
        _own(gate, name, platform),
        platform.get("evidence", "interpreted"),
        platform.get("absent", {}),
    )


def _own(gate: Mapping[str, Any], name: str, platform: Mapping[str, Any]) -> demand.RuntimeDemand | None:
    """The demand of a platform that has a tolerance of its own."""
    if platform.get("tolerance") is None:
        return None
    return demand.runtime({**gate, "tolerance": platform["tolerance"]}, f"platforms/{name}")


def reference(inputs: Mapping[str, Path]) -> Reference:
    """What the reference gives, and what rounding does to it, from the target folders by role."""
    folder = inputs["reference"]
    wide = folder / "outputs64.safetensors"
    return Reference(
        tensors.load(folder / "outputs.safetensors"),
        tensors.load(wide) if wide.exists() else None,
        tensors.load(folder / "nudged.safetensors"),
        {
            role.removeprefix(ROUNDED_ROLE): tensors.load(path / "outputs.safetensors")
            for role, path in inputs.items()
            if role.startswith(ROUNDED_ROLE)
        },
    )


def _evaluation(folder: Path) -> Evaluation:
    described = json.loads((folder / "data.json").read_text())
    label = described["label"]
    labels = None if label is None else tensors.load(folder / "data.safetensors")[label]
    return Evaluation(described["samples"], labels)


def _run(folder: Path) -> Run:
    record = json.loads((folder / "run.json").read_text())
    if record["evidence"] not in RANK:
        raise RecipeError(
            "run.json", f'"{record["evidence"]}" is no kind of evidence', f"Known: {', '.join(RANK)}"
        )
    return Run(
        tensors.load(folder / "outputs.safetensors"),
        record["version"],
        record["backend"],
        record["evidence"],
        record.get("placement", {}),
    )
