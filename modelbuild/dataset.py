"""A data set on disk: `data.safetensors` holds the arrays, `data.json` tells inputs from label."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from modelbuild import tensors
from modelbuild.errors import RecipeError

Array = NDArray[Any]
LABEL = "label"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Arrays whose first axis is the sample axis: inputs in the order of `forward`, and ground truth."""

    inputs: Mapping[str, Array]
    label: Array | None

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, rows: NDArray[np.int64]) -> DataSet:
        """The samples at `rows`, in that order."""
        inputs = {name: array[rows] for name, array in self.inputs.items()}
        return DataSet(inputs, None if self.label is None else self.label[rows])


def read(folder: Path) -> DataSet:
    """Read what `write` wrote. Raises RecipeError where it is not that."""
    try:
        about = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        arrays = tensors.load(folder / "data.safetensors")
        label = about["label"]
        return DataSet({name: arrays[name] for name in about["inputs"]}, arrays[label] if label else None)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RecipeError(folder.name, f"holds no data set: {error}", "Build it again") from error


def write(folder: Path, data: DataSet) -> None:
    """Write `data` to `folder`."""
    label = {} if data.label is None else {LABEL: data.label}
    tensors.save(folder / "data.safetensors", {**data.inputs, **label})
    about = {"inputs": list(data.inputs), "label": LABEL if label else None, "samples": data.samples}
    write_json(folder / "data.json", about)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON whose bytes depend on the value alone."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
