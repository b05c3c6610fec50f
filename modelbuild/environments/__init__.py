"""Isolated environments: a lock that is a target, and the folder that is installed from it on this machine.

A lock holds a hash of every file that is installed, so the folder is a cache: it lies in `.cache/environments` under
the digest of its lock, is made when it is missing, and made again when a file of it is no longer what was installed.
The installers are uv and npm: they keep what they downloaded, so that only the first time needs the network.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from modelbuild import digest
from modelbuild.environments import node, python
from modelbuild.paths import Workspace

ABOUT, INSTALLED = "environment.json", "installed.json"
INSTALLERS: Mapping[str, Any] = {"python": python, "node": node}


def lock(kind: str, pins: Sequence[str], given: Mapping[str, Path], out: Path) -> None:
    """Write into folder `out` the lock of `pins`, resolved now, or the one whose files are `given` by role.

    Raises RecipeError when the pins cannot be had together, or the given lock is not theirs.
    """
    INSTALLERS[kind].lock(pins, given, out)
    about = {"kind": kind, "pins": list(pins)}
    if kind == "python":  # another Python has other files
        about["python"] = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (out / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")


def ready(locked: Path) -> Path:
    """The folder that the lock in folder `locked` is installed in, installing it where need be.

    Raises RecipeError when it cannot be installed.
    """
    about = json.loads((locked / ABOUT).read_text())
    place = Workspace(Path.cwd()).environments / digest.of_folder(locked).digest
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not _whole(place):
            shutil.rmtree(place, ignore_errors=True)
            INSTALLERS[about["kind"]].install(about["pins"], locked, place)
            # Written last: a folder without it is one that was not finished.
            (place / INSTALLED).write_text(json.dumps([[*row] for row in _files(place)]))
        os.utime(place)  # `doit gc` lets go of what was not used for long
    return place


def _whole(place: Path) -> bool:
    """Whether everything that was installed is there, by name, size and time of change."""
    try:
        installed = json.loads((place / INSTALLED).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(installed == [[*row] for row in _files(place)])


def _files(place: Path) -> Iterator[tuple[str, int, int]]:
    """Path, size and mtime_ns of every file, in a stable order; what Python compiles comes and goes: left out.

    Links are followed: the interpreter lies elsewhere, and an environment without it is none.
    """
    for folder, folders, names in os.walk(place):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for name in sorted(names):
            if name != INSTALLED:
                path = Path(folder, name)
                s = path.stat() if path.exists() else path.lstat()
                yield str(path.relative_to(place)), s.st_size, s.st_mtime_ns


def remove_unused(at: Workspace, older_than: float) -> int:
    """Remove environments last used before that moment (seconds since the epoch); return how many."""
    gone = 0
    for place in at.environments.iterdir() if at.environments.is_dir() else ():
        if not place.is_dir():
            continue
        with FileLock(f"{place}.lock"):  # asked inside: a build may be about to use it
            if place.is_dir() and place.stat().st_mtime < older_than:
                shutil.rmtree(place, ignore_errors=True)
                gone += 1
    return gone
