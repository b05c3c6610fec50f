"""Makes what is not up to date: from the store where it can, by the recipe where it must."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from pathlib import Path

from filelock import FileLock

from modelbuild import keys as keymaker
from modelbuild import leases, witness
from modelbuild.bench import Bench
from modelbuild.digest import Tree
from modelbuild.errors import BuildError, InputChangedError, RecipeError
from modelbuild.examine import Examiner, Outcome, State, Status
from modelbuild.execute import Executor
from modelbuild.job import Job
from modelbuild.journal import Built
from modelbuild.leases import Lease
from modelbuild.progress import Sink
from modelbuild.store import LostError, Record, disk_words
from modelbuild.targets import Target


class Builder:
    """Makes the targets of one run. Threads may share it: each target is made by one of them."""

    def __init__(self, known: Examiner, executor: Executor) -> None:
        self.known, self.executor = known, executor
        self.at, self.journal, self.store, self.plan = known.at, known.journal, known.store, known.plan
        self._lease = Lease(self.at.leases, known.run)
        self._serial = itertools.count()
        self._once = threading.Lock()
        self._swept = False

    def build(self, name: str, sink: Sink) -> Outcome:
        """Bring `name` up to date; its inputs must be. Raises BuildError or StoreError, after noting the outcome."""
        began, status = time.perf_counter(), Status("stale")
        try:
            status = self.known.examine(name)
            with disk_words(self.at.cache):
                record, state = self._make(self.plan.targets[name], status, sink)
        except Exception as error:
            spent = time.perf_counter() - began
            outcome = Outcome(name, "failed", status.key, "", spent, status.reason, str(error))
            self.known.accept(outcome, status)
            raise
        spent = time.perf_counter() - began
        outcome = Outcome(name, state, record.key, record.tree.digest, spent, status.reason)
        self.known.accept(outcome, status._replace(state="up-to-date", digest=record.tree.digest, reason=""))
        return outcome

    def _make(self, target: Target, status: Status, sink: Sink) -> tuple[Record, State]:
        if status.state == "waiting":
            raise BuildError(target.name, status.reason, "Build its inputs first: `doit` does so in one go.")
        self.enter(status.key, *(self.known.status(d).key for d in target.inputs.values()))
        record, folder, state = self._obtain(target, status, sink)
        self._publish(target, record, folder)
        return record, state

    def enter(self, *keys: str) -> None:
        """Hold `keys` for this build; the first time, clear away what killed builds left."""
        self._lease.hold(*keys)
        with self._once:
            if not self._swept:
                self._swept = True
                leases.sweep(self.at.leases, self.at.tmp)

    def fresh(self) -> Path:
        """Name a path in this build's scratch folder that does not exist yet."""
        self.known.scratch.mkdir(parents=True, exist_ok=True)
        return self.known.scratch / f"d{next(self._serial)}"

    def _obtain(self, target: Target, status: Status, sink: Sink) -> tuple[Record, Path, State]:
        """Take the target from the store, or run its recipe; of several builds at once, one runs it.

        Asked for one that is up to date (`doit --always-execute`), run the recipe.
        """
        forced = status.state == "up-to-date"
        found = None if forced else self._restore(status.key)
        if found is None:
            with self._locked(status.key):
                found = None if forced else self._restore(status.key)
                if found is None:
                    record = self._run(target, status, sink)
                    return record, self._copy(record), "built"
        self.store.touch(status.key)
        return *found, "restored"

    def _locked(self, name: str) -> FileLock:
        """Return the lock of that name among all builds; it goes with the process that holds it."""
        self.at.locks.mkdir(parents=True, exist_ok=True)
        return FileLock(self.at.locks / f"{name}.lock")

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
        with self._locked(f"out-{target.name.replace(':', '.')}"):
            if os.path.lexists(out):
                # Dying here leaves no copy in out/: the next build restores it.
                os.replace(out, self.fresh())  # noqa: PTH105
            os.replace(folder, out)  # noqa: PTH105
            seen = witness.take(out, record.tree)
        self.journal.remember(target.name, Built(record.key, record.tree.digest, seen))
        self.journal.flush()

    # -- running a recipe

    def _run(self, target: Target, status: Status, sink: Sink) -> Record:
        checkpoints = self.at.checkpoints / status.key
        bench, seconds = self.rehearse(target, status, sink, self.at.relative(checkpoints))
        self._check_inputs(target, status, bench)
        try:
            tree = self.store.put_folder(bench.out)
        except ValueError as error:
            raise RecipeError(
                target.name, f"its output cannot be kept: {error}", "Write plain files."
            ) from error
        if not tree.entries:
            raise RecipeError(
                target.name, "its recipe wrote nothing", "A recipe writes its result into out_dir."
            )
        record = Record(status.key, target.name, status.parts, tree, seconds)
        self.store.commit(record)
        shutil.rmtree(bench.folder, ignore_errors=True)
        shutil.rmtree(checkpoints, ignore_errors=True)
        return record

    def rehearse(
        self, target: Target, status: Status, sink: Sink, checkpoints: str = ""
    ) -> tuple[Bench, float]:
        """Run the recipe on a fresh bench, keeping nothing; return the bench and the recipe's seconds.

        It goes on from `checkpoints`, where it keeps how far it has come; without them from the start.
        Raises RecipeError, JobCrashedError, InputChangedError.
        """
        bench = Bench(self.fresh())
        for role, dependency in target.inputs.items():
            self._lay(bench, role, dependency)
        digests = dict(status.parts)
        for role, path in target.files.items():
            digest = digests[f"file {role}"]
            source = self.known.keys.located(target, path)
            bench.lay_file(role, source, digest, self.journal.digest, target.name)
        bench.out.mkdir(parents=True)
        inputs = {role: str(place) for role, place in bench.inputs.items()}
        imports = tuple(sorted(self.known.keys.imports(target)))
        log = self.at.relative(self.at.log(target.name))
        out, function = str(bench.out), target.recipe.function
        job = Job(target.name, function, inputs, target.params, out, log, imports, checkpoints)
        seconds = self.executor.run(job, sink)
        return bench, seconds

    def _check_inputs(self, target: Target, status: Status, bench: Bench) -> None:
        """Refuse a result whose inputs are no longer what its key says."""
        touched = bench.disturbed()
        if touched:
            raise InputChangedError(
                target.name, f"its recipe changed its input {touched}", "A recipe may write to out_dir only."
            )
        inputs = {role: self.known.status(d).digest for role, d in target.inputs.items()}
        now = self.known.keys.renewed().parts(target, inputs)
        if now != status.parts:
            what = keymaker.reason(target, status.parts, now)
            raise InputChangedError(
                target.name, f"an input changed while it was being built ({what})", "Run `doit` again."
            )

    def _lay(self, bench: Bench, role: str, dependency: str) -> None:
        try:
            bench.lay_tree(self.store, role, self._tree(dependency))
        except LostError:
            self._heal(dependency)
            bench.lay_tree(self.store, role, self._tree(dependency))

    def _tree(self, name: str) -> Tree:
        status = self.known.status(name)
        record = self.store.record(status.key)
        # Another build may have run a recipe that does not repeat: those bytes are not the ones in our keys.
        if record is None or record.tree.digest != status.digest:
            raise LostError(f"what this build knows as {name} is gone")
        return record.tree

    def _heal(self, name: str) -> None:
        """Bring back an up-to-date target whose contents the store lost: from its copy in out/, or by its recipe."""
        target, status = self.plan.targets[name], self.known.status(name)
        built = self.journal.built(name)
        if built is not None and not self.known.disturbed(name, built):
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
        """Let go of processes, scratch and lease."""
        self.executor.close()
        shutil.rmtree(self.known.scratch, ignore_errors=True)
        self._lease.release()
