"""`doit run`, which plain `doit` is: doit's own, with `--require` and the exit codes that errors.py promises."""

from __future__ import annotations

import sys
from typing import Any

from doit.cmd_run import Run as DoitRun

REQUIRE = {
    "name": "require",
    "short": "",
    "long": "require",
    "type": list,
    "default": [],
    "help": "fail unless PLATFORM, or PLATFORM:WAY such as browser:chromium, is evidenced; may be repeated",
}


class Run(DoitRun):  # type: ignore[misc]  # doit is untyped
    cmd_options = (*DoitRun.cmd_options, REQUIRE)

    def execute(self, params: Any, args: list[str]) -> int:
        """Run tasks; a target that another's failure kept from being built is that failure, not one of its own."""
        if params["require"]:
            from modelbuild import doit_tasks

            doit_tasks.require(tuple(params["require"]))
        code: int = super().execute(params, args) or 0
        # Other doit projects of this environment run through here too: they never load our reporter, and pay nothing.
        ours = sys.modules.get("modelbuild.doit_reporter")
        return int(ours.Reporter.exit_code(code)) if ours is not None else code
