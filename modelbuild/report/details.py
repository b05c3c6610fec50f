"""What the gate knows beyond its verdicts: who agrees with whom, how errors are spread, and whose they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from modelbuild.errors import RecipeError
from modelbuild.report.decode import NAMED, decode, encode
from modelbuild.report.student_record import Capacity, Cycle, Student, Training

MATRIX, STEPS, NOISE, FINDINGS = "matrix.json", "steps.json", "noise.json", "findings.json"
CYCLE, TRAINING, CAPACITY = "cycle.json", "training.json", "capacity.json"
_DECADES = 300  # of a float64, either way
_MOST_BINS = 2000


@dataclass(frozen=True, slots=True)
class Histogram:
    """|run - reference| of every value: bin i begins at 10 ** (least_exponent + i / per_decade); `zero` are equal."""

    least_exponent: int
    per_decade: int
    counts: tuple[int, ...]
    zero: int
    floor: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class Margins:
    """Samples by [bin of the reference's lead][bin of how far that lead moved], both as in Histogram.

    `zero` are the samples whose lead did not move, `margin` the lead below which a flip is noise.
    """

    least_exponent: int
    per_decade: int
    counts: tuple[tuple[int, ...], ...]
    zero: int
    margin: float | None


@dataclass(frozen=True, slots=True)
class Matrix:
    """Every run against every other on one output; `share` is measured / limit of the worst metric.

    All of N x N for N `runs`; None where nothing was compared. `clusters`: the runs that agree, `words` says it.
    """

    runs: tuple[str, ...]
    max_abs: tuple[tuple[float | None, ...], ...]
    share: tuple[tuple[float | None, ...], ...]
    ok: tuple[tuple[bool | None, ...], ...]
    clusters: tuple[tuple[str, ...], ...]
    words: str
    histograms: Mapping[str, Histogram] = field(default_factory=dict)
    margins: Mapping[str, Margins] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """What one switch on the way to the file that ships adds; `total` is the distance to the reference after it."""

    stage: str
    before: str = field(metadata={NAMED: "from"})
    after: str = field(metadata={NAMED: "to"})
    max_abs: float | None
    rmse: float | None
    total: float | None
    limit: float | None
    ok: bool | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Quality:
    """How well the model does its task after `stage`: "teacher", or "student" or "onnx", is before the first."""

    stage: str
    value: float | None = None
    metric: str = "accuracy"


@dataclass(frozen=True, slots=True)
class Waterfall:
    """The steps from the teacher to one run, by output; none where nothing was switched."""

    run: str = ""
    outputs: Mapping[str, tuple[Step, ...]] = field(default_factory=dict)
    tasks: Mapping[str, tuple[Quality, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spread:
    """How far one source moves an output; None where that gives no finite number."""

    max_abs: float | None
    rmse: float | None


@dataclass(frozen=True, slots=True)
class OutputNoise:
    """One output of the reference and what moves it that is nobody's fault; `uncounted`: left out, and why."""

    dtype: str
    samples: int
    values: int
    least: float | None
    most: float | None
    sources: Mapping[str, Spread]
    rounded: Mapping[str, Spread] = field(default_factory=dict)
    uncounted: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an artefact: the runtime's names for it and its `value`, the canonical one, its module."""

    name: str
    kind: str
    value: str
    canonical: str
    module: str


@dataclass(frozen=True, slots=True)
class Inside:
    """The blamed value against the reference's."""

    measured: float | None
    limit: float | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why one run is red on one output: the first operation that diverges (`op`), or the `reason` why none is named.

    `others` diverge beside it. `region`: the operations it lies among. `confirmed` of the `samples` agree on it.
    `script` in `folder` shows it, run by the Python of `environment` where that is not the installed one.
    """

    run: str
    output: str
    metric: str
    measured: float | None
    limit: float | None
    sample: int | None
    stage: str
    op: Operation | None
    region: tuple[str, ...]
    inside: Inside | None
    samples: tuple[int, ...]
    confirmed: int
    reason: str
    folder: str
    script: str
    steps: Waterfall = field(default_factory=Waterfall)
    others: tuple[Operation, ...] = ()
    words: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """All of it, empty where nothing was measured; `matrices` and `noise` by output, `search` by cycle."""

    matrices: Mapping[str, Matrix] = field(default_factory=dict)
    waterfalls: tuple[Waterfall, ...] = ()
    noise: Mapping[str, OutputNoise] = field(default_factory=dict)
    diagnoses: tuple[Diagnosis, ...] = ()
    search: tuple[Cycle, ...] = ()
    student: Student = field(default_factory=Student)


@dataclass(frozen=True, slots=True)
class _Matrices:
    outputs: Mapping[str, Matrix]


@dataclass(frozen=True, slots=True)
class _Noise:
    outputs: Mapping[str, OutputNoise]


@dataclass(frozen=True, slots=True)
class _Findings:
    findings: tuple[Diagnosis, ...]


def read(
    verdict: Path | None = None,
    steps: Sequence[Path] = (),
    noise: Path | None = None,
    repro: Path | None = None,
    cycles: Sequence[Path] = (),
    student: Path | None = None,
    capacity: Path | None = None,
) -> Details:
    """What lies in these folders of targets; one that is None or not there says nothing.

    `cycles` are those of a search, the first one first. A student whose weights were given has no training.
    Raises RecipeError where a folder lacks its file, or the file is not what it should be.
    """
    matrices = _read(verdict, MATRIX, _Matrices)
    falls = (_read(folder, STEPS, Waterfall) for folder in steps)
    known = _read(noise, NOISE, _Noise)
    found = _read(repro, FINDINGS, _Findings)
    searched = (_read(folder, CYCLE, Cycle) for folder in cycles)
    trained = student if student is not None and (student / TRAINING).is_file() else None
    details = Details(
        matrices.outputs if matrices else {},
        tuple(fall for fall in falls if fall is not None),
        known.outputs if known else {},
        found.findings if found else (),
        tuple(each for each in searched if each is not None),
        Student(_read(trained, TRAINING, Training), _read(capacity, CAPACITY, Capacity)),
    )
    _check(details, str(verdict.name) if verdict else "")
    return details


def to_json(details: Details) -> Any:
    """The details as JSON values; NaN and infinity become null."""
    return encode(details)


def from_json(document: Any) -> Details:
    """The details that `to_json` wrote. Raises RecipeError for anything else."""
    details: Details = decode(Details, document, "details")
    _check(details, "details")
    return details


def _read(folder: Path | None, name: str, kind: Any) -> Any:
    if folder is None or not folder.is_dir():
        return None
    place = f"{folder.name}/{name}"
    try:
        document = json.loads((folder / name).read_bytes(), parse_constant=_no_number)
    except OSError as problem:
        raise RecipeError(place, f"cannot be read: {problem.strerror or problem}", "Build it again") from None
    except (ValueError, RecursionError) as problem:
        raise RecipeError(place, f"is not JSON: {problem}", "Build it again") from None
    return decode(kind, document, place)


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _check(details: Details, place: str) -> None:
    """Refuse what could not be drawn: tables that are not whole, bins without end."""
    for output, matrix in details.matrices.items():
        count, where = len(matrix.runs), f"{place}/{output}"
        for table in (matrix.max_abs, matrix.share, matrix.ok):
            if len(table) != count or any(len(row) != count for row in table):
                raise RecipeError(
                    where, f"a table is not {count} x {count}, for {count} runs", "Build it again"
                )
        for histogram in matrix.histograms.values():
            _check_bins(histogram, histogram.counts, where)
        for margins in matrix.margins.values():
            for row in margins.counts:
                _check_bins(margins, row, where)


def _check_bins(bins: Histogram | Margins, counts: Sequence[int], where: str) -> None:
    span = bins.per_decade > 0 and len(counts) <= _MOST_BINS and min(counts, default=0) >= 0
    most = bins.least_exponent + len(counts) / max(bins.per_decade, 1)
    if not span or bins.least_exponent < -_DECADES or most > _DECADES:
        raise RecipeError(where, "its bins count nothing that can be", "Build it again")
