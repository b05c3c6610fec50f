"""Digests: xxh3_128 of a file's bytes, and of a folder's sorted (path, mode, digest, size) list."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from xxhash import xxh3_128

CHUNK = 1 << 20  # bytes read at a time; larger gains nothing (tests/bench/hashing.py)
RACY_NS = 20_000_000  # a file that changed less than this ago may change again without its stamp showing it


class Stamp(NamedTuple):
    """What `stat` says of a file: the four figures that change when its bytes do."""

    mtime_ns: int
    ctime_ns: int
    size: int
    inode: int


class Entry(NamedTuple):
    """One file of a tree: `mode` is "x" for an executable, "-" for any other; `size` in bytes."""

    path: str
    mode: str
    digest: str
    size: int


class Tree(NamedTuple):
    """A folder by content: the digest of the sorted entries, and the entries."""

    digest: str
    entries: tuple[Entry, ...]

    @property
    def size(self) -> int:
        return sum(entry.size for entry in self.entries)


def stamp(path: str | Path, follow: bool = False) -> Stamp:
    """Stat `path`, following a link only on demand. Raises FileNotFoundError."""
    s = os.stat(path) if follow else os.lstat(path)  # noqa: PTH116
    return Stamp(s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino)


def of_bytes(data: bytes) -> str:
    return xxh3_128(data).hexdigest()


def of_file(path: Path) -> str:
    """Digest of the file's bytes, read once in constant memory."""
    with path.open("rb", buffering=0) as source:
        return copy(source, None)


def copy(source: BinaryIO, target: BinaryIO | None) -> str:
    """Read `source` to its end, write every byte to `target` if there is one, return the digest of what went by."""
    hasher = xxh3_128()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := source.readinto(buffer):  # type: ignore[attr-defined]  # raw files have it
        hasher.update(view[:count])
        if target is not None:
            _write_all(target, view[:count])
    return hasher.hexdigest()


def _write_all(target: BinaryIO, data: memoryview) -> None:
    # An unbuffered write may take less than it was given; a short file must never look whole.
    while data:
        data = data[target.write(data) :]


def tree(entries: Iterable[Entry]) -> Tree:
    """Make the tree of `entries`; each field is closed by NUL, which no path holds, so lists cannot be confused."""
    ordered = tuple(sorted(entries, key=lambda e: e.path))
    text = "".join(f"{e.path}\0{e.mode}\0{e.digest}\0{e.size}\0" for e in ordered)
    return Tree(of_bytes(text.encode()), ordered)


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def walk(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every regular file below `folder` as (path with slashes, place), sorted.

    Raises ValueError on links, sockets and other things that are neither file nor folder: they do not travel.
    """
    for parent, folders, files in os.walk(folder, onerror=_refuse):
        folders.sort()
        here = Path(parent)
        for name in sorted([*files, *(f for f in folders if (here / f).is_symlink())]):
            place = here / name
            if not stat.S_ISREG(place.lstat().st_mode):
                raise ValueError(f"{place.relative_to(folder)} is neither a regular file nor a folder")
            yield place.relative_to(folder).as_posix(), place


def mode(path: Path) -> str:
    return "x" if path.stat().st_mode & stat.S_IXUSR else "-"


def of_folder(folder: Path) -> Tree:
    """Digest every file below `folder`."""
    return tree(Entry(name, mode(p), of_file(p), p.stat().st_size) for name, p in walk(folder))
