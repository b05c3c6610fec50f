"""Operations that coremltools drops a part of, or has no translation of, in terms of others that it does translate.

Of a program of torch.export, coremltools 9.0 reads the arguments by position, and by keyword those that it looks
for; any other keyword is dropped without a word. `gelu(approximate="tanh")` becomes the exact one, `add(alpha=2)`
adds once, and the padding mask of an encoder layer, `zeros_like(mask, dtype=float32)`, stays boolean and selects
what it should hide.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

Number = Tensor | float
ATEN = torch.ops.aten
LOOPS = {
    "gru",
    "lstm",
    "rnn_tanh",
    "rnn_relu",
}  # PyTorch would take these apart step by step, of a fixed number


@cache
def table() -> Mapping[Any, Callable[..., Any]]:
    """Operation of ATen -> what does the same, or NotImplemented where the operation can stay as it is."""
    from torch._decomp import core_aten_decompositions

    found: dict[Any, Callable[..., Any]] = {
        operation: decomposition
        for operation, decomposition in core_aten_decompositions().items()
        if isinstance(operation, torch._ops.OpOverload)
        and operation.namespace == "aten"
        and operation._opname not in LOOPS
        and not translated(operation.name())
    }
    return {**found, **OWN}


def translated(name: str) -> bool:
    """Whether coremltools has a translation of the operation `name` of ATen, in a program of torch.export."""
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    return sanitize_op_kind(name) in _TORCH_OPS_REGISTRY.name_to_func_mapping


def _add(x: Tensor, y: Number, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else x + y * alpha


def _sub(x: Tensor, y: Number, *, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else x - y * alpha


def _rsub(x: Tensor, y: Number, alpha: float = 1) -> Any:
    return NotImplemented if alpha == 1 else y - x * alpha


def _log_sigmoid(x: Tensor) -> Any:
    return -ATEN.softplus(-x)


def _like(operation: Callable[..., Tensor]) -> Callable[..., Any]:
    def like(x: Tensor, *rest: Any, dtype: torch.dtype | None = None, **_: Any) -> Any:
        return NotImplemented if dtype in (None, x.dtype) else operation(x.to(dtype), *rest)

    return like


def _reduced(operation: Callable[..., Tensor]) -> Callable[..., Any]:
    def reduced(x: Tensor, *rest: Any, dtype: torch.dtype | None = None) -> Any:
        return NotImplemented if dtype in (None, x.dtype) else operation(x.to(dtype), *rest)

    return reduced


def _softmax(operation: Callable[..., Tensor]) -> Callable[..., Any]:
    def softmax(x: Tensor, dim: int, dtype: torch.dtype | None = None) -> Any:
        return NotImplemented if dtype in (None, x.dtype) else operation(x.to(dtype), dim)

    return softmax


def _gelu(x: Tensor, *, approximate: str = "none") -> Any:
    """Hendrycks and Gimpel, Gaussian error linear units (2016), section 2."""
    if approximate == "none":
        return NotImplemented
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _softplus(x: Tensor, beta: float = 1, threshold: float = 20) -> Any:
    if threshold >= 20:  # from there on the two agree in float32
        return NotImplemented
    return torch.where(x * beta > threshold, x, ATEN.softplus(x, beta))


def _group_norm(
    x: Tensor, groups: int, weight: Tensor | None = None, bias: Tensor | None = None, epsilon: float = 1e-5,
    *_: Any,
) -> Any:  # fmt: skip
    """Wu and He, Group normalization (2018), equations 1 and 3. coremltools stops at an open number of samples."""
    parts = x.reshape(x.shape[0], groups, math.prod(x.shape[1:]) // groups)
    normal = ATEN.layer_norm(parts, [parts.shape[2]], None, None, epsilon).reshape(x.shape)
    shape = [-1, *[1] * (x.ndim - 2)]
    scaled = normal if weight is None else normal * weight.reshape(shape)
    return scaled if bias is None else scaled + bias.reshape(shape)


def _addc(combine: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def addc(x: Tensor, y: Tensor, z: Tensor, *, value: float = 1) -> Tensor:
        return x + (combine(y, z) if value == 1 else combine(y, z) * value)

    return addc


def _adaptive_average(x: Tensor, sizes: Sequence[int]) -> Any:
    """As a plain pooling, which it is where every output sees as many inputs. coremltools wants fixed sizes."""
    have = x.shape[x.ndim - len(sizes) :]
    if not all(isinstance(size, int) for size in have) or any(
        h % s for h, s in zip(have, sizes, strict=True)
    ):
        return NotImplemented
    kernel = [h // s for h, s in zip(have, sizes, strict=True)]
    return (ATEN.avg_pool1d if len(sizes) == 1 else ATEN.avg_pool2d)(x, kernel, kernel)


OWN: Mapping[Any, Callable[..., Any]] = {
    ATEN.add.Tensor: _add,
    ATEN.add.Scalar: _add,
    ATEN.sub.Tensor: _sub,
    ATEN.sub.Scalar: _sub,
    ATEN.rsub.Tensor: _rsub,
    ATEN.rsub.Scalar: _rsub,
    ATEN.zeros_like.default: _like(ATEN.zeros_like),
    ATEN.ones_like.default: _like(ATEN.ones_like),
    ATEN.full_like.default: _like(ATEN.full_like),
    ATEN.sum.default: _reduced(ATEN.sum),
    ATEN.sum.dim_IntList: _reduced(ATEN.sum),
    ATEN.mean.default: _reduced(ATEN.mean),
    ATEN.mean.dim: _reduced(ATEN.mean),
    ATEN.cumsum.default: _reduced(ATEN.cumsum),
    ATEN.softmax.int: _softmax(ATEN.softmax),
    ATEN.log_softmax.int: _softmax(ATEN.log_softmax),
    ATEN.gelu.default: _gelu,
    ATEN.softplus.default: _softplus,
    ATEN.log_sigmoid.default: _log_sigmoid,
    ATEN.group_norm.default: _group_norm,
    ATEN.addcmul.default: _addc(torch.mul),
    ATEN.addcdiv.default: _addc(torch.div),
    ATEN.adaptive_avg_pool1d.default: _adaptive_average,
    ATEN.adaptive_avg_pool2d.default: _adaptive_average,
}
