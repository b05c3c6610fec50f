"""`doit clean`: remove the copies people see; the store keeps the contents."""

from __future__ import annotations

from typing import Any

from doit.cmd_clean import Clean as DoitClean

from modelbuild import doit_tasks
from modelbuild.commands.forget import forget


class Clean(DoitClean):  # type: ignore[misc]  # doit is untyped
    doc_purpose = "remove the copies in .cache/out; the next build restores them from the store"

    def clean_tasks(self, tasks: list[Any], dryrun: bool, cleanforget: bool) -> None:
        """Let every step remove what people see of it; other tasks of the dodo.py are cleaned doit's way."""
        ours = [task for task in tasks if any(isinstance(a, doit_tasks.Step) for a in task.actions)]
        for task in ours:
            self.outstream.write(f"{task.name} - remove its copy\n")
            if not dryrun:
                task.actions[0].clean()
        super().clean_tasks([task for task in tasks if task not in ours], dryrun, cleanforget)
        if cleanforget and not dryrun:
            forget(task.name for task in ours)
