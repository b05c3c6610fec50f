"""All runs against all others, output by output, as a record for those who draw it: matrix.json."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild.equivalence import clusters
from modelbuild.equivalence.clusters import REFERENCE
from modelbuild.equivalence.demand import FLOORS
from modelbuild.equivalence.verdict import Verdict

FILE = "matrix.json"
BEYOND = 1e6  # the share of a limit of 0, or by a figure without end: JSON has no infinity


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair on one output: `share` is measured / limit of the worst metric, above 1 where it is red.

    `max_abs` and `share` are None where nothing was compared, `ok` where nothing was even asked; `fault` is the kind
    of the first reason not to compare.
    """

    max_abs: float | None = None
    share: float | None = None
    ok: bool | None = None
    fault: str = ""

    def with_error(self, max_abs: float) -> Cell:
        return replace(self, max_abs=max_abs if math.isfinite(max_abs) else None)


class Pictures(NamedTuple):
    """Of one run against the reference: how its errors are spread and, where it decides, how leads drift."""

    errors: Mapping[str, Any]
    leads: Mapping[str, Any] | None = None


ITSELF = Cell(0.0, 0.0, True)


@dataclass(frozen=True, slots=True)
class OutputMatrix:
    """`max_abs`, `share` and `ok` are of [run, run] in the order of `runs`, the first being the reference."""

    runs: tuple[str, ...]
    max_abs: tuple[tuple[float | None, ...], ...]
    share: tuple[tuple[float | None, ...], ...]
    ok: tuple[tuple[bool | None, ...], ...]
    clusters: tuple[tuple[str, ...], ...]
    words: str
    histograms: Mapping[str, Mapping[str, Any]]
    margins: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Matrix:
    """By output of the reference."""

    outputs: Mapping[str, OutputMatrix]

    def write(self, path: Path) -> None:
        """Write {"outputs": {name: ...}}."""
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n")


def of_output(
    runs: Sequence[str],
    cells: Mapping[tuple[str, str], Cell],
    pictures: Mapping[str, Pictures],
) -> OutputMatrix:
    """`cells` has each pair of `runs` and the reference, in either order; those it lacks were not compared."""
    names = (REFERENCE, *runs)
    rows = [[_at(cells, one, two) for two in names] for one in names]
    ok = tuple(tuple(cell.ok for cell in row) for row in rows)
    why = {name: cell.fault for name, cell in zip(names, rows[0], strict=True) if cell.fault}
    return OutputMatrix(
        names,
        tuple(tuple(cell.max_abs for cell in row) for row in rows),
        tuple(tuple(cell.share for cell in row) for row in rows),
        ok,
        clusters.clusters(names, ok),
        clusters.words(names, ok, why),
        {run: each.errors for run, each in pictures.items()},
        {run: each.leads for run, each in pictures.items() if each.leads is not None},
    )


def _at(cells: Mapping[tuple[str, str], Cell], one: str, two: str) -> Cell:
    return ITSELF if one == two else cells.get((one, two)) or cells.get((two, one)) or Cell()


def cell(verdicts: Iterable[Verdict]) -> Cell:
    """What the `verdicts` of one pair on one output come to, without the largest error.

    A rate that too few samples vouch for tells nothing of whether the two differ; the flips themselves do.
    """
    demanded = (each for each in verdicts if each.metric != "flip_rate")
    judged = [each for each in demanded if each.limit is not None or not each.ok]
    faults = [each.metric for each in judged if each.limit is None]
    shares = [share(each) for each in judged if each.limit is not None]
    return Cell(
        None,
        max(shares, default=None),
        all(each.ok for each in judged) if judged else None,
        faults[0] if faults else "",
    )


def share(verdict: Verdict) -> float:
    """How much of its limit a verdict uses, above 1 where it is red; BEYOND where that has no end.

    Of a cosine the distance from 1 is taken, of decibels the error's amplitude.
    """
    measured, limit = verdict.measured, verdict.limit or 0.0
    if measured is None:
        return 0.0 if verdict.ok else BEYOND
    if verdict.metric == "sqnr_db":
        measured, limit = math.exp(min((limit - measured) / 20 * math.log(10), 600)), 1.0
    elif verdict.metric in FLOORS:
        measured, limit = 1 - measured, 1 - limit
    if limit > 0:
        return min(measured / limit, BEYOND)
    return 0.0 if verdict.ok else BEYOND
