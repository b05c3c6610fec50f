"""Python environments: locked by `uv pip compile`, installed by `uv pip install --require-hashes`.

uv does not read pip's configuration. A team that told pip where packages come from has told it once: its indexes,
folders of wheels and certificates are handed on, unless uv has been told otherwise.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from modelbuild.environments.process import failed, run

REQUIREMENTS = "requirements.txt"
REMEDY = "Check the versions, and that the package index can be reached: the first time needs it."
TOLD = ("UV_INDEX", "UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")


def lock(pins: Sequence[str], given: Mapping[str, Path], out: Path) -> None:
    """Write requirements.txt: every package that `pins` need, with a version and hashes. Raises RecipeError."""
    asked = out / "asked.in"
    asked.write_text("".join(f"{pin}\n" for pin in pins))
    options = ("--generate-hashes", "--no-header", "--no-annotate", "--no-strip-markers", "--quiet")
    target = ("--python", sys.executable, "--output-file", str(out / REQUIREMENTS))
    done = _uv("pip", "compile", str(asked), *options, *target, *_indexes())
    asked.unlink()
    if done.returncode != 0:
        raise failed("python", pins, "resolved", done, REMEDY)


def install(pins: Sequence[str], locked: Path, place: Path) -> None:
    """Make a virtual environment in the new folder `place`. Raises RecipeError."""
    done = _uv("venv", "--quiet", "--no-project", "--python", sys.executable, str(place))
    if done.returncode == 0:
        wanted = ("--quiet", "--require-hashes", "--no-deps", "--requirements", str(locked / REQUIREMENTS))
        # Copied: through a link to uv's cache, whoever changes a file here changes what is installed from then on.
        install = (
            "pip",
            "install",
            *wanted,
            "--link-mode",
            "copy",
            "--python",
            str(place / "bin" / "python"),
            *_indexes(),
        )
        done = _uv(*install, "--offline")
        if done.returncode != 0:  # something of it was never downloaded
            done = _uv(*install)
    if done.returncode != 0:
        raise failed("python", pins, "installed", done, REMEDY)


def interpreter(place: Path) -> Path:
    """The Python of the environment in folder `place`."""
    return place / "bin" / "python"


def versions(package: str) -> list[str]:
    """The released versions of `package` that this Python can install, oldest first, as pip finds them.

    Raises RecipeError when the index cannot be asked.
    """
    done = run([sys.executable, "-m", "pip", "index", "versions", package])
    line = next((x for x in done.stdout.splitlines() if x.startswith("Available versions:")), None)
    if done.returncode != 0 or line is None:
        raise failed("python", [package], "looked up", done, REMEDY)
    return [each.strip() for each in line.partition(":")[2].split(",") if each.strip()][::-1]


def _uv(*arguments: str) -> subprocess.CompletedProcess[str]:
    from uv import find_uv_bin

    settings = _pip_settings()
    env = {"SSL_CERT_FILE": settings["cert"]} if "cert" in settings else {}
    return run([find_uv_bin(), *arguments], {**env, **os.environ, "UV_NO_PROGRESS": "1"})


@cache
def _indexes() -> tuple[str, ...]:
    """Options that tell uv where pip was told to look; as pip does, the best version of all places is taken."""
    if any(name in os.environ for name in TOLD):
        return ()
    settings = _pip_settings()
    found = list(_each(settings, "index-url", "--default-index"))
    found += _each(settings, "extra-index-url", "--index")
    found += _each(settings, "find-links", "--find-links")
    if settings.get("no-index", "").lower() in ("1", "true", "yes", "on"):
        found.append("--no-index")
    return (*found, "--index-strategy", "unsafe-best-match") if found else ()


def _each(settings: Mapping[str, str], name: str, option: str) -> Iterator[str]:
    for place in settings.get(name, "").split():
        yield from (option, place)


@cache
def _pip_settings() -> Mapping[str, str]:
    """Where pip looks for packages, by option; the environment comes after files, and wins. Empty without pip."""
    done = run([sys.executable, "-m", "pip", "config", "list"])
    if done.returncode != 0:
        return {}
    ranks = {"global": 0, "install": 1, "download": 1, ":env:": 2}
    found: list[tuple[int, str, str]] = []
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.rpartition(".")
        if section in ranks and value:
            found.append((ranks[section], option, str(ast.literal_eval(value))))
    return {option: value for _, option, value in sorted(found, key=lambda row: row[0])}
