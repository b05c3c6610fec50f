"""Matrix products: linear, matmul, einsum."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic, single
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS
from modelbuild.runtimes.coreml.evaluator.kernels import Outputs, Tensors, kernel
from modelbuild.runtimes.coreml.evaluator.program import TensorType


def refuse_mixed(*values: Tensor) -> None:
    """Raises ValueError for whole numbers beside floating ones: nothing says how those would be rounded."""
    if len({each.dtype.is_floating_point for each in values}) > 1:
        names = " and ".join(str(each.dtype).removeprefix("torch.") for each in values)
        raise ValueError(f"mixes {names}, and no definition says how the product is rounded")


@kernel("linear", fresh=True, widens=("weight", "bias"))
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, arithmetic: Arithmetic) -> Tensor:
    """`x` times the transpose of `weight`, plus `bias`, in the dtype of `x`."""
    if x.dtype is weight.dtype and x.dtype is not torch.float16:
        return F.linear(x, weight, bias)
    if x.dtype is torch.float16 and weight.dtype is torch.float32 and arithmetic.accumulation == "float32":
        return F.linear(x.float(), weight, None if bias is None else bias.float()).half()
    refuse_mixed(x, weight)
    if arithmetic.stepwise(x):
        rows = x if x.ndim > 1 else x.unsqueeze(0)
        result = arithmetic.dot(rows, weight.to(x.dtype).mT).reshape(*x.shape[:-1], weight.shape[0])
        return result if bias is None else result + bias.to(x.dtype)
    return F.linear(single(x), single(weight), None if bias is None else single(bias)).to(x.dtype)


@kernel("matmul", fresh=True)
def matmul(
    x: Tensor,
    y: Tensor,
    transpose_x: bool = False,
    transpose_y: bool = False,
    *,
    arithmetic: Arithmetic,
    outputs: Outputs,
) -> Tensor:
    """Matrix product as NumPy's matmul; transposing has no effect on one axis alone."""
    if transpose_x and x.ndim > 1:
        x = x.mT
    if transpose_y and y.ndim > 1:
        y = y.mT
    if x.dtype is not y.dtype:
        return _product_of_two_types(x, y, arithmetic, outputs)
    return _stepwise_product(x, y, arithmetic) if arithmetic.stepwise(x) else arithmetic.dot(x, y)


def _product_of_two_types(x: Tensor, y: Tensor, arithmetic: Arithmetic, outputs: Outputs) -> Tensor:
    """From iOS 17 on a constant may be of another float type than the result; it is not rounded before its use."""
    refuse_mixed(x, y)
    stated = outputs[0].type
    dtype = HELD_AS[stated.dtype] if isinstance(stated, TensorType) else x.dtype
    if dtype is torch.float16 and arithmetic.accumulation == "float16":
        return _stepwise_product(x.half(), y.half(), arithmetic)
    return torch.matmul(x.float(), y.float()).to(dtype)


def _stepwise_product(x: Tensor, y: Tensor, arithmetic: Arithmetic) -> Tensor:
    result = arithmetic.dot(x if x.ndim > 1 else x.unsqueeze(0), y if y.ndim > 1 else y.unsqueeze(-1))
    if y.ndim == 1:
        result = result.squeeze(-1)
    if x.ndim == 1:
        result = result.squeeze(-1 if y.ndim == 1 else -2)
    return result


@lru_cache(maxsize=64)
def _refuse_other_equations(equation: str) -> None:
    """The two forms that MIL defines, under any names of the axes: nchw,nwhu->nchu and chw,whu->chu."""
    places: dict[str, int] = {}
    form = "".join(
        str(places.setdefault(c, len(places))) if c.isalpha() else c for c in equation.replace(" ", "")
    )
    if form not in ("0123,0324->0124", "012,213->013"):
        raise ValueError(f'equation "{equation}" is none of the two that the operation is defined for')


@kernel("einsum", fresh=True)
def einsum(values: Tensors, equation: str, *, arithmetic: Arithmetic) -> Tensor:
    """Matrix product over axes -3 and -1, with the other axes as batches that broadcast."""
    _refuse_other_equations(equation)
    x, y = values
    return arithmetic.dot(x.transpose(-3, -2), y.transpose(-3, -2)).transpose(-3, -2)
