"""Values written into a program or its weight file, as torch tensors (numbers) or Python strings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml import program
from modelbuild.runtimes.coreml.mlpackage import Package
from modelbuild.runtimes.coreml.program import TensorType

# What holds a value of each dtype. Numbers of less than a byte lie one a byte, in the range of their own type.
HELD_AS: Mapping[str, torch.dtype] = {
    "bool": torch.bool,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "int4": torch.int8,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    **dict.fromkeys(("uint1", "uint2", "uint3", "uint4", "uint6", "uint8"), torch.uint8),
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
}
BITS: Mapping[str, int] = {"uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6, "int4": 4}
_NUMPY = {torch.bool: np.bool_, torch.uint8: np.uint8, torch.int8: np.int8, torch.uint16: np.uint16}
_READERS = {"float32": "read_float_data", "float16": "read_fp16_data"}
_TYPED = ("floats", "ints", "bools", "longInts", "doubles")
Value = Any  # Tensor, str, or a list of either


class Constants:
    """Reads literals of one package, opening each weight file once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, Any] = {}

    @cached_property
    def _place(self) -> str:
        return self._package.path.name

    def read(self, proto: Any, name: str) -> Value:
        """The value of a MIL.Value: a tensor of the stated shape, a str, or a list of values.

        Raises RecipeError, placed at `name`, for a value that is not what its type says.
        """
        stated = program.type_of(proto.type, f"{self._place}: {name}")
        immediate = proto.immediateValue
        if proto.WhichOneof("value") == "immediateValue" and immediate.WhichOneof("value") == "list":
            return [self.read(each, name) for each in immediate.list.values]
        if not isinstance(stated, TensorType) or None in stated.shape:
            raise RecipeError(f"{self._place}: {name}", "is a constant of a type that no constant can have")
        if stated.dtype == "string":
            texts = list(immediate.tensor.strings.values)
            return texts[0] if stated.shape == () else texts
        return self._numbers(proto, stated, name)

    def _numbers(self, proto: Any, stated: TensorType, name: str) -> Tensor:
        if stated.dtype not in HELD_AS:
            raise RecipeError(f"{self._place}: {name}", f"is a constant of the unknown type {stated.dtype}")
        if proto.WhichOneof("value") == "blobFileValue":
            flat = self._blob(proto.blobFileValue, stated, name)
        else:
            flat = self._immediate(proto.immediateValue.tensor, stated)
        shape = tuple(axis for axis in stated.shape if axis is not None)
        if flat.size != math.prod(shape):
            fact = f"holds {flat.size} numbers where its shape {list(shape)} has {math.prod(shape)}"
            raise RecipeError(f"{self._place}: {name}", fact, "The file is damaged: convert it again")
        return torch.tensor(flat).to(HELD_AS[stated.dtype]).reshape(shape)

    def _blob(self, where: Any, stated: TensorType, name: str) -> NDArray[Any]:
        from coremltools.libmilstoragepython import _BlobStorageReader

        if where.fileName not in self._files:
            self._files[where.fileName] = _BlobStorageReader(str(self._package.blob(where.fileName)))
        method = _READERS.get(stated.dtype, f"read_{stated.dtype}_data")
        try:
            read = getattr(self._files[where.fileName], method)
            array: NDArray[Any] = np.array(read(where.offset))
        except (AttributeError, RuntimeError, ValueError, OSError) as error:
            fact = f"cannot be read from {where.fileName} at {where.offset} as {stated.dtype}: {error}"
            raise RecipeError(f"{self._place}: {name}", fact, "The weights are damaged: convert it again") from error
        return array.view(np.float16) if stated.dtype == "float16" else array

    def _immediate(self, proto: Any, stated: TensorType) -> NDArray[Any]:
        kind = proto.WhichOneof("value")
        if kind == "bytes":
            return _from_bytes(proto.bytes.values, stated)
        if kind not in _TYPED:
            return np.zeros(0, np.float32)
        dtype = {"floats": np.float32, "ints": np.int32, "bools": np.bool_, "longInts": np.int64}.get(kind, np.float64)
        return np.asarray(list(getattr(proto, kind).values), dtype)


def _from_bytes(data: bytes, stated: TensorType) -> NDArray[Any]:
    """Little-endian numbers; those of less than a byte are packed without gaps, the first in the lowest bits.

    As coremltools.optimize._utils.restore_elements_from_packed_bits reads them.
    """
    bits = BITS.get(stated.dtype)
    if bits is None:
        held = HELD_AS[stated.dtype]
        return np.frombuffer(data, _NUMPY.get(held, str(held).removeprefix("torch.")))
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    count = math.prod(axis or 0 for axis in stated.shape)
    digits = stream[: count * bits].reshape(-1, bits).astype(np.int64)
    numbers = (digits << np.arange(bits)).sum(axis=1)
    if stated.dtype == "int4":
        numbers = np.where(numbers > 7, numbers - 16, numbers)
    return numbers.astype(np.int8 if stated.dtype == "int4" else np.uint8)
