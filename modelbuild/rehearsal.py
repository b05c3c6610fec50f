"""The unchanged artefact of a platform under another version of its runtime: what verdicts would an upgrade give?

A rehearsal is a few targets more in this run's plan, built and kept like all others: the version's environment, a run
in it for every way of running, and a verdict on those. Repeating one builds nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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

Row = tuple[str, str, str]  # way, output, metric
Say = Callable[[str], None]


class Found(NamedTuple):
    """What became of the artefact under `version`: its verdicts against the reference, or the `error` that kept it.

    `outputs` are the folders of the runs by way.
    """

    version: str
    verdicts: Mapping[Row, Verdict]
    outputs: Mapping[str, Path]
    error: str = ""

    @property
    def signature(self) -> tuple[str, frozenset[tuple[Row, bool]]]:
        """What two versions have alike when their verdicts are the same."""
        return self.error, frozenset((row, each.ok) for row, each in self.verdicts.items())

    @property
    def red(self) -> dict[Row, Verdict]:
        return {row: each for row, each in self.verdicts.items() if not each.ok}


class Stage:
    """One platform of one model, whose artefact can be run under any version."""

    def __init__(self, session: Session, model: Model, platform: str) -> None:
        """Raises CommandError where the runtime has no versions, BuildError where the artefact is not up to date."""
        self.session, self.model = session, model
        self.ships = platforms.shipped(model, model.platforms[platform])
        self.name = f"{model.name}:{platform}"
        _refuse_without_versions(self.ships, self.name)
        for needed in (self.name, f"{model.name}:reference"):
            status = session.examiner.status(needed)
            if status.state != "up-to-date":
                raise BuildError(
                    needed, f"is not up to date ({status.reason})", f"Run `doit {model.name}` first."
                )

    @property
    def current(self) -> str:
        """The newest version that the platform names, or the installed one."""
        named = self.ships.platform.options.get("versions")
        if named:
            return str(max(named, key=numbers))
        return importlib.metadata.version(self.ships.runtime.toolchain()[0])

    def under(self, version: str) -> Found:
        """Run the artefact under `version` and judge it. Raises BuildError when there is no such environment."""
        ways = _ways(self.ships, version)
        targets = [*self._environments(ways), *self._runs(version, ways), self._verdict(version, ways)]
        self.session.extend(targets)
        for target in targets:
            try:
                self._build(target.name)
            except (RecipeError, JobCrashedError) as error:
                if target.recipe is not platforms.RUN:
                    raise
                return Found(version, {}, {}, f"{error.fact}. {error.remedy}".rstrip(". "))
        out = self.session.at.out
        rows = verdict.read(out(targets[-1].name) / "verdicts.json")
        runs = {way: out(self._run(version, way)) for way in ways}
        return Found(version, dict(self._against_reference(rows, runs)), runs)

    def _environments(self, ways: Mapping[str, Way]) -> Iterator[Target]:
        """Their locks; one that the platform has already is the same target."""
        shown = self.ships._replace(ways=ways)
        yield from platforms.environments(self.model.name, {shown.platform.name: shown})

    def _runs(self, version: str, ways: Mapping[str, Way]) -> Iterator[Target]:
        known = self.session.plan.targets
        inputs = {"evaluation": f"{self.model.name}:data.evaluation"}
        for label, way in ways.items():
            shown = self.ships._replace(ways={label: way})
            (_, run) = platforms.targets(self.model.name, shown, {**inputs, **known[self.name].inputs}, {})
            yield run._replace(name=self._run(version, label))

    def _run(self, version: str, way: str) -> str:
        return f"{self._title(version)}.{way}" if way else f"{self._title(version)}.run"

    def _title(self, version: str) -> str:
        return f"{self.model.name}:rehearsal.{self.ships.platform.name}.{version}"

    def _verdict(self, version: str, ways: Mapping[str, Way]) -> Target:
        """The runtime gate over these runs alone."""
        platform = self.ships.platform.name
        usual = self.session.plan.targets[f"{self.model.name}:verdict.runtime"]
        inputs = {role: name for role, name in usual.inputs.items() if not role.startswith("run.")}
        inputs.pop("preflight", None)
        for label in ways:
            inputs[f"run.{platforms.dotted(platform, label)}"] = self._run(version, label)
        told = {**usual.params["platforms"][platform], "absent": {}, "budgets": {}}
        params = {**usual.params, "platforms": {platform: told}, "rounds": {}}
        doc = f"{platform} under {version}"
        return Target(self._title(version), graph.ACROSS_RUNTIMES, doc, params, inputs)

    def _build(self, name: str) -> None:
        if not self.session.examiner.note_if_up_to_date(name):
            self.session.builder.build(name, lambda *_: None)

    def _against_reference(
        self, rows: Sequence[Verdict], runs: Mapping[str, Path]
    ) -> Iterator[tuple[Row, Verdict]]:
        backends = {json.loads((path / "run.json").read_text())["backend"]: way for way, path in runs.items()}
        for row in rows:
            if row.against == "reference" and (row.limit is not None or not row.ok):
                yield (backends.get(row.backend, ""), row.output, row.metric), row


def stages(session: Session, name: str) -> list[Stage]:
    """The platform `name` of every model that has it, or the one of `MODEL:PLATFORM`. Raises CommandError."""
    model, _, platform = name.rpartition(":")
    models = [m for m in session.project.models if model in ("", m.name) and platform in m.platforms]
    if not models:
        known = [f"{m.name}:{p}" if model else p for m in session.project.models for p in m.platforms]
        raise CommandError(name, "there is no such platform", did_you_mean(name, sorted({*known})))
    return [Stage(session, each, platform) for each in models]


def worse(current: Found, other: Found) -> bool:
    """Whether something is red, or does not run, under `other` that is not so under `current`."""
    return bool(other.error and not current.error) or bool(other.red.keys() - current.red.keys())


def first_different(stage: Stage, versions: Sequence[str], say: Say) -> tuple[Found, Found] | None:
    """The first of `versions`, oldest first, whose verdict is not that of the first one, and the one before it.

    A binary search: it takes for granted that what changed stayed. None when the last one's verdict is the same.
    """
    found = {at: stage.under(versions[at]) for at in (0, len(versions) - 1)}
    for each in found.values():
        say(probe(each))
    low, high = 0, len(versions) - 1
    if found[low].signature == found[high].signature:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        found[middle] = stage.under(versions[middle])
        say(probe(found[middle]))
        if found[middle].signature == found[0].signature:
            low = middle
        else:
            high = middle
    return found[low], found[high]


def probe(found: Found) -> str:
    """One line on a version."""
    if found.error:
        return f"  {found.version}: does not run: {found.error}"
    red = [f"{output} {metric}".strip() for _, output, metric in found.red]
    return f"  {found.version}: {'RED: ' + ', '.join(dict.fromkeys(red)) if red else 'every verdict holds'}"


def between(stage: Stage, first: str, last: str) -> list[str]:
    """The released versions from `first` to `last`, both among them, oldest first. Raises CommandError."""
    way = next(iter(_ways(stage.ships, first).values()))
    if way.environment is None:
        raise CommandError(stage.name, "its runtime has no environments of other versions", "")
    package, kind = stage.ships.runtime.name, way.environment.kind
    released = python.versions(package) if kind == "python" else node.versions(package)
    for each in (first, last):
        if each not in released:
            raise CommandError(each, f"is no released version of {package}", did_you_mean(each, released))
    if numbers(first) >= numbers(last):
        raise CommandError(
            f"{first}..{last}", "the first version is not the older one", f"Write {last}..{first}."
        )
    return [each for each in released if numbers(first) <= numbers(each) <= numbers(last)]


def numbers(version: str) -> tuple[int, ...]:
    """A version as what it is ordered by."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def largest_difference(one: Path, other: Path) -> float:
    """The largest difference of any output of two runs; infinite where they cannot be compared."""
    import numpy as np

    from modelbuild import tensors

    a, b = (tensors.load(path / "outputs.safetensors") for path in (one, other))
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    gaps = [np.abs(a[name].astype(np.float64) - b[name].astype(np.float64)).max(initial=0.0) for name in a]
    return float(np.nan_to_num(max(gaps), nan=np.inf))


def _ways(ships: Shipped, version: str) -> dict[str, Way]:
    """The platform's ways of running under `version`, named without it. Raises CommandError for one that is none."""
    try:
        found: Mapping[str, Way] = ships.runtime.runs({**ships.platform.options, "versions": [version]})
    except ManifestError as error:
        raise CommandError(version, error.fact, error.remedy) from None
    there = {name: way for name, way in found.items() if way.unavailable is None}
    if not there:
        reason = next((way.unavailable for way in found.values()), None)
        raise CommandError(ships.platform.name, f"cannot be run on this machine: {reason}")
    return {name.removeprefix(version).removeprefix("-"): way for name, way in there.items()}


def _refuse_without_versions(ships: Shipped, name: str) -> None:
    options: Mapping[str, Any] = ships.platform.options
    try:
        ships.runtime.runs({**options, "versions": ["0.0.0"]})
    except ManifestError:
        fact = f"its runtime, {ships.platform.runtime}, runs in one version"
        raise CommandError(name, fact, 'Rehearse a platform whose runtime takes "versions".') from None
