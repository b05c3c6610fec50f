"""Decides what is up to date. A no-op build ends here: nothing below imports what only making something needs."""

from __future__ import annotations

import os
import time
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from modelbuild import keys as keymaker
from modelbuild import witness
from modelbuild.errors import ModelbuildError
from modelbuild.journal import Built, Journal
from modelbuild.keys import Keys, Parts
from modelbuild.paths import Workspace
from modelbuild.targets import Plan, Target

if TYPE_CHECKING:
    from modelbuild.store import Store

NEW = "first build"
State = Literal["built", "restored", "up-to-date", "failed"]


class Status(NamedTuple):
    """What is known of a target before it is built.

    `state`: "up-to-date"; "restorable" (the store has it); "stale" (its recipe must run); "waiting" (an input must
    be built first, so its own key is not known yet: `key` and `parts` are empty). `digest` is that of the output,
    "" while unknown. `reason` says why it is not up to date.
    """

    state: Literal["up-to-date", "restorable", "stale", "waiting"]
    key: str = ""
    parts: Parts = ()
    digest: str = ""
    reason: str = ""


class Outcome(NamedTuple):
    """What became of a target in this run; `seconds` is the time this run spent on it."""

    target: str
    state: State
    key: str
    digest: str
    seconds: float = 0.0
    reason: str = ""
    error: str = ""


class Examiner:
    """What one run knows of its targets: their status before, their outcome after. Threads may share it."""

    def __init__(self, plan: Plan, at: Workspace, journal: Journal) -> None:
        self.plan, self.at, self.journal = plan, at, journal
        self.run = f"{os.getpid()}-{time.time_ns():x}"
        self.scratch = at.tmp / self.run
        self.outcomes: dict[str, Outcome] = {}
        self.keys = Keys(at.root, journal.digest, journal.memo)
        self._status: dict[str, Status] = {}

    @cached_property
    def store(self) -> Store:
        from modelbuild.store import Store

        return Store(self.at, self.scratch)

    def status(self, name: str) -> Status:
        """Return what is known of `name` in this run; inputs that must be built first make it wait."""
        return self._status.get(name) or self.examine(name)

    def examine(self, name: str) -> Status:
        """Look at `name` again and note what is found."""
        status = self._status[name] = self._look(self.plan.targets[name])
        return status

    def accept(self, outcome: Outcome, status: Status) -> None:
        """Note what became of a target, and how it stands now."""
        self.outcomes[outcome.target] = outcome
        self._status[outcome.target] = status

    def note_if_up_to_date(self, name: str) -> bool:
        """Look at `name`, and note that it is as it should be where that is so."""
        try:
            found = self.status(name).state == "up-to-date"
        except ModelbuildError:  # whoever builds it will meet the same error, and report it
            return False
        if found:
            self.note_up_to_date(name)
        return found

    def note_up_to_date(self, name: str) -> None:
        """Note that this run found `name` as it should be."""
        status = self.status(name)
        self.outcomes[name] = Outcome(name, "up-to-date", status.key, status.digest)

    def _look(self, target: Target) -> Status:
        inputs = {}
        for role, dependency in target.inputs.items():
            inputs[role] = self.status(dependency).digest
            if not inputs[role]:
                return Status("waiting", reason=f"input may change: {dependency}")
        parts = self.keys.parts(target, inputs)
        key = keymaker.key_of(parts)
        built = self.journal.built(target.name)
        if built is None or built.key != key:
            return self._stored(key, parts, self._why(target, built, parts))
        changed = self.disturbed(target.name, built)
        return (
            self._stored(key, parts, changed) if changed else Status("up-to-date", key, parts, built.digest)
        )

    def disturbed(self, name: str, built: Built) -> str:
        """Return in words how the copy of `name` in out/ is not what was put there, or ""."""
        finding = witness.check(self.at.out_name(name), built.witness)
        if finding.renewed:
            self.journal.remember(name, built._replace(witness=finding.renewed))
        return finding.changed

    def _stored(self, key: str, parts: Parts, reason: str) -> Status:
        record = self.store.record(key)
        if record is not None and self.store.has(record.tree):
            why = "already in the store" if reason == NEW else reason
            return Status("restorable", key, parts, record.tree.digest, why)
        return Status("stale", key, parts, "", reason)

    def _why(self, target: Target, built: Built | None, parts: Parts) -> str:
        if built is None:
            return NEW
        before = self.store.record(built.key)
        return keymaker.reason(target, before.parts, parts) if before else "its earlier record is gone"
