"""Named arrays on disk: safetensors, whose bytes depend on names and values alone.

Arrays that need not fit in memory are read through `Source`, a range of values at a time.
"""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

Array = NDArray[Any]
Arrays = Mapping[str, NDArray[np.generic]]
DTYPES = {
    "F16": "<f2", "F32": "<f4", "F64": "<f8", "BOOL": "?",
    "I8": "<i1", "I16": "<i2", "I32": "<i4", "I64": "<i8",
    "U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8",
}  # fmt: skip
LONGEST_HEADER = 100_000_000  # bytes; the format's own limit


class Source(Protocol):
    """An array that is read piece by piece."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, start: int, stop: int) -> Array:
        """Values `start` to `stop` of all in order, as one axis; good until the next `read` of this source."""


class Held:
    """The source of an array in memory."""

    def __init__(self, array: Array) -> None:
        self.shape: tuple[int, ...] = array.shape
        self.dtype: np.dtype[Any] = array.dtype
        self._values = np.ascontiguousarray(array).reshape(-1)

    def read(self, start: int, stop: int) -> Array:
        return self._values[start:stop]


def held(arrays: Mapping[str, Array | Source]) -> dict[str, Source]:
    """Each of `arrays` as a source; what is one already stays as it is."""
    return {name: Held(each) if isinstance(each, np.ndarray) else each for name, each in arrays.items()}


def save(path: Path, arrays: Arrays) -> None:
    """Write `arrays` to `path`, each made contiguous first (safetensors stores memory order)."""
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, str(path))


def load(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read what `save` wrote: name -> array."""
    return dict(load_file(str(path)))


def opened(path: Path) -> Mapping[str, Source]:
    """What `save` wrote, open for reading in pieces; the file is closed when nobody holds it any more.

    The file is read, not mapped: mapped pages would count as this process's memory. Raises OSError where it cannot
    be read, ValueError where it is not safetensors, holds a dtype that NumPy does not know, or is cut short.
    """
    return _Opened(path)


class _Opened(Mapping[str, Source]):
    def __init__(self, path: Path) -> None:
        self.path, self.file = path, os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self.file)
        begin, header = _header(path, self.file)
        self._sources = {
            name: _Stored(self, name, begin, about)
            for name, about in header.items()
            if name != "__metadata__"
        }

    def __getitem__(self, name: str) -> Source:
        return self._sources[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def _header(path: Path, file: int) -> tuple[int, dict[str, Any]]:
    """Where the values begin, and the description of each array."""
    size = int.from_bytes(os.pread(file, 8, 0), "little")
    if not 2 <= size <= min(LONGEST_HEADER, os.fstat(file).st_size - 8):
        raise ValueError(f"{path.name} is no safetensors file: its header cannot have {size} bytes")
    header = json.loads(os.pread(file, size, 8))
    if not isinstance(header, dict):
        raise ValueError(f"{path.name} is no safetensors file: its header is no JSON object")
    return 8 + size, header


class _Stored:
    """One array of a file, read into a buffer of its own that is used again and again."""

    def __init__(self, owner: _Opened, name: str, begin: int, about: Mapping[str, Any]) -> None:
        self._owner, self._name = owner, name
        if about["dtype"] not in DTYPES:
            raise ValueError(
                f'{owner.path.name} holds "{name}" as {about["dtype"]}, which NumPy does not know'
            )
        self.dtype: np.dtype[Any] = np.dtype(DTYPES[about["dtype"]])
        self.shape: tuple[int, ...] = tuple(about["shape"])
        first, last = about["data_offsets"]
        self._begin, self._values = begin + first, math.prod(self.shape)
        if last - first != self._values * self.dtype.itemsize:
            raise ValueError(f'{owner.path.name} says two things of the size of "{name}"')
        if begin + last > os.fstat(owner.file).st_size:
            raise ValueError(f'{owner.path.name} is cut short: it ends before "{name}" does')
        self._buffer = np.empty(0, self.dtype)

    def read(self, start: int, stop: int) -> Array:
        stop = min(stop, self._values)
        if stop - start > len(self._buffer):
            self._buffer = np.empty(stop - start, self.dtype)
        found = self._buffer[: max(0, stop - start)]
        self._fill(found.view(np.uint8).data, self._begin + start * self.dtype.itemsize)
        return found

    def _fill(self, left: memoryview, offset: int) -> None:
        while left:
            count = os.preadv(self._owner.file, [left], offset)
            if count == 0:
                raise ValueError(f'{self._owner.path.name} ends before "{self._name}" does')
            left, offset = left[count:], offset + count
