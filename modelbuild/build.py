"""Decides what is up to date, and makes what is not: from the store where it can, by the recipe where it must."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from modelbuild import keys as keymaker
from modelbuild import leases, witness
from modelbuild.bench import Bench
from modelbuild.digest import Tree
from modelbuild.errors import BuildError, InputChangedError, RecipeError
from modelbuild.execute import Executor
from modelbuild.graph import Plan, Target
from modelbuild.job import Job
from modelbuild.journal import Built, Journal
from modelbuild.keys import Keys, Parts
from modelbuild.leases import Lease
from modelbuild.paths import Workspace
from modelbuild.progress import Sink
from modelbuild.store import LostError, Record, Store

State = Literal["built", "restored", "up-to-date", "failed"]


@dataclass(frozen=True, slots=True)
class Status:
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a target in this build; `seconds` is the time this build spent on it."""

    target: str
    state: State
    key: str
    digest: str
    seconds: float = 0.0
    reason: str = ""
    error: str = ""


class Builder:
    """One build over one plan. Threads may share it: each target is built by one of them."""

    def __init__(self, plan: Plan, at: Workspace, journal: Journal, executor: Executor) -> None:
        self.plan, self.at, self.journal, self.executor = plan, at, journal, executor
        self.outcomes: dict[str, Outcome] = {}
        self.lease = Lease(at.leases)
        self.scratch = at.tmp / self.lease.name
        self.store = Store(at, self.scratch)
        self._keys = Keys(at.root, journal.digest, journal.memo)
        self._status: dict[str, Status] = {}
        self._serial = itertools.count()
        self._once = threading.Lock()
        self._swept = False

    # -- what is so

    def status(self, name: str) -> Status:
        """Return what is known of `name` now; inputs that wait make it wait."""
        known = self._status.get(name)
        if known is None:
            known = self._status[name] = self._examine(self.plan.targets[name])
        return known

    def _examine(self, target: Target) -> Status:
        inputs = {}
        for role, dependency in target.inputs.items():
            inputs[role] = self.status(dependency).digest
            if not inputs[role]:
                return Status("waiting", reason=f"input may change: {dependency}")
        parts = self._keys.parts(target, inputs)
        key = keymaker.key_of(parts)
        built = self.journal.built(target.name)
        if built is None or built.key != key:
            return self._stored(key, parts, self._why(target, built, parts))
        changed = self._disturbed(target, built)
        return self._stored(key, parts, changed) if changed else Status("up-to-date", key, parts, built.digest)

    def _disturbed(self, target: Target, built: Built) -> str:
        finding = witness.check(self.at.out(target.name), built.witness)
        if finding.renewed:
            self.journal.remember(target.name, replace(built, witness=finding.renewed))
        return finding.changed

    def _stored(self, key: str, parts: Parts, reason: str) -> Status:
        record = self.store.record(key)
        if record is not None and self.store.has(record.tree):
            return Status("restorable", key, parts, record.tree.digest, reason)
        return Status("stale", key, parts, "", reason)

    def _why(self, target: Target, built: Built | None, parts: Parts) -> str:
        if built is None:
            return "first build"
        before = self.store.record(built.key)
        return keymaker.reason(target, before.parts, parts) if before else "its earlier record is gone"

    # -- making it so

    def build(self, name: str, sink: Sink) -> Outcome:
        """Bring `name` up to date; its inputs must be. Raises BuildError, StoreError; `outcomes` has it either way."""
        began = time.perf_counter()
        try:
            outcome = self._make(self.plan.targets[name], sink)
        except Exception as error:
            status = self._status.get(name, Status("stale"))
            spent = time.perf_counter() - began
            self.outcomes[name] = Outcome(name, "failed", status.key, "", spent, status.reason, str(error))
            raise
        self.outcomes[name] = replace(outcome, seconds=time.perf_counter() - began)
        return self.outcomes[name]

    def note_up_to_date(self, name: str) -> None:
        """Record that this build found `name` as it should be."""
        status = self.status(name)
        self.outcomes[name] = Outcome(name, "up-to-date", status.key, status.digest)

    def _make(self, target: Target, sink: Sink) -> Outcome:
        status = self._status[target.name] = self._examine(target)
        if status.state == "waiting":
            raise BuildError(target.name, status.reason, "Build its inputs first: `doit` does so in one go.")
        self.enter(status.key, *(self.status(d).key for d in target.inputs.values()))
        record, folder, state = self._obtain(target, status, sink)
        self._publish(target, record, folder)
        self._status[target.name] = Status("up-to-date", status.key, status.parts, record.tree.digest)
        return Outcome(target.name, state, record.key, record.tree.digest, 0.0, status.reason)

    def enter(self, *keys: str) -> None:
        """Hold `keys` for this build; the first time, clear away what killed builds left."""
        self.lease.hold(*keys)
        with self._once:
            if not self._swept:
                self._swept = True
                leases.sweep(self.at.leases, self.at.tmp)

    def fresh(self) -> Path:
        """Name a path in this build's scratch folder that does not exist yet."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        return self.scratch / f"d{next(self._serial)}"

    def _obtain(self, target: Target, status: Status, sink: Sink) -> tuple[Record, Path, State]:
        """Take the target from the store, or run its recipe; of several builds at once, one runs it."""
        from filelock import FileLock

        found = self._restore(status.key)
        if found is None:
            self.at.locks.mkdir(parents=True, exist_ok=True)
            with FileLock(self.at.locks / f"{status.key}.lock"):
                found = self._restore(status.key)
                if found is None:
                    record = self._run(target, status, sink)
                    return record, self._copy(record), "built"
        self.store.touch(status.key)
        return *found, "restored"

    def _restore(self, key: str) -> tuple[Record, Path] | None:
        """Copy out what the store has for `key`; damaged contents are put aside and count as missing."""
        record = self.store.record(key)
        if record is None:
            return None
        try:
            return record, self._copy(record)
        except LostError:
            return None

    def _copy(self, record: Record) -> Path:
        folder = self.fresh()
        self.store.materialise(record.tree, folder)
        return folder

    def _publish(self, target: Target, record: Record, folder: Path) -> None:
        """Put `folder` where people look for `target`, and remember it."""
        out = self.at.out(target.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(out):
            # Dying here leaves no copy in out/: the next build restores it.
            os.replace(out, self.fresh())  # noqa: PTH105
        os.replace(folder, out)  # noqa: PTH105
        seen = witness.take(out, record.tree)
        self.journal.remember(target.name, Built(record.key, record.tree.digest, seen))
        self.journal.flush()

    # -- running a recipe

    def _run(self, target: Target, status: Status, sink: Sink) -> Record:
        bench, seconds = self.rehearse(target, status, sink)
        self._check_inputs(target, status, bench)
        try:
            tree = self.store.put_folder(bench.out)
        except ValueError as error:
            raise RecipeError(target.name, f"its output cannot be kept: {error}", "Write plain files.") from error
        record = Record(status.key, target.name, status.parts, tree, seconds)
        self.store.commit(record)
        shutil.rmtree(bench.folder, ignore_errors=True)
        return record

    def rehearse(self, target: Target, status: Status, sink: Sink) -> tuple[Bench, float]:
        """Run the recipe on a fresh bench, keeping nothing; return the bench and the recipe's seconds.

        Raises RecipeError, JobCrashedError, InputChangedError.
        """
        bench = Bench(self.fresh())
        for role, dependency in target.inputs.items():
            self._lay(bench, role, dependency)
        digests = dict(status.parts)
        for role, path in target.files.items():
            bench.lay_file(role, self.at.root / path, digests[f"file {role}"], target.name)
        bench.out.mkdir(parents=True)
        inputs = {role: str(place) for role, place in bench.inputs.items()}
        imports = tuple(sorted(self._keys.imports(target)))
        log = self.at.relative(self.at.log(target.name))
        job = Job(target.name, target.recipe.function, inputs, target.params, str(bench.out), log, imports)
        seconds = self.executor.run(job, sink)
        if not any(bench.out.iterdir()):
            raise RecipeError(target.name, "its recipe wrote nothing", "A recipe writes its result into out_dir.")
        return bench, seconds

    def _check_inputs(self, target: Target, status: Status, bench: Bench) -> None:
        """Refuse a result whose inputs are no longer what its key says."""
        touched = bench.disturbed()
        if touched:
            raise InputChangedError(target.name, f"its recipe changed its input {touched}", "A recipe may write to out_dir only.")
        inputs = {role: self.status(d).digest for role, d in target.inputs.items()}
        now = self._keys.renewed().parts(target, inputs)
        if now != status.parts:
            what = keymaker.reason(target, status.parts, now)
            raise InputChangedError(target.name, f"an input changed while it was being built ({what})", "Run `doit` again.")

    def _lay(self, bench: Bench, role: str, dependency: str) -> None:
        try:
            bench.lay_tree(self.store, role, self._tree(dependency))
        except LostError:
            self._heal(dependency)
            bench.lay_tree(self.store, role, self._tree(dependency))

    def _tree(self, name: str) -> Tree:
        record = self.store.record(self.status(name).key)
        if record is None:
            raise LostError(f"the record of {name} is gone")
        return record.tree

    def _heal(self, name: str) -> None:
        """Bring back an up-to-date target whose contents the store lost: from its copy in out/, or by its recipe."""
        target, status = self.plan.targets[name], self.status(name)
        built = self.journal.built(name)
        if built is not None and not self._disturbed(target, built):
            tree = self.store.put_folder(self.at.out(name))
            if tree.digest == status.digest:
                self.store.commit(Record(status.key, name, status.parts, tree, 0.0))
                return
        record = self._run(target, status, lambda *_: None)
        if record.tree.digest != status.digest:
            self.journal.forget(name)
            fact = f"{name} was lost from the store, and its recipe did not give the same bytes again"
            raise BuildError(name, fact, "Run `doit` again: what depends on it will be rebuilt.")

    def close(self) -> None:
        """Let go of processes, scratch and lease, and write what was learnt."""
        self.executor.close()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.lease.release()
        self.journal.close()
