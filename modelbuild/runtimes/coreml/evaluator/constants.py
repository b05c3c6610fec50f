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
from modelbuild.runtimes.coreml.evaluator import program
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.program import TensorType

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
DAMAGED = "The file is damaged: convert it again"
_TYPED = {
    "floats": np.float32,
    "ints": np.int32,
    "bools": np.bool_,
    "longInts": np.int64,
    "doubles": np.float64,
}
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
            self._check_count(len(texts), stated, "texts", name)
            return texts[0] if stated.shape == () else texts
        return self._numbers(proto, stated, name)

    def _check_count(self, count: int, stated: TensorType, what: str, name: str) -> None:
        wanted = math.prod(axis or 0 for axis in stated.shape)
        if count != wanted:
            fact = f"holds {count} {what} where its shape {list(stated.shape)} has {wanted}"
            raise RecipeError(f"{self._place}: {name}", fact, DAMAGED)

    def _numbers(self, proto: Any, stated: TensorType, name: str) -> Tensor:
        if stated.dtype not in HELD_AS:
            raise RecipeError(f"{self._place}: {name}", f"is a constant of the unknown type {stated.dtype}")
        if proto.WhichOneof("value") == "blobFileValue":
            flat = self._blob(proto.blobFileValue, stated, name)
        else:
            flat = self._immediate(proto.immediateValue.tensor, stated, name)
        self._check_count(flat.size, stated, "numbers", name)
        try:
            return torch.tensor(flat).to(HELD_AS[stated.dtype]).reshape([axis or 0 for axis in stated.shape])
        except (RuntimeError, OverflowError, TypeError) as error:  # no shape that can be, such as [0, 2**63]
            fact = f"has the impossible shape {list(stated.shape)}"
            raise RecipeError(f"{self._place}: {name}", fact, DAMAGED) from error

    def _blob(self, where: Any, stated: TensorType, name: str) -> NDArray[Any]:
        from coremltools.libmilstoragepython import _BlobStorageReader

        file = self._package.blob(where.fileName)
        method = _READERS.get(stated.dtype, f"read_{stated.dtype}_data")
        try:
            if where.fileName not in self._files:
                self._files[where.fileName] = _BlobStorageReader(str(file))
            read = getattr(self._files[where.fileName], method)
            array: NDArray[Any] = np.array(read(where.offset))
        except (AttributeError, RuntimeError, ValueError, OSError) as error:
            fact = f"cannot be read from {where.fileName} at {where.offset} as {stated.dtype}: {error}"
            raise RecipeError(f"{self._place}: {name}", fact, DAMAGED) from error
        return array.view(np.float16) if stated.dtype == "float16" else array

    def _immediate(self, proto: Any, stated: TensorType, name: str) -> NDArray[Any]:
        kind = proto.WhichOneof("value")
        if kind is None:
            return np.zeros(0, np.float32)
        try:
            if kind == "bytes":
                return _from_bytes(proto.bytes.values, stated)
            return _exact(np.asarray(list(getattr(proto, kind).values), _TYPED[kind]), stated.dtype)
        except (KeyError, TypeError, ValueError) as error:
            fact = f"cannot be read as {stated.dtype} from its {kind}: {error}"
            raise RecipeError(f"{self._place}: {name}", fact, DAMAGED) from error


def _exact(array: NDArray[Any], dtype: str) -> NDArray[Any]:
    """`array`, unless it is to become whole numbers and is not of such, in the range of `dtype`."""
    held = HELD_AS[dtype]
    if held.is_floating_point or not array.size:
        return array
    least, most = (0, 1) if held is torch.bool else (torch.iinfo(held).min, torch.iinfo(held).max)
    if dtype in BITS:
        least, most = (-8, 7) if dtype == "int4" else (0, 2 ** BITS[dtype] - 1)
    if array.dtype.kind == "f" or array.min() < least or array.max() > most:
        raise ValueError(f"not all of its numbers are whole and from {least} to {most}")
    return array


def _from_bytes(data: bytes, stated: TensorType) -> NDArray[Any]:
    """Little-endian numbers; those of less than a byte are packed without gaps, the first in the lowest bits.

    As coremltools.optimize._utils.restore_elements_from_packed_bits reads them.
    """
    bits = BITS.get(stated.dtype)
    if stated.dtype == "bfloat16":  # the upper half of a float32; NumPy has no name for it
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    if bits is None:
        held = HELD_AS[stated.dtype]
        return np.frombuffer(data, _NUMPY.get(held, str(held).removeprefix("torch.")))
    count = math.prod(axis or 0 for axis in stated.shape)
    if len(data) != -(-bits * count // 8):
        raise ValueError(f"{len(data)} bytes for {count} numbers of {bits} bits")
    stream = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    digits = stream[: count * bits].reshape(-1, bits).astype(np.int64)
    numbers: NDArray[Any] = (digits << np.arange(bits)).sum(axis=1)
    if stated.dtype == "int4":
        numbers = np.where(numbers > 7, numbers - 16, numbers)
    return numbers.astype(np.int8 if stated.dtype == "int4" else np.uint8)
