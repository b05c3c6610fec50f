"""Tells whether a folder still holds what was put there, by `stat` alone where that is enough.

A witness is the JSON of [taken_at_ns, [[path, *stamp, digest], ...]] over every file and folder of a copy. An entry
is believed while its stamp is the same, unless it was younger than 20 ms when the witness was taken: such a file may
have changed again within one tick of the clock, so it is hashed once more and the witness taken anew.
"""

import json
import os
import stat
import time
from pathlib import Path
from typing import NamedTuple

from modelbuild.digest import RACY_NS, Tree, mode, of_file, stamp, walk


class Finding(NamedTuple):
    """What `check` found: `changed` in words, or "" when all is as it was; `renewed` is a better witness, or ""."""

    changed: str = ""
    renewed: str = ""


def take(folder: Path, tree: Tree) -> str:
    """Witness that `folder` holds exactly `tree` now."""
    rows = [[e.path, *stamp(folder / e.path), e.mode + e.digest] for e in tree.entries]
    parents = {parent for e in tree.entries for parent in Path(e.path).parents} | {Path()}
    rows += [[f"{p.as_posix()}/", *stamp(folder / p), ""] for p in sorted(parents)]
    return json.dumps([time.time_ns(), rows], separators=(",", ":"))


def check(folder: str | Path, witness: str) -> Finding:
    """Compare `folder` with its witness, reading only files whose stamps leave a doubt."""
    taken, rows = json.loads(witness)
    base, settled, doubtful = f"{folder}/", taken - RACY_NS, []
    for row in rows:
        try:
            s = os.lstat(base + row[0])
        except OSError:
            return Finding(f"{row[0].rstrip('/.') or 'output'} is missing")
        same = (
            s.st_mtime_ns == row[1] and s.st_ctime_ns == row[2] and s.st_size == row[3] and s.st_ino == row[4]
        )
        if not same or s.st_ctime_ns > settled:
            doubtful.append(row)
    try:
        return _look_closer(Path(folder), rows, doubtful) if doubtful else Finding()
    except OSError as error:  # another build is putting its copy there, or it may not be read
        return Finding(f"{Path(folder).name} cannot be read: {error.strerror}")


def _look_closer(folder: Path, rows: list[list[str]], doubtful: list[list[str]]) -> Finding:
    for row in doubtful:
        path, digest = row[0], row[-1]
        if digest and _changed(folder / path, digest):
            return Finding(f"{path} was changed on disk")
    known = {row[0] for row in rows if row[-1]}
    try:
        extra = [name for name, _ in walk(folder) if name not in known]
    except ValueError as error:
        return Finding(str(error))
    if extra:
        return Finding(f"{extra[0]} was added on disk")
    fresh = [[row[0], *stamp(folder / row[0]), row[-1]] for row in rows]
    return Finding(renewed=json.dumps([time.time_ns(), fresh], separators=(",", ":")))


def files(witness: str) -> list[tuple[str, str, int]]:
    """List (path, digest, size in bytes) of the files a witness tells of."""
    return [(row[0], row[-1][1:], row[3]) for row in json.loads(witness)[1] if row[-1]]


def _changed(path: Path, said: str) -> bool:
    return not stat.S_ISREG(path.lstat().st_mode) or mode(path) + of_file(path) != said
