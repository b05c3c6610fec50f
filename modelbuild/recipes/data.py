"""Data sets: what a loader returns, checked; a seeded sample of another data set, and its augmented versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild import callables, dataset, progress
from modelbuild.dataset import LABEL, Array, DataSet
from modelbuild.errors import RecipeError

Arrays = Mapping[str, Array]

# What safetensors stores and torch computes with, in the machine's own byte order.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64",
)  # fmt: skip


def load(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Call the loader and write what it returns: a mapping of names to arrays of one sample count.

    The loader gets "args", and as ROLE the path of each role in "files". "label" is the truth of the first output,
    "label.NAME" that of output NAME; every other array is an input, in the loader's order. Raises RecipeError when
    the arrays are not a data set (see `checked`).
    """
    loader, args = params["loader"], params.get("args", {})
    files = {role: inputs[role] for role in params.get("files", ())}
    for role in files:
        if role in args:
            fact = f'"{role}" is in "args" and in "files"'
            raise RecipeError(loader, fact, "Rename one: both are arguments of the loader.")
    dataset.write(out_dir, checked(callables.call(loader, {**args, **files}), loader))


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


def augment(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write `copies` augmented versions of the data set `data`, one after another.

    "by" is called once a version as `fn(arrays, rng, **args)`: inputs and ground truth by name, and a random
    generator seeded by `seed` and the number of the version. It returns the same inputs, sample by sample, and what
    ground truth still holds. Raises RecipeError when it does not (see also `checked`).
    """
    source, versions = dataset.read(inputs["data"]), list[DataSet]()
    for number in range(params["copies"]):
        found = _version(source, params, number)
        _check_alike(params["by"], "the data set", source.inputs, found.inputs)
        _check_alike(params["by"], "the first version", (versions or [found])[0].truths, found.truths)
        versions.append(found)
        progress.step(number + 1, params["copies"])
    truths = _joined(versions[0].truths, [each.truths for each in versions])
    dataset.write(out_dir, DataSet(_joined(source.inputs, [each.inputs for each in versions]), truths))


def _joined(names: Iterable[str], parts: Sequence[Arrays]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _version(source: DataSet, params: Mapping[str, Any], number: int) -> DataSet:
    # Copies: one that changes its arrays in place would hand them on changed to the next version.
    arrays = {name: array.copy() for name, array in {**source.inputs, **source.truths}.items()}
    rng = np.random.default_rng((params["seed"], number))
    return checked(callables.call(params["by"], params.get("args", {}), arrays, rng), params["by"])


def _check_alike(place: str, other: str, wanted: Arrays, given: Arrays) -> None:
    if wanted.keys() != given.keys():
        fact = (
            f"returned {', '.join(given) or 'no ground truth'}, and {other} has {', '.join(wanted) or 'none'}"
        )
        raise RecipeError(place, fact, "Return the arrays under the names they came with.")
    for name, array in wanted.items():
        before, after = (f"{each.dtype} {list(each.shape)}" for each in (array, given[name]))
        if before != after:
            fact = f'returned "{name}" as {after}, and in {other} it is {before}'
            raise RecipeError(place, fact, "Keep dtype, shape and the number of samples.")


def checked(arrays: object, place: str) -> DataSet:
    """`arrays` as a data set.

    Raises RecipeError, with `place` in front, for anything but a mapping of names to arrays; no input;
    no sample; unequal sample counts; an object or text array; NaN or infinity.
    """
    if not isinstance(arrays, Mapping) or not all(isinstance(name, str) for name in arrays):
        found = type(arrays).__name__
        raise RecipeError(place, f"returned {found}, not a dict of names to arrays")
    named = {name: _array(name, values, place) for name, values in arrays.items()}
    truths = {name: named.pop(name) for name in [*named] if dataset.is_truth(name)}
    if f"{LABEL}." in truths:
        raise RecipeError(place, f'"{LABEL}." names no output', f'Write "{LABEL}.NAME", or "{LABEL}".')
    if not named:
        remedy = f'Every array but "{LABEL}" and "{LABEL}.NAME" is an input.'
        raise RecipeError(place, "returned no input array", remedy)
    _check_counts({**named, **truths}, place)
    return DataSet(named, truths)


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
        raise RecipeError(place, fact, "Clean or drop them.")


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
