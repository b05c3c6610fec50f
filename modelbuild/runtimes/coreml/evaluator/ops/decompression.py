"""Weights that a program stores compressed: quantised, palettised, sparse, in half precision, or several at once.

Formulas and layouts are those of the MIL op definitions of iOS 16 (packed bytes, one table) and iOS 18 (sub-byte
types, blocks, vectors; sparse operations that may follow one another). The form of the arguments tells which is
meant. All work in float32 and round once, to the type of the scale.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import Ints, kernel
from modelbuild.runtimes.coreml.evaluator.ops.quantisation import along


@kernel("constexpr_affine_dequantize", fresh=True)
def constexpr_affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    """Compute scale * (quantized_data - zero_point), each one number or one for every index of `axis`."""
    difference = quantized_data.float() - along(zero_point, quantized_data, axis).float()
    return (difference * along(scale, quantized_data, axis).float()).to(scale.dtype)


@kernel("constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """Half to single precision, which is the only cast there is, and to double in a widened program."""
    if output_dtype in ("fp64", "float64"):
        return source_val.double()
    if output_dtype not in ("fp32", "float32"):
        raise ValueError(f'output_dtype "{output_dtype}" is not fp32')
    return source_val.float()


@kernel("constexpr_lut_to_dense", fresh=True)
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None
) -> Tensor:
    """Entries of a table by index; with `shape` the indices are packed bytes, in as many bits as the table needs."""
    if shape is None:
        return _looked_up(indices, lut, vector_axis)
    bits = _bits(lut.numel())
    return lut.reshape(-1)[_unpacked(indices, bits, math.prod(shape))].reshape(shape)


@kernel("constexpr_sparse_to_dense", fresh=True)
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None) -> Tensor:
    """Zeros but where the mask is set; with `shape` the mask is packed bytes, a bit a value."""
    if shape is not None:
        mask = _unpacked(mask, 1, math.prod(shape)).reshape(shape)
    return _spread(nonzero_data, mask)


@kernel("constexpr_blockwise_shift_scale", fresh=True)
def constexpr_blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """Compute scale * (data - offset), where each scale and offset is for a block of the data."""
    result = data.float()
    if offset is not None:
        result = result - _repeated(offset.float(), data.shape)
    return (result * _repeated(scale.float(), data.shape)).to(scale.dtype)


@kernel("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask, and scale * (value - offset) of the values that it lets through, in row-major order."""
    dense = constexpr_blockwise_shift_scale(_spread(nonzero_data, data_mask), scale, offset)
    return data_mask, dense[data_mask != 0]


@kernel("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Tensor, indices_nonzero_data: Tensor, lut: Tensor, vector_axis: int | None = None
) -> tuple[Tensor, Tensor]:
    """The mask, each bit repeated for every entry of a vector, and the table's entries that it lets through."""
    dense = _looked_up(_spread(indices_nonzero_data, indices_mask), lut, vector_axis)
    mask = indices_mask
    if lut.shape[-1] > 1 and vector_axis is not None:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask != 0]


def _looked_up(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """`lut` is [blocks of each axis..., entries, length of a vector]; vectors lie along `vector_axis`."""
    if lut.ndim != indices.ndim + 2:
        raise ValueError(
            f"a table of rank {lut.ndim} for indices of rank {indices.ndim}; it must be two more"
        )
    *blocks, entries, length = lut.shape
    if length > 1 and vector_axis is None:
        raise ValueError("a table of vectors needs a vector_axis")
    if indices.numel() and int(indices.max()) >= entries:
        raise ValueError(f"index {int(indices.max())} is outside a table of {entries} entries")
    tables = torch.arange(math.prod(blocks)).reshape(blocks)
    rows = _repeated(tables, indices.shape) * entries + indices.long()
    found = lut.reshape(-1, length)[rows]
    if vector_axis is None or length == 1:
        return found.squeeze(-1)
    axis = vector_axis % indices.ndim
    return found.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _repeated(parameter: Tensor, shape: torch.Size) -> Tensor:
    """Each number of `parameter` for a block of a tensor of `shape`; axes of length 1 are left to broadcasting."""
    if parameter.ndim != len(shape):
        raise ValueError(f"blocks of rank {parameter.ndim} for data of rank {len(shape)}")
    for axis, (size, count) in enumerate(zip(shape, parameter.shape, strict=True)):
        if count == 0 or size % count:
            raise ValueError(f"axis {axis} of length {size} is not whole blocks, {count} of them")
        if 1 < count < size:
            parameter = parameter.repeat_interleave(size // count, axis)
    return parameter


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """`values`, in row-major order, where `mask` is set, and zeros elsewhere."""
    places = mask != 0
    if values.ndim != 1 or int(places.sum()) != values.shape[0]:
        raise ValueError(f"{list(values.shape)} values for a mask with {int(places.sum())} places")
    result = torch.zeros(mask.shape, dtype=values.dtype)
    result[places] = values
    return result


def _bits(entries: int) -> int:
    bits = entries.bit_length() - 1
    if entries != 2**bits or bits not in (1, 2, 4, 6, 8):
        raise ValueError(f"a table of {entries} entries, which no number of bits has")
    return bits


def _unpacked(data: Tensor, bits: int, count: int) -> Tensor:
    """`count` numbers of `bits` bits each, packed without gaps, the first in the lowest bits of the first byte."""
    if data.numel() != -(-bits * count // 8):
        raise ValueError(f"{data.numel()} bytes for {count} numbers of {bits} bits")
    stream = np.unpackbits(data.reshape(-1).numpy(), bitorder="little")
    digits = torch.from_numpy(stream[: count * bits]).reshape(count, bits).long()
    return (digits << torch.arange(bits)).sum(1)
