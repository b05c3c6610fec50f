"""How sums of products are rounded. MIL says which dtype a value has, not how an operation adds up to it.

Devices differ: a CPU or GPU adds float16 products in float32 and rounds the total once ("float32"), a neural engine
may keep its accumulator in float16 and round after every multiply-add ("float16"). Both are offered; an operation
on float32 is the same in both. One element-wise operation, rounded once, is the same in both too.

In "float16" the order is that of the index, first to last: the plainest reading, and one of the least favourable.
A product of two float16 numbers is exact in float32, so `addcmul` rounds as a fused multiply-add does (twice, by
float32 first, which changes a result only in ties of ties).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Accumulation = Literal["float32", "float16"]


def single(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is: for what is always computed in more than float16."""
    return x if x.dtype == torch.float64 else x.float()


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """What operations that add up are written in. `accumulation` matters for float16 values alone."""

    accumulation: Accumulation = "float32"

    def stepwise(self, x: Tensor) -> bool:
        """Whether sums over `x` are rounded to float16 at every step."""
        return self.accumulation == "float16" and x.dtype == torch.float16

    def wide(self, x: Tensor) -> Tensor:
        """`x` in the type that a compound operation works in: float32 for float16, unless sums are stepwise."""
        return x.float() if x.dtype == torch.float16 and self.accumulation == "float32" else x

    def dot(self, a: Tensor, b: Tensor) -> Tensor:
        """Matrix product [..., m, k] x [..., k, n] -> [..., m, n] in the dtype of `a`."""
        if a.dtype != torch.float16:
            return torch.matmul(a, b)
        if self.accumulation == "float32":
            return torch.matmul(a.float(), b.float()).half()
        shape = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        result = a.new_zeros((*shape, a.shape[-2], b.shape[-1]))
        for k in range(a.shape[-1]):
            torch.addcmul(result, a[..., :, k : k + 1], b[..., k : k + 1, :], out=result)
        return result

    def total(self, x: Tensor, axes: tuple[int, ...], keep: bool = False) -> Tensor:
        """The sum of `x` over `axes` in the dtype of `x`; over no axes at all, `x` itself."""
        if not axes:
            return x
        if not self.stepwise(x):
            return torch.sum(x, axes, keepdim=keep, dtype=x.dtype)
        moved = x.movedim(tuple(axes), tuple(range(len(axes)))).flatten(0, len(axes) - 1)
        result = torch.zeros_like(moved[0])
        for row in moved:
            result += row
        if keep:
            for axis in sorted(each % x.ndim for each in axes):
                result = result.unsqueeze(axis)
        return result

    def mean(self, x: Tensor, axes: tuple[int, ...], keep: bool = False) -> Tensor:
        """The mean of `x` over `axes`: the total divided by the number of values, in the dtype of `x`."""
        count = 1
        for axis in axes:
            count *= x.shape[axis]
        return self.total(x, axes, keep) / count
