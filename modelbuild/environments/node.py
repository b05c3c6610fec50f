"""Node environments: locked by npm with integrity hashes and without download addresses, installed by `npm ci`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild import nodejs
from modelbuild.environments.process import failed, run
from modelbuild.errors import RecipeError

MANIFEST, LOCK = "package.json", "package-lock.json"
NAME = "modelbuild-environment"
REMEDY = "Check the versions, and that the package registry can be reached: the first time needs it."
QUIET = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel", "error")


def lock(pins: Sequence[str], given: Mapping[str, Path], out: Path) -> None:
    """Write package.json and package-lock.json: the given one, or what npm resolves now. Raises RecipeError."""
    wanted = dict(_pin(pin) for pin in pins)
    manifest = {"name": NAME, "private": True, "dependencies": wanted}
    if given:
        shutil.copyfile(given["lock"], out / LOCK)
    else:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / MANIFEST).write_text(json.dumps(manifest))
            done = _npm(Path(folder), "install", "--package-lock-only", *QUIET)
            if done.returncode != 0:
                raise failed("node", pins, "resolved", done, REMEDY)
            shutil.copyfile(Path(folder) / LOCK, out / LOCK)
    (out / MANIFEST).write_text(_written(manifest))
    (out / LOCK).write_text(_written(_checked(json.loads((out / LOCK).read_text()), wanted, pins)))


def _pin(pin: str) -> tuple[str, str]:
    name, _, version = pin.rpartition("@")
    return name, version


def _checked(found: Any, wanted: Mapping[str, str], pins: Sequence[str]) -> Any:
    """The lock without addresses, once it is a lock of `wanted` and hashes everything. Raises RecipeError."""
    packages = found.get("packages", {})
    if packages.get("", {}).get("dependencies") != wanted:
        raise RecipeError(LOCK, f"is not the lock of {', '.join(pins)}", "Lock them again.")
    found["name"] = packages[""]["name"] = NAME  # npm takes the folder's, whatever that is called
    for name, package in packages.items():
        package.pop("resolved", None)  # an address is of one registry, the hash is of the file
        if name and "integrity" not in package:
            raise RecipeError(LOCK, f"has no integrity hash for {name}", "Lock it again.")
    return found


def _written(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"


def install(pins: Sequence[str], locked: Path, place: Path) -> None:
    """Install into the new folder `place`, every file held to its hash. Raises RecipeError."""
    place.mkdir(parents=True)
    for name in (MANIFEST, LOCK):
        shutil.copyfile(locked / name, place / name)
    done = _npm(place, "ci", "--offline", *QUIET)
    if done.returncode != 0:  # something of it was never downloaded
        done = _npm(place, "ci", *QUIET)
    if done.returncode != 0:
        raise failed("node", pins, "installed", done, REMEDY)


def versions(package: str) -> list[str]:
    """The released versions of `package`, oldest first, as npm finds them. Raises RecipeError."""
    done = _npm(Path.cwd(), "view", package, "versions", "--json", *QUIET)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        found = None
    if done.returncode != 0 or not isinstance(found, list | str):
        raise failed("node", [package], "looked up", done, REMEDY)
    every = [found] if isinstance(found, str) else found  # npm writes a list of one without its brackets
    return [each for each in every if "-" not in each]  # "1.2.0-dev.3" is none


def _npm(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    found = nodejs.find()
    if found is None:
        raise RecipeError("npm", "there is no Node on this machine", nodejs.REMEDY)
    # npm is a script that looks for its Node on PATH: let that be the one it came with.
    path = os.pathsep.join([str(found.parent), os.environ.get("PATH", "")])
    return run([*nodejs.npm(found), *arguments], {**os.environ, "PATH": path}, folder)
