"""Indices as programs give them, made into positions that PyTorch can use."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

IOS17 = 7


def located(indices: Tensor, size: int, opset: int) -> Tensor:
    """`indices` into an axis of `size` values, as int64 and from its start.

    Up to iOS16 a negative index counts from the end. From iOS17 on it is out of bounds, and for what is out of
    bounds Core ML either fails (`validate_indices`) or gives anything: no result would be the right one, so
    ValueError is raised in both cases.
    """
    indices = indices.long()
    count = indices.numel()
    if not count:
        return indices
    low, high = (int(each) for each in (torch.aminmax(indices) if count > 1 else (indices, indices)))
    if low < (-size if opset < IOS17 else 0) or high >= size:
        wrong = high if high >= size else low
        raise ValueError(
            f"index {wrong} is out of bounds for an axis of {size} values, which Core ML leaves undefined"
        )
    return torch.where(indices < 0, indices + size, indices) if low < 0 else indices


def flat(indices: Tensor, sizes: Sequence[int], opset: int) -> Tensor:
    """The positions, in an array of `sizes` laid out flat, of the index tuples along the last axis of `indices`."""
    positions = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for size, coordinate in zip(sizes, indices.long().unbind(-1), strict=True):
        positions = positions * size + located(coordinate, size, opset)
    return positions


def selected(x: Tensor, where: Tensor, axis: int) -> Tensor:
    """The slices of `x` at positions along `axis`."""
    if x.dtype == torch.uint16:  # which PyTorch does not select by index
        return x.view(torch.int16).index_select(axis, where).view(torch.uint16)
    return x.index_select(axis, where)


def taken(x: Tensor, where: Tensor, axis: int) -> Tensor:
    """The values of `x` at positions along `axis`, the other axes broadcast."""
    if x.dtype == torch.uint16:  # which PyTorch does not gather
        return torch.take_along_dim(x.view(torch.int16), where, axis).view(torch.uint16)
    return torch.take_along_dim(x, where, axis)
