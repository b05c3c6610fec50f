"""One run over one project: manifests in, a builder that knows every target, and a report for each model."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelbuild import accepted, declare, graph, manifest
from modelbuild import digest as digests
from modelbuild.examine import Examiner
from modelbuild.journal import Built, Journal
from modelbuild.paths import Workspace
from modelbuild.targets import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from modelbuild.build import Builder
    from modelbuild.declare import Model
    from modelbuild.execute import Executor
    from modelbuild.report import Report
    from modelbuild.targets import Target

REPORTS = ("report.html", "report.json", "report.xml")


class Findings(NamedTuple):
    """A model's verdicts read back: whether all hold, and the last lines to show."""

    ok: bool
    lines: tuple[str, ...]


def _local() -> Executor:
    from modelbuild.execute import LocalExecutor

    return LocalExecutor()


class Session:
    """The state of one run; `executor` makes what runs the jobs, when the first target must be built.

    `required` is what the command line wants evidence of. Raises ManifestError when the project's manifests are
    wrong, CommandError for a requirement that nothing could meet.
    """

    def __init__(
        self, root: Path, executor: Callable[[], Executor] = _local, required: tuple[str, ...] = ()
    ) -> None:
        self.began = time.perf_counter()
        self.at = Workspace(root)
        self.journal = Journal(self.at.state_db)
        self.project = manifest.load(root, self.journal.memo("manifest"))
        self.plan = graph.plan(self.project)
        self.examiner = Examiner(self.plan, self.at, self.journal)
        self.required = required
        if required:
            from modelbuild import requirements

            requirements.check(required, self.plan)

        self._executor = executor
        self._builder: Builder | None = None
        self._lock = threading.Lock()

    @property
    def builder(self) -> Builder:
        """The builder, made when the first target must be; doit's threads may ask for it at once."""
        from modelbuild.build import Builder

        with self._lock:
            if self._builder is None:
                self._builder = Builder(self.examiner, self._executor())
            return self._builder

    def extend(self, targets: Iterable[Target]) -> None:
        """Know more targets in this run, of models that are there; one that is known already stays as it is."""
        known, models = dict(self.plan.targets), dict(self.plan.models)
        for target in targets:
            if target.name not in known:
                known[target.name] = target
                models[target.model] = (*models[target.model], target)
        self.plan = self.examiner.plan = Plan(known, models)
        if self._builder is not None:
            self._builder.plan = self.plan

    def declared(self, model: str) -> Model:
        """Return what the manifest declares of a model."""
        return next(each for each in self.project.models if each.name == model)

    def describe(self, model: str) -> str:
        """Return a model's description, or a plain one."""
        return self.declared(model).description or f"every target of {model}"

    # -- the report: a view of this run, written again when what it would say has changed

    def report_is_current(self, model: str) -> bool:
        """Whether the files on disk already say what this run would write."""
        if "GITHUB_STEP_SUMMARY" in os.environ:
            return False
        known = self.journal.built(f"{model}:report")
        return (
            known is not None
            and known.key == self._fingerprint(model)
            and known.witness == self._stamps(model)
        )

    def write_report(self, model: str) -> None:
        """Write the report of `model` as this run stands."""
        from modelbuild import report

        summary_file = os.environ.get("GITHUB_STEP_SUMMARY")
        report.write(self.report(model), self.at.out(model), Path(summary_file) if summary_file else None)
        self.journal.remember(f"{model}:report", Built(self._fingerprint(model), "", self._stamps(model)))
        self.journal.flush()

    def report(self, model: str) -> Report:
        """Gather the report of `model` from this run's outcomes and the store."""
        from modelbuild import summary

        for target in self.plan.of(model):  # what this run did not come to may be up to date all the same
            if target.name not in self.examiner.outcomes:
                self.examiner.note_if_up_to_date(target.name)
        took = time.perf_counter() - self.began
        return summary.collect(self.examiner, self.declared(model), took, self.required, declare.today())

    def remove_report(self, model: str) -> None:
        """Remove the report's files."""
        for name in REPORTS:
            (self.at.out(model) / name).unlink(missing_ok=True)

    def _fingerprint(self, model: str) -> str:
        """Digest of everything a report says that can differ from run to run, times aside."""
        outcomes = [self.examiner.outcomes.get(t.name) for t in self.plan.of(model)]
        said = [(o.target, o.state, o.key, o.digest, o.reason, o.error) if o else None for o in outcomes]
        return digests.of_bytes(json.dumps([said, self.required, self._held_to(model)]).encode())

    def _held_to(self, model: str) -> str:
        """Digest of what verdicts are held to beside what they say: accepted figures, waivers and the day."""
        return accepted.fingerprint(self.at.root, model, self.declared(model).waivers, declare.today())

    def _stamps(self, model: str) -> str:
        paths = [self.at.out(model) / name for name in REPORTS]
        return json.dumps([digests.stamp(p) if p.exists() else None for p in paths])

    # -- the gate

    def gate_holds(self, model: str) -> bool:
        """Whether exactly these verdicts were found to hold before."""
        known = self.journal.built(f"{model}:gate")
        return known is not None and known.key == self._verdicts(model)

    def gate(self, model: str) -> Findings:
        """Read every verdict of `model`; remember it when all hold, so that a no-op need not read them."""
        from modelbuild.report import closing_lines

        found = self.report(model)
        lines = closing_lines(found, self.at.relative(self.at.out(model) / "report.html"))
        if found.ok:
            self.journal.remember(f"{model}:gate", Built(self._verdicts(model), "", "\n".join(lines)))
            self.journal.flush()
        return Findings(found.ok, tuple(lines))

    def gate_lines(self, model: str) -> list[str]:
        """Return what a gate that holds had to say."""
        known = self.journal.built(f"{model}:gate")
        return known.witness.splitlines() if known is not None else []

    def _verdicts(self, model: str) -> str:
        names = self.plan.verdicts(model)
        said = [(n, o.digest) for n in names if (o := self.examiner.outcomes.get(n)) is not None]
        return digests.of_bytes(json.dumps([said, self.required, self._held_to(model)]).encode())

    def close(self) -> None:
        """Let go of what was begun, and write what was learnt."""
        if self._builder is not None:
            self._builder.close()
        self.journal.close()
