"""What this machine remembers between builds, in `.cache/state.db`. All of it can be lost: it only saves work.

- `stat`: the digest of a file, trusted while its stamp is the same;
- `built`: for each target the key, digest and on-disk stamps of its last accepted output;
- `memo`: digest -> text, for what is a pure function of content (imports of a source file, manifests found valid).

Everything is read once at the start and written in one transaction at a time. A file that sqlite cannot read is
dropped and begun anew.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild.digest import RACY_NS, Stamp, of_bytes, of_file, stamp
from modelbuild.errors import StoreError

TABLES = ("stat", "built", "memo")
Rows = dict[str, list[tuple[Any, ...]]]
FORM = 2  # raise it when a table changes: a file of another form is dropped
SCHEMA = f"""
begin immediate;
create table if not exists stat (
  path text primary key, mtime int, ctime int, size int, inode int, digest text, sum text
) without rowid;
create table if not exists built (
  target text primary key, key text, digest text, witness text, sum text
) without rowid;
create table if not exists memo (
  kind text, digest text, value text, sum text, primary key (kind, digest)
) without rowid;
pragma user_version = {FORM};
commit;
"""


def _sum(values: tuple[object, ...]) -> str:
    """Check a row: sqlite finds a torn page, but not text on it that was lost or changed."""
    return of_bytes("\0".join(map(str, values)).encode())


class Built(NamedTuple):
    """The last accepted output of a target; `witness` tells an unchanged copy in `out/` (see witness.py)."""

    key: str
    digest: str
    witness: str


def _sound(rows: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    return (row[:-1] for row in rows if row[-1] == _sum(row[:-1]))


def _open(path: Path) -> tuple[sqlite3.Connection, Rows]:
    """Open the file and read all of it. Raises sqlite3.DatabaseError when it is not one of ours, or damaged."""
    db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        form = db.execute("pragma user_version").fetchone()[0]
        if form not in (0, FORM):
            raise sqlite3.DatabaseError("of another form")
        if db.execute("select count(*) from sqlite_master").fetchone() != (3,):
            db.execute("pragma journal_mode=wal")
            db.executescript(SCHEMA)
        elif form != FORM:
            raise sqlite3.DatabaseError("of another form")
        db.execute("pragma synchronous=normal")
        return db, {t: db.execute(f"select * from {t}").fetchall() for t in TABLES}  # noqa: S608
    except sqlite3.DatabaseError:
        db.close()
        raise


class Journal:
    """`state.db` in memory, with what is new kept aside until `flush`. Threads may share it."""

    def __init__(self, path: Path) -> None:
        """Read the file where there is one. Raises StoreError when another process holds it."""
        self._path = path
        self._lock = threading.RLock()
        self._pending: dict[tuple[str, ...], tuple[str, tuple[object, ...]]] = {}
        self._db: sqlite3.Connection | None = None
        rows: Rows = {table: [] for table in TABLES}
        if path.exists():
            self._db, rows = self._opened()
        self._stat: dict[str, tuple[Stamp, str]] = {
            p: (Stamp(m, c, s, i), d) for p, m, c, s, i, d in _sound(rows["stat"])
        }
        self._built = {t: Built(k, d, w) for t, k, d, w in _sound(rows["built"])}
        self._memos: dict[tuple[str, str], str] = {(k, d): v for k, d, v in _sound(rows["memo"])}

    def _opened(self) -> tuple[sqlite3.Connection, Rows]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            remedy = "Make it a folder that can be written."
            raise StoreError(str(self._path.parent), f"cannot be used: {error.strerror}", remedy) from error
        try:
            return _open(self._path)
        except (sqlite3.DatabaseError, OverflowError) as error:
            if "locked" in str(error) or "unable to open" in str(error):
                remedy = "Wait for other builds to end, or mend the permissions of .cache."
                raise StoreError(str(self._path), str(error), remedy) from error
        # Truncated or overwritten: everything in it can be found again.
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        return _open(self._path)

    def _later(self, row: tuple[str, ...], sql: str, values: tuple[object, ...]) -> None:
        with self._lock:
            self._pending[row] = (sql, (*values, _sum(values)) if sql.startswith("insert") else values)

    def digest(self, path: Path) -> str:
        """Digest of a file, from memory while its stamp is unchanged. Raises FileNotFoundError."""
        name, now = str(path), stamp(path, follow=True)
        known = self._stat.get(name)
        if known is not None and known[0] == now:
            return known[1]
        _let_settle(now)
        found = of_file(path)
        if stamp(path, follow=True) == now and _is_text(name):
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

    def memo(self, kind: str) -> "Memo":
        """Return the lasting dictionary named `kind`."""
        return Memo(self, kind)

    def flush(self) -> None:
        """Write what is new in one transaction. A disk that refuses costs the memory, not the build."""
        with self._lock:
            if not self._pending:
                return
            with contextlib.suppress(sqlite3.Error, StoreError):
                if self._db is None:
                    self._db, _ = self._opened()
                self._write(self._db)

    def _write(self, db: sqlite3.Connection) -> None:
        try:
            db.execute("begin immediate")
            for sql, values in self._pending.values():
                db.execute(sql, values)
            db.execute("commit")
            self._pending.clear()
        except sqlite3.Error:
            # Left open, the transaction would keep this process and all others from writing again.
            with contextlib.suppress(sqlite3.Error):
                db.execute("rollback")

    def close(self) -> None:
        """Write what is new, and let go of the file until there is more to write."""
        self.flush()
        with self._lock:
            if self._db is not None:
                self._db.close()
                self._db = None


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


def _is_text(name: str) -> bool:
    """Whether sqlite can keep the name; a file whose name is no Unicode is hashed each time."""
    return name.isascii() or not any("\ud800" <= c <= "\udfff" for c in name)


def _let_settle(now: Stamp) -> None:
    """Wait until a further change of the file would show in its stamp (at most 20 ms, for a file just written)."""
    young = RACY_NS - (time.time_ns() - now.ctime_ns)
    if 0 < young <= RACY_NS:
        time.sleep(young / 1e9)
