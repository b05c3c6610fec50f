"""The unchanged artefact of a platform under another version of its runtime: what verdicts would an upgrade give?

A rehearsal is a few targets more in this run's plan, built and kept like all others: the version's environment and,
for every way of running, a run in it and a verdict on that run. Repeating one builds nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from modelbuild import graph, platforms
from modelbuild.declare import Model
from modelbuild.environments import node, python
from modelbuild.equivalence import verdict
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import (
    BuildError,
    CommandError,
    JobCrashedError,
    ManifestError,
    RecipeError,
    did_you_mean,
)
from modelbuild.platforms import Shipped
from modelbuild.runtimes.base import Way
from modelbuild.session import Session
from modelbuild.targets import Target

INSTALLED = "installed"  # what a version is called that no manifest names, until it has said what it is
NOTHING: Mapping[str, str] = MappingProxyType({})
Row = tuple[str, str, str]  # way, output, metric
Say = Callable[[str], None]


class Found(NamedTuple):
    """What became of the artefact under `version`, by way of running: verdicts against the reference, or why not.

    `outputs` are the folders of the runs, `errors` the reasons of the version for not running the artefact, `absent`
    those of this machine.
    """

    version: str
    verdicts: Mapping[Row, Verdict]
    outputs: Mapping[str, Path]
    errors: Mapping[str, str] = NOTHING
    absent: Mapping[str, str] = NOTHING

    @property
    def signature(self) -> frozenset[tuple[Row, bool] | str]:
        """What two versions have alike when their verdicts are the same; the words of an error may differ."""
        return frozenset([*((row, each.ok) for row, each in self.verdicts.items()), *self.errors])

    @property
    def red(self) -> dict[Row, Verdict]:
        return {row: each for row, each in self.verdicts.items() if not each.ok}


class Stage:
    """One platform of one model, whose artefact can be run under any version."""

    def __init__(self, session: Session, model: Model, ships: Shipped) -> None:
        """Raises BuildError where the artefact, or what it is compared with, is not up to date."""
        self.session, self.model, self.ships = session, model, ships
        self.name = f"{model.name}:{ships.platform.name}"
        for needed in (self.name, f"{model.name}:reference"):
            status = session.examiner.status(needed)
            if status.state != "up-to-date":
                fact = f"is not up to date ({status.reason})"
                raise BuildError(needed, fact, f"Run `doit {model.name}` first.")

    @property
    def current(self) -> str:
        """The newest version that the platform names, or INSTALLED."""
        return str(max(self.ships.platform.options.get("versions", ()), key=numbers, default=INSTALLED))

    def under(self, version: str) -> Found:
        """Run the artefact under `version` and judge it.

        Raises CommandError for a version that was never released, BuildError when its environment cannot be made.
        """
        every = _ways(self.ships, version)
        ways = {name: way for name, way in every.items() if way.unavailable is None}
        if not ways:
            reason = next((way.unavailable for way in every.values()), self.ships.unavailable)
            raise CommandError(self.name, f"cannot be run on this machine: {reason}")
        self._environments(version, ways)
        verdicts, outputs, errors = dict[Row, Verdict](), dict[str, Path](), dict[str, str]()
        for name, way in ways.items():
            try:
                outputs[name] = self._run(version, name, way)
            except (RecipeError, JobCrashedError) as error:
                errors[name] = f"{error.fact}. {error.remedy}".rstrip(". ")
            else:
                verdicts.update(self._verdicts(version, name, way))
        absent = {name: way.unavailable or "" for name, way in every.items() if name not in ways}
        return Found(_said(outputs.values(), version), verdicts, outputs, errors, absent)

    def _environments(self, version: str, ways: Mapping[str, Way]) -> None:
        """Lock and install what the ways ask for; what the platform has already is the same target."""
        shown = self.ships._replace(ways=ways)
        for target in platforms.environments(self.model.name, {shown.platform.name: shown}):
            try:
                self._build(target)
            except RecipeError:
                if version != INSTALLED:
                    self._refuse_unreleased(version, ways)
                raise

    def _refuse_unreleased(self, version: str, ways: Mapping[str, Way]) -> None:
        try:
            known = released(self.ships, ways)
        except RecipeError:  # nobody can be asked: the first error says more
            return
        if version not in known:
            raise _unreleased(self.ships, version, known)

    def _run(self, version: str, name: str, way: Way) -> Path:
        known = self.session.plan.targets
        inputs = {**known[self.name].inputs, "evaluation": f"{self.model.name}:data.evaluation"}
        shown = self.ships._replace(ways={name: way})
        run = [*platforms.targets(self.model, shown, inputs, {}, ())][-1]
        return self._build(run._replace(name=f"{self._title(version, name)}.run"))

    def _verdicts(self, version: str, name: str, way: Way) -> Iterator[tuple[Row, Verdict]]:
        """The runtime gate over this run alone: its rows against the reference that say yes or no."""
        found = verdict.read(self._build(self._verdict(version, name, way)) / "verdicts.json")
        for row in found:
            if row.against == "reference" and (row.limit is not None or not row.ok):
                yield (name, row.output, row.metric), row

    def _verdict(self, version: str, name: str, way: Way) -> Target:
        platform, title = self.ships.platform.name, self._title(version, name)
        usual = self.session.plan.targets[f"{self.model.name}:verdict.runtime"]
        left_out = ("run.", "preflight")
        inputs = {role: each for role, each in usual.inputs.items() if not role.startswith(left_out)}
        run = platforms.dotted(platform, name)
        told = {**usual.params["platforms"][platform], "absent": {}, "budgets": {}}
        known = usual.params["rounds"].values()  # the arithmetics whose noise was measured
        rounds = {run: way.rounds} if way.rounds in known else {}
        params = {**usual.params, "platforms": {platform: told}, "rounds": rounds}
        doc = f"{run} under {version}"
        return Target(title, graph.ACROSS_RUNTIMES, doc, params, {**inputs, f"run.{run}": f"{title}.run"})

    def _title(self, version: str, way: str) -> str:
        name = f"{self.model.name}:rehearsal.{self.ships.platform.name}.{version}"
        return platforms.dotted(name, way)

    def _build(self, target: Target) -> Path:
        """The folder of `target`, up to date."""
        self.session.extend([target])
        if not self.session.examiner.note_if_up_to_date(target.name):
            self.session.builder.build(target.name, lambda *_: None)
        return self.session.at.out(target.name)


def stages(session: Session, name: str, say: Say) -> list[Stage]:
    """The platform `name` of every model that has it in versions, or the one of `MODEL:PLATFORM`.

    Raises CommandError where there is none, BuildError where an artefact is not up to date.
    """
    model, _, platform = name.rpartition(":")
    models = [m for m in session.project.models if model in ("", m.name) and platform in m.platforms]
    if not models:
        known = [f"{m.name}:{p}" if model else p for m in session.project.models for p in m.platforms]
        raise CommandError(name, "there is no such platform", did_you_mean(name, sorted({*known})))
    every = [(m, platforms.shipped(m, m.platforms[platform])) for m in models]
    fit = [(m, ships) for m, ships in every if _has_versions(ships)]
    others = [(m, ships) for m, ships in every if not _has_versions(ships)]
    if not fit:
        fact = f"its runtime, {others[0][1].runtime.name}, runs in one version"
        raise CommandError(name, fact, 'Rehearse a platform whose runtime takes "versions".')
    for m, ships in others:
        say(f"{m.name}:{platform} is left out: its runtime, {ships.runtime.name}, runs in one version")
    return [Stage(session, m, ships) for m, ships in fit]


def worse(current: Found, other: Found) -> bool:
    """Whether something is red, or does not run, under `other` that is not so under `current`."""
    return bool(other.errors.keys() - current.errors.keys() or other.red.keys() - current.red.keys())


def first_different(stage: Stage, versions: Sequence[str], say: Say) -> tuple[Found, Found] | None:
    """The first of `versions`, oldest first, whose verdict is not that of the first one, and the one before it.

    A binary search: it takes for granted that what changed stayed. None when the last one's verdict is the same.
    """

    def tried(at: int) -> Found:
        found = stage.under(versions[at])
        say(probe(found))
        return found

    first, last = tried(0), tried(len(versions) - 1)
    if first.signature == last.signature:
        return None
    low, high, before, after = 0, len(versions) - 1, first, last
    while high - low > 1:
        middle = (low + high) // 2
        found = tried(middle)
        if found.signature == first.signature:
            low, before = middle, found
        else:
            high, after = middle, found
    return before, after


def probe(found: Found) -> str:
    """One line on a version."""
    said = [f"does not run{f' ({way})' if way else ''}: {why}" for way, why in found.errors.items()]
    red = [" ".join(filter(None, row)) for row in found.red]
    said += [f"RED: {', '.join(red)}"] if red else []
    return f"  {found.version}: {'; '.join(said) or 'every verdict holds'}"


def between(stage: Stage, first: str, last: str) -> list[str]:
    """The released versions from `first` to `last`, both among them, oldest first.

    Raises CommandError for two that are no such range, RecipeError when the index cannot be asked.
    """
    known = released(stage.ships, _ways(stage.ships, first))
    _ways(stage.ships, last)
    for each in (first, last):
        if each not in known:
            raise _unreleased(stage.ships, each, known)
    if numbers(first) >= numbers(last):
        remedy = f"Write {last}..{first}." if numbers(first) > numbers(last) else ""
        raise CommandError(f"{first}..{last}", "the first version is not the older one", remedy)
    return [each for each in known if numbers(first) <= numbers(each) <= numbers(last)]


def released(ships: Shipped, ways: Mapping[str, Way]) -> list[str]:
    """The released versions of the package that `ways` run in, of those that the runtime takes, oldest first.

    Raises CommandError where there is no such package, RecipeError when its index cannot be asked.
    """
    kinds = {way.environment.kind for way in ways.values() if way.environment is not None}
    if not kinds:
        raise CommandError(ships.platform.name, "its runtime has no environments of other versions")
    ask = python.versions if kinds == {"python"} else node.versions
    return [each for each in ask(ships.runtime.name) if _taken(ships, each)]


def _unreleased(ships: Shipped, version: str, known: list[str]) -> CommandError:
    return CommandError(
        version, f"is no released version of {ships.runtime.name}", did_you_mean(version, known)
    )


def numbers(version: str) -> tuple[int, ...]:
    """A version as what it is ordered by."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def largest_difference(one: Path, other: Path) -> float | None:
    """The largest difference of any output of two runs, None for the same bits; infinite where it is no number."""
    import numpy as np

    from modelbuild import tensors

    a, b = (tensors.load(path / "outputs.safetensors") for path in (one, other))
    if a.keys() != b.keys() or any(a[n].shape != b[n].shape or a[n].dtype != b[n].dtype for n in a):
        return float("inf")
    pairs = [
        (a[n].astype(np.float64), b[n].astype(np.float64)) for n in a if a[n].tobytes() != b[n].tobytes()
    ]
    with np.errstate(invalid="ignore"):
        gaps = [np.nan_to_num(np.abs(x - y).max(), nan=np.inf, posinf=np.inf) for x, y in pairs]
    return float(max(gaps)) if gaps else None


def _ways(ships: Shipped, version: str) -> dict[str, Way]:
    """The platform's ways of running under `version`, named without it. Raises CommandError for one that is none."""
    if version == INSTALLED:
        return dict(ships.ways)
    try:
        found: Mapping[str, Way] = ships.runtime.runs({**ships.platform.options, "versions": [version]})
    except ManifestError as error:
        raise CommandError(version, error.fact, error.remedy) from None
    return {name.removeprefix(version).removeprefix("-"): way for name, way in found.items()}


def _taken(ships: Shipped, version: str) -> bool:
    try:
        _ways(ships, version)
    except CommandError:
        return False
    return True


def _has_versions(ships: Shipped) -> bool:
    return _taken(ships, "0.0.0")


def _said(runs: Iterable[Path], version: str) -> str:
    """The version as asked for; where none was, what the runs say of themselves."""
    if version != INSTALLED:
        return version
    return next((str(json.loads((run / "run.json").read_text())["version"]) for run in runs), version)
