"""`doit plan`: what a build would do, without doing it."""

from __future__ import annotations

from typing import Any

from modelbuild.commands.base import ProjectCommand, chosen
from modelbuild.session import Session

WORDS = {"stale": "build", "restorable": "restore", "waiting": "may build"}


class Plan(ProjectCommand):
    name = "plan"
    doc_purpose = "show every target that would run, with the reason; run nothing"
    doc_usage = "[MODEL | TARGET ...]"
    doc_description = (
        "`build`: its recipe would run. `restore`: the store has it. `may build`: an input is built first, and only "
        "if that input's bytes change does this one run."
    )

    def perform(self, session: Session, params: Any, args: list[str]) -> None:
        """List what is not up to date among the chosen targets and all they are made from."""
        wanted = upstream(session, chosen(session, args))
        width = max(len(name) for name in wanted)
        counts = dict.fromkeys(WORDS, 0)
        for name in wanted:
            status = session.examiner.status(name)
            if status.state != "up-to-date":
                counts[status.state] += 1
                self.say(f"{name:<{width}}  {WORDS[status.state]:<9}  {status.reason}")
        rest = len(wanted) - sum(counts.values())
        told = [
            f"{n} would {WORDS[state]}" if state != "waiting" else f"{n} may build"
            for state, n in counts.items()
            if n
        ]
        self.say(", ".join([*told, f"{rest} up to date"]))


def upstream(session: Session, names: list[str]) -> list[str]:
    """Return `names` and everything they are made from, in the order of the plan."""
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo.extend(session.plan.targets[name].inputs.values())
    return [name for name in session.plan.targets if name in found]
