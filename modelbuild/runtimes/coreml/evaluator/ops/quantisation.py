"""quantize and dequantize (iOS 17): between floats and 8-bit integers, by a scale and a zero point."""

from __future__ import annotations

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import kernel

RANGES = {"int8": (torch.int8, -128, 127), "uint8": (torch.uint8, 0, 255)}


def along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """A scale or zero point in a shape in which it meets `x`: one number for all, or one for each index of `axis`."""
    if parameter.ndim == 0:
        return parameter
    if axis is None:
        raise ValueError("a scale or zero point for every channel needs an axis")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} is none of an input of rank {x.ndim}")
    if parameter.ndim != 1 or parameter.shape[0] != x.shape[axis]:
        shapes = f"{list(parameter.shape)} for {x.shape[axis]} channels"
        raise ValueError(f"a scale or zero point must have one number for every channel, not {shapes}")
    shape = [1] * x.ndim
    shape[axis] = -1
    return parameter.reshape(shape)


@kernel("quantize", fresh=True)
def quantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    output_dtype: str,
    arithmetic: Arithmetic,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point), halves to even (as NumPy and ONNX round); NaN becomes 0."""
    if output_dtype not in RANGES:
        raise ValueError(f'output_dtype "{output_dtype}" is not one of {", ".join(sorted(RANGES))}')
    dtype, least, most = RANGES[output_dtype]
    result = torch.round(arithmetic.wide(input) / arithmetic.wide(along(scale, input, axis)))
    if zero_point is not None:
        result += along(zero_point, input, axis).to(result.dtype)
    return torch.nan_to_num(result.clamp_(least, most), nan=0.0).to(dtype)


@kernel("dequantize", fresh=True)
def dequantize(
    input: Tensor,  # noqa: A002 - MIL's name
    scale: Tensor,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """Compute scale * (input - zero_point) in the type of `scale`: an exact difference, a product rounded once."""
    result = input.to(scale.dtype)
    if zero_point is not None:
        result = result - along(zero_point, input, axis).to(scale.dtype)
    return result * along(scale, input, axis)
