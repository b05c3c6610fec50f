"""Operations that give the same values another shape: axes added, dropped, merged, permuted, dealt out in blocks."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import Ints, Opset, Tensors, kernel

IOS17 = 7


@kernel("identity")
def identity(x: Tensor) -> Tensor:
    """The argument itself."""
    return x


@kernel("shape", fresh=True)
def shape(x: Tensor) -> Tensor:
    """The lengths of the axes."""
    return torch.tensor(x.shape, dtype=torch.int32)


@kernel("reshape")
def reshape(x: Tensor, shape: Ints, *, opset: Opset) -> Tensor:
    """0 stands for a length of `x`, -1 for what is left (MIL: reshape of iOS15 and of iOS17)."""
    if 0 in shape:
        shape = _without_zeros(x, shape, opset)
    return x.reshape(shape)


def _without_zeros(x: Tensor, shape: Ints, opset: int) -> Ints:
    """Up to iOS16 axis i takes the length of axis i; from iOS17 on they are matched from the right, or else are 1."""
    ahead = len(shape) - x.ndim
    if opset < IOS17 and ahead:
        raise ValueError(f"the shape {list(shape)} has a 0, and {len(shape)} axes where x has {x.ndim}")
    lengths = enumerate(shape)
    return tuple(size or (x.shape[axis - ahead] if axis >= ahead else 1) for axis, size in lengths)


@kernel("reshape_like")
def reshape_like(
    x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors
) -> Tensor:
    """The shape is put together from ranges of the axes of others, ranges as Python's (MIL: reshape_like)."""
    lengths = list[int]()
    for other, begin, end, to_the_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        lengths += other.shape[int(begin) : None if to_the_end else int(end)]
    return x.reshape(lengths)


@kernel("flatten2d")
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """A matrix: axes before `axis` by axes from it on."""
    return x.reshape(prod(x.shape[:axis]), prod(x.shape[axis:]))


@kernel("expand_dims")
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """New axes of length 1; `axes` are positions in the result, from its end where negative."""
    if len(axes) == 1:
        return x.unsqueeze(axes[0])
    rank = x.ndim + len(axes)
    for axis in sorted([axis % rank for axis in axes]):
        x = x.unsqueeze(axis)
    return x


@kernel("squeeze")
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Drops axes of length 1. One that is longer stays, as in PyTorch (MIL: squeeze)."""
    if axes is None:
        return x.squeeze()
    return x.squeeze(axes[0]) if len(axes) == 1 else x.squeeze(axes)


@kernel("transpose")
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Axis i of the result is axis `perm[i]`."""
    return x.permute(perm)


@kernel("depth_to_space")
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Channel (i * b + j) * C + c goes to offset (i, j) of channel c, as in TensorFlow."""
    n, depth, height, width = x.shape
    blocks = x.reshape(n, block_size, block_size, depth // block_size**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, height * block_size, width * block_size)


@kernel("space_to_depth")
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Offset (i, j) of channel c goes to channel (i * b + j) * C + c, as in TensorFlow."""
    return _blocks(x, block_size).permute(0, 3, 5, 1, 2, 4).flatten(1, 3)


@kernel("pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Channel c * f * f + i * f + j goes to offset (i, j) of channel c, as in PyTorch."""
    n, depth, height, width = x.shape
    blocks = x.reshape(n, depth // upscale_factor**2, upscale_factor, upscale_factor, height, width)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n, -1, height * upscale_factor, width * upscale_factor)


@kernel("pixel_unshuffle")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Offset (i, j) of channel c goes to channel c * f * f + i * f + j, as in PyTorch."""
    return _blocks(x, downscale_factor).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)


def _blocks(x: Tensor, size: int) -> Tensor:
    """[n, c, h, w] as [n, c, h / size, size, w / size, size]."""
    n, depth, height, width = x.shape
    return x.reshape(n, depth, height // size, size, width // size, size)


@kernel("space_to_batch")
def space_to_batch(x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    """Pads with zeros; offset (i, j) goes to batch (i * b1 + j) * n, as space_to_batch_nd of TensorFlow."""
    top, bottom, left, right = paddings
    x = torch.nn.functional.pad(x, (left, right, top, bottom))
    n, depth, height, width = x.shape
    down, across = block_shape
    blocks = x.reshape(n, depth, height // down, down, width // across, across)
    return blocks.permute(3, 5, 0, 1, 2, 4).flatten(0, 2)


@kernel("batch_to_space")
def batch_to_space(x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    """Undoes space_to_batch, cutting `crops` off instead of padding."""
    down, across = block_shape
    top, bottom, left, right = crops
    batches, depth, height, width = x.shape
    blocks = x.reshape(down, across, batches // (down * across), depth, height, width)
    whole = blocks.permute(2, 3, 4, 0, 5, 1).reshape(-1, depth, height * down, width * across)
    return whole[:, :, top : height * down - bottom, left : width * across - right]
