"""Runs an installer and words its failure."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelbuild.errors import RecipeError

PATIENCE = 900  # seconds that an installer may take: a slow line, large packages


def run(
    command: Sequence[str], env: Mapping[str, str] | None = None, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run to the end and keep what it says; one that does not start or end is one that failed."""
    try:
        return subprocess.run(
            command,
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"nothing came of it in {PATIENCE} seconds")
    except OSError as error:
        return subprocess.CompletedProcess(command, 1, "", f"{command[0]} cannot be run: {error.strerror}")


def failed(
    kind: str, pins: Sequence[str], doing: str, done: subprocess.CompletedProcess[str], remedy: str
) -> RecipeError:
    """The error for an installer that failed: its last lines say why."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    said = " ".join(lines[-8:])[-600:].rstrip(".") or "it said nothing"
    return RecipeError(f"the {kind} environment of {', '.join(pins)}", f"cannot be {doing}: {said}", remedy)
