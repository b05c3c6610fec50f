"""A data set on disk: `data.safetensors` holds the arrays, `data.json` tells inputs from ground truth."""

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
OUTPUTS, HIDDEN_STATES = "outputs.safetensors", "hidden.safetensors"  # what a teacher says of a data set


@dataclass(frozen=True, slots=True)
class DataSet:
    """Arrays whose first axis is the sample axis: inputs in the order of `forward`, and ground truth.

    `truths` has "label", the truth of the first output, and "label.NAME", that of output NAME, where there are any.
    """

    inputs: Mapping[str, Array]
    truths: Mapping[str, Array]

    @property
    def label(self) -> Array | None:
        """The truth of the first output, None where there is none."""
        return self.truths.get(LABEL)

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, rows: NDArray[np.int64]) -> DataSet:
        """The samples at `rows`, in that order."""
        return DataSet(
            *({name: array[rows] for name, array in of.items()} for of in (self.inputs, self.truths))
        )


def is_truth(name: str) -> bool:
    """Whether the array of this name is ground truth, not an input."""
    return name == LABEL or name.startswith(f"{LABEL}.")


def read(folder: Path) -> DataSet:
    """Read what `write` wrote, also before there were several truths. Raises RecipeError where it is not that."""
    try:
        about = json.loads((folder / "data.json").read_text(encoding="utf-8"))
        arrays = tensors.load(folder / "data.safetensors")
        truths = about["truths"] if "truths" in about else [about["label"]] if about["label"] else []
        return DataSet(*({name: arrays[name] for name in names} for names in (about["inputs"], truths)))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise RecipeError(folder.name, f"holds no data set: {error}", "Build it again") from error


def write(folder: Path, data: DataSet) -> None:
    """Write `data` to `folder`."""
    tensors.save(folder / "data.safetensors", {**data.inputs, **data.truths})
    about = {
        "inputs": list(data.inputs),
        "truths": list(data.truths),
        "label": LABEL if LABEL in data.truths else None,
        "samples": data.samples,
    }
    write_json(folder / "data.json", about)


def write_json(path: Path, value: object) -> None:
    """Write `value` as JSON whose bytes depend on the value alone."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
