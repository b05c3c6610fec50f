"""Normalisations: by given moments, by those of the values themselves, by norms and by neighbouring channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, kernel


def _like(value: Tensor, x: Tensor) -> Tensor:
    """`value` in the dtype of `x`."""
    return value if value.dtype is x.dtype else value.to(x.dtype)


def _parameter(value: Tensor | None, x: Tensor) -> Tensor | None:
    """`value` in the dtype of `x`, from which it may differ since iOS 17."""
    return None if value is None else _like(value, x)


def _scaled(x: Tensor, gamma: Tensor | None, beta: Tensor | None, shape: list[int]) -> Tensor:
    """`gamma * x + beta`, the two reshaped to `shape`."""
    if gamma is not None:
        x = x * gamma.view(shape)
    return x if beta is None else x + beta.view(shape)


def _by_moments(x: Tensor, axes: Ints, epsilon: float, arithmetic: Arithmetic) -> Tensor:
    """`(x - mean) / sqrt(variance + epsilon)` with the moments over `axes`; the variance is the biased one."""
    centred = x - arithmetic.mean(x, axes, keep=True)
    variance = arithmetic.mean(centred * centred, axes, keep=True)
    return centred / torch.sqrt(variance + epsilon)


@kernel("batch_norm", fresh=True)
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    arithmetic: Arithmetic,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`gamma * (x - mean) / sqrt(variance + epsilon) + beta`, with one of each for every channel."""
    wide = arithmetic.wide(x)
    scale, offset = _parameter(gamma, wide), _parameter(beta, wide)
    middle, spread = _like(mean, wide), _like(variance, wide)
    if not arithmetic.stepwise(x):
        result = torch.batch_norm(wide, scale, offset, middle, spread, False, 0.0, epsilon, False)
        return _like(result, x)
    shape = [-1, *[1] * (x.ndim - 2)]
    result = (x - middle.view(shape)) / torch.sqrt(spread + epsilon).view(shape)
    return _scaled(result, scale, offset, shape)


@kernel("instance_norm", fresh=True)
def instance_norm(
    x: Tensor,
    arithmetic: Arithmetic,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """Each channel of each sample by its own moments, then scaled by gamma and moved by beta of the channel."""
    wide = arithmetic.wide(x)
    scale, offset = _parameter(gamma, wide), _parameter(beta, wide)
    if not arithmetic.stepwise(x):
        return _like(torch.group_norm(wide, x.shape[1], scale, offset, epsilon, False), x)
    result = _by_moments(x, tuple(range(2, x.ndim)), epsilon, arithmetic)
    return _scaled(result, scale, offset, [-1, *[1] * (x.ndim - 2)])


@kernel("layer_norm", fresh=True)
def layer_norm(
    x: Tensor,
    arithmetic: Arithmetic,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """By the moments over `axes` (all by default); gamma and beta have these axes of `x`, in its order."""
    wide = arithmetic.wide(x)
    scale, offset = _parameter(gamma, wide), _parameter(beta, wide)
    over = range(x.ndim) if axes is None else sorted(axis % x.ndim for axis in axes)
    first = x.ndim - len(over)
    if over and over[0] == first and not arithmetic.stepwise(x):
        return _like(torch.layer_norm(wide, x.shape[first:], scale, offset, epsilon, False), x)
    result = _by_moments(wide, tuple(over), epsilon, arithmetic)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    return _like(_scaled(result, scale, offset, shape), x)


@kernel("l2_norm", fresh=True)
def l2_norm(x: Tensor, arithmetic: Arithmetic, epsilon: float = 1e-6) -> Tensor:
    """`x` over the root of the sum of squares of the last three axes plus epsilon."""
    wide = arithmetic.wide(x)
    total = arithmetic.total(wide * wide, (-3, -2, -1), keep=True)
    return _like(wide / torch.sqrt(total + epsilon), x)


@kernel("local_response_norm", fresh=True)
def local_response_norm(
    x: Tensor, arithmetic: Arithmetic, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """`x / (k + alpha / size * sum of squares)^beta`, the sum being over `size` channels around each.

    An even window reaches one channel further down than up, as that of Metal's MPSCNNCrossChannelNormalization
    (and PyTorch's) does. Channels that are not there count as zeros. Raises ValueError but for rank 4: of rank 3,
    MIL's definition has the channels in axis 1 and what coremltools' tests expect of Core ML has them in axis 0.
    """
    if x.ndim != 4:
        raise ValueError(
            f"which axis of a rank {x.ndim} holds the channels is not settled: only rank 4 is supported"
        )
    wide = arithmetic.wide(x)
    squares = functional.pad(wide * wide, (0, 0, 0, 0, size // 2, (size - 1) // 2))
    total = arithmetic.total(squares.unfold(1, size, 1), (-1,))
    return _like(wide / (total * (alpha / size) + k) ** beta, x)
