"""What running builds use, so that `doit gc` never takes it.

A build appends the keys it is about to use to a file of its own, which it keeps locked while it lives; the lock goes
with the process, so nothing is ever left to remove by hand. Adding a key and collecting exclude each other through
`gate`: a key is either on a lease before the collector looks, or looked up after it is gone and built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, how)
        yield
    finally:
        os.close(handle)


class Lease:
    """The lease of one build; it takes no file before it is needed. `name`: the run's."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._lock = threading.Lock()
        self._file: IO[str] | None = None

    def hold(self, *keys: str) -> None:
        """Protect the records of `keys` and all they name until this process ends or `release` is called."""
        with self._lock, _locked(self._folder / "gate", fcntl.LOCK_SH):
            if self._file is None:
                self._file = (self._folder / f"{self._name}.lease").open("x")
                fcntl.flock(self._file, fcntl.LOCK_EX)
                self._file.write(f"{time.time()}\n")
            self._file.write("".join(f"{key}\n" for key in keys))
            self._file.flush()

    def release(self) -> None:
        """Give back everything held."""
        with self._lock:
            if self._file is not None:
                Path(self._file.name).unlink(missing_ok=True)
                self._file.close()
                self._file = None


def sweep(folder: Path, scratch: Path) -> None:
    """Remove the scratch folders of builds that are no more, killed ones included."""
    with closed(folder) as live:
        for left in scratch.iterdir() if scratch.is_dir() else ():
            if left.name not in live.names:
                shutil.rmtree(left, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Live:
    """All live leases: their names, the keys on them, and when the oldest began (seconds since 1970, or inf)."""

    names: frozenset[str]
    keys: frozenset[str]
    oldest: float


@contextlib.contextmanager
def closed(folder: Path) -> Iterator[Live]:
    """Keep builds from adding keys, and yield what the live ones hold."""
    with _locked(folder / "gate", fcntl.LOCK_EX):
        found = {path.stem: lines for path in folder.glob("*.lease") if (lines := _read(path))}
        keys = frozenset(key for lines in found.values() for key in lines[1:])
        yield Live(
            frozenset(found), keys, min((float(lines[0]) for lines in found.values()), default=float("inf"))
        )


def _read(path: Path) -> list[str]:
    """Lines of a live lease; an abandoned one is removed and reads as nothing."""
    try:
        lease = path.open()
    except FileNotFoundError:  # its build has just given it back
        return []
    with lease:
        try:
            fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return lease.read().split()
        path.unlink(missing_ok=True)
        return []
