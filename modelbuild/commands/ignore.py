"""`doit ignore`: not for targets, since what is skipped would look like what holds."""

from __future__ import annotations

import sys
from typing import Any

from doit.cmd_ignore import Ignore as DoitIgnore

from modelbuild import doit_tasks
from modelbuild.errors import CommandError


class Ignore(DoitIgnore):  # type: ignore[misc]  # doit is untyped
    doc_purpose = "ignore tasks of your own dodo.py; targets and gates cannot be ignored"

    def _execute(self, pos_args: list[str]) -> Any:
        session = doit_tasks.begun()
        models = session.plan.models if session is not None else {}
        ours = [name for name in pos_args if name.partition(":")[0] in models]
        if ours:
            fact = "a target cannot be ignored: a gate that is skipped would pass unseen"
            error = CommandError(
                ours[0], fact, 'Take the platform out of the manifest, or say `"required": false`.'
            )
            sys.stderr.write(f"ERROR: {error}\n")
            return error.exit_code
        return super()._execute(pos_args)
