"""`doit gc`: let go of what the store no longer needs."""

from __future__ import annotations

import re
import time
from typing import Any

from modelbuild import environments, gc
from modelbuild.commands.base import ProjectCommand, chosen, size
from modelbuild.errors import CommandError
from modelbuild.session import Session

UNITS = {"": 1, "B": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SPANS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _option(name: str, help_: str, type_: type = str, default: Any = "") -> dict[str, Any]:
    return {
        "name": name.replace("-", "_"),
        "short": "",
        "long": name,
        "type": type_,
        "default": default,
        "help": help_,
    }


class Gc(ProjectCommand):
    name = "gc"
    doc_purpose = "free space: objects nothing names, and on demand records by age and size"
    doc_usage = "[--max-size 2G] [--max-age 30d] [--dry-run] [--pin | --unpin TARGET ...]"
    doc_description = "Pinned targets and whatever a running build uses are kept in any case."
    cmd_options = (
        _option("max-size", "keep at most this much, most recently used first: 500M, 2G"),
        _option("max-age", "drop what was not used for this long: 12h, 30d, 8w"),
        _option("dry-run", "only say what would go", bool, False),
        _option("pin", "keep the named targets as they are now", bool, False),
        _option("unpin", "no longer keep the named targets", bool, False),
    )

    def perform(self, session: Session, params: Any, args: list[str]) -> None:
        """Pin, unpin, or collect. Raises CommandError."""
        if params["pin"] or params["unpin"]:
            if params["max_size"] or params["max_age"] or (params["pin"] and params["unpin"]):
                raise CommandError(
                    "doit gc", "pinning and collecting are two commands", "Pin first, then collect."
                )
            self._pin(session, args, bool(params["pin"]))
            return
        limits = gc.Limits(
            _amount(params["max_age"], SPANS, "--max-age"),
            _whole(_amount(params["max_size"], UNITS, "--max-size")),
        )
        freed = gc.collect(session.at, session.examiner.store, limits, params["dry_run"])
        verb = "would free" if params["dry_run"] else "freed"
        self.say(f"{verb} {size(freed.bytes)} in {freed.objects} objects of {freed.records} records dropped")
        self.say(f"{size(freed.kept_bytes)} kept")
        if limits.age is not None and not params["dry_run"]:
            gone = environments.remove_unused(session.at, time.time() - limits.age)
            if gone:
                self.say(
                    f"removed {gone} environment{'s' if gone > 1 else ''}: made again from the lock when needed"
                )

    def _pin(self, session: Session, args: list[str], on: bool) -> None:
        if not args:
            raise CommandError(
                "doit gc", "no target is named", "Name what to pin: `doit gc --pin digits:student`."
            )
        built = {name: session.journal.built(name) for name in chosen(session, args)}
        missing = [name for name, b in built.items() if b is None]
        if on and missing:
            raise CommandError(
                missing[0], "was not built yet, so there is nothing to pin", f"Run `doit {missing[0]}` first."
            )
        gc.pin(session.at, {name: b.key if on and b else None for name, b in built.items()})
        self.say(f"{'pinned' if on else 'unpinned'}: {', '.join(built)}")


def _amount(text: str, units: dict[str, int], option: str) -> float | None:
    if not text:
        return None
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]?)(?:i?B)?", text)
    if match is None or match[2] not in units:
        raise CommandError(
            f"doit gc {option}",
            f'"{text}" is not an amount',
            f"Write a number and one of {', '.join(u for u in units if u)}.",
        )
    return float(match[1]) * units[match[2]]


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
