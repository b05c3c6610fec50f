"""Operations that write values by index into a copy of a tensor, or into the tensor where nothing else needs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import Opset, kernel
from modelbuild.runtimes.coreml.evaluator.ops.indices import flat, located

SIGNS: Mapping[str, int] = {"add": 1, "sub": -1}
STEPS: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
}
PLAIN = (torch.float16, torch.float32, torch.float64, torch.int32)
REDUCTIONS: Mapping[str, str] = {"mul": "prod", "max": "amax", "min": "amin"}


@kernel("scatter", fresh=True, overwrites="data")
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    *,
    opset: Opset,
    arithmetic: Arithmetic,
    owned: bool = False,
) -> Tensor:
    """data[..., indices, ...] at `axis` is updated by `mode`. For `validate_indices` see `located`."""
    axis %= data.ndim
    if indices.numel() == indices.ndim == 1 and mode in ("add", "update") and data.dtype in PLAIN:
        row, shape = int(indices), data.shape
        if 0 <= row < shape[axis]:  # what a loop does that fills a buffer
            _expect(updates, (*shape[:axis], 1, *shape[axis + 1 :]))
            result = data if owned else data.clone()
            place = result.narrow(axis, row, 1)
            place.add_(updates) if mode == "add" else place.copy_(updates)
            return result
    where = located(indices, data.shape[axis], opset)
    before, after = data.shape[:axis], data.shape[axis + 1 :]
    _expect(updates, before + where.shape + after)
    result = data if owned else data.clone()
    if where.ndim != 1:
        where = where.reshape(-1)
        updates = updates.reshape(before + where.shape + after)
    _write_rows(result, where, updates, axis, mode, arithmetic)
    return result


@kernel("scatter_nd", fresh=True, overwrites="data")
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool = False,
    *,
    opset: Opset,
    arithmetic: Arithmetic,
    owned: bool = False,
) -> Tensor:
    """The last axis of `indices` holds indices into leading axes of `data`, as scatter_nd of TensorFlow."""
    depth = indices.shape[-1]
    sizes, rest = data.shape[:depth], data.shape[depth:]
    where = flat(indices, sizes, opset)
    _expect(updates, where.shape + rest)
    owned = owned and data.is_contiguous()
    result = data if owned else data.clone(memory_format=torch.contiguous_format)
    rows = result.view(prod(sizes), *rest)
    _write_rows(rows, where.reshape(-1), updates.reshape(where.numel(), *rest), 0, mode, arithmetic)
    return result


@kernel("scatter_along_axis", fresh=True, overwrites="data")
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
    *,
    opset: Opset,
    arithmetic: Arithmetic,
    owned: bool = False,
) -> Tensor:
    """Each update goes to the index into `axis` at its own place on the others."""
    axis %= data.ndim
    where = located(indices, data.shape[axis], opset)
    _expect(updates, where.shape)
    _expect(where, data.shape[:axis] + where.shape[axis : axis + 1] + data.shape[axis + 1 :])
    result = data if owned else data.clone()
    _write_each(result, where, updates, axis, mode, arithmetic)
    return result


def _expect(value: Tensor, shape: Sequence[int]) -> None:
    if value.shape != tuple(shape):
        raise ValueError(f"updates or indices are {list(value.shape)} where {list(shape)} is wanted")


def _write_rows(
    data: Tensor, where: Tensor, updates: Tensor, axis: int, mode: str, arithmetic: Arithmetic
) -> None:
    """Slice i of `updates` along `axis` goes to slice where[i] of `data`; of several "update", the last counts.

    `index_copy_` is fast and promises nothing about indices that occur twice, `index_add_` nothing about rounding.
    """
    if mode in SIGNS and (data.dtype != torch.float16 or _each_once(where)):
        data.index_add_(axis, where, updates, alpha=SIGNS[mode])
    elif mode == "update" and _each_once(where):
        data.index_copy_(axis, where, updates)
    else:
        lined_up = where.reshape([-1 if each == axis else 1 for each in range(data.ndim)])
        _write_each(data, lined_up.expand(updates.shape), updates, axis, mode, arithmetic)


def _each_once(where: Tensor) -> bool:
    return where.numel() < 2 or len(set(where.tolist())) == where.numel()


def _write_each(
    data: Tensor, where: Tensor, updates: Tensor, axis: int, mode: str, arithmetic: Arithmetic
) -> None:
    """One after the other along `axis`. Several float16 values for one place add up as `arithmetic` says."""
    if mode in STEPS and data.dtype == torch.float16 and not arithmetic.stepwise(data):
        wide = data.float()
        _write_each(wide, where, updates.float(), axis, mode, arithmetic)
        data.copy_(wide)
    elif mode == "update":
        data.scatter_(axis, where, updates)
    elif mode in STEPS and (mode == "div" or data.dtype == torch.float16):
        _step_by_step(data, where, updates, axis, mode)
    elif mode in SIGNS:
        data.scatter_add_(axis, where, updates if mode == "add" else -updates)
    elif mode in REDUCTIONS:
        data.scatter_reduce_(axis, where, updates, REDUCTIONS[mode], include_self=True)
    else:
        raise _undefined(mode, data)


def _step_by_step(data: Tensor, where: Tensor, updates: Tensor, axis: int, mode: str) -> None:
    """Every result rounded to the dtype of `data`."""
    if not data.is_floating_point():
        raise _undefined(mode, data)
    for number in range(where.shape[axis]):
        place, value = where.narrow(axis, number, 1), updates.narrow(axis, number, 1)
        data.scatter_(axis, place, STEPS[mode](data.gather(axis, place), value))


def _undefined(mode: str, data: Tensor) -> ValueError:
    return ValueError(f'mode "{mode}" is not defined for {str(data.dtype).removeprefix("torch.")}')
