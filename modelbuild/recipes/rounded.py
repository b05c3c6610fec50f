"""What arithmetic below float32 does to the student: PyTorch with results rounded, and nobody's runtime in it.

"float16": weights, inputs and the result of every operation are rounded to the nearest float16; inside an operation
float32 is computed in. "float16-sums": in addition every step of a sum is rounded, from the first term to the last,
as an accumulator of that width does; operations that are sums in disguise (normalisation, softmax) are taken apart.
Before either, or before float32, weights may be held in 8 bits: "int8-symmetric-2048-float16", see `quantised`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from modelbuild import dataset, network, tensors
from modelbuild.dataset import Array
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.recipes import inference, quantised
from modelbuild.recipes.plain import plain

ARITHMETICS = ("float16", "float16-sums")
Ints = list[int]


def outputs(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write outputs.safetensors, in float32 but with the values that `params["rounds"]` arithmetic gives."""
    if not known(params["rounds"]):
        fact = f'there is no "{params["rounds"]}" arithmetic'
        raise RecipeError("reference", fact, f"Known: {', '.join(ARITHMETICS)}, and int8-... in front of one")
    data = dataset.read(inputs["evaluation"]).inputs
    with deterministic():
        module = network.restore(inputs["student"])
        tensors.save(out_dir / "outputs.safetensors", rounded(module, data, params["rounds"]))


def known(arithmetic: str) -> bool:
    """Whether `rounded` can do it."""
    _, computed = quantised.split(arithmetic)
    return computed in ARITHMETICS or computed != arithmetic


def rounded(module: nn.Module, data: Mapping[str, Array], arithmetic: str) -> dict[str, Array]:
    """The outputs of `module` in `arithmetic`, on `data` by input name. The module's weights stay rounded."""
    weights, computed = quantised.split(arithmetic)
    if weights is not None:
        narrow_type = torch.float32 if computed == "float32" else torch.float16
        quantised.quantise(module, data, weights, narrow_type)
    return inference.outputs(module, data) if computed == "float32" else _halved(module, data, computed)


def _halved(module: nn.Module, data: Mapping[str, Array], computed: str) -> dict[str, Array]:
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            value.copy_(half(value))
    narrow = {
        n: a.astype(np.float16).astype(a.dtype) if a.dtype == np.float32 else a for n, a in data.items()
    }
    with plain(), Rounding(stepwise=computed == "float16-sums"):
        return inference.outputs(module, narrow)


def half(value: Tensor) -> Tensor:
    """`value` with each float32 rounded to the nearest float16, half to even; other types as they are."""
    return value.half().float() if value.dtype == torch.float32 else value


class Rounding(TorchDispatchMode):
    """Rounds what every operation gives: a new tensor, or in place where the operation worked in place.

    A view is left alone: what it looks at was rounded when it was made.
    """

    def __init__(self, stepwise: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says nothing of it
        self._stepwise = stepwise

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self._stepwise and func in _parts():
            with self:
                return _parts()[func](*args, **(kwargs or {}))
        adds = STEPWISE.get(func._schema.name) if self._stepwise else None
        result = (adds or func)(*args, **(kwargs or {}))
        aliases = [each.alias_info for each in func._schema.returns if each.alias_info is not None]
        if not aliases:
            return tree_map_only(Tensor, half, result)
        if any(alias.is_write for alias in aliases):
            tree_map_only(Tensor, lambda value: value.copy_(half(value)), result)
        return result


@cache
def _parts() -> Mapping[Any, Callable[..., Any]]:
    """Operation -> the same in simpler ones, of PyTorch's own decompositions."""
    aten = torch.ops.aten
    compound = [
        aten.native_layer_norm,
        aten.native_group_norm,
        aten._softmax,
        aten._log_softmax,
    ]
    found: Mapping[Any, Callable[..., Any]] = torch._decomp.get_decompositions(compound)
    return found


# -- sums, a step at a time


def _product(a: Tensor, b: Tensor) -> Tensor:
    """[..., m, k] x [..., k, n]; a product of two float16 numbers is exact in float32, their sum is rounded."""
    if a.dtype != torch.float32:
        return torch.matmul(a, b)
    total = torch.zeros((*a.shape[:-1], b.shape[-1]))
    for k in range(a.shape[-1]):
        total = half(total + a[..., :, k, None] * b[..., None, k, :])
    return total


def _biased(bias: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return beta * bias + alpha * _product(a, b)


def _convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints,
    transposed: bool, output_padding: Ints, groups: int,
) -> Tensor:  # fmt: skip
    """A convolution as a matrix product of its patches; a transposed one as that of the input spread out.

    Dumoulin and Visin, A guide to convolution arithmetic for deep learning (2016), section 4.
    """
    kernel = weight.shape[2:]
    before = after = list(padding)
    if transposed:
        x, weight = _spread(x, stride), _turned(weight, groups)
        before = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        after = [p + o for p, o in zip(before, output_padding, strict=True)]
        stride = [1] * len(kernel)
    ends = [end for pair in zip(reversed(before), reversed(after), strict=True) for end in pair]
    patches = functional.pad(x, ends)
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True), 2):
        patches = patches.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    sizes = patches.shape[2 : 2 + len(kernel)]
    columns = patches.movedim(1, 1 + len(kernel)).reshape(len(x), math.prod(sizes), groups, -1).movedim(2, 1)
    rows = weight.reshape(groups, weight.shape[0] // groups, -1).transpose(1, 2)
    result = _product(columns, rows.expand(len(x), -1, -1, -1)).transpose(2, 3).reshape(len(x), -1, *sizes)
    return result if bias is None else result + bias.reshape(-1, *[1] * len(kernel))


def _spread(x: Tensor, stride: Ints) -> Tensor:
    """`x` with stride - 1 zeros between neighbours."""
    sizes = [(size - 1) * step + 1 for size, step in zip(x.shape[2:], stride, strict=True)]
    wide = x.new_zeros((*x.shape[:2], *sizes))
    wide[(slice(None), slice(None), *(slice(None, None, step) for step in stride))] = x
    return wide


def _turned(weight: Tensor, groups: int) -> Tensor:
    """[in, out / groups, ...] of a transposed convolution as [out, in / groups, ...] of the plain one."""
    flipped = weight.flip(list(range(2, weight.ndim)))
    parts = [part.transpose(0, 1) for part in flipped.chunk(groups)]
    return torch.cat(parts)


def _sum(x: Tensor, dim: Ints | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    if x.dtype != torch.float32:
        return torch.sum(x, dim, keepdim=keepdim, dtype=dtype)
    axes = [axis % x.ndim for axis in dim] if dim else list(range(x.ndim))
    terms = x.movedim(axes, list(range(len(axes)))).flatten(0, max(len(axes) - 1, 0))
    total = torch.zeros_like(terms[0])
    for term in terms:
        total = half(total + term)
    for axis in sorted(axes) if keepdim else ():
        total = total.unsqueeze(axis)
    return total


def _mean(x: Tensor, dim: Ints | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    axes = dim or list(range(x.ndim))
    return _sum(x, axes, keepdim, dtype=dtype) / math.prod(x.shape[axis] for axis in axes)


def _var_mean(
    x: Tensor, dim: Ints | None = None, unbiased: bool = True, keepdim: bool = False,
    *, correction: float | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    axes = [axis % x.ndim for axis in dim] if dim else list(range(x.ndim))
    mean = half(_mean(x, axes, True))
    apart = half(x - mean)
    count = math.prod(x.shape[axis] for axis in axes) - (unbiased if correction is None else correction)
    both = _sum(half(apart * apart), axes, True) / count, mean
    return both if keepdim else (both[0].squeeze(axes), both[1].squeeze(axes))


STEPWISE: Mapping[str, Callable[..., Any]] = {
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::addmm": _biased,
    "aten::baddbmm": _biased,
    "aten::convolution": _convolution,
    "aten::sum": _sum,
    "aten::mean": _mean,
    "aten::var_mean": _var_mean,
}
