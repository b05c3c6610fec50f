"""The store: file contents by digest, and action records by key.

Write order, so that a crash at any instant leaves a store that reads right: bytes go to a temporary file in
`.cache/tmp` while they are hashed, are synced, made read-only and renamed into place; the record that names them
is written last, the same way. A record is therefore the commit point: whoever reads it finds all it names.

Read: bytes are hashed on their way out, once a process. What does not match is moved to `.cache/quarantine/` and
counts as missing; nothing is ever returned on trust in a file name.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelbuild import digest as digests
from modelbuild.digest import Entry, Stamp, Tree
from modelbuild.errors import StoreError
from modelbuild.limits import LIMITS
from modelbuild.paths import Workspace

_serial = itertools.count()

REFUSED = frozenset(  # what a disk says when the trouble is not ours
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR)
)


@dataclass(frozen=True, slots=True)
class Record:
    """What was built: `parts` are the (label, value) pairs whose digest is `key`; `seconds` is the recipe's time."""

    key: str
    target: str
    parts: tuple[tuple[str, str], ...]
    tree: Tree
    seconds: float


class LostError(Exception):
    """Contents the store should hold are missing or were damaged; whoever asked can build them again."""


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def disk_words(path: Path) -> Iterator[None]:
    """Turn a disk that is full or read-only into an error a user can act on."""
    try:
        yield
    except OSError as error:
        if error.errno in REFUSED:
            raise StoreError(
                str(path),
                f"cannot write: {error.strerror}",
                "Free space or fix permissions, or run `doit gc`.",
            ) from error
        raise


class Store:
    """Objects and records of one workspace."""

    def __init__(self, workspace: Workspace, scratch: Path) -> None:
        self._at, self._scratch = workspace, scratch
        self._verified: dict[str, Stamp] = {}

    def object(self, digest: str) -> Path:
        return self._at.objects / digest[:2] / digest[2:]

    def record_file(self, key: str) -> Path:
        return self._at.records / key[:2] / f"{key[2:]}.json"

    def temporary(self) -> Path:
        """Name a file in this session's scratch folder that nobody else uses."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch / f"t{next(_serial)}"

    def put_folder(self, folder: Path) -> Tree:
        """Take in every file of `folder`, reading each once. Raises ValueError on links and devices."""
        entries = []
        for name, path in digests.walk(folder):
            entries.append(Entry(name, digests.mode(path), self.put(path), path.stat().st_size))
        return digests.tree(entries)

    def put(self, path: Path) -> str:
        """Take in one file; return its digest."""
        temporary = self.temporary()
        with disk_words(self._at.objects):
            with path.open("rb", buffering=0) as source, temporary.open("xb", buffering=0) as target:
                digest = digests.copy(source, target)
                os.fsync(target.fileno())
            self._place(temporary, self.object(digest))
        self._verified[digest] = digests.stamp(self.object(digest))
        return digest

    def _place(self, temporary: Path, final: Path) -> None:
        temporary.chmod(0o444)
        final.parent.mkdir(parents=True, exist_ok=True)
        # Dying here leaves a temporary file that the next build sweeps, and nothing under the final name.
        os.replace(temporary, final)  # noqa: PTH105
        _sync_folder(final.parent)

    def materialise(self, tree: Tree, folder: Path) -> None:
        """Write a copy of `tree` as `folder`, which must not exist. Raises LostError when contents are not whole."""
        for entry in tree.entries:
            place = folder / entry.path
            place.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(entry, place)
        folder.mkdir(parents=True, exist_ok=True)

    def _fetch(self, entry: Entry, place: Path) -> None:
        source = self.object(entry.digest)
        try:
            if self._verified.get(entry.digest) == digests.stamp(source):
                shutil.copyfile(source, place)
            else:
                self._copy_hashing(source, place, entry.digest)
        except FileNotFoundError:
            raise LostError(f"{entry.path} ({entry.digest}) is not in the store") from None
        place.chmod(0o555 if entry.mode == "x" else 0o444)

    def _copy_hashing(self, source: Path, place: Path, digest: str) -> None:
        with (
            disk_words(place),
            source.open("rb", buffering=0) as reader,
            place.open("xb", buffering=0) as writer,
        ):
            found = digests.copy(reader, writer)
        if found != digest:
            self.quarantine(digest)
            raise LostError(
                f"object {digest} was damaged on disk; it lies in {self._at.relative(self._at.quarantine)} now"
            )
        self._verified[digest] = digests.stamp(source)

    def quarantine(self, digest: str) -> None:
        """Take an object out of use, keeping its bytes for whoever wants to know what happened to them."""
        self._at.quarantine.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            # Dying here leaves the damaged object where it was; the next read finds it damaged again.
            os.replace(self.object(digest), self._at.quarantine / digest)  # noqa: PTH105

    def has(self, tree: Tree) -> bool:
        return all(self.object(entry.digest).is_file() for entry in tree.entries)

    def commit(self, record: Record) -> None:
        """Write the action record, last of all: from here on the target counts as built."""
        body = json.dumps(_document(record), sort_keys=True, allow_nan=False)
        text = f"{digests.of_bytes(body.encode())}\n{body}\n"
        temporary = self.temporary()
        with disk_words(self._at.records):
            with temporary.open("xb") as target:
                target.write(text.encode())
                target.flush()
                os.fsync(target.fileno())
            self._place(temporary, self.record_file(record.key))

    def record(self, key: str) -> Record | None:
        """Return the record of `key`; a torn or altered one is as good as none."""
        path = self.record_file(key)
        try:
            if path.stat().st_size > LIMITS.record_bytes:
                return None
            check, _, body = path.read_text("utf-8").partition("\n")
            record = _parse(body[:-1]) if check == digests.of_bytes(body[:-1].encode()) else None
        except (OSError, ValueError, TypeError, KeyError):
            return None
        # A record under another's name (a copied cache, a disk mended wrongly) is true of something else.
        return record if record is not None and record.key == key else None

    def forget(self, key: str) -> None:
        """Drop the record of `key`: the next build of it runs its recipe."""
        self.record_file(key).unlink(missing_ok=True)

    def touch(self, key: str) -> None:
        """Note that `key` was used now; `doit gc` drops what was not used for long."""
        with contextlib.suppress(OSError):
            os.utime(self.record_file(key))

    def records(self) -> Iterator[tuple[Path, str]]:
        """Every record file with its key."""
        for path in sorted(self._at.records.glob("??/*.json")):
            yield path, path.parent.name + path.stem

    def all_objects(self) -> Iterator[tuple[Path, str]]:
        """Every object file with its digest."""
        for path in sorted(self._at.objects.glob("??/*")):
            yield path, path.parent.name + path.name


def _document(record: Record) -> dict[str, Any]:
    """JSON values of a record; an entry of the tree is [path, mode, digest, size]."""
    return {
        "key": record.key,
        "target": record.target,
        "parts": record.parts,
        "seconds": record.seconds,
        "digest": record.tree.digest,
        "entries": record.tree.entries,
    }


def _stays_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def _parse(body: str) -> Record:
    data = json.loads(body)
    tree = Tree(data["digest"], tuple(Entry(*entry) for entry in data["entries"]))
    if not all(_stays_inside(entry.path) for entry in tree.entries):
        raise ValueError("a record may only name files below its folder")
    parts = tuple((label, value) for label, value in data["parts"])
    return Record(data["key"], data["target"], parts, tree, data["seconds"])
