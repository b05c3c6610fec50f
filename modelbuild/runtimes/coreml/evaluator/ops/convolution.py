"""Convolutions of one, two and three spatial axes, and their transposes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic, single
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, kernel

CONVOLUTIONS: tuple[Callable[..., Tensor], ...] = (F.conv1d, F.conv2d, F.conv3d)
TRANSPOSED: tuple[Callable[..., Tensor], ...] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
Pairs = tuple[tuple[int, int], ...]


def padding(pad_type: str, pad: Ints | None, sizes: Sequence[int], spans: Ints, strides: Ints) -> Pairs:
    """What is added before and after each spatial axis; `spans` are the kernel's sizes, dilation included.

    "same" gives ceil(size / stride) results and puts the odd one after, "same_lower" before, as TensorFlow's SAME
    and ONNX's SAME_LOWER; `pad` counts for "custom" alone.
    """
    kind = pad_type.lower()
    if kind == "valid":
        return ((0, 0),) * len(spans)
    if kind == "custom":
        amounts = pad if pad is not None else (0,) * (2 * len(spans))
        return tuple(zip(amounts[::2], amounts[1::2], strict=True))
    if kind not in ("same", "same_lower"):
        raise ValueError(f'pad_type "{pad_type}" is unknown')
    totals = [max(0, -(-n // s) * s - n + k - s) for n, k, s in zip(sizes, spans, strides, strict=True)]
    before = [(total + (kind == "same_lower")) // 2 for total in totals]
    return tuple((b, total - b) for b, total in zip(before, totals, strict=True))


def flat(pairs: Pairs) -> list[int]:
    """`pairs` in the order of F.pad, which begins at the last axis."""
    return [amount for pair in reversed(pairs) for amount in pair]


def spans_of(kernel_sizes: Sequence[int], dilations: Ints) -> Ints:
    return tuple((k - 1) * d + 1 for k, d in zip(kernel_sizes, dilations, strict=True))


def windows(x: Tensor, kernel_sizes: Sequence[int], strides: Ints, dilations: Ints) -> Tensor:
    """Every window of the spatial axes: [n, channels, *positions] -> [n, channels, *results, *kernel_sizes]."""
    for axis, (span, stride, dilation) in enumerate(
        zip(spans_of(kernel_sizes, dilations), strides, dilations, strict=True), 2
    ):
        x = x.unfold(axis, span, stride)[..., ::dilation]
    return x


class Frame(NamedTuple):
    """Padding in two parts: what the convolution does itself, and (for F.pad) what must be laid round it before."""

    own: Ints
    before: list[int]


@lru_cache(maxsize=1024)
def _frame(
    pad_type: str, pad: Ints | None, sizes: Ints, kernel_sizes: Ints, strides: Ints, dilations: Ints
) -> Frame:
    pairs = padding(pad_type, pad, sizes, spans_of(kernel_sizes, dilations), strides)
    if all(before == after >= 0 for before, after in pairs):
        return Frame(tuple(before for before, _ in pairs), [])
    return Frame((0,) * len(pairs), flat(pairs))


@kernel("conv", fresh=True, widens=("weight", "bias"))
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """Cross-correlation with zeros round `x`, as PyTorch's convolutions, in the dtype of `x`."""
    ones = (1,) * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    own, before = _frame(pad_type, pad, x.shape[2:], weight.shape[2:], strides, dilations)
    if before:
        x = F.pad(x, before)
    convolve = CONVOLUTIONS[x.ndim - 3]
    if x.dtype is weight.dtype and x.dtype is not torch.float16:
        return convolve(x, weight, bias, strides, own, dilations, groups)
    if arithmetic.stepwise(x):
        framed = F.pad(x, flat(tuple((each, each) for each in own)))
        return _stepwise(framed, weight.to(x.dtype), bias, strides, dilations, groups, arithmetic)
    offset = None if bias is None else single(bias)
    return convolve(single(x), single(weight), offset, strides, own, dilations, groups).to(x.dtype)


def _stepwise(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    strides: Ints,
    dilations: Ints,
    groups: int,
    arithmetic: Arithmetic,
) -> Tensor:
    """The convolution as matrix products of its windows, which `arithmetic` rounds step by step."""
    rank = len(strides)
    parts = windows(x, weight.shape[2:], strides, dilations)
    parts = parts.reshape(x.shape[0], groups, -1, *parts.shape[2:])
    results = parts.shape[3 : 3 + rank]
    rows = parts.movedim(2, 2 + rank).flatten(2, 1 + rank).flatten(3)
    columns = weight.reshape(groups, weight.shape[0] // groups, -1).mT
    result = arithmetic.dot(rows, columns).mT.reshape(x.shape[0], weight.shape[0], *results)
    return _biased(result, bias)


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias.to(x.dtype).reshape(-1, *[1] * (x.ndim - 2))


@kernel("conv_quantized", fresh=True)
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quant_scale: Tensor,
    quant_bias: Tensor,
    quantization_type: str,
    nbits: int = 8,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """`conv` with the weight `weight * quant_scale + quant_bias`, each one number or one a channel of the result."""
    if quantization_type != "linear":
        raise ValueError(f'quantization_type "{quantization_type}" has no definition to follow')
    if int(weight.max()) >= 2**nbits:
        raise ValueError(f"has weights that do not fit in {nbits} bits")
    per_channel = (-1, *[1] * (weight.ndim - 1))
    scale, offset = quant_scale.float().reshape(per_channel), quant_bias.float().reshape(per_channel)
    wide = torch.addcmul(offset, weight.float(), scale).to(x.dtype)
    offsets = None if bias is None else bias.to(x.dtype)
    result: Tensor = conv(x, wide, offsets, strides, pad_type, pad, dilations, groups, arithmetic=arithmetic)
    return result


class Cut(NamedTuple):
    """How the full result is cut: `own` by the transposed convolution, on both sides; `rest` by F.pad.

    `extends`: whether `rest` adds positions that no window reaches, which hold the bias alone.
    """

    own: Ints
    rest: list[int]
    extends: bool


@lru_cache(maxsize=1024)
def _cut(
    pad_type: str, pad: Ints | None, wanted: Ints | None, sizes: Ints, spans: Ints, strides: Ints
) -> tuple[Ints, Cut]:
    """The full result's sizes and the cut. Where a cut is odd, the larger part is after, as in TensorFlow."""
    full = tuple((n - 1) * s + k for n, s, k in zip(sizes, strides, spans, strict=True))
    kind = pad_type.lower()
    if kind == "custom":
        pairs = padding("custom", pad, sizes, spans, strides)
        if wanted is not None:
            pairs = tuple((b, n - b - w) for (b, _), n, w in zip(pairs, full, wanted, strict=True))
    elif kind in ("same", "valid"):
        if wanted is None:
            wanted = tuple(n * s for n, s in zip(sizes, strides, strict=True)) if kind == "same" else full
        excess = [n - w for n, w in zip(full, wanted, strict=True)]
        pairs = tuple((max(0, each) // 2 if kind == "same" else 0, each) for each in excess)
        pairs = tuple((before, each - before) for before, each in pairs)
    else:
        raise ValueError(f'pad_type "{pad_type}" is not one that a transposed convolution has')
    own = tuple(max(0, min(pair)) for pair in pairs)
    rest = [each - o for pair, o in zip(reversed(pairs), reversed(own), strict=True) for each in pair]
    cut = Cut(own, [-each for each in rest] if any(rest) else [], any(each < 0 for each in rest))
    return full, cut


@kernel("conv_transpose", fresh=True, widens=("weight", "bias"))
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """The adjoint of `conv`, as PyTorch's transposed convolutions; "same" gives size * stride, as TensorFlow does."""
    ones = (1,) * (x.ndim - 2)
    strides, dilations = strides or ones, dilations or ones
    wanted = output_shape[2:] if output_shape is not None else None
    spans = spans_of(weight.shape[2:], dilations)
    full, (own, rest, extends) = _cut(pad_type, pad, wanted, x.shape[2:], spans, strides)
    if arithmetic.stepwise(x):
        whole = _stepwise_transposed(x, weight.to(x.dtype), full, strides, dilations, groups, arithmetic)
        if any(own):
            whole = F.pad(whole, flat(tuple((-each, -each) for each in own)))
        return _biased(F.pad(whole, rest) if rest else whole, bias)
    offset = None if bias is None else single(bias)
    transpose = TRANSPOSED[x.ndim - 3]
    given = None if extends else offset
    result = transpose(single(x), single(weight), given, strides, own, 0, groups, dilations)
    if rest:
        result = F.pad(result, rest)
    return (_biased(result, offset) if extends else result).to(x.dtype)


def _stepwise_transposed(
    x: Tensor, weight: Tensor, full: Ints, strides: Ints, dilations: Ints, groups: int, arithmetic: Arithmetic
) -> Tensor:
    """A matrix product for every place of the kernel, each then added where it falls, rounding at every addition."""
    sizes, kernel_sizes = x.shape[2:], weight.shape[2:]
    rows = x.reshape(x.shape[0], groups, x.shape[1] // groups, -1).mT
    columns = weight.reshape(groups, x.shape[1] // groups, -1)
    channels = groups * weight.shape[1]
    parts = arithmetic.dot(rows, columns).mT.reshape(x.shape[0], channels, *kernel_sizes, *sizes)
    result = x.new_zeros((x.shape[0], channels, *full))
    for place in product(*map(range, kernel_sizes)):
        at = [
            slice(p * d, p * d + (n - 1) * s + 1, s)
            for p, d, n, s in zip(place, dilations, sizes, strides, strict=True)
        ]
        index: tuple[Any, ...] = (slice(None), slice(None))
        result[(*index, *at)] += parts[(*index, *place)]
    return result
