"""Data sets: what a loader returns, checked; and a seeded sample of another data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild import callables, dataset
from modelbuild.dataset import LABEL, Array, DataSet
from modelbuild.errors import RecipeError

# What safetensors stores and torch computes with, in the machine's own byte order.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip


def load(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Call the loader and write what it returns: a mapping of names to arrays of one sample count.

    The name "label" is the ground truth; every other array is an input, in the loader's order.
    Raises RecipeError when the arrays are not a data set (see `checked`).
    """
    arrays = callables.call(params["loader"], params.get("args", {}))
    dataset.write(out_dir, checked(arrays, params["loader"]))


def sample(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write `count` samples of the data set `data`, drawn without replacement, in their original order.

    Raises RecipeError when `count` is not between 1 and the number of samples there are.
    """
    data, count = dataset.read(inputs["data"]), params["count"]
    if not 1 <= count <= data.samples:
        fact = f"count is {count}, and the data set it samples has {data.samples} samples"
        raise RecipeError("sample", fact, f"Ask for 1 to {data.samples}.")
    rows = np.random.default_rng(params["seed"]).permutation(data.samples)[:count]
    dataset.write(out_dir, data.take(np.sort(rows)))


def checked(arrays: object, place: str) -> DataSet:
    """`arrays` as a data set.

    Raises RecipeError, with `place` in front, for anything but a mapping of names to arrays; no input;
    no sample; unequal sample counts; an object or text array; NaN or infinity.
    """
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        found = type(arrays).__name__
        raise RecipeError(place, f"returned {found}, not a dict of names to arrays")
    named = {name: _array(name, values, place) for name, values in arrays.items()}
    label = named.pop(LABEL, None)
    if not named:
        raise RecipeError(place, "returned no input array", f'Every array but "{LABEL}" is an input.')
    _check_counts({**named, **({} if label is None else {LABEL: label})}, place)
    return DataSet(named, label)


def _array(name: str, values: object, place: str) -> Array:
    array = np.asarray(values)
    if array.dtype.name not in DTYPES:
        fact = f'"{name}" has dtype {array.dtype}, which holds no numbers'
        raise RecipeError(place, fact, f"Use one of {', '.join(DTYPES)}.")
    if array.ndim == 0:
        raise RecipeError(place, f'"{name}" is a single number', "The first axis must be the sample axis.")
    _check_finite(name, array, place)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _check_finite(name: str, array: Array, place: str) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
    if bad.any():
        fact = (
            f'"{name}" has NaN or infinity in {int(bad.sum())} samples, first in sample {int(bad.argmax())}'
        )
        raise RecipeError(place, fact, "Clean or drop them in the loader.")


def _check_counts(arrays: Mapping[str, Array], place: str) -> None:
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise RecipeError(place, f"the arrays differ in their number of samples: {listed}")
    if not all(counts.values()):
        raise RecipeError(place, "the data set is empty: no samples")
    empty = [name for name, array in arrays.items() if array.size == 0]
    if empty:
        raise RecipeError(place, f'"{empty[0]}" is empty: shape {list(arrays[empty[0]].shape)}')
