"""Resizing of the last axes: linear and nearest-neighbour interpolation on MIL's sampling grids."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, Outputs, kernel
from modelbuild.runtimes.coreml.evaluator.program import TensorType

# Grids that PyTorch's bilinear interpolation has too: MIL's name -> align_corners
AS_PYTORCH = {"STRICT_ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}


def grid(start: Tensor, end: Tensor, count: int, sampling_mode: str) -> Tensor:
    """`count` points from `start` to `end` (both [n], float64), as [n, count].

    The formulas of `resize_bilinear` in MIL's definition, with Xin = end - start + 1, i times the spacing written
    as one fraction so that the ends are met exactly.
    """
    i = torch.arange(count, dtype=torch.float64)
    first, reach = start.unsqueeze(-1), (end - start).unsqueeze(-1)
    if sampling_mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return first + (reach / 2 if sampling_mode == "ALIGN_CORNERS" else torch.zeros_like(reach))
        return first + i * reach / (count - 1)
    if sampling_mode == "DEFAULT":
        offset = i * (reach + 1) / count
    elif sampling_mode == "OFFSET_CORNERS":
        offset = (i + 0.5) * reach.clamp(min=1) / count
    elif sampling_mode == "UNALIGN_CORNERS":
        offset = (i + 0.5) * (reach + 1) / count - 0.5
    else:
        raise ValueError(f'sampling_mode "{sampling_mode}" is unknown')
    return first + torch.minimum(reach, offset.clamp(min=0))


@lru_cache(maxsize=512)
def _neighbours(size: int, count: int, sampling_mode: str) -> tuple[Tensor, Tensor, Tensor] | None:
    """For each point of the grid over an axis: the positions beside it, and how far it is between the two.

    None where the points are the axis's own positions.
    """
    ends = torch.tensor([[0.0], [size - 1.0]], dtype=torch.float64)
    points = grid(ends[0], ends[1], count, sampling_mode)[0]
    low = points.floor()
    if size == count and bool((points == torch.arange(size)).all()):
        return None
    return low.long(), (low + 1).clamp(max=size - 1).long(), (points - low).float()


def interpolate(x: Tensor, sizes: Ints, sampling_mode: str, arithmetic: Arithmetic) -> Tensor:
    """`x` with its last axes brought to `sizes`, each by linear interpolation."""
    wide = arithmetic.wide(x)
    if len(sizes) == 2 and sampling_mode in AS_PYTORCH and wide.dtype is torch.float32:
        images = wide.reshape(1, -1, *x.shape[-2:])
        result = F.interpolate(images, list(sizes), mode="bilinear", align_corners=AS_PYTORCH[sampling_mode])
        return result.reshape(*x.shape[:-2], *sizes).to(x.dtype)
    for axis, count in enumerate(sizes, x.ndim - len(sizes)):
        found = _neighbours(x.shape[axis], count, sampling_mode)
        if found is not None:
            low, high, share = found
            share = share.to(wide.dtype).reshape(-1, *[1] * (x.ndim - 1 - axis))
            wide = wide.index_select(axis, low) * (1 - share) + wide.index_select(axis, high) * share
    return wide.to(x.dtype, copy=wide is x)


@lru_cache(maxsize=512)
def _nearest(size: int, count: int, half_pixel: bool) -> Tensor:
    """floor((i + 1/2) size / count), or floor(i size / count), in whole numbers."""
    i = torch.arange(count)
    return (2 * i + 1) * size // (2 * count) if half_pixel else i * size // count


def _doubles(size: int, count: int) -> bool:
    """Whether an axis is repeated 1, 2, 4 ... times; PyTorch then finds the same positions, in float32 as it does."""
    return count % size == 0 and (count // size).bit_count() == 1


def nearest(x: Tensor, sizes: Ints, half_pixel: bool) -> Tensor:
    """`x` with its last axes brought to `sizes`, each value that of a position of `x`."""
    if len(sizes) == 2 and x.dtype is torch.float32 and all(map(_doubles, x.shape[-2:], sizes)):
        return F.interpolate(x.reshape(1, -1, *x.shape[-2:]), list(sizes)).reshape(*x.shape[:-2], *sizes)
    for axis, count in enumerate(sizes, x.ndim - len(sizes)):
        x = x.index_select(axis, _nearest(x.shape[axis], count, half_pixel))
    return x


def _enlarged(x: Tensor, factors: tuple[float, float], outputs: Outputs) -> Ints:
    """The new sizes of the last two axes: those that the program states, else floor(size * factor) in float32."""
    stated = outputs[0].type
    known = stated.shape[-2:] if isinstance(stated, TensorType) else (None, None)
    sizes = zip(known, x.shape[-2:], factors, strict=True)
    return tuple(int(np.float32(n) * np.float32(f)) if size is None else size for size, n, f in sizes)


@kernel("upsample_nearest_neighbor", fresh=True)
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0, *, outputs: Outputs
) -> Tensor:
    """Position i takes the value at floor(i size / new size), as PyTorch's "nearest"."""
    return nearest(x, _enlarged(x, (scale_factor_height, scale_factor_width), outputs), half_pixel=False)


@kernel("resize_nearest_neighbor", fresh=True)
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Position i takes the value at floor((i + 1/2) size / new size): TensorFlow's with half_pixel_centers."""
    return nearest(x, (target_size_height, target_size_width), half_pixel=True)


@kernel("upsample_bilinear", fresh=True)
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
    *,
    arithmetic: Arithmetic,
    outputs: Outputs,
) -> Tensor:
    """Linear interpolation with the scale that follows from the new sizes, however it was stated."""
    half = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and half:
        raise ValueError("align_corners and half_pixel_centers exclude each other")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if half else "DEFAULT"
    return interpolate(x, _enlarged(x, (scale_factor_height, scale_factor_width), outputs), mode, arithmetic)


@kernel("resize_bilinear", fresh=True)
def resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """Linear interpolation of the last two axes."""
    return interpolate(x, (target_size_height, target_size_width), sampling_mode, arithmetic)


@kernel("resize", fresh=True)
def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """The last `resized_dims` axes take the last sizes of `shape`; a size 0 leaves an axis as it is.

    Nearest neighbours on the DEFAULT grid are those of `resize_nearest_neighbor` (what TensorFlow gives with
    half_pixel_centers, for which coremltools writes it); which they are on the other grids is documented nowhere.
    """
    if not 0 < resized_dims <= len(shape) <= x.ndim:
        raise ValueError(f"cannot resize {resized_dims} axes of {x.ndim} to the last of {len(shape)} sizes")
    own = x.shape[-resized_dims:]
    sizes = tuple(new or old for new, old in zip(shape[-resized_dims:], own, strict=True))
    if interpolation_mode == "NEAREST_NEIGHBOR":
        if sampling_mode != "DEFAULT":
            raise ValueError(f"nearest neighbours have no definition for the sampling_mode {sampling_mode}")
        return nearest(x, sizes, half_pixel=True)
    if interpolation_mode != "LINEAR":
        raise ValueError(f'interpolation_mode "{interpolation_mode}" is unknown')
    if not x.dtype.is_floating_point:
        raise ValueError("no definition says how linear interpolation rounds whole numbers")
    return interpolate(x, sizes, sampling_mode, arithmetic)
