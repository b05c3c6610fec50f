"""`doit status`: every target, its state, size and place."""

from __future__ import annotations

from typing import Any

from modelbuild.commands.base import ProjectCommand, chosen, size
from modelbuild.session import Session


class Status(ProjectCommand):
    name = "status"
    doc_purpose = "show the state of every target: up to date or not, its size and where it lies"
    doc_usage = "[MODEL | TARGET ...]"

    def perform(self, session: Session, params: Any, args: list[str]) -> None:
        """List the chosen targets, one a line."""
        names = chosen(session, args)
        width = max(len(name) for name in names)
        for name in names:
            status = session.examiner.status(name)
            record = session.examiner.store.record(status.key) if status.key else None
            about = (
                f"{size(record.tree.size):>9}  {session.at.relative(session.at.out(name))}"
                if record
                else f"{'-':>9}"
            )
            why = f"  ({status.reason})" if status.reason else ""
            self.say(f"{name:<{width}}  {status.state.replace('-', ' '):<10}  {about}{why}")
        ready = sum(session.examiner.status(name).state == "up-to-date" for name in names)
        self.say(f"{ready} of {len(names)} up to date")
        for model in dict.fromkeys(name.partition(":")[0] for name in names):
            self.say(_gate(session, model))


def _gate(session: Session, model: str) -> str:
    """Return what the model's verdicts amount to, where all that they rest on is up to date."""
    late = [t.name for t in session.plan.of(model) if session.examiner.status(t.name).state != "up-to-date"]
    if late:
        return f"{model}: not judged, {len(late)} of its targets are not up to date"
    return session.gate(model).lines[0]
