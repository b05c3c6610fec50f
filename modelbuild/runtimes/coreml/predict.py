"""Core ML itself, on macOS. Not run where this was written, which has no Mac: the contract tests run it on one."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.options import NAME
from modelbuild.runtimes.coreml.ports import Array, Ports


def version() -> str:
    """The macOS release, which is the version of Core ML."""
    return f"macOS {platform.mac_ver()[0]}"


def caller(package: Path, about: Ports) -> Callable[[Mapping[str, Array]], Mapping[str, Any]]:
    """A function from Core ML's input arrays by name to its outputs by name, on the package's compute units.

    Raises RecipeError when Core ML does not load the package; the function does when a prediction fails.
    """
    import coremltools as ct

    units = getattr(ct.ComputeUnit, _unit(about.compute_units))
    try:
        model = ct.models.MLModel(str(package), compute_units=units)
    except Exception as error:
        raise RecipeError(NAME, f"Core ML does not load the package: {error}", "") from error

    def call(feed: Mapping[str, Array]) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = model.predict(dict(feed))
        except Exception as error:
            raise RecipeError(NAME, f"Core ML stopped: {error}", "") from error
        return found

    return call


def _unit(name: str) -> str:
    """Coremltools' name of a compute unit: ALL, CPU_ONLY, CPU_AND_GPU, CPU_AND_NE."""
    return name.upper().replace("NEURAL_ENGINE", "NE")
