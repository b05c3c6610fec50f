"""`doit rehearse`: the unchanged artefact under another version of its runtime, before anyone upgrades."""

from __future__ import annotations

import getopt
from collections.abc import Iterable, Iterator
from typing import Any

from doit.cmdparse import CmdParseError

from modelbuild import rehearsal
from modelbuild.commands.base import ProjectCommand
from modelbuild.errors import CommandError
from modelbuild.rehearsal import Found, Row, Stage
from modelbuild.session import Session

HEADS = ("output", "metric")


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
        first, dots, last = bisect.partition("..")
        if bisect and not (first and dots and last):
            raise CommandError(f"--bisect {bisect}", "is no range", "Write --bisect 1.18.1..1.32.0.")
        stages = rehearsal.stages(session, args[0], self.say)
        if bisect:
            return max([self._bisected(stage, first, last) for stage in stages])
        return max([self._compared(stage, version) for stage in stages])

    def _compared(self, stage: Stage, version: str) -> int:
        current, other = stage.under(stage.current), stage.under(version)
        self.say(f"{stage.name} under {version}, and under {current.version} as now")
        for line in (*_table(current, other), *_bits(current, other)):
            self.say(f"  {line}")
        self.say(f"{stage.name} {version}: {_result(current, other)}")
        return 1 if rehearsal.worse(current, other) else 0

    def _bisected(self, stage: Stage, first: str, last: str) -> int:
        versions = rehearsal.between(stage, first, last)
        self.say(
            f"{stage.name}, {len(versions)} versions from {first} to {last}; "
            "the search takes it that the verdict changes once"
        )
        found = rehearsal.first_different(stage, versions, self.say)
        if found is None:
            self.say(f"{stage.name}: {last} has the verdicts of {first}; nothing in between was tried")
            return 0
        what = _changed(*found)
        self.say(
            f"{stage.name}: the first version whose verdict differs from {first}'s is "
            f"{found[1].version}: {what}"
        )
        return 1


def _table(current: Found, other: Found) -> Iterator[str]:
    """A row for each verdict: measured and judged under both versions, and the limit."""
    rows = [[*HEADS, current.version, other.version, "limit"]]
    for row in sorted({*current.verdicts, *other.verdicts}):
        limit = (current.verdicts.get(row) or other.verdicts[row]).limit
        shown = "" if limit is None else f"{limit:.3g}"
        rows.append([_named(row[0]) + row[1], row[2], _cell(current, row), _cell(other, row), shown])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cell(found: Found, row: Row) -> str:
    verdict = found.verdicts.get(row)
    if verdict is None:
        return "does not run" if row[0] in found.errors else "nothing"
    measured = "" if verdict.measured is None else f"{verdict.measured:.3g} "
    return f"{measured}{'holds' if verdict.ok else 'RED'}"


def _bits(current: Found, other: Found) -> Iterator[str]:
    """How the outputs of both versions differ, by way of running; and the ways that this machine does not have."""
    for way in sorted(current.outputs.keys() & other.outputs.keys()):
        gap = rehearsal.largest_difference(current.outputs[way], other.outputs[way])
        yield f"{_named(way)}{'the same bits' if gap is None else f'the outputs differ by at most {gap:.3g}'}"
    for way, reason in sorted({**current.absent, **other.absent}.items()):
        yield f"{_named(way)}not run: {reason}"


def _named(way: str) -> str:
    return f"{way}: " if way else ""


def _result(current: Found, other: Found) -> str:
    if current.signature == other.signature:
        broken = "; ".join(dict.fromkeys(other.errors.values()))
        same = f"every verdict as under {current.version}"
        return f"{same}, and it does not run there either: {broken}" if broken else same
    what = _changed(current, other)
    if not rehearsal.worse(current, other):
        return f"no verdict is worse than under {current.version}, and some are others: {what}"
    how = "does not run" if other.errors.keys() - current.errors.keys() else "RED"
    return f"{how} where {current.version} {'runs' if how != 'RED' else 'holds'}: {what}"


def _changed(one: Found, other: Found) -> str:
    """What is judged otherwise under `other`, its own words first: errors, then verdicts."""
    lost = [f"{_named(way)}{why}" for way, why in other.errors.items() if way not in one.errors]
    back = [f"{_named(way)}runs" for way in one.errors if way not in other.errors]
    return "; ".join(dict.fromkeys([*lost, *back, *_judged_otherwise(one, other)]))


def _judged_otherwise(one: Found, other: Found) -> Iterable[str]:
    for row, verdict in other.verdicts.items():
        before = one.verdicts.get(row)
        if row[0] not in one.errors and (before is None or before.ok != verdict.ok):
            measured, limit = verdict.measured, verdict.limit
            known = measured is not None and limit is not None
            said = f"{row[2]} {measured:.3g}, limit {limit:.3g}" if known else verdict.detail
            yield f"{_named(row[0])}{row[1]} {said}"
