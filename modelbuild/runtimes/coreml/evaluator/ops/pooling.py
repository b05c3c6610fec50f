"""Pooling over one, two and three spatial axes: average, maximum, root of the sum of squares."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, kernel
from modelbuild.runtimes.coreml.evaluator.ops.convolution import flat, padding, windows

MAXIMA: tuple[Callable[..., Tensor], ...] = (F.max_pool1d, F.max_pool2d, F.max_pool3d)
MEANS: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


class Field(NamedTuple):
    """Where the windows lie.

    `own` is padding that PyTorch's pooling does itself, None where it cannot; `before` is the same for F.pad.
    `with_padding` and `without_padding` say for each axis over how many positions each window averages.
    """

    own: Ints | None
    before: list[int]
    with_padding: tuple[Tensor, ...]
    without_padding: tuple[Tensor, ...]


@lru_cache(maxsize=1024)
def _field(
    pad_type: str, pad: Ints | None, sizes: Ints, kernel_sizes: Ints, strides: Ints, ceil_mode: bool
) -> Field:
    pairs = padding(pad_type, pad, sizes, kernel_sizes, strides)
    axes = [
        (n, k, s, before, after, _results(n, k, s, before, after, ceil_mode))
        for n, k, s, (before, after) in zip(sizes, kernel_sizes, strides, pairs, strict=True)
    ]
    if any(b >= k or (count - 1) * s - b >= n for n, k, s, b, _, count in axes):
        raise ValueError("has a window that lies in the padding altogether, for which no result is defined")
    overhang = [max(0, (count - 1) * s + k - n - b - a) for n, k, s, b, a, count in axes]
    plain = not any(overhang) and all(b == a and 2 * b <= k for _, k, _, b, a, _ in axes)
    return Field(
        tuple(b for b, _ in pairs) if plain else None,
        flat(tuple((b, a + more) for (b, a), more in zip(pairs, overhang, strict=True))),
        tuple(_covered(count, k, s, b, -b, n + a) for n, k, s, b, a, count in axes),
        tuple(_covered(count, k, s, b, 0, n) for n, k, s, b, _, count in axes),
    )


def _results(size: int, kernel_size: int, stride: int, before: int, after: int, ceil_mode: bool) -> int:
    """How many windows an axis has, by the formula of MIL's definition."""
    room = size + before + after - kernel_size
    if not ceil_mode:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= size + before and before + after > 0 else count


def _covered(count: int, kernel_size: int, stride: int, before: int, low: int, high: int) -> Tensor:
    """Of each window of an axis, the number of positions within [low, high)."""
    start = torch.arange(count) * stride - before
    return (start + kernel_size).clamp(max=high) - start.clamp(min=low)


def _product(counts: tuple[Tensor, ...]) -> Tensor:
    """The number of positions of a window, from those along each axis."""
    return reduce(lambda done, each: done.unsqueeze(-1) * each, counts).float()


def _sums(x: Tensor, kernel_sizes: Ints, strides: Ints, padded: Ints) -> Tensor:
    """The sum over each window, in the dtype of `x`."""
    if x.ndim == 3:
        return _sums(x.unsqueeze(2), (1, *kernel_sizes), (1, *strides), (0, *padded)).squeeze(2)
    return MEANS[x.ndim - 3](x, kernel_sizes, strides, padded, divisor_override=1)


@kernel("max_pool", fresh=True)
def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest value of each window; padding never is."""
    strides = strides or (1,) * len(kernel_sizes)
    own, before, *_ = _field(pad_type, pad, x.shape[2:], kernel_sizes, strides, ceil_mode)
    if own is None:
        x, own = F.pad(x, before, value=-math.inf), (0,) * len(kernel_sizes)
    return MAXIMA[x.ndim - 3](x, kernel_sizes, strides, own)


@kernel("avg_pool", fresh=True)
def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """The mean of each window. What `ceil_mode` adds beyond the padding counts nowhere, as in PyTorch."""
    strides = strides or (1,) * len(kernel_sizes)
    own, before, outer, inner = _field(pad_type, pad, x.shape[2:], kernel_sizes, strides, ceil_mode)
    stepwise = arithmetic.stepwise(x)
    if own is not None and not stepwise:
        mean = MEANS[x.ndim - 3]
        wide = arithmetic.wide(x)
        return mean(wide, kernel_sizes, strides, own, False, not exclude_padding_from_average).to(x.dtype)
    padded, ones = F.pad(x, before), (1,) * len(strides)
    if stepwise:
        total = arithmetic.total(windows(padded, kernel_sizes, strides, ones), tuple(range(-len(strides), 0)))
    else:
        total = _sums(arithmetic.wide(padded), kernel_sizes, strides, (0,) * len(strides))
    return (total / _product(inner if exclude_padding_from_average else outer)).to(x.dtype)


@kernel("l2_pool", fresh=True)
def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """The root of the sum of squares of each window; padding adds nothing."""
    strides = strides or (1,) * len(kernel_sizes)
    own, before, *_ = _field(pad_type, pad, x.shape[2:], kernel_sizes, strides, ceil_mode)
    if arithmetic.stepwise(x):
        parts = windows(F.pad(x, before), kernel_sizes, strides, (1,) * len(strides)).flatten(-len(strides))
        return arithmetic.dot(parts.unsqueeze(-2), parts.unsqueeze(-1))[..., 0, 0].sqrt()
    wide = arithmetic.wide(x)
    if own is None:
        wide, own = F.pad(wide, before), (0,) * len(kernel_sizes)
    return _sums(wide.square(), kernel_sizes, strides, own).sqrt().to(x.dtype)
