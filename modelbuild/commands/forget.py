"""`doit forget`: as doit's own, and the store's record goes too, so that the recipe runs again."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from doit.cmd_forget import Forget as DoitForget

from modelbuild import doit_tasks
from modelbuild.errors import CommandError


def forget(names: Iterable[str]) -> None:
    """Drop what is remembered of each target of `names`; other names are none of ours."""
    session = doit_tasks.begun()
    if session is None:
        return
    for name in names:
        if name in session.plan.targets:
            built, status = session.journal.built(name), session.examiner.status(name)
            for key in {status.key, built.key if built else ""} - {""}:
                session.examiner.store.forget(key)
            session.journal.forget(name)
    session.close()


class Forget(DoitForget):  # type: ignore[misc]  # doit is untyped
    doc_purpose = "forget targets: their recipes run again at the next build"

    def _execute(self, forget_sub: bool, forget_disable_default: bool, forget_all: bool) -> Any:
        if not (forget_all or self.sel_tasks):
            error = CommandError("doit forget", "no target is named", "Name one, or say --all.")
            sys.stderr.write(f"ERROR: {error}\n")
            return error.exit_code
        result = super()._execute(forget_sub, forget_disable_default, forget_all)
        tasks = {task.name: task for task in self.task_list}
        if forget_all or not (self.sel_default_tasks and forget_disable_default):
            selected = tasks if forget_all or not self.sel_tasks else self.sel_tasks
            forget(n for name in selected for n in _with_parts(tasks, name, forget_sub))
        return result


def _with_parts(tasks: dict[str, Any], name: str, dependencies: bool) -> list[str]:
    """Return a task, the subtasks of a group, and on demand all it depends on."""
    found: dict[str, None] = {}
    todo = [name]
    while todo:
        task = tasks[todo.pop()]
        if task.name not in found:
            found[task.name] = None
            todo.extend(d for d in task.task_dep if dependencies or tasks[d].subtask_of == task.name)
    return list(found)
