"""Reductions over axes, and running sums.

Over no axes at all (an empty list, or a value without axes) every one works on each value by itself. Of integers,
what is no integer (a mean, a logarithm) loses its fraction, as it does in MIL's value_inference.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.constants import HELD_AS
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, kernel
from modelbuild.runtimes.coreml.evaluator.ops.elementwise import to_integers

Reduction = Callable[[Tensor, Ints, bool, Arithmetic], Tensor]


def _selecting(name: str, reduce: Reduction) -> None:
    """Register a reduction that gives one of the values it is given: nothing is rounded."""

    @kernel(name, fresh=True)
    def selected(
        x: Tensor, arithmetic: Arithmetic, axes: Ints | None = None, keep_dims: bool = False
    ) -> Tensor:
        over = tuple(range(x.ndim)) if axes is None else axes
        return reduce(x, over, keep_dims, arithmetic) if over else x.clone()


def _adding(name: str, reduce: Reduction, of_integers: bool) -> None:
    """Register a reduction that sums up. `of_integers`: of integers, it is an integer without any rounding."""

    @kernel(name, fresh=True)
    def summed(
        x: Tensor, arithmetic: Arithmetic, axes: Ints | None = None, keep_dims: bool = False
    ) -> Tensor:
        over = tuple(range(x.ndim)) if axes is None else axes
        if not over:
            x = x.clone()
        if x.dtype is torch.float16:
            return reduce(arithmetic.wide(x), over, keep_dims, arithmetic).half()
        if x.is_floating_point() or of_integers:
            return reduce(x, over, keep_dims, arithmetic)
        return to_integers(reduce(x.double(), over, keep_dims, arithmetic), x.dtype)


def _sum(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    return arithmetic.total(x, axes, keep)


def _l1_norm(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    return arithmetic.total(torch.abs(x), axes, keep)


def _sum_square(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    return arithmetic.total(x * x, axes, keep)


def _l2_norm(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    return torch.sqrt(arithmetic.total(x * x, axes, keep))


def _mean(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    return arithmetic.mean(x, axes, keep)


def _log_sum(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    return torch.log(arithmetic.total(x, axes, keep))


def _log_sum_exp(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    if not axes:
        return x
    if not arithmetic.stepwise(x):
        return torch.logsumexp(x, axes, keep)
    top = torch.amax(x, axes, keepdim=True)
    top = torch.where(top.isinf(), 0.0, top)  # an infinity minus itself is no number
    result = torch.log(arithmetic.total(torch.exp(x - top), axes, keep=True)) + top
    return result if keep else torch.squeeze(result, axes)


def _prod(x: Tensor, axes: Ints, keep: bool, arithmetic: Arithmetic) -> Tensor:
    if not axes:
        return x
    if len(axes) == 1 and not arithmetic.stepwise(x):
        return torch.prod(x, axes[0], keep, dtype=x.dtype)
    gone = {axis % x.ndim for axis in axes}
    rows = x.movedim(axes, tuple(range(len(axes)))).flatten(0, len(axes) - 1)
    if arithmetic.stepwise(x):
        result = torch.ones_like(x.new_empty(rows.shape[1:]))
        for row in rows:
            result *= row
    else:
        result = torch.prod(rows, 0, dtype=x.dtype)
    kept = [1 if axis in gone else size for axis, size in enumerate(x.shape)]
    return result.reshape(kept) if keep else result


_selecting("reduce_max", lambda x, axes, keep, _: torch.amax(x, axes, keep))
_selecting("reduce_min", lambda x, axes, keep, _: torch.amin(x, axes, keep))
_adding("reduce_sum", _sum, of_integers=True)
_adding("reduce_l1_norm", _l1_norm, of_integers=True)
_adding("reduce_sum_square", _sum_square, of_integers=True)
_adding("reduce_prod", _prod, of_integers=True)
_adding("reduce_l2_norm", _l2_norm, of_integers=False)
_adding("reduce_mean", _mean, of_integers=False)
_adding("reduce_log_sum", _log_sum, of_integers=False)
_adding("reduce_log_sum_exp", _log_sum_exp, of_integers=False)


@kernel("reduce_argmax", fresh=True)
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Where the maximum along `axis` is; of several, the first (MIL leaves it open), as in NumPy."""
    return torch.argmax(x, axis, keep_dims).to(_index_type(output_dtype))


@kernel("reduce_argmin", fresh=True)
def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32") -> Tensor:
    """Where the minimum along `axis` is; of several, the first (MIL leaves it open), as in NumPy."""
    return torch.argmin(x, axis, keep_dims).to(_index_type(output_dtype))


def _index_type(name: str) -> torch.dtype:
    if name.lower() not in ("int32", "uint16"):
        raise ValueError(f'"{name}" is no dtype for positions: int32 or uint16')
    return HELD_AS[name.lower()]


@kernel("cumsum", fresh=True)
def cumsum(
    x: Tensor, arithmetic: Arithmetic, axis: int = 0, exclusive: bool = False, reverse: bool = False
) -> Tensor:
    """The sums of all values up to each along `axis`, without itself if `exclusive`, from the end if `reverse`."""
    terms = torch.flip(x, (axis,)) if reverse else x
    if exclusive:
        terms = _delayed(terms, axis)
    if arithmetic.stepwise(x):
        sums = torch.stack(list(accumulate(terms.unbind(axis), torch.add)), axis)
    else:
        wide = arithmetic.wide(terms)
        sums = torch.cumsum(wide, axis, dtype=wide.dtype).to(x.dtype)
    return torch.flip(sums, (axis,)) if reverse else sums


def _delayed(x: Tensor, axis: int) -> Tensor:
    """`x` moved on by one along `axis`, with a zero at the start."""
    count = x.shape[axis]
    start = torch.zeros_like(x.narrow(axis, 0, min(count, 1)))
    return torch.cat((start, x.narrow(axis, 0, max(count - 1, 0))), axis)
