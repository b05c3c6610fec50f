"""What the commands share: a session, targets named on the command line, errors said in one line."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from doit.cmd_base import DoitCmdBase

from modelbuild import doit_tasks
from modelbuild.errors import CommandError, ModelbuildError, did_you_mean
from modelbuild.session import Session
from modelbuild.view import silence
from modelbuild.wording import printable


class ProjectCommand(DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """A doit command over the session that its dodo.py began; subclasses write `perform`."""

    doc_description: str | None = None
    cmd_options: tuple[dict[str, Any], ...] = ()

    def execute(self, params: Any, args: list[str]) -> int:
        """Load the project, do the work, and turn a user's mistake into a line and an exit code."""
        super().execute(params, args)
        session = doit_tasks.current()
        try:
            return self.perform(session, params, args) or 0
        except ModelbuildError as error:
            sys.stderr.write(f"ERROR: {error}\n")
            return error.exit_code
        except BrokenPipeError:  # `doit status | head`
            silence(sys.stdout)
            return 0
        finally:
            self.dep_manager.close()
            session.close()

    def _execute(self) -> None:
        """Tasks are loaded; `perform` comes next."""

    def perform(self, session: Session, params: Any, args: list[str]) -> int | None:
        """Do what the command is for; return the exit code, None for 0."""
        raise AssertionError("every command says what it does")

    def say(self, text: str = "") -> None:
        """Write a line, or lines; names and values come from manifests and may not steer the terminal."""
        self.outstream.write(f"{printable(text, chr(10))}\n")


def chosen(session: Session, args: Iterable[str]) -> list[str]:
    """Return the targets that `args` name: all when empty, a model's name for all of its own.

    Raises CommandError for a name that is neither.
    """
    targets, models = session.plan.targets, session.plan.models
    names = list(dict.fromkeys(args))
    for name in names:
        if name not in targets and name not in models:
            raise CommandError(name, "there is no such target", did_you_mean(name, [*targets, *models]))
    found = [t.name for n in names or models for t in ([targets[n]] if n in targets else session.plan.of(n))]
    return list(dict.fromkeys(found))


def size(count: float) -> str:
    """Format bytes as `3.1 MB` (powers of 1000)."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
