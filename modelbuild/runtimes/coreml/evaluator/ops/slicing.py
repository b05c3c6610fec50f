"""Operations that take or replace a part of a tensor, or turn the order along an axis round."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import Bools, Ints, kernel
from modelbuild.runtimes.coreml.evaluator.ops.indices import taken

Index = tuple[int | slice, ...]


@kernel("slice_by_index")
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """x[begin:end:stride, ...] by NumPy's rules; a mask drops the begin or end, or makes the begin an index."""
    index, turned = _place(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    part = x[index]
    return _flipped(part, turned) if turned else part


@kernel("slice_update", fresh=True, overwrites="x")
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
    *,
    owned: bool = False,
) -> Tensor:
    """`x` with `update` where `slice_by_index` would read."""
    index, turned = _place(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = x if owned else x.clone()
    part = result[index]
    if part.shape != update.shape:
        raise ValueError(f"the slice is {list(part.shape)} and the update {list(update.shape)}")
    part.copy_(_flipped(update, turned) if turned else update)
    return result


def _flipped(x: Tensor, axes: Ints) -> Tensor:
    if x.dtype == torch.uint16:  # which PyTorch does not always turn round
        return x.view(torch.int16).flip(axes).view(torch.uint16)
    return x.flip(axes)


@lru_cache(maxsize=4096)
def _place(
    shape: tuple[int, ...],
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[Index, Ints]:
    """An index with forward steps alone, which is what PyTorch knows, and the axes of the result to turn round."""
    rank = len(shape)
    stride, squeezed = stride or (1,) * rank, squeeze_mask or (False,) * rank
    first = _unmasked(begin, begin_mask)
    last = _unmasked(end, end_mask)
    if 0 in stride or not rank == len(first) == len(last) == len(stride) == len(squeezed):
        raise ValueError(f"{list(begin)}, {list(end)}, {list(stride)} make no slice of {list(shape)}")
    index, turned, kept = list[int | slice](), list[int](), 0
    for axis, size in enumerate(shape):
        if squeezed[axis]:
            index.append(first[axis] or 0)
            continue
        taken = range(size)[first[axis] : last[axis] : stride[axis]]
        if taken.step < 0:
            turned.append(kept)
            taken = taken[::-1]
        index.append(slice(taken.start, taken.stop, taken.step))
        kept += 1
    return tuple(index), tuple(turned)


def _unmasked(bounds: Ints, mask: Bools | None) -> list[int | None]:
    """`bounds`, None where `mask` says that they do not count."""
    return [None if off else each for each, off in zip(bounds, mask or (False,) * len(bounds), strict=True)]


@kernel("slice_by_size")
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` values of each axis from `begin` on; all that follow, where it is -1."""
    for axis, (first, count) in enumerate(zip(begin, size, strict=True)):
        length = x.shape[axis]
        start = first + length if first < 0 else first
        count = length - start if count == -1 else count
        if not 0 <= start <= start + count <= length:
            raise ValueError(f"{count} values from {first} on reach outside axis {axis}, which has {length}")
        x = x.narrow(axis, start, count)
    return x


@kernel("sliding_windows")
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """All windows along `axis`, in a new axis after it."""
    axis %= x.ndim
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


@kernel("split")
def split(
    x: Tensor, num_splits: int | None = None, split_sizes: Ints | None = None, *, axis: int
) -> Tensor | tuple[Tensor, ...]:
    """Parts of `split_sizes`, or `num_splits` equal ones."""
    length = x.shape[axis]
    if split_sizes is None:
        if not num_splits or length % num_splits:
            raise ValueError(f"{length} values cannot be split into {num_splits} equal parts")
        split_sizes = (length // num_splits,) * num_splits
    elif num_splits not in (None, len(split_sizes)):
        raise ValueError(f"num_splits is {num_splits}, and split_sizes {list(split_sizes)}")
    parts = x.split_with_sizes(split_sizes, axis)
    return parts if len(parts) > 1 else parts[0]


@kernel("reverse", fresh=True)
def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Turns `axes` round, or all of them."""
    return _flipped(x, tuple(range(x.ndim)) if axes is None else axes)


@kernel("reverse_sequence", fresh=True)
def reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Turns the first `lengths[b]` values along `seq_axis` round, for each b along `batch_axis`."""
    sequence, batch = seq_axis % x.ndim, batch_axis % x.ndim
    if sequence == batch:
        raise ValueError(f"seq_axis and batch_axis are both {sequence}")
    steps = torch.arange(x.shape[sequence])
    ends = lengths.long().unsqueeze(1)
    if lengths.numel() and not 0 <= int(ends.min()) <= int(ends.max()) <= len(steps):
        raise ValueError(f"the lengths {lengths.tolist()} are not all from 0 to {len(steps)}")
    source = torch.where(steps < ends, ends - 1 - steps, steps)
    source = source if batch < sequence else source.T
    spread = [size if axis in (sequence, batch) else 1 for axis, size in enumerate(x.shape)]
    return taken(x, source.reshape(spread), sequence)
