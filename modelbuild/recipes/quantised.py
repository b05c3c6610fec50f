"""Weights as 8-bit integers and a scale for each output channel, the way Core ML's linear quantisation stores them.

Taken are all weights of two axes or more, and of more numbers than a given one. They are computed in the type that
the file holds them in, float16 or float32: a scale too small for float16 to hold well is part of the format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from modelbuild.dataset import Array
from modelbuild.equivalence.tolerance import UNCOMPRESSED
from modelbuild.recipes import inference

COMPUTED = "float32|float16|float16-sums"
NAME = re.compile(rf"int8-(symmetric|affine)-(\d+)-({COMPUTED})")
APART = re.compile(rf"{UNCOMPRESSED}({COMPUTED})")
LEAST, MOST = -128, 127
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")


class Weights(NamedTuple):
    """How weights are stored; `symmetric`: no zero point. `threshold`: those of so many numbers are left alone."""

    symmetric: bool
    threshold: int


def split(arithmetic: str) -> tuple[Weights | None, str]:
    """How weights are stored, and what is computed in: of `int8-symmetric-2048-float16`, or `uncompressed-float16`.

    None where they are not stored in 8 bits; any other name is an arithmetic.
    """
    found, apart = NAME.fullmatch(arithmetic), APART.fullmatch(arithmetic)
    if found is None:
        return None, apart[1] if apart is not None else arithmetic
    return Weights(found[1] == "symmetric", int(found[2])), found[3]


def quantise(module: nn.Module, data: Mapping[str, Array], weights: Weights, dtype: torch.dtype) -> None:
    """Replace every weight that is taken by what 8 bits leave of it; `data`: inputs to find the axes with."""
    taken = [each for each in _stored(module) if each.ndim > 1 and each.numel() > weights.threshold]
    with torch.no_grad():
        for value, axis in zip(taken, _channels(module, data, taken), strict=True):
            value.copy_(through(value.to(dtype), axis, weights.symmetric))


def through(value: Tensor, axis: int, symmetric: bool) -> Tensor:
    """`value` to 8 bits and back, with one scale for each index of `axis`; the type stays."""
    others = [each for each in range(value.ndim) if each != axis]
    low, high = value.amin(others, keepdim=True), value.amax(others, keepdim=True)
    if symmetric:
        scale = 2 * torch.maximum(low.abs(), high.abs()) / (2 * MOST)
        zero = torch.zeros_like(scale)
    else:
        low, high = low.clamp(max=0), high.clamp(min=0)
        scale = (high - low) / (MOST - LEAST)
        zero = ((LEAST * high - MOST * low) / (high - low)).round().clamp(LEAST, MOST)
    stored = ((value / scale).round() + zero).clamp(LEAST, MOST)
    return torch.where(scale == 0, value, (stored - zero) * scale)


def _stored(module: nn.Module) -> Iterator[Tensor]:
    for value in [*module.parameters(), *module.buffers()]:
        if value.dtype == torch.float32:
            yield value


def _channels(module: nn.Module, data: Mapping[str, Array], taken: list[Tensor]) -> list[int]:
    """The axis of each weight that is the output channel of what reads it, the first where nothing tells."""
    watch = _Axes(taken)
    with watch:
        inference.outputs(module, {name: array[: inference.BATCH] for name, array in data.items()})
    return [watch.found.get(value.data_ptr(), 0) for value in taken]


class _Axes(TorchDispatchMode):
    """Notes as which axis of a weight the output channels of a product or a convolution are read."""

    def __init__(self, taken: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says nothing of it
        self._strides = {value.data_ptr(): value.stride() for value in taken}
        self.found: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name
        if name == "aten::convolution":
            self.found[args[1].data_ptr()] = int(args[6])  # of a transposed one the inputs come first
        if name in PRODUCTS:
            weight = args[-1]
            strides = self._strides.get(weight.data_ptr(), ())
            if weight.stride(-1) in strides:
                self.found[weight.data_ptr()] = strides.index(weight.stride(-1))
        return func(*args, **(kwargs or {}))
