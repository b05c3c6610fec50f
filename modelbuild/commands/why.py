"""`doit why TARGET`: the parts of its key, old and new."""

from __future__ import annotations

from typing import Any

from modelbuild.commands.base import ProjectCommand, chosen
from modelbuild.errors import CommandError
from modelbuild.keys import differences, expanded
from modelbuild.report import findings, sentences
from modelbuild.session import Session


class Why(ProjectCommand):
    name = "why"
    doc_purpose = (
        "show why a target is red, and why it would be built again: the parts of its key, old and new"
    )
    doc_usage = "TARGET ..."

    def perform(self, session: Session, params: Any, args: list[str]) -> None:
        """Explain each target named. Raises CommandError when none is."""
        if not args:
            raise CommandError("doit why", "no target is named", "Name one, such as `doit why digits:onnx`.")
        for name in chosen(session, args):
            self._explain(session, name)

    def _explain(self, session: Session, name: str) -> None:
        status, built = session.examiner.status(name), session.journal.built(name)
        before = session.examiner.store.record(built.key) if built else None
        self.say(f"{name}: {status.state.replace('-', ' ')}{f' ({status.reason})' if status.reason else ''}")
        old, new = built.key if built else "none", status.key or "not known before its inputs are built"
        self.say(f"  key  {new}" if old == new else f"  key  {old} -> {new}")
        report = session.report(name.partition(":")[0])
        judged = name in session.plan.verdicts(report.model)  # its verdicts are on other targets
        for row in findings.red(report):
            if judged or row.target == name:
                figure = " ".join(filter(None, (row.output, row.metric)))
                self.say(f"  RED  {findings.pair(row)}, {figure}: {row.detail}")
        for run in dict.fromkeys(findings.run_of(row) for row in findings.red(report)):
            if judged or f"{report.model}:{findings.platform_of(run)}" == name:
                for line in sentences.on_the_run(report, run):
                    self.say(f"  {run}: {line}")
        parts = status.parts or (before.parts if before else ())
        changed = differences(before.parts, status.parts) if before and status.parts else []
        told = {label for label, _, _ in changed}
        for label, before_, now in changed:
            self.say(f"* {label}: {before_ or 'none'} -> {now or 'none'}")
        for label, value in expanded(parts):
            if label not in told:
                self.say(f"  {label}: {value}")
