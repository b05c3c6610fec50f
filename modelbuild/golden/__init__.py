"""Golden samples: a few inputs, what the reference gives for them, how far from that a device may be, and checkers.

The checkers beside this file travel with the samples, for the tests of an app: check.py (Python with NumPy) and
check.mjs (Node; compare.mjs is what it shares with a page) need nothing else of this project.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from modelbuild.tensors import Arrays

FILE = "golden.json"
CHECKERS = ("check.py", "check.mjs", "compare.mjs")
NOTHING: Mapping[str, Mapping[str, Any]] = MappingProxyType({})


class Limit(NamedTuple):
    """The largest absolute difference that an output may have, in its unit, and in words where that comes from."""

    max_abs: float
    source: str


class Golden(NamedTuple):
    """Arrays by name, samples first, and the limit of every output.

    `ports`: what else is to be said of an input or output by its name, as JSON values: "core_name", "core_dtype" and
    "classes" of Core ML, "lengths" (the output with each sample's true length).
    """

    inputs: Arrays
    outputs: Arrays
    limits: Mapping[str, Limit]
    ports: Mapping[str, Mapping[str, Any]] = NOTHING

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))


def checkers() -> dict[str, str]:
    """The checkers' files by role, for the key of what carries them."""
    return {f"golden-{name}": str(Path(__file__).with_name(name)) for name in CHECKERS}


def write(folder: Path, golden: Golden, more: Mapping[str, Any]) -> None:
    """Write golden.json, with `more` in it, each array as raw little-endian bytes in C order, and the checkers."""
    folder.mkdir(parents=True, exist_ok=True)
    told: dict[str, Any] = {"samples": golden.samples, **more}
    for side in ("inputs", "outputs"):
        rows = []
        for number, (name, array) in enumerate(sorted(getattr(golden, side).items())):
            file = f"{side.removesuffix('s')}-{number}.bin"
            (folder / file).write_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            row = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "file": file}
            row.update(golden.ports.get(name, {}))
            rows.append({**row, **_limit(golden.limits[name])} if side == "outputs" else row)
        told[side] = rows
    (folder / FILE).write_text(json.dumps(told, indent=1, sort_keys=True, allow_nan=False) + "\n")
    for name in CHECKERS:
        shutil.copyfile(Path(__file__).with_name(name), folder / name)


def _limit(limit: Limit) -> dict[str, Any]:
    return {"limit": limit.max_abs, "limit_source": limit.source}
