"""The verdicts of the three gates: read the arrays, ask `equivalence`, write verdicts.json (and matrix.json).

A red gate is a result and is written like a green one; only a gate that cannot be judged is an error.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild import dataset, tensors
from modelbuild.equivalence import budget, demand, matrix, noise, observations, preflight, verdict
from modelbuild.equivalence.gate import Evaluation, Platform, platform_of, runtime_gate
from modelbuild.equivalence.quality import task_gate, teacher_gate
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import RANK, Evidence, Run
from modelbuild.tensors import Source

RUN_ROLE, OUTPUTS = "run.", "outputs.safetensors"


class Recorded(NamedTuple):
    """A run as it lies in its folder, its outputs not yet read."""

    outputs: Mapping[str, Source]
    version: str
    backend: str
    evidence: Evidence


def teacher(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Gate 1: the student's reference outputs against the teacher's on the evaluation set."""
    asked = demand.qualities(params["gate"], "teacher")
    student, taught = (tensors.load(inputs[role] / OUTPUTS) for role in ("reference", "outputs"))
    verdicts = teacher_gate(params["target"], student, taught, asked, _said(params))
    verdict.write(out_dir / "verdicts.json", verdicts)


def task(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Gate 2: the student's reference outputs against the evaluation set's ground truth."""
    asked = demand.qualities(params["gate"], "task")
    student = tensors.load(inputs["reference"] / OUTPUTS)
    truths = dataset.read(inputs["evaluation"]).truths
    verdicts = task_gate(params["target"], student, truths, asked, _said(params))
    verdict.write(out_dir / "verdicts.json", verdicts)


def _said(params: Mapping[str, Any]) -> dict[str, demand.OutputDemand]:
    """What the manifest's runtime gate says of the outputs."""
    return demand.outputs(params.get("outputs", {}))


def runtime(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Gate 3: every platform's run against the reference and against every other run."""
    asked = demand.runtime(params["gate"])
    platforms = {name: _platform(params["gate"], name, each) for name, each in params["platforms"].items()}
    runs = {
        role.removeprefix(RUN_ROLE): _recorded(path)
        for role, path in inputs.items()
        if role.startswith(RUN_ROLE)
    }
    unknown = sorted(name for name in runs if platform_of(name) not in platforms)
    if unknown:
        raise RecipeError("gates/runtime", f"a run of {', '.join(unknown)}, which is no platform here", "")
    judged = runtime_gate(
        params["model"],
        tensors.opened(inputs["reference"] / OUTPUTS),
        noise.read(inputs["noise"] / noise.FILE),
        _evaluation(inputs["evaluation"]),
        platforms,
        runs,
        asked,
        params.get("rounds", {}),
    )
    more = (*_budgets(inputs, params), *_warnings(inputs, params), *_observations(inputs, params))
    verdict.write(out_dir / "verdicts.json", [*judged.verdicts, *more])
    judged.matrix.write(out_dir / matrix.FILE)


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


def _evaluation(folder: Path) -> Evaluation:
    described = json.loads((folder / "data.json").read_text())
    label = described["label"]
    labels = None if label is None else tensors.load(folder / "data.safetensors")[label]
    return Evaluation(described["samples"], labels)


def read_run(folder: Path) -> Run:
    """The run in target folder `folder`, all of it in memory. Raises RecipeError for evidence that is none."""
    found = _recorded(folder)
    placement = json.loads((folder / "run.json").read_text()).get("placement", {})
    outputs = tensors.load(folder / OUTPUTS)
    return Run(outputs, found.version, found.backend, found.evidence, placement)


def _recorded(folder: Path) -> Recorded:
    record = json.loads((folder / "run.json").read_text())
    if record["evidence"] not in RANK:
        raise RecipeError(
            "run.json", f'"{record["evidence"]}" is no kind of evidence', f"Known: {', '.join(RANK)}"
        )
    outputs = tensors.opened(folder / OUTPUTS)
    return Recorded(outputs, record["version"], record["backend"], record["evidence"])
