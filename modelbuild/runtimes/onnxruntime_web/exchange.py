"""A model's inputs as the files of a job, and its outputs out of what a host answers: little-endian bytes both ways.

Arrays never become numbers of another language on the way, so NaNs keep their bits and zeros their sign.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild import samples
from modelbuild.errors import RecipeError
from modelbuild.samples import Port
from modelbuild.tensors import Arrays

PLACE = "onnxruntime-web"
INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
DTYPES = ("float16", "float32", "float64", "bool", *INTEGERS)


class Ports(NamedTuple):
    """All of a model's, in its order."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @classmethod
    def read(cls, file: Path) -> Ports:
        """What io.json says. Raises RecipeError for a port that JavaScript has no array for."""
        said = json.loads(file.read_bytes())
        return cls(*(tuple(map(_port, said[side])) for side in cls._fields))


def _port(said: Mapping[str, Any]) -> Port:
    port = Port(said["name"], said["dtype"], tuple(said["shape"]))
    if port.dtype not in DTYPES:
        fact = f'"{port.name}" is a {port.dtype} tensor, which JavaScript has no array for'
        raise RecipeError(PLACE, fact, f"Export inputs and outputs as one of {', '.join(DTYPES)}")
    return port


class Call(NamedTuple):
    """One run of the session: it is fed `fed` samples, and of each output the first `kept` count."""

    start: int
    fed: int
    kept: int


def calls(ports: Ports, inputs: Arrays, batch: int | None) -> tuple[Call, ...]:
    """The runs that answer every sample; a model of a fixed batch is always fed a full one.

    Raises RecipeError for inputs that the model does not take, and for a batch that it does not.
    """
    count = samples.counted(PLACE, [samples.wanted(port) for port in ports.inputs], inputs)
    size, fixed = samples.batch_of(PLACE, ports.inputs, batch)
    kept = [(start, min(size, count - start)) for start in range(0, count, size)]
    return tuple(Call(start, size if fixed else some, some) for start, some in kept)


def files(
    takes: Sequence[Port],
    gives: Sequence[str],
    inputs: Arrays,
    runs: Sequence[Call],
    settings: Mapping[str, Any],
) -> dict[str, bytes]:
    """The files of a job by name, as answer.mjs reads them: job.json, and the samples of one input in each other.

    `takes` are the ports of the inputs, `gives` the names of the outputs that are asked for.
    """
    told, found = [], {}
    for number, port in enumerate(takes):
        name = f"input-{number}"
        array = {port.name: inputs[port.name]}
        found[name] = b"".join(_bytes(samples.batch(array, run.start, run.fed)[port.name]) for run in runs)
        row = inputs[port.name].shape[1:]
        told.append({"name": port.name, "dtype": port.dtype, "row": row, "file": name})
    job = {
        **settings,
        "batches": [run.fed for run in runs],
        "inputs": told,
        "outputs": list(gives),
    }
    return {**found, "job.json": json.dumps(job, allow_nan=False).encode()}


def _bytes(array: NDArray[np.generic]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def outputs(ports: Ports, runs: Sequence[Call], told: Sequence[Sequence[Any]], data: bytes) -> Arrays:
    """Every output of every sample; `told` is the name, dtype and shape of what each run gave, `data` its bytes.

    Raises RecipeError when that is not what the model promises.
    """
    parts: dict[str, list[NDArray[np.generic]]] = {port.name: [] for port in ports.outputs}
    arrays = _arrays([each for call in told for each in call], data)
    for run, call in zip(runs, told, strict=True):
        for port, _ in zip(ports.outputs, call, strict=True):
            value = samples.rows_of(PLACE, port.name, _checked(port, *next(arrays)), run.fed)
            parts[port.name].append(value[: run.kept])
    return {name: np.concatenate(part) for name, part in parts.items()}


def values(names: Sequence[str], told: Sequence[Mapping[str, Any]], data: bytes) -> Arrays:
    """The values `names` of one run, as they are; `told` and `data` as for `outputs`, of this run.

    Raises RecipeError for one that is no tensor of numbers.
    """
    for each in told:
        if each["dtype"] not in DTYPES:
            raise RecipeError(PLACE, f'"{each["name"]}" is a {each["dtype"]} tensor, which is not compared')
    found = dict(_arrays(told, data))
    return {name: found[name] for name in names}


def _arrays(told: Sequence[Mapping[str, Any]], data: bytes) -> Iterator[tuple[str, NDArray[np.generic]]]:
    sizes = [math.prod(each["shape"]) * np.dtype(each["dtype"]).itemsize for each in told]
    if sum(sizes) != len(data):
        fact = f"the answer has {len(data)} bytes where its shapes say {sum(sizes)}"
        raise RecipeError(PLACE, fact, "Build again; it was cut off on its way")
    start = 0
    for each, size in zip(told, sizes, strict=True):
        kind = np.dtype(each["dtype"])
        array = np.frombuffer(data, kind.newbyteorder("<"), size // kind.itemsize, start)
        yield each["name"], array.astype(kind, copy=False).reshape(each["shape"])
        start += size


def _checked(port: Port, name: str, array: NDArray[np.generic]) -> NDArray[np.generic]:
    if (name, str(array.dtype)) != (port.name, port.dtype):
        fact = f'output "{port.name}" came as "{name}", {array.dtype} where the model gives {port.dtype}'
        raise RecipeError(PLACE, fact, "Convert the model again")
    return array
