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
    wrong = _spelling(named, below)
    return Refusal(*wrong) if wrong else _on_disk(root, named, below)


def _spelling(named: str, below: str) -> tuple[str, str] | None:
    shown, start = quote(named), f"{below}/" if below else "the project's root folder"
    remedy = f"Write it relative to {start}, with forward slashes."
    if not named or not named.isprintable():
        return f"{shown} is not a path", remedy
    if named.startswith(("/", "~")) or _DRIVE.match(named):
        return f"{shown} is an absolute path, which another machine does not have", remedy
    if "\\" in named:
        return f"{shown} holds a backslash", remedy
    if ".." in named.split("/"):
        return f'{shown} leaves its folder with ".."', remedy
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
