"""`doit rehearse`: the unchanged artefact under another version of its runtime, before anyone upgrades."""

from __future__ import annotations

import getopt
from typing import Any

from doit.cmdparse import CmdParseError

from modelbuild import rehearsal
from modelbuild.commands.base import ProjectCommand
from modelbuild.errors import CommandError
from modelbuild.rehearsal import Found, Row, Stage
from modelbuild.session import Session


def _option(name: str, help_: str) -> dict[str, Any]:
    return {"name": name, "short": "", "long": name, "type": str, "default": "", "help": help_}


class Rehearse(ProjectCommand):
    name = "rehearse"
    doc_purpose = (
        "run a platform's artefact under another version of its runtime; exit 1 when a verdict is worse"
    )
    doc_usage = "PLATFORM --version X | --bisect A..B"
    cmd_options = (
        _option("version", "the version to compare with the current one"),
        _option("bisect", "A..B: name the first released version whose verdict differs from A's"),
    )

    def parse_execute(self, in_args: list[str]) -> Any:
        """Let the platform stand before the options, as people write it."""
        try:
            found, rest = getopt.gnu_getopt(in_args, self.cmdparser.get_short(), self.cmdparser.get_long())
        except getopt.GetoptError as error:
            raise CmdParseError(f"doit rehearse: {error}. `doit help rehearse` lists the options.") from error
        options = [f"{name}={value}" if value else name for name, value in found]
        return super().parse_execute([*options, *rest])

    def perform(self, session: Session, params: Any, args: list[str]) -> int:
        """Rehearse for every model that has the platform. Raises CommandError, BuildError."""
        version, bisect = params["version"], params["bisect"]
        if len(args) != 1 or bool(version) == bool(bisect):
            usage = f"Write `doit rehearse {self.doc_usage}`."
            raise CommandError("doit rehearse", "one platform, and a version or a range, are needed", usage)
        stages = rehearsal.stages(session, args[0])
        if bisect:
            first, dots, last = bisect.partition("..")
            if not (first and dots and last):
                raise CommandError(f"--bisect {bisect}", "is no range", "Write --bisect 1.18.1..1.32.0.")
            return max([self._bisected(stage, first, last) for stage in stages])
        return max([self._compared(stage, version) for stage in stages])

    def _compared(self, stage: Stage, version: str) -> int:
        current, other = stage.under(stage.current), stage.under(version)
        self.say(f"{stage.name} under {version}, and under {current.version} as now")
        for row in sorted({*current.verdicts, *other.verdicts}):
            self.say(f"  {_line(row, current, other)}")
        for way in sorted(current.outputs.keys() & other.outputs.keys()):
            gap = rehearsal.largest_difference(current.outputs[way], other.outputs[way])
            self.say(
                f"  {_named(way)}{'the same bits' if gap == 0 else f'the outputs differ by at most {gap:.3g}'}"
            )
        bad = rehearsal.worse(current, other)
        self.say(f"{stage.name} {version}: {_result(current, other, bad)}")
        return 1 if bad else 0

    def _bisected(self, stage: Stage, first: str, last: str) -> int:
        versions = rehearsal.between(stage, first, last)
        self.say(f"{stage.name}, {len(versions)} versions from {first} to {last}; one change is searched for")
        found = rehearsal.first_different(stage, versions, self.say)
        if found is None:
            self.say(f"{stage.name}: {last} has the verdicts of {first}")
            return 0
        before, changed = found
        what = _what_differs(before, changed)
        self.say(f"the first version whose verdict differs from that of {first} is {changed.version}: {what}")
        return 1


def _line(row: Row, current: Found, other: Found) -> str:
    way, output, metric = row
    known = current.verdicts.get(row) or other.verdicts[row]
    limit = f", limit {known.limit:.3g}" if known.limit is not None else ""
    cells = "  ".join(f"{each.version} {_cell(each, row)}" for each in (current, other))
    return f"{_named(way)}{output} {metric}: {cells}{limit}"


def _named(way: str) -> str:
    return f"{way}, " if way else ""


def _cell(found: Found, row: Row) -> str:
    verdict = found.verdicts.get(row)
    if verdict is None:
        return "does not run" if found.error else "nothing"
    measured = "" if verdict.measured is None else f"{verdict.measured:.3g} "
    return f"{measured}{'holds' if verdict.ok else 'RED'}"


def _result(current: Found, other: Found, bad: bool) -> str:
    if other.error and bad:
        return f"does not run what {current.version} runs: {other.error}"
    if bad:
        return f"RED where {current.version} holds: {_what_differs(current, other)}"
    return f"no verdict is worse than under {current.version}"


def _what_differs(one: Found, other: Found) -> str:
    if other.error or one.error:
        return other.error or f"{one.version} does not run it: {one.error}"
    changed = [row for row in {**one.verdicts, **other.verdicts} if _ok(one, row) != _ok(other, row)]
    details = [other.verdicts[row].detail if row in other.verdicts else f"no {row[2]}" for row in changed]
    return "; ".join(dict.fromkeys(details))


def _ok(found: Found, row: Row) -> bool | None:
    return found.verdicts[row].ok if row in found.verdicts else None
