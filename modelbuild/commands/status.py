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
