"""What the store may let go: records by age and size, then every object no record names.

Kept whatever the limits: pinned targets, and everything a running build holds (leases.py).
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from modelbuild import leases
from modelbuild.errors import StoreError
from modelbuild.paths import Workspace
from modelbuild.store import Record, Store


@dataclass(frozen=True, slots=True)
class Limits:
    """`age`: seconds since a record was last used; `size`: bytes of all objects. None means no limit."""

    age: float | None = None
    size: int | None = None


CHECKPOINT_AGE = 7 * 24 * 3600.0  # seconds a killed training may wait to go on, where no age is asked for


@dataclass(frozen=True, slots=True)
class Freed:
    """What was let go, or would be."""

    records: int
    objects: int
    bytes: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class _Kept:
    path: Path
    record: Record
    used: float
    held: bool


def collect(at: Workspace, store: Store, limits: Limits, dry_run: bool = False) -> Freed:
    """Let go of what `limits` allow; builds wait for the moment this takes."""
    with leases.closed(at.leases) as live:
        pinned = set(pins(at).values())
        records, torn = _records(store, live.keys | pinned)
        keep = _within(records, limits, time.time())
        drop = [r for r in records if r not in keep]
        named = {entry.digest for r in keep for entry in r.record.tree.entries}
        # An object put down since the oldest live build began may belong to a record not written yet.
        loose = [p for p, d in store.all_objects() if d not in named and _changed(p) < live.oldest]
        freed = sum(map(_size, loose))
        total = sum(_size(p) for p, _ in store.all_objects())
        if not dry_run:
            for path in [*torn, *(r.path for r in drop), *loose]:
                path.unlink(missing_ok=True)
            _sweep(at, live)
            _forget_checkpoints(at, live, time.time() - (limits.age or CHECKPOINT_AGE))
    return Freed(len(drop), len(loose), freed, total - freed)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a build has just put it into quarantine
        return 0


def _changed(path: Path) -> float:
    try:
        return path.stat().st_ctime
    except FileNotFoundError:
        return float("inf")


def _records(store: Store, held: set[str] | frozenset[str]) -> tuple[list[_Kept], list[Path]]:
    """Return every record, held ones and then the most recently used first, and the files that hold none."""
    found, torn = [], []
    for path, key in store.records():
        record = store.record(key)
        if record is None:
            torn.append(path)
        else:
            found.append(_Kept(path, record, path.stat().st_mtime, key in held))
    return sorted(found, key=lambda r: (r.held, r.used), reverse=True), torn


def _within(records: list[_Kept], limits: Limits, now: float) -> list[_Kept]:
    """Take records, held ones first and then the most recently used, as far as the limits go."""
    keep: list[_Kept] = []
    counted: set[str] = set()
    total = 0
    for r in records:
        extra = {e.digest: e.size for e in r.record.tree.entries if e.digest not in counted}
        young = limits.age is None or now - r.used <= limits.age
        fits = limits.size is None or total + sum(extra.values()) <= limits.size
        if r.held or (young and fits):
            keep.append(r)
            counted.update(extra)
            total += sum(extra.values())
    return keep


def _sweep(at: Workspace, live: leases.Live) -> None:
    """Remove quarantined objects, locks nobody waits for, and scratch of builds that are no more."""
    shutil.rmtree(at.quarantine, ignore_errors=True)
    for left in at.tmp.iterdir() if at.tmp.is_dir() else ():
        if left.name not in live.names:
            shutil.rmtree(left, ignore_errors=True)
    if not live.names:  # a lock file removed under a waiting build would let two builds in
        shutil.rmtree(at.locks, ignore_errors=True)


def _forget_checkpoints(at: Workspace, live: leases.Live, before: float) -> None:
    for left in at.checkpoints.iterdir() if at.checkpoints.is_dir() else ():
        if left.name not in live.keys and left.stat().st_mtime < before:
            shutil.rmtree(left, ignore_errors=True)


def pins(at: Workspace) -> dict[str, str]:
    """Return pinned target -> key. Raises StoreError when the file cannot be read."""
    try:
        found = json.loads(at.pins.read_text())
        return {str(k): str(v) for k, v in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError):
        # To take it for an empty list would let go of what somebody asked to keep.
        raise StoreError(str(at.pins), "cannot be read as pins", "Delete it and pin again.") from None


def pin(at: Workspace, changes: dict[str, str | None]) -> None:
    """Pin targets to keys, or unpin them (None)."""
    now = {**pins(at), **changes}
    at.cache.mkdir(parents=True, exist_ok=True)
    temporary = at.pins.with_suffix(".new")
    temporary.write_text(json.dumps({k: v for k, v in sorted(now.items()) if v is not None}, indent=1))
    # Dying here leaves the pins as they were.
    temporary.replace(at.pins)
