"""Operations on each value by itself: unary, binary, comparisons, logic, casts.

Results are rounded once: what takes several steps on float16 values takes them in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import wraps

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS
from modelbuild.runtimes.coreml.evaluator.kernels import binary, kernel, unary

# What `cast` calls a dtype where that differs from the name of the type itself.
SHORT_NAMES: Mapping[str, str] = {"fp16": "float16", "fp32": "float32", "fp64": "float64"}

unary(
    {
        "abs": torch.abs,
        "acos": torch.acos,
        "asin": torch.asin,
        "atan": torch.atan,
        "atanh": torch.atanh,
        "ceil": torch.ceil,
        "cos": torch.cos,
        "cosh": torch.cosh,
        "erf": torch.erf,
        "exp": torch.exp,
        "floor": torch.floor,
        "logical_not": torch.logical_not,
        "round": torch.round,  # ties go to the even neighbour, as NumPy's do in MIL's value_inference
        "sin": torch.sin,
        "sinh": torch.sinh,
        "sqrt": torch.sqrt,
        "square": torch.square,
        "tan": torch.tan,
        "tanh": torch.tanh,
    }
)
binary(
    {
        "add": torch.add,
        "equal": torch.eq,
        "greater": torch.gt,
        "greater_equal": torch.ge,
        "less": torch.lt,
        "less_equal": torch.le,
        "logical_and": torch.logical_and,
        "logical_or": torch.logical_or,
        "logical_xor": torch.logical_xor,
        "maximum": torch.maximum,  # of a number and NaN: NaN, as NumPy's in MIL's value_inference
        "minimum": torch.minimum,
        "mod": torch.remainder,  # has the sign of the divisor, as Python's %
        "mul": torch.mul,
        "not_equal": torch.ne,
        "sub": torch.sub,
    }
)


def rounded_once(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """`compute` for float16 values as well: worked out in float32, and the result rounded."""

    @wraps(compute)
    def rounded(x: Tensor, *more: Tensor, **options: object) -> Tensor:
        if x.dtype is not torch.float16:
            return compute(x, *more, **options)
        return compute(x.float(), *more, **options).half()

    return rounded


def to_integers(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers as integers of `dtype`: without their fraction, NaN as 0, those beyond the range as its nearest end.

    MIL says nothing of the last two; this is how AArch64, which Core ML runs on, converts (FCVTZS), and unlike
    C's conversion it is the same on every machine.
    """
    limits = torch.iinfo(dtype)
    if x.numel():
        low, high = torch.aminmax(x)
        if low.item() >= limits.min and high.item() <= limits.max:  # neither holds of NaN
            return x.to(dtype)
    return x.double().nan_to_num_(0.0).clamp_(limits.min, limits.max).to(dtype)


@kernel("cast", fresh=True)
def cast(x: Tensor, dtype: str) -> Tensor:
    """To another dtype: floats lose their fraction in integers, and become True unless they are 0."""
    held = HELD_AS.get(SHORT_NAMES.get(dtype, dtype))
    if held is None:
        raise ValueError(f'"{dtype}" is no dtype that values can be cast to')
    if not x.dtype.is_floating_point or held.is_floating_point or held is torch.bool:
        return x.to(held, copy=True)
    return to_integers(x, held)


@kernel("clip", fresh=True)
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`min(max(x, alpha), beta)`; NaN stays NaN."""
    return torch.clamp(x, alpha, beta)


@kernel("threshold", fresh=True)
def threshold(x: Tensor, alpha: Tensor) -> Tensor:
    """`max(x, alpha)`, of integers as well; NaN stays NaN."""
    return torch.maximum(x, alpha)


@kernel("exp2", fresh=True)
def exp2(x: Tensor) -> Tensor:
    """`2^x`. Of integers it is an integer too: as MIL's value_inference has it, the fraction of 2^-1 is dropped."""
    return torch.exp2(x) if x.dtype.is_floating_point else to_integers(torch.exp2(x.double()), x.dtype)


@kernel("sign", fresh=True)
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; of NaN NaN, as in NumPy (torch.sign has 0 there)."""
    signs = torch.sign(x)
    if x.dtype.is_floating_point and math.isnan(x.sum().item()):  # much faster than looking at each value
        signs.masked_fill_(x.isnan(), math.nan)
    return signs


@kernel("inverse", fresh=True)
@rounded_once
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """`1 / (x + epsilon)`."""
    return torch.reciprocal(x + epsilon)


@kernel("rsqrt", fresh=True)
@rounded_once
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """`1 / sqrt(x + epsilon)`."""
    return torch.rsqrt(x + epsilon)


@kernel("log", fresh=True)
def log(x: Tensor, epsilon: float | None = None) -> Tensor:
    """The logarithm of x + epsilon. The default of 1e-45 has the dtype of `x`: in float16 it is 0."""
    if x.dtype is torch.float16:
        return torch.log(x.float() + (epsilon or 0.0)).half()
    return torch.log(x + (1e-45 if epsilon is None else epsilon))


@kernel("real_div", fresh=True)
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """The quotient; of integers it is an integer too, rounded towards zero (coremltools casts the quotient)."""
    return torch.div(x, y) if x.dtype.is_floating_point else torch.div(x, y, rounding_mode="trunc")


@kernel("floor_div", fresh=True)
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """The exact x / y rounded down, as Python's //: 1 // 0.1 is 9, where the rounded quotient would be 10."""
    if x.dtype is torch.float16:
        return torch.floor_divide(x.float(), y.float()).half()
    return torch.floor_divide(x, y)


@kernel("pow", fresh=True)
def power(x: Tensor, y: Tensor) -> Tensor:
    """`x` to the power of `y`. Raises ValueError for an integer to a negative power, which is no integer."""
    if not y.dtype.is_floating_point and bool((y < 0).any()):
        raise ValueError("an integer to a negative power is no integer")
    return torch.pow(x, y)


@kernel("select", fresh=True)
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """`a` where `cond` holds, else `b`."""
    return torch.where(cond, a, b)
