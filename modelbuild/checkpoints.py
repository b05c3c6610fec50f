"""Where a training that was killed finds its state again.

The build gives the process of a job a folder that outlives it, keyed by the work it does; a recipe that takes long
keeps checkpoints there. Anywhere else there is no folder, and no checkpoint is written.
"""

from __future__ import annotations

from pathlib import Path

_folder: Path | None = None


def set_folder(folder: Path | None) -> None:
    """Let the recipe that runs in this process keep its checkpoints in `folder`, which need not exist yet."""
    global _folder
    _folder = folder


def folder() -> Path | None:
    """The folder for checkpoints of the work that runs in this process; None where there is none."""
    return _folder
