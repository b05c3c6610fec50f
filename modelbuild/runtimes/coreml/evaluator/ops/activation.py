"""Activation functions, with the formulas of MIL's operation definitions."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic, single
from modelbuild.runtimes.coreml.evaluator.kernels import kernel, unary
from modelbuild.runtimes.coreml.evaluator.ops.elementwise import rounded_once

unary(
    {
        "relu": torch.relu,
        "relu6": lambda x: torch.clamp(x, 0.0, 6.0),
        "sigmoid": torch.sigmoid,
        "silu": functional.silu,
        "softplus": functional.softplus,
        "softsign": rounded_once(functional.softsign),
    }
)
GELU_MODES = ("EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION")


def _by_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """One value a channel, shaped to go with `x`, whose axis 1 the channels are."""
    return parameter.view(-1, *[1] * (x.ndim - 2))


@kernel("clamped_relu", fresh=True)
@rounded_once
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`min(beta, x)` where x >= 0, else `min(beta, alpha * x)`."""
    return torch.clamp_max(functional.leaky_relu(x, alpha), beta)


@kernel("elu", fresh=True)
def elu(x: Tensor, alpha: float) -> Tensor:
    """`x` where x > 0, else `alpha * (e^x - 1)`."""
    return functional.elu(x, alpha)


@kernel("gelu", fresh=True)
@rounded_once
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """`x` times the normal distribution function, or either of the approximations of Hendrycks and Gimpel (2016)."""
    if mode not in GELU_MODES:
        raise ValueError(f'"{mode}" is no mode of gelu: {", ".join(GELU_MODES)}')
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return functional.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@kernel("leaky_relu", fresh=True)
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where x >= 0, else `alpha * x`."""
    return functional.leaky_relu(x, alpha)


@kernel("linear_activation", fresh=True)
@rounded_once
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * x + beta`."""
    return (x * alpha).add_(beta)


@kernel("prelu", fresh=True)
@rounded_once
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """`x` where x > 0, else `alpha * x`, with an alpha for each channel."""
    return torch.prelu(x, single(alpha))


@kernel("scaled_tanh", fresh=True)
@rounded_once
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * tanh(beta * x)`."""
    return torch.tanh(x * beta) * alpha


@kernel("sigmoid_hard", fresh=True)
@rounded_once
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`min(max(alpha * x + beta, 0), 1)`."""
    return (x * alpha).add_(beta).clamp_(0.0, 1.0)


@kernel("softplus_parametric", fresh=True)
@rounded_once
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """`alpha * log(1 + e^(beta * x))`, with an alpha and a beta for each channel."""
    return functional.softplus(x * _by_channel(beta, x).float()) * _by_channel(alpha, x).float()


@kernel("thresholded_relu", fresh=True)
@rounded_once
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where x >= alpha, else 0; NaN stays NaN, as in MIL's value_inference."""
    return functional.threshold(x, _below(alpha), 0.0)


@cache
def _below(value: float) -> float:
    """The next smaller float32: PyTorch's threshold leaves out the bound itself."""
    return float(np.nextafter(np.float32(value), np.float32(-np.inf)))


@kernel("softmax", fresh=True)
def softmax(x: Tensor, arithmetic: Arithmetic, axis: int = -1) -> Tensor:
    """`e^x` over its total along `axis`, shifted by the maximum so that nothing overflows."""
    if x.dtype is not torch.float16:
        return torch.softmax(x, axis)
    if not arithmetic.stepwise(x):
        return torch.softmax(x, axis, dtype=torch.float32).half()
    powers = torch.exp(x - torch.amax(x, axis, keepdim=True))
    return powers / arithmetic.total(powers, (axis,), keep=True)
