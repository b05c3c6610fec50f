"""Operations that make, join, repeat, pad or order tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, Outputs, Tensors, kernel
from modelbuild.runtimes.coreml.evaluator.program import TensorType


def _stated(outputs: Outputs) -> torch.dtype:
    """The dtype that the program states for the result."""
    stated = outputs[0].type
    if not isinstance(stated, TensorType):
        raise ValueError("the result is stated to be something other than a tensor")
    return HELD_AS[stated.dtype]


# -- made of little


@kernel("fill", fresh=True)
def fill(shape: Ints, value: float = 0.0, *, outputs: Outputs) -> Tensor:
    """`value` everywhere."""
    return torch.full(shape, value, dtype=_stated(outputs))


@kernel("fill_like", fresh=True)
def fill_like(ref_tensor: Tensor, value: float = 0.0, *, outputs: Outputs) -> Tensor:
    """`value` everywhere, in the shape of another tensor."""
    return torch.full(ref_tensor.shape, value, dtype=_stated(outputs))


@kernel("range_1d", fresh=True)
def range_1d(end: Tensor, start: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... before `end`; how many is reckoned in their own dtype (MIL type rule of range_1d)."""
    first, stride = start.item(), step.item()
    if stride == 0:
        raise ValueError("a range with step 0 has no end")
    if start.is_floating_point():
        count = int(torch.ceil((end - start) / step).item())
    else:
        count = int(-((first - end.item()) // stride))
    exact = torch.float64 if start.is_floating_point() else torch.int64
    return (first + stride * torch.arange(max(count, 0), dtype=exact)).to(start.dtype)


@kernel("one_hot", fresh=True)
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: float = 1.0,
    off_value: float = 0.0,
    *,
    outputs: Outputs,
) -> Tensor:
    """`on_value` at the index along a new axis. An index out of range is nowhere, as in one_hot of TensorFlow."""
    rank = indices.ndim + 1
    places = torch.arange(one_hot_vector_size).reshape(
        [-1 if each == axis % rank else 1 for each in range(rank)]
    )
    hit = indices.long().unsqueeze(axis) == places
    return torch.full(hit.shape, off_value, dtype=_stated(outputs)).masked_fill_(hit, on_value)


@kernel("non_zero", fresh=True)
def non_zero(x: Tensor) -> Tensor:
    """The indices of what is not 0, a row for each, in the order of rows."""
    return torch.nonzero(x).to(torch.int32)


# -- joined and repeated


@kernel("concat", fresh=True)
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """One after the other along `axis`, or the first slice of each, then the second ... Scalars give a vector."""
    if values[0].ndim == 0:
        return torch.stack(values)
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@kernel("stack", fresh=True)
def stack(values: Tensors, axis: int) -> Tensor:
    """Side by side along a new axis."""
    return torch.stack(values, axis)


@kernel("tile", fresh=True)
def tile(x: Tensor, reps: Ints) -> Tensor:
    """Repeats each axis."""
    return x.repeat(reps)


@kernel("band_part")
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Zero outside a band of `lower` diagonals below and `upper` above the main one; all of them, where negative."""
    x = x.triu(-lower) if lower >= 0 else x
    return x.tril(upper) if upper >= 0 else x


# -- padded


@kernel("pad")
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """The last axes get pad[2 * i] values before and pad[2 * i + 1] after them (MIL: pad, its limits included)."""
    count = len(pad) // 2
    if len(pad) % 2 or count > x.ndim or min(pad, default=0) < 0:
        raise ValueError(f"the padding {list(pad)} does not fit {list(x.shape)}")
    if mode == "constant":
        backwards = [size for i in reversed(range(count)) for size in pad[2 * i : 2 * i + 2]]
        return torch.nn.functional.pad(x, backwards, value=constant_val)
    for axis, before, after in zip(range(x.ndim - count, x.ndim), pad[::2], pad[1::2], strict=True):
        if before or after:
            x = _padded(x, axis, before, after, mode)
    return x


def _padded(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    """One axis, with what lies next to the edge mirrored, or with the edge."""
    length = x.shape[axis]
    limit = {"reflect": length - 1, "replicate": length}.get(mode, -1)
    if max(before, after) > limit:
        known = f"more than mode {mode} allows" if limit >= 0 else f'of the unknown mode "{mode}"'
        raise ValueError(f"padding {[before, after]} of an axis of {length} values is {known}")
    if mode == "reflect":
        left, right = x.narrow(axis, 1, before), x.narrow(axis, length - 1 - after, after)
        return torch.cat([left.flip(axis), x, right.flip(axis)], axis)
    sizes = [[side if each == axis else -1 for each in range(x.ndim)] for side in (before, after)]
    left, right = x.narrow(axis, 0, 1).expand(sizes[0]), x.narrow(axis, length - 1, 1).expand(sizes[1])
    return torch.cat([left, x, right], axis)
