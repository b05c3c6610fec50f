"""A bundle: an artefact with all that its device needs to run it, and golden samples to check it there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import environments
from modelbuild.errors import RecipeError
from modelbuild.recipes import golden
from modelbuild.runtimes import base


def bundle(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write what `params["runtime"]` makes a bundle of. Raises RecipeError."""
    runtime = base.find(params["runtime"])
    if not isinstance(runtime, base.Bundling):
        raise RecipeError(runtime.name, "makes no bundles", "")
    told = {**params, "environment": str(environments.ready(inputs["environment"]))}
    runtime.bundle(inputs["artifact"], out_dir, golden.made(inputs, params), told)
