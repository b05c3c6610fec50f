"""Golden samples: a few inputs, what the reference gives for them, and how far from that a device may be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from modelbuild.tensors import Arrays

FILE = "golden.json"


class Limit(NamedTuple):
    """The largest absolute difference that an output may have, in its unit, and in words where that comes from."""

    max_abs: float
    source: str


class Golden(NamedTuple):
    """Arrays by name, samples first, and the limit of every output."""

    inputs: Arrays
    outputs: Arrays
    limits: Mapping[str, Limit]

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))


def write(folder: Path, golden: Golden, more: Mapping[str, Any]) -> None:
    """Write golden.json, with `more` in it, and beside it each array as raw little-endian bytes in C order."""
    folder.mkdir(parents=True)
    told: dict[str, Any] = {"samples": golden.samples, **more}
    for side in ("inputs", "outputs"):
        rows = []
        for number, (name, array) in enumerate(sorted(getattr(golden, side).items())):
            file = f"{side.removesuffix('s')}-{number}.bin"
            (folder / file).write_bytes(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
            row = {"name": name, "dtype": str(array.dtype), "shape": list(array.shape), "file": file}
            rows.append({**row, **_limit(golden.limits[name])} if side == "outputs" else row)
        told[side] = rows
    (folder / FILE).write_text(json.dumps(told, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _limit(limit: Limit) -> dict[str, Any]:
    return {"limit": limit.max_abs, "limit_source": limit.source}
