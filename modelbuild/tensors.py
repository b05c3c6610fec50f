"""Named arrays on disk: safetensors, whose bytes depend on names and values alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Arrays = Mapping[str, NDArray[np.generic]]


def save(path: Path, arrays: Arrays) -> None:
    """Write `arrays` to `path`, each made contiguous first (safetensors stores memory order)."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))


def load(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read what `save` wrote: name -> array."""
    return dict(load_file(str(path)))
