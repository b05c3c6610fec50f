"""What may pass for a while although it is red: one figure, up to a limit, for a reason, until a day.

A waiver of the manifest is no part of any target's key: it decides nothing that is built, only how a verdict is read,
and so does the day. It never helps what could not be measured (NaN, another shape, no evidence): there is no figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import NamedTuple

from modelbuild.declare import Waiver
from modelbuild.equivalence import demand
from modelbuild.equivalence.verdict import Verdict

METRIC = "waiver"  # of the rows that tell of the waivers themselves
AGAINST = {"teacher": "teacher", "task": "label"}  # gate -> what its verdicts are against


class Settled(NamedTuple):
    """A verdict as the waivers leave it; `by` is the waiver that let it pass."""

    row: Verdict
    by: Waiver | None = None


def covers(waiver: Waiver, row: Verdict) -> bool:
    """Whether the verdict is on the figure of the waiver, whatever its value and the day.

    Of a verdict on two runs, either may be the waiver's.
    """
    if row.metric != waiver.metric or waiver.output not in (None, row.output):
        return False
    if waiver.gate is not None:
        return not row.platform and row.against == AGAINST[waiver.gate]
    return any(_is_of(waiver.platform or "", run) for run in (row.run or row.platform, row.against))


def _is_of(name: str, run: str) -> bool:
    """`android` covers `android.1.18.1`; `android.1.18.1` covers itself alone."""
    return name in (run, run.partition(".")[0])


def settle(
    row: Verdict, waivers: Sequence[Waiver], day: date, constants: Mapping[tuple[str, str], float]
) -> Settled:
    """The verdict, green where a waiver covers its figure up to what was measured; else with why none did.

    `constants`: (output, metric) -> what the best constant in place of the reference's output reaches; the verdict of
    a gate on the model itself says so by itself. A waiver that would pass even that is none.
    """
    if row.ok or row.measured is None:
        return Settled(row)
    why = []
    for waiver in (each for each in waivers if covers(each, row)):
        constant = constants.get((row.output, row.metric)) if row.platform else row.constant
        if waiver.expired(day):
            why.append(
                f"the waiver ended on {waiver.expires} ({_because(waiver)}): mend it, or renew the waiver"
            )
        elif constant is not None and _within(row, constant, waiver.limit):
            fact = f"the waiver's {waiver.limit:.3g} would pass a constant in place of the output"
            why.append(f"{fact}, which reaches {constant:.3g}: it does not count")
        elif not _within(row, row.measured, waiver.limit):
            why.append(f"the waiver lets it pass only {_towards(row)} {waiver.limit:.10g}")
        else:
            detail = f"waived until {waiver.expires}: {_because(waiver)}. Without that red: {row.detail}"
            return Settled(replace(row, ok=True, limit=waiver.limit, detail=detail), waiver)
    return Settled(replace(row, detail=". ".join([*why, row.detail])))  # what is long is cut at its end


def told(
    model: str, place: str, waivers: Sequence[Waiver], settled: Sequence[Settled], day: date
) -> Iterator[Verdict]:
    """A row for every waiver that let something pass, and for every one that nothing needs; for people to read.

    `place` is the manifest. One whose platform was not run here is not said to be of no use.
    """
    for waiver in waivers:
        concerned = [each for each in settled if covers(waiver, each.row)]
        passed = [each.row for each in concerned if each.by == waiver]
        if passed:
            yield _note(model, waiver, _waived(waiver, passed))
        elif concerned and all(each.row.ok for each in concerned):
            gone = f"ended on {waiver.expires} and " if waiver.expired(day) else ""
            fact = f"the waiver on {scope(waiver)} {gone}is needed by nothing"
            yield _note(model, waiver, f"{fact}: remove it from {place}")


def _waived(waiver: Waiver, passed: Sequence[Verdict]) -> str:
    measured = [row.measured for row in passed if row.measured is not None]
    worst = min(measured) if more_is_better(passed[0]) else max(measured)
    count = "" if len(passed) == 1 else f" (the worst of {len(passed)})"
    limit = f"{_towards(passed[0])} {waiver.limit:.10g} until {waiver.expires}"
    return f"{scope(waiver)}, {worst:.4g}{count}, is waived {limit}: {_because(waiver)}"


def _towards(row: Verdict) -> str:
    return "down to" if more_is_better(row) else "up to"


def more_is_better(row: Verdict) -> bool:
    """Whether the verdict's metric is a share or a likeness, and not an error or a cost."""
    return demand.more_is_better(row.metric, row.more_is_better)


def _within(row: Verdict, figure: float, limit: float) -> bool:
    return demand.within(row.metric, figure, limit, row.more_is_better)


def _note(model: str, waiver: Waiver, detail: str) -> Verdict:
    return Verdict(
        target=f"{model}:verdict.{waiver.gate or 'runtime'}",
        platform="",
        version="",
        backend="",
        against="",
        output="",
        metric=METRIC,
        measured=None,
        limit=None,
        ok=True,
        evidence="executed",
        detail=detail,
    )


def scope(waiver: Waiver) -> str:
    """`max_abs of logits on ios`."""
    of = f" of {waiver.output}" if waiver.output else ""
    return f"{waiver.metric}{of} {f'at gate {waiver.gate}' if waiver.gate else f'on {waiver.platform}'}"


def _because(waiver: Waiver) -> str:
    return f"{waiver.reason} ({waiver.link})"
