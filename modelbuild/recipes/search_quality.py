"""How good a candidate of a search is: what the gates on the student say of it on the data it is judged on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild import dataset, network, tensors
from modelbuild.deterministic import deterministic
from modelbuild.equivalence import demand
from modelbuild.equivalence.demand import QualityDemand
from modelbuild.equivalence.quality import task_gate, teacher_gate
from modelbuild.equivalence.verdict import Verdict, passed
from modelbuild.errors import RecipeError
from modelbuild.recipes import inference

TRAINING, ASSESSMENT, OUTPUTS = "training.json", "assessment.json", "outputs.safetensors"

Demands = Sequence[tuple[str, QualityDemand]]


def assess(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write assessment.json: the verdicts of every demand on `student`, and how far the worst is from its limit.

    Roles: data, and said, what the teacher says of it, where "gates" has "teacher". `params`: "gates", "outputs" as
    the runtime gate has them. Raises RecipeError where there is no gate, and as the gates do.
    """
    training = json.loads((inputs["student"] / TRAINING).read_text(encoding="utf-8"))
    if training.get("stopped"):
        dataset.write_json(out_dir / ASSESSMENT, training)
        return
    demands = _demands(params)
    if not demands:
        fact = "no gate says what the student must reach, so no candidate is better than another"
        raise RecipeError("search", fact, "Add a gate: gates/teacher, gates/task, or both.")
    rows = _verdicts(inputs, params, demands)
    worst = max(rows, key=shortfall)
    distance = shortfall(worst)
    record = {
        "ok": passed(rows),
        "shortfall": distance if math.isfinite(distance) else None,
        "why": "passes every gate" if passed(rows) else _words(worst),
        "quality": _quality(rows, *demands[0]),
        "steps": training["steps"],
        "parameters": training["parameters"],
        "bytes": (inputs["student"] / network.WEIGHTS).stat().st_size,
        "rows": [row.to_json() for row in rows],
    }
    dataset.write_json(out_dir / ASSESSMENT, record)


def _demands(params: Mapping[str, Any]) -> list[tuple[str, QualityDemand]]:
    """What each gate demands, with what it is against."""
    gates = params["gates"]
    return [
        (against, each)
        for name, against in (("teacher", "teacher"), ("task", "label"))
        for each in (demand.qualities(gates[name], name) if name in gates else ())
    ]


def _verdicts(inputs: Mapping[str, Path], params: Mapping[str, Any], demands: Demands) -> tuple[Verdict, ...]:
    data, asked = dataset.read(inputs["data"]), demand.outputs(params["outputs"])
    with deterministic():
        given = inference.outputs(network.restore(inputs["student"]), data.inputs)
    teacher, task = ([each for name, each in demands if name == against] for against in ("teacher", "label"))
    rows: tuple[Verdict, ...] = ()
    if teacher:
        rows += teacher_gate("search", given, tensors.load(inputs["said"] / OUTPUTS), teacher, asked)
    if task:
        rows += task_gate("search", given, data.truths, task, asked)
    return rows


def shortfall(row: Verdict) -> float:
    """How far from its limit, as a share of that: 0 where it holds, infinity where there is no number."""
    if row.ok:
        return 0.0
    if row.measured is None or row.limit is None:
        return math.inf
    return abs(row.measured - row.limit) / (abs(row.limit) or 1.0)


def _more(row: Verdict) -> bool:
    return demand.more_is_better(row.metric, row.more_is_better)


def _quality(rows: Sequence[Verdict], against: str, first: QualityDemand) -> dict[str, Any]:
    """The figure that stands for all: that of the first demand, on the output where it is worst."""
    found = [
        row
        for row in rows
        if (row.against, row.metric) == (against, first.metric) and first.output in (None, row.output)
    ]
    worst = max(found, key=_badness, default=None)
    return {
        "metric": first.metric,
        "against": against,
        "output": worst.output if worst else first.output or "",
        "measured": worst.measured if worst else None,
        "limit": first.limit,
        "more_is_better": demand.more_is_better(first.metric, first.more_is_better),
    }


def _badness(row: Verdict) -> float:
    if row.measured is None:
        return math.inf
    return -row.measured if _more(row) else row.measured


def _words(row: Verdict) -> str:
    """`accuracy 0.91 on logits against the label, at least 0.95 is due`."""
    if row.measured is None or row.limit is None:
        return row.detail
    measured, limit = _apart(row.measured, row.limit)
    where = f" on {row.output}" if row.output else ""
    bound = "least" if _more(row) else "most"
    return f"{row.metric} {measured}{where} against the {row.against}, at {bound} {limit} is due"


def _apart(measured: float, limit: float) -> tuple[str, str]:
    """Both with as many digits as it takes to tell them apart."""
    texts = ("", "")
    for digits in (4, 6, 9, 17):
        texts = f"{measured:.{digits}g}", f"{limit:.{digits}g}"
        if texts[0] != texts[1]:
            break
    return texts
