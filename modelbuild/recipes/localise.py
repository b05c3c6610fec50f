"""Of every red run the operation to blame, with a folder that shows the fault by itself, as findings.json tells.

A green verdict costs nothing. What goes wrong while a fault is looked for is told as the reason why none was found.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild.callables import in_words
from modelbuild.equivalence import verdict
from modelbuild.equivalence.verdict import Verdict

FILE = "findings.json"
MOST = 5  # runs that are looked into
# Nothing inside computes these: the artefact does not give what was asked for, or too few samples were asked.
WITHOUT_NUMBERS = ("missing", "extra", "dtype", "samples", "empty", "flip_rate")
FIRST = ("nan", "inf", "shape", "length", "max_abs")  # what leads to an operation most directly
Attribution = Callable[[Verdict], tuple[str, Mapping[str, Any]]]


def localise(
    inputs: Mapping[str, Path],
    params: Mapping[str, Any],
    out_dir: Path,
    attributed: Attribution | None = None,
) -> None:
    """Write findings.json and a folder for every run whose fault was found.

    `inputs` by role: verdict, onnx, evaluation, reference, student (unless the model starts from an ONNX file),
    artifact.PLATFORM, run.RUN and environment.RUN. `params`: export, and "runs", each with its runtime,
    options, rounds, gate and place. `attributed` tells of a red verdict the stage that it comes from, and the record
    of the steps; it is measured unless given.
    """
    red = _red(inputs["verdict"], params["runs"])
    found: list[dict[str, Any]] = []
    if red:
        from modelbuild.recipes import repro_finding  # what does the work is not loaded for nothing

        search = repro_finding.Search(inputs, params)
        for number, rows in enumerate(red.values()):
            for row in rows:
                stage, steps = ("", {}) if number >= MOST else (attributed or _measured(inputs, params))(row)
                reason = _left_out(row, number)
                found.append(search.finding(row, out_dir / row.run, stage, steps, reason))
    text = json.dumps({"findings": found}, indent=1, sort_keys=True, allow_nan=False)
    (out_dir / FILE).write_text(text + "\n", encoding="utf-8")


def _measured(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> Attribution:
    """From the steps that lead to the run, which are measured anew; where they cannot be, nobody is accused."""
    from modelbuild.equivalence import attribution
    from modelbuild.recipes import steps

    def attributed(red: Verdict) -> tuple[str, Mapping[str, Any]]:
        try:
            record = steps.of_run(red.run, inputs, params)
        except Exception as error:  # whatever it is, the verdict is red and has to be reported
            print(f"{red.run}: its steps cannot be measured: {in_words(error)}")
            return "", {}
        return attribution.blamed(record["outputs"].get(red.output, [])), record

    return attributed


def _left_out(row: Verdict, number: int) -> str:
    """Why this verdict, on the run with that number among the red ones, is not looked into."""
    if row.metric in WITHOUT_NUMBERS:
        return row.detail
    return f"not looked into, as {MOST} other runs are red" if number >= MOST else ""


def _red(folder: Path, runs: Mapping[str, Any]) -> dict[str, list[Verdict]]:
    """Of every red run what has no numbers, and of all else the one verdict to start from."""
    found: dict[str, list[Verdict]] = {}
    for row in verdict.read(folder / "verdicts.json"):
        if not row.ok and row.against == "reference" and row.run in runs:
            found.setdefault(row.run, []).append(row)
    return {run: [*_chosen(rows)] for run, rows in found.items()}


def _chosen(rows: Sequence[Verdict]) -> Iterator[Verdict]:
    yield from (row for row in rows if row.metric in WITHOUT_NUMBERS)
    measured = [row for row in rows if row.metric not in WITHOUT_NUMBERS]
    if measured:
        yield min(measured, key=_urgency)


def _urgency(row: Verdict) -> tuple[int, float, str]:
    """The least is to be looked into first."""
    rank = FIRST.index(row.metric) if row.metric in FIRST else len(FIRST)
    ratio = row.measured / row.limit if row.measured is not None and row.limit else math.inf
    return rank, -ratio, row.output
