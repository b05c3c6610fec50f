"""Operations that pick values by index."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import Opset, kernel
from modelbuild.runtimes.coreml.evaluator.ops.indices import flat, located, selected, taken

DIRECT = (torch.int32, torch.int64)


@kernel("gather", fresh=True)
def gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
    *,
    opset: Opset,
) -> Tensor:
    """x[..., indices, ...] at `axis`, as gather of TensorFlow. For `validate_indices` see `located`.

    `index_select` fails for an index that is negative or too large, and for uint16: only then is more work done.
    """
    if indices.dtype not in DIRECT:  # converters like to narrow them to 16 bits
        indices = indices.long()
    if batch_dims:
        return _gather_by_batch(x, indices, axis % x.ndim, batch_dims, opset)
    where = indices if indices.ndim == 1 else indices.reshape(-1)
    try:
        result = x.index_select(axis, where)
    except (IndexError, RuntimeError):
        result = selected(x, located(where, x.shape[axis], opset), axis)
    if indices.ndim == 1:
        return result
    axis %= x.ndim
    return result.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def _gather_by_batch(x: Tensor, indices: Tensor, axis: int, batch_dims: int, opset: int) -> Tensor:
    """The first `batch_dims` axes of `x` and `indices` go together."""
    batch, before, after = x.shape[:batch_dims], x.shape[batch_dims:axis], x.shape[axis + 1 :]
    where = located(indices, x.shape[axis], opset).reshape(prod(batch), 1, -1, 1)
    rows = x.reshape(prod(batch), prod(before), x.shape[axis], prod(after))
    return taken(rows, where, 2).reshape(batch + before + indices.shape[batch_dims:] + after)


@kernel("gather_along_axis", fresh=True)
def gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False, *, opset: Opset
) -> Tensor:
    """Each index is one into `axis` at its own place on the others. For `validate_indices` see `located`."""
    return taken(x, located(indices, x.shape[axis], opset), axis)


@kernel("gather_nd", fresh=True)
def gather_nd(
    x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False, *, opset: Opset
) -> Tensor:
    """The last axis of `indices` holds indices into leading axes of `x`, as gather_nd of TensorFlow."""
    depth = batch_dims + indices.shape[-1]
    batches, sizes, rest = prod(x.shape[:batch_dims]), x.shape[batch_dims:depth], x.shape[depth:]
    where = flat(indices, sizes, opset).reshape(batches, -1)
    where = where + prod(sizes) * torch.arange(batches).unsqueeze(1)
    rows = x.reshape(batches * prod(sizes), *rest)
    return selected(rows, where.reshape(-1), 0).reshape(indices.shape[:-1] + rest)
