"""What this machine remembers between builds, in `.cache/state.db`. All of it can be lost: it only saves work.

- `stat`: the digest of a file, trusted while its stamp is the same;
- `built`: for each target the key, digest and on-disk stamps of its last accepted output;
- `memo`: digest -> text, for what is a pure function of content (imports of a source file, manifests found valid).

Everything is read once at the start and written in one transaction at a time. A file that sqlite cannot read is
dropped and begun anew.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, MutableMapping
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from modelbuild.digest import RACY_NS, Stamp, of_bytes, of_file, stamp
from modelbuild.errors import StoreError

SCHEMA = """
create table if not exists stat (
  path text primary key, mtime int, ctime int, size int, inode int, digest text, sum text
) without rowid;
create table if not exists built (
  target text primary key, key text, digest text, witness text, sum text
) without rowid;
create table if not exists memo (
  kind text, digest text, value text, sum text, primary key (kind, digest)
) without rowid;
"""
FORM = 2  # raise it when a table changes: a file of another form is dropped


def _sum(values: tuple[object, ...]) -> str:
    """Check a row: sqlite finds a torn page, but not text on it that was lost or changed."""
    return of_bytes("\0".join(map(str, values)).encode())


class Built(NamedTuple):
    """The last accepted output of a target; `witness` tells an unchanged copy in `out/` (see witness.py)."""

    key: str
    digest: str
    witness: str


class Journal:
    """`state.db` in memory, with what is new kept aside until `flush`. Threads may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._pending: dict[tuple[str, ...], tuple[str, tuple[object, ...]]] = {}

    @cached_property
    def _db(self) -> sqlite3.Connection:
        try:
            return self._open()
        except (sqlite3.DatabaseError, OverflowError) as error:
            if "locked" in str(error):
                raise StoreError(
                    str(self._path), "another process has it locked", "Wait for that build."
                ) from error
            # Truncated or overwritten: everything in it can be found again.
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "Make it a folder that can be written."
            raise StoreError(str(self._path.parent), f"cannot be used: {error.strerror}", remedy) from error
        db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        try:
            form = db.execute("pragma user_version").fetchone()[0]
            if form not in (0, FORM):
                raise sqlite3.DatabaseError("of another form")
            if db.execute("select count(*) from sqlite_master").fetchone() != (3,):
                db.execute("pragma journal_mode=wal")
                db.executescript(SCHEMA)
                db.execute(f"pragma user_version={FORM}")
            elif form != FORM:
                raise sqlite3.DatabaseError("of another form")
            db.execute("pragma synchronous=normal")
            self._rows = {t: db.execute(f"select * from {t}").fetchall() for t in ("stat", "built", "memo")}  # noqa: S608
        except sqlite3.DatabaseError:
            db.close()
            raise
        return db

    def _read(self, table: str) -> list[tuple[str, ...]]:
        with self._lock:
            rows = self._rows.pop(table) if self._db else []
        return [row[:-1] for row in rows if row[-1] == _sum(row[:-1])]

    @cached_property
    def _stat(self) -> dict[str, tuple[Stamp, str]]:
        return {p: (Stamp(m, c, s, i), d) for p, m, c, s, i, d in self._read("stat")}  # type: ignore[arg-type]

    @cached_property
    def _built(self) -> dict[str, Built]:
        return {t: Built(k, d, w) for t, k, d, w in self._read("built")}

    @cached_property
    def _memos(self) -> dict[tuple[str, str], str]:
        return {(k, d): v for k, d, v in self._read("memo")}

    def _later(self, row: tuple[str, ...], sql: str, values: tuple[object, ...]) -> None:
        with self._lock:
            self._pending[row] = (sql, (*values, _sum(values)) if sql.startswith("insert") else values)

    def digest(self, path: Path) -> str:
        """Digest of a file, from memory while its stamp is unchanged. Raises FileNotFoundError."""
        name, now = str(path), stamp(path)
        known = self._stat.get(name)
        if known is not None and known[0] == now:
            return known[1]
        _let_settle(now)
        found = of_file(path)
        if stamp(path) == now:
            self._stat[name] = (now, found)
            self._later(
                ("stat", name), "insert or replace into stat values (?,?,?,?,?,?,?)", (name, *now, found)
            )
        return found

    def built(self, target: str) -> Built | None:
        return self._built.get(target)

    def remember(self, target: str, built: Built) -> None:
        """Accept `built` as the present output of `target`; call `flush` to make it last."""
        self._built[target] = built
        row = (target, built.key, built.digest, built.witness)
        self._later(("built", target), "insert or replace into built values (?,?,?,?,?)", row)

    def forget(self, target: str) -> None:
        self._built.pop(target, None)
        self._later(("built", target), "delete from built where target = ?", (target,))

    def targets(self) -> list[str]:
        return sorted(self._built)

    def memo(self, kind: str) -> Memo:
        """Return the lasting dictionary named `kind`."""
        return Memo(self, kind)

    def flush(self) -> None:
        """Write what is new in one transaction. A disk that refuses costs the memory, not the build."""
        with self._lock, contextlib.suppress(sqlite3.Error):
            if not self._pending:
                return
            self._db.execute("begin immediate")
            for sql, values in self._pending.values():
                self._db.execute(sql, values)
            self._db.execute("commit")
            self._pending.clear()

    def close(self) -> None:
        self.flush()
        with self._lock:
            if "_db" in self.__dict__:
                self._db.close()
                del self.__dict__["_db"]


class Memo(MutableMapping[str, str]):
    """A dictionary that lasts: content digest -> text."""

    def __init__(self, journal: Journal, kind: str) -> None:
        self._journal, self._kind = journal, kind

    def __getitem__(self, digest: str) -> str:
        return self._journal._memos[self._kind, digest]

    def __setitem__(self, digest: str, value: str) -> None:
        self._journal._memos[self._kind, digest] = value
        row = (self._kind, digest, value)
        self._journal._later(
            ("memo", self._kind, digest), "insert or replace into memo values (?,?,?,?)", row
        )

    def __delitem__(self, digest: str) -> None:
        del self._journal._memos[self._kind, digest]
        row = (self._kind, digest)
        self._journal._later(("memo", *row), "delete from memo where kind = ? and digest = ?", row)

    def __iter__(self) -> Iterator[str]:
        return (digest for kind, digest in self._journal._memos if kind == self._kind)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def add(self, digest: str) -> None:
        """Remember that `digest` was seen, as a set would."""
        self[digest] = ""


def _let_settle(now: Stamp) -> None:
    """Wait until a further change of the file would show in its stamp (at most 20 ms, for a file just written)."""
    young = RACY_NS - (time.time_ns() - now.ctime_ns)
    if 0 < young <= RACY_NS:
        time.sleep(young / 1e9)
