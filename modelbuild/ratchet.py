"""Accepted figures, which may get better and not worse: `manifests/MODEL.lock.json`, committed and reviewed.

A figure is worse when it is so by more than chance or noise:

- a count or a size (EXACT): when it is larger at all;
- a figure with a confidence interval, such as a share of samples: when the accepted one lies beyond that interval;
- an error: when it exceeds the accepted one by more than rounding explains. Rounding moves what a run gives by no
  more than that, on any processor, and so, by the triangle inequality, its distance from the reference. It is what
  the verdict's own noise came to when the figure was accepted, or what fp32 rounding comes to now where that is more.
  So neither another processor nor a model of larger numbers is red, and a coarser arithmetic is.

Held are the figures against reference, teacher, labels and budgets. Those of one run against another follow from
them, as do a run's relative ones and likenesses (max_rel, l1, sqnr_db, cosine) from its max_abs and rmse; and where
neither rounding noise nor an interval is known, as of the largest error against labels, chance looks like a change.

The file never gives way by itself: `accepted` is tightened by `doit accept` and loosened by none. What a waiver lets
pass stands beside it as `waived`, and ends with the waiver. A loosening that is to stay is an edit of the line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple

from modelbuild import accepted, waivers
from modelbuild.accepted import Figure, Kept, Key, Lock, place
from modelbuild.accepted import fingerprint as fingerprint
from modelbuild.declare import Model, Waiver
from modelbuild.equivalence.verdict import Verdict
from modelbuild.waivers import Settled, more_is_better

METRIC, GONE = "accepted", "vanished"  # of the rows that tell of the figures themselves
EXACT = ("bytes", "decision_flips")
ALWAYS = ("max_abs", "rmse")  # held on every run, also where the manifest limits other metrics
FOLLOWING = (
    "max_rel",
    "l1",
    "sqnr_db",
    "cosine",
    "length",
)  # from max_abs and rmse; no other length ever passes
FACTOR = 8  # times the floor of a verdict: what `auto` allows of rounding
SHOWN = 3
Standing = Literal["worse", "better", "as accepted"]
WORSE: Standing = "worse"
BETTER: Standing = "better"
SAME: Standing = "as accepted"


class Known(NamedTuple):
    """What noise.json tells, by (output, metric): how far rounding takes a run, what a constant reaches."""

    rounding: Mapping[tuple[str, str], float] = MappingProxyType({})
    constant: Mapping[tuple[str, str], float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a model's verdicts are held to beyond its gates; `place` is its manifest, `lock` None where there is none.

    `whole`: every verdict of the model is there, so that one that is missing means something.
    """

    model: str
    place: str
    lock: Lock | None
    waivers: tuple[Waiver, ...]
    today: date
    known: Known = field(default_factory=Known)
    whole: bool = True


def terms(root: Path, model: Model, today: date, noise: Path | None = None, whole: bool = True) -> Terms:
    """Read the lock file, and noise.json where it is there. Raises ManifestError for a file that is not one."""
    known = measured(noise) if noise is not None and noise.exists() else Known()
    return Terms(model.name, model.place, accepted.read(root, model.name), model.waivers, today, known, whole)


def measured(path: Path) -> Known:
    """What noise.json tells. Raises RecipeError where it is none."""
    from modelbuild.equivalence import noise
    from modelbuild.equivalence.demand import CEILINGS, FLOORS
    from modelbuild.equivalence.tolerance import constant_score

    found = noise.read(path).outputs
    rounding = {(name, metric): each.rounding(metric) for name, each in found.items() for metric in ALWAYS}
    constant = {
        (name, metric): float(constant_score(metric, each))
        for name, each in found.items()
        for metric in (*CEILINGS, *FLOORS)
    }
    every = {(name, "decision_flips"): float(each.samples) for name, each in found.items()}
    return Known(rounding, {**constant, **every})


# -- what a verdict is held to


def held_to(rows: Sequence[Verdict], held: Terms) -> tuple[Verdict, ...]:
    """The verdicts, red where they are worse than accepted, green where a waiver covers what is red; and rows on it.

    A verdict that measured nothing stays as it is.
    """
    figures = held.lock.figures if held.lock is not None else {}
    settled = _settled(rows, held, figures)
    return (
        *(each.row for each in settled),
        *waivers.told(held.model, held.place, held.waivers, settled, held.today),
        *(_missing(rows, held, figures) if held.whole else ()),
    )


def _settled(rows: Sequence[Verdict], held: Terms, figures: Mapping[Key, Figure]) -> list[Settled]:
    judged = (_ratcheted(row, figures.get(key(row)), held) for row in rows)
    return [waivers.settle(row, held.waivers, held.today, held.known.constant) for row in judged]


def key(row: Verdict) -> Key:
    """Which figure a verdict is on."""
    return (row.run or row.target, row.against, row.output, row.metric)


def _ratcheted(row: Verdict, figure: Figure | None, held: Terms) -> Verdict:
    if not row.ok or figure is None or row.measured is None:
        return row  # what is red says why by itself
    if standing(row, figure, held.known) != WORSE:
        return row
    bound, words = _bound(row, figure, held.known)
    fact = f"{row.metric} {row.measured:.4g} is worse than the {figure.accepted:.4g} accepted in {place(held.model)}"
    remedy = f"mend it, or say in {held.place} why it may pass for a while (waivers)"
    detail = f"{fact}{words}: {remedy}. {row.detail}"
    return replace(row, ok=False, detail=detail, limit=bound)


def standing(row: Verdict, figure: Figure, known: Known) -> Standing:
    """How what was measured compares with what was accepted."""
    sign = -1.0 if more_is_better(row) else 1.0  # so that more is worse
    found, accepted = sign * float(row.measured or 0.0), sign * figure.accepted
    if _sampled(row):
        best, worst = sorted(sign * end for end in (row.low, row.high) if end is not None)
        return WORSE if accepted < best else BETTER if accepted > worst else SAME
    if found > accepted + _slack(row, figure, known):
        return WORSE
    return BETTER if found < accepted - noise(row, known) else SAME


def _sampled(row: Verdict) -> bool:
    """Whether chance is what stands between two values of the figure: it has an interval, and no rounding noise."""
    return row.metric not in EXACT and row.floor is None and row.low is not None and row.high is not None


def _bound(row: Verdict, figure: Figure, known: Known) -> tuple[float, str]:
    """The worst figure that would pass, and in words what stands between it and the accepted one."""
    if _sampled(row):
        end = row.high if more_is_better(row) else row.low
        return figure.accepted, f", by more than chance (its 95 % interval ends at {end:.4g})"
    slack = _slack(row, figure, known)
    bound = figure.accepted + (-slack if more_is_better(row) else slack)
    return bound, f", by more than rounding explains ({slack:.3g})" if slack else ""


def _slack(row: Verdict, figure: Figure, known: Known) -> float:
    """How far rounding may take the figure beyond the accepted one."""
    if row.metric in EXACT:
        return 0.0
    return max(figure.noise, known.rounding.get((row.output, row.metric), 0.0))


def noise(row: Verdict, known: Known) -> float:
    """How far rounding may move the figure: FACTOR times the verdict's floor, at most its limit, or that of fp32."""
    if row.metric in EXACT:
        return 0.0
    derived = 0.0 if row.floor is None else FACTOR * row.floor
    limited = derived if row.limit is None else min(derived, row.limit)
    return max(limited, known.rounding.get((row.output, row.metric), 0.0))


# -- what is not there


def figures_of(rows: Sequence[Verdict]) -> dict[Key, Verdict]:
    """The verdicts whose figures are held, by figure: see the head of this file."""
    runs = {row.run for row in rows if row.run}
    alone = (row for row in rows if not (row.run and row.against in runs))
    return {key(row): row for row in alone if row.measured is not None and _is_held(row)}


def _is_held(row: Verdict) -> bool:
    demanded = row.limit is not None or row.metric in ALWAYS
    movable = row.metric in EXACT or row.floor is not None or row.low is not None
    return demanded and movable and not (row.run and row.metric in FOLLOWING)


def unseen(rows: Sequence[Verdict], figure: Figure) -> bool:
    """Whether nothing is known of the figure for a reason that is not its own.

    This machine cannot run it, or runs the platform itself where it was interpreted when the figure was accepted.
    """
    run = figure.subject.partition(":")[2] or figure.subject
    platform = run.partition(".")[0]
    for row in (each for each in rows if each.platform == platform):
        if (
            row.metric == "evidence"
            and row.evidence == "none"
            and row.backend in ("", run[len(platform) + 1 :])
        ):
            return True
        if row.run and row.evidence == "executed" and figure.evidence == "interpreted":
            return True
    return False


def _missing(rows: Sequence[Verdict], held: Terms, figures: Mapping[Key, Figure]) -> Iterator[Verdict]:
    """Rows on accepted figures that are no longer measured, or not here, and on those that none were accepted of."""
    there = figures_of(rows)
    faulty = {row.run or row.target for row in rows if not row.ok and row.measured is None}
    away = [each for each in figures.values() if each.key not in there and each.subject not in faulty]
    here = [each for each in away if not unseen(rows, each)]
    for subject in dict.fromkeys(each.subject for each in here):
        lost = [" ".join(filter(None, each[2:4])) for each in here if each.subject == subject]
        fact = f"{subject} is no longer held to what was accepted in {place(held.model)}: {', '.join(lost)}"
        remedy = f"Bring it back, or run `doit accept {held.model}` and let the review see it go"
        yield _row(held.model, subject, GONE, False, f"{fact}. {remedy}")
    elsewhere = sorted({each.subject for each in away if each not in here})
    if elsewhere:
        fact = f"not compared with what was accepted, as this machine does not run it: {', '.join(elsewhere)}"
        yield _row(held.model, "", METRIC, True, fact)
    fresh = sorted(" ".join(filter(None, each)) for each in there if each not in figures)
    if held.lock is None:
        fact = f"no figure is accepted yet: `doit accept {held.model}` writes {place(held.model)}"
        yield _row(held.model, "", METRIC, True, f"{fact}, and what gets worse from then on is red")
    elif fresh:
        more = f" and {len(fresh) - SHOWN} more" if len(fresh) > SHOWN else ""
        fact = f"not accepted yet: {', '.join(fresh[:SHOWN])}{more}; `doit accept {held.model}` adds them"
        yield _row(held.model, "", METRIC, True, fact)


def _row(model: str, subject: str, metric: str, ok: bool, detail: str) -> Verdict:
    run = "" if ":" in subject else subject
    return Verdict(
        target=f"{model}:verdict.runtime",  # what it was on may be no target any more
        platform=run.partition(".")[0],
        version="",
        backend=run.partition(".")[2],
        against="",
        output="",
        metric=metric,
        measured=None,
        limit=None,
        ok=ok,
        evidence="executed",
        detail=detail,
        run=run,
    )


# -- what is accepted anew


class Change(NamedTuple):
    """One line of what accepting does; `kind` is "new", "gone", "tighter", "waived", "mended" or "bytes"."""

    kind: str
    words: str

    @property
    def counts(self) -> bool:
        """Whether it is more than what differs from machine to machine."""
        return self.kind != "bytes"


def renewed(
    rows: Sequence[Verdict], held: Terms, targets: Mapping[str, Kept]
) -> tuple[Lock, tuple[Change, ...]]:
    """The lock that these verdicts, all green under `held`, make of the one before; and what it changes.

    `rows` are as the gates wrote them. What this machine cannot run is kept as it was.
    """
    before = held.lock or Lock(held.model, {}, {})
    settled = {key(each.row): each for each in _settled(rows, held, before.figures)}
    figures, changes = dict[Key, Figure](), list[Change]()
    for each, row in figures_of(rows).items():
        old = before.figures.get(each)
        figures[each] = _line(row, settled[each].by is not None, old, held.known)
        changes += _changed(old, figures[each])
    for each, old in before.figures.items():
        if each not in figures and unseen(rows, old):
            figures[each] = old
        elif each not in figures:
            changes.append(Change("gone", f"{old.named}: {old.accepted:.4g}"))
    kept = {**_elsewhere(before.targets, rows), **targets}
    return Lock(held.model, kept, figures), (*sorted(changes), *_other_bytes(before.targets, kept))


def _line(row: Verdict, by_waiver: bool, before: Figure | None, known: Known) -> Figure:
    """The line of a figure, `row` as its gate wrote it. What a waiver lets pass is not accepted with it."""
    measured = float(row.measured or 0.0)
    waived = measured if by_waiver else None
    if before is None or (waived is None and _worth_it(row, before, known)):
        held = measured if row.ok or row.limit is None else row.limit
        return Figure(*key(row), held, noise(row, known), row.evidence, waived)
    if waived is not None and before.waived is not None and abs(waived - before.waived) <= noise(row, known):
        waived = before.waived
    return before._replace(waived=waived)


def _worth_it(row: Verdict, before: Figure, known: Known) -> bool:
    """Whether the line gets tighter by more than chance or noise; else it stays, and the review is spared it."""
    return standing(row, before, known) == BETTER or noise(row, known) < before.noise / 2


def _changed(before: Figure | None, after: Figure) -> Iterator[Change]:
    if before is None:
        words = f"{after.named}: {after.accepted:.4g}"
        yield Change("new", words + (f", waived {after.waived:.4g}" if after.waived is not None else ""))
    elif after.waived is not None and after.waived != before.waived:
        yield Change("waived", f"{after.named}: {after.accepted:.4g} is accepted, {after.waived:.4g} waived")
    elif (before.accepted, before.noise) != (after.accepted, after.noise):
        yield Change("tighter", f"{after.named}: {before.accepted:.4g} -> {after.accepted:.4g}")
    elif before.waived is not None and after.waived is None:
        yield Change("mended", f"{after.named}: {before.waived:.4g} -> {after.accepted:.4g}")


def _elsewhere(before: Mapping[str, Kept], rows: Sequence[Verdict]) -> dict[str, Kept]:
    """What was accepted of the platforms that this machine cannot run at all."""
    away = {r.platform for r in rows if r.metric == "evidence" and r.evidence == "none" and not r.backend}
    return {name: kept for name, kept in before.items() if name.partition(":")[2].partition(".")[0] in away}


def _other_bytes(before: Mapping[str, Kept], after: Mapping[str, Kept]) -> Iterator[Change]:
    for name in sorted(
        {*before, *after} if before else ()
    ):  # the first time all of it is new, and goes without saying
        old, new = before.get(name), after.get(name)
        if old is None or new is None:
            yield Change("bytes", f"{name}: {'no longer there' if new is None else 'not accepted before'}")
        elif old.outputs != new.outputs:
            files = {f for f in {*old.outputs, *new.outputs} if old.outputs.get(f) != new.outputs.get(f)}
            yield Change("bytes", f"{name}: {', '.join(sorted(files))}")
