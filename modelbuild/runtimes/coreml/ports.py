"""What goes in and comes out of a package, in our names and in Core ML's; kept beside it as io.json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.options import NAME
from modelbuild.samples import Wanted

Array = NDArray[Any]
Axis = int | tuple[int, int]  # fixed, or from .. to
PACKAGE, FILE = "model.mlpackage", "io.json"
# Core ML has no 64-bit integers and no truth values at its borders; what is asked of it is said here.
CORE_DTYPES: Mapping[str, str] = {"float32": "float32", "int64": "int32", "int32": "int32"}


@dataclass(frozen=True, slots=True)
class Input:
    """`core_name` is Core ML's. `axes` hold for every call; where `enumerated` is not empty, only its shapes do."""

    name: str
    core_name: str
    dtype: str
    core_dtype: str
    axes: tuple[Axis, ...]
    enumerated: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Output:
    """`classes`: Core ML gives this output as a dictionary of them; they stand in our order. Empty: an array."""

    name: str
    core_name: str
    dtype: str
    classes: tuple[str | int, ...] = ()


@dataclass(frozen=True, slots=True)
class Ports:
    """`frontend` is the way the model took into Core ML, `compute_units` where it may run on a device."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    frontend: str
    compute_units: str

    def write(self, folder: Path) -> None:
        """Write io.json."""
        text = json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False)
        (folder / FILE).write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(folder: Path) -> Ports:
        """Read what `write` wrote. Raises RecipeError where it is not that."""
        try:
            about = json.loads((folder / FILE).read_text(encoding="utf-8"))
            inputs = tuple(Input(**{**each, **_shapes(each)}) for each in about["inputs"])
            outputs = tuple(
                Output(**{**each, "classes": tuple(each["classes"])}) for each in about["outputs"]
            )
            rest = {field.name: about[field.name] for field in fields(Ports)[2:]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecipeError(NAME, f"cannot read {FILE}: {error}", "Build the artefact again") from error
        return Ports(inputs, outputs, **rest)


def _shapes(port: Mapping[str, Any]) -> dict[str, Any]:
    axes = tuple(tuple(axis) if isinstance(axis, list) else axis for axis in port["axes"])
    return {"axes": axes, "enumerated": tuple(tuple(shape) for shape in port["enumerated"])}


# -- samples in, batches out


def wanted(port: Input) -> Wanted:
    """What `port` takes, whatever the number of samples."""
    return Wanted(port.name, port.dtype, list(port.enumerated or port.axes), lambda shape: _fits(port, shape))


def _fits(port: Input, shape: tuple[int, ...]) -> bool:
    if len(shape) != len(port.axes):
        return False
    if port.enumerated:
        return any(each[1:] == shape[1:] for each in port.enumerated)
    spans = ((axis, axis) if isinstance(axis, int) else axis for axis in port.axes[1:])
    return all(low <= size <= high for (low, high), size in zip(spans, shape[1:], strict=True))


def batch_sizes(ports: Sequence[Input], inputs: Mapping[str, Array]) -> list[int]:
    """How many samples a call may hold, largest first, given the inputs' other axes. Raises RecipeError."""
    allowed: set[int] | None = None
    for port in ports:
        if port.enumerated:
            rest = inputs[port.name].shape[1:]
            found = {shape[0] for shape in port.enumerated if shape[1:] == rest}
        else:
            low, high = (port.axes[0],) * 2 if isinstance(port.axes[0], int) else port.axes[0]
            found = set(range(low, high + 1))
        allowed = found if allowed is None else allowed & found
    if not allowed:
        raise RecipeError(
            NAME, "its inputs have no number of samples in common", "Give them the same first axis"
        )
    return sorted(allowed, reverse=True)


def into(port: Input, array: Array) -> Array:
    """`array` in the dtype that Core ML takes. Raises RecipeError for a value that would not survive."""
    cast = np.ascontiguousarray(array.astype(port.core_dtype))
    if port.core_dtype != port.dtype and not np.array_equal(cast.astype(port.dtype), array):
        fact = (
            f'input "{port.name}" has values that do not fit {port.core_dtype}, the widest that Core ML takes'
        )
        raise RecipeError(NAME, fact, "Give smaller numbers")
    return cast


def out_of(port: Output, value: Any) -> Array:
    """What Core ML gave for `port`, as the reference gives it. Raises RecipeError for another kind of value."""
    if port.classes:
        return _by_class(port, value)
    array = np.asarray(value)
    if str(array.dtype) == port.dtype:
        return array
    cast = array.astype(port.dtype)
    if port.dtype.startswith("float") or not np.array_equal(cast.astype(array.dtype), array):
        fact = f'output "{port.name}" comes out as {array.dtype} where the module gives {port.dtype}'
        raise RecipeError(NAME, fact, "Give the module an output that Core ML has a type for")
    return cast


def _by_class(port: Output, value: Any) -> Array:
    """[1, classes] from class -> score."""
    if not isinstance(value, Mapping) or {*value} != {*port.classes}:
        fact = f'output "{port.name}" has not exactly the classes that it was converted with'
        raise RecipeError(NAME, fact, "Build the artefact again")
    return np.array([[value[each] for each in port.classes]], dtype=port.dtype)
