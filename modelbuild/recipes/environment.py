"""An environment as a target: its lock, and nothing of this machine. Whoever needs it installs it from that."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import environments


def lock(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the lock of `params["pins"]`, or the one given in `inputs`, and install it once. Raises RecipeError."""
    environments.lock(params["kind"], params["pins"], inputs, out_dir)
    environments.ready(out_dir)
