"""Operations that put values in order. Of equal values the one with the lower index comes first."""

from __future__ import annotations

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import kernel

INDICES = {"int32": torch.int32, "uint16": torch.uint16}
MANY, FEW = 1024, 8  # from how many values on picking one in so many is faster than sorting all


@kernel("argsort", fresh=True)
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """The indices that put `x` in order."""
    return torch.sort(x, dim=axis, descending=not ascending, stable=True).indices.to(torch.int32)


@kernel("topk", fresh=True)
def topk(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    """The `k` largest values, or smallest; all for -1. Without `sort` any order is right, the sorted one too."""
    if output_indices_dtype not in INDICES:
        raise ValueError(f'indices cannot be of type "{output_indices_dtype}"')
    length = x.shape[axis]
    count = length if k == -1 else k
    if not 0 <= count <= length:
        raise ValueError(f"{count} of {length} values are asked for")
    chosen = _picked(x, count, axis, ascending) if length >= MANY and count * FEW <= length else None
    if chosen is None:
        ordered = torch.sort(x, dim=axis, descending=not ascending, stable=True)
        chosen = ordered.values.narrow(axis, 0, count), ordered.indices.narrow(axis, 0, count)
    return (chosen[0], chosen[1].to(INDICES[output_indices_dtype])) if return_indices else chosen[0]


def _picked(x: Tensor, count: int, axis: int, ascending: bool) -> tuple[Tensor, Tensor] | None:
    """Values and indices without sorting all, or None where equal values or NaN leave the order of indices open."""
    if x.dtype == torch.uint16 or not count:
        return None
    values, indices = torch.topk(x, count, axis, largest=not ascending)
    last = values.narrow(axis, count - 1, 1)
    within = int(torch.count_nonzero(x <= last if ascending else x >= last))
    distinct = values.narrow(axis, 1, count - 1) != values.narrow(axis, 0, count - 1)
    return (values, indices) if within == values.numel() and bool(distinct.all()) else None
