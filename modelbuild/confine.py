"""A path that a manifest names, held inside the project: relative, without `..`, led out by no link."""

import os
import re
import stat
from pathlib import Path
from typing import NamedTuple

from modelbuild.wording import closest, quote

_DRIVE = re.compile(r"[A-Za-z]:")


class Refusal(NamedTuple):
    """Why a path is not taken, and what to write instead."""

    fact: str
    remedy: str


def refusal(root: Path, named: str, below: str = "") -> Refusal | None:
    """Say why `named` is not a regular file below `root/below`, or return None when it is one.

    Costs one `lstat` a folder on the way; links are resolved only where there are any.
    """
    start = f"{below}/" if below else "the project's root folder"
    refused = spelling(named, f"Write it relative to {start}, with forward slashes.")
    return refused or _on_disk(root, named, below)


def spelling(path: str, remedy: str, named: str = "") -> Refusal | None:
    """Say why `path`, written as `named` where that is more, cannot be held inside any folder, or return None."""
    shown = quote(named or path)
    if not path or not path.isprintable():
        return Refusal(f"{shown} is not a path", remedy)
    if path.startswith(("/", "~")) or _DRIVE.match(path):
        return Refusal(f"{shown} is an absolute path, which another machine does not have", remedy)
    if "\\" in path:
        return Refusal(f"{shown} holds a backslash", remedy)
    if ".." in path.split("/"):
        return Refusal(f'{shown} leaves its folder with ".."', remedy)
    return None


def _on_disk(root: Path, named: str, below: str) -> Refusal | None:
    where, linked, mode = str(root), False, 0
    for part in (f"{below}/{named}" if below else named).split("/"):
        where = f"{where}/{part}"
        try:
            mode = os.lstat(where).st_mode
            if stat.S_ISLNK(mode):
                linked, mode = True, Path(where).stat().st_mode
        except OSError:
            return Refusal(f"there is no file {quote(named)}", _neighbour(where))
    if linked and not Path(where).resolve().is_relative_to(root.resolve()):
        return Refusal(f"{quote(named)} is a link that leaves the project", "Copy the file into the project.")
    if not stat.S_ISREG(mode):
        return Refusal(f"{quote(named)} is not a regular file", "Name a file.")
    return None


def _neighbour(missing: str) -> str:
    path = Path(missing)
    try:
        return closest(path.name, [entry.name for entry in path.parent.iterdir()])
    except OSError:
        return ""
