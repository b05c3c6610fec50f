"""Parts of images: crops, boxes resized, and values at points between pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic, single
from modelbuild.runtimes.coreml.evaluator.kernels import Ints, kernel
from modelbuild.runtimes.coreml.evaluator.ops.resize import grid

MINUS_ONE_TO_ONE = "normalized_minus_one_to_one"
ZERO_TO_ONE = "normalized_zero_to_one"
# MIL's padding_mode -> PyTorch's, and the align_corners with which PyTorch's means the same (None: either)
PADDING = {"constant": ("zeros", None), "border": ("border", None), "reflection": ("reflection", True)}
PADDING["symmetric"] = ("reflection", False)


@kernel("crop")
def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """`x` without the given numbers of rows (top, bottom) and columns (left, right)."""
    (top, bottom), (left, right) = crop_height, crop_width
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]


# -- values at points


def _index(position: Tensor, inside: Tensor) -> Tensor:
    return torch.where(inside, position, 0).long()


def _four_corners(x: Tensor, image: Tensor, v: Tensor, h: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The pixels round each point: their values [..., channels], their weights, and whether they are in the image.

    `image` ([n, 1, 1]) says of which image of `x` the points are, `v` and `h` ([n, height, width]) where they are.
    """
    height, width = x.shape[-2:]
    top, left = v.floor(), h.floor()
    corners = []
    for row, share_v in ((top, top + 1 - v), (top + 1, v - top)):
        for column, share_h in ((left, left + 1 - h), (left + 1, h - left)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            values = x[image, :, _index(row, inside), _index(column, inside)]
            corners.append((values, share_v * share_h, inside))
    return corners


def _bilinear(x: Tensor, image: Tensor, v: Tensor, h: Tensor, outside: float) -> Tensor:
    """Values of `x` at points, [n, channels, height, width], in its dtype; pixels beyond the edge are `outside`.

    The weights are worked out in the precision of the points; the four products and their sums are rounded as the
    dtype of `x` has it.
    """
    first, *others = (
        torch.where(inside.unsqueeze(-1), values, outside) * weights.to(x.dtype).unsqueeze(-1)
        for values, weights, inside in _four_corners(x, image, v, h)
    )
    return sum(others, start=first).movedim(-1, 1)


def _nearest(x: Tensor, image: Tensor, v: Tensor, h: Tensor, outside: float) -> Tensor:
    """The values of the pixels next to points; halfway, of the even one, as PyTorch's grid_sample."""
    row, column = v.round(), h.round()
    height, width = x.shape[-2:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    values = x[image, :, _index(row, inside), _index(column, inside)]
    return torch.where(inside.unsqueeze(-1), values, outside).movedim(-1, 1)


def _images(x: Tensor) -> Tensor:
    return torch.arange(x.shape[0]).reshape(-1, 1, 1)


# -- boxes


def _corners(boxes: Tensor, mode: str) -> tuple[Tensor, ...]:
    """Top, left, bottom, right of `boxes` [n, 4], each [n]; a box reaches half its size to each side."""
    form, _, order = mode.rpartition("_SIZE_") if mode.startswith("CENTER") else mode.partition("_")
    first, second, third, fourth = boxes.unbind(-1)
    if order not in ("HEIGHT_FIRST", "WIDTH_FIRST") or form not in ("CENTER", "CORNERS"):
        raise ValueError(f'box_coordinate_mode "{mode}" is unknown')
    if order == "WIDTH_FIRST":
        first, second, third, fourth = second, first, fourth, third
    if form == "CORNERS":
        return first, second, third, fourth
    return first - third / 2, second - fourth / 2, first + third / 2, second + fourth / 2


def _points(
    boxes: Tensor,
    image: tuple[int, int],
    sizes: tuple[int, int],
    normalized: bool,
    mode: str,
    sampling_mode: str,
) -> tuple[Tensor, Tensor]:
    """Where the pixels of each box, resized, lie in the image: down and across, both [n, *sizes]."""
    if sampling_mode == "UNALIGN_CORNERS":
        raise ValueError(
            "sampling_mode UNALIGN_CORNERS: what Core ML gives there is not what its definition says"
        )
    top, left, bottom, right = _corners(boxes, mode)
    if normalized:
        height, width = image[0] - 1, image[1] - 1
        top, bottom, left, right = top * height, bottom * height, left * width, right * width
    v = grid(top.double(), bottom.double(), sizes[0], sampling_mode).unsqueeze(-1)
    h = grid(left.double(), right.double(), sizes[1], sampling_mode).unsqueeze(-2)
    return v.expand(-1, *sizes), h.expand(-1, *sizes)


def _from_roi(x: Tensor, roi: Tensor) -> tuple[Tensor, Tensor, Tensor, int]:
    """Images to take from, boxes [n, 4], the image of each, and how many images a box is taken from at once."""
    given = roi.flatten(1)
    if given.shape[1] == 4:
        return x.reshape(1, -1, *x.shape[2:]), given, torch.zeros(len(given)), x.shape[0]
    return x, given[:, 1:], given[:, 0], 1


@kernel("crop_resize", fresh=True)
def crop_resize(
    x: Tensor,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """Boxes of images, each resized by linear interpolation; a point outside is `pad_value`, as in TensorFlow.

    From iOS 17 on `boxes` [n, 4] are of the images `box_indices` (by default the first n). Before, `roi` [n, 1, 4,
    1, 1] takes each box from every image, and [n, 1, 5, 1, 1] from the image whose number comes first.
    """
    wide = arithmetic.wide(x)
    source, boxes, image, images = _from_roi(wide, roi) if roi is not None else (wide, boxes, box_indices, 1)
    if boxes is None:
        raise ValueError('has neither "roi" nor "boxes"')
    image = torch.arange(len(boxes)) if image is None else image.long()
    if len(image) and not 0 <= int(image.min()) <= int(image.max()) < len(source):
        raise ValueError(f"has a box of an image that is none of the {len(source)}")
    height, width = x.shape[-2:]
    scaled = single(boxes) * spatial_scale
    sizes = (target_height, target_width)
    v, h = _points(scaled, (height, width), sizes, normalized_coordinates, box_coordinate_mode, sampling_mode)
    inside = (v >= 0) & (v <= height - 1) & (h >= 0) & (h <= width - 1)
    values = _bilinear(source, image.reshape(-1, 1, 1), v, h, 0.0)
    result = torch.where(inside.unsqueeze(1), values, pad_value).to(x.dtype)
    return result if roi is None else result.reshape(len(image), images, x.shape[1], *sizes)


# -- points


def _pixel(position: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Coordinates counted in pixels, the first pixel's centre being 0."""
    if mode == "unnormalized":
        return position
    share = position if mode == ZERO_TO_ONE else (position + 1) / 2
    return share * (size - 1) if align_corners else share * size - 0.5


def _reflected(position: Tensor, low: float, high: float) -> Tensor:
    """`position` brought between `low` and `high` by mirrors that stand there."""
    reach = high - low
    if reach == 0:
        return torch.zeros_like(position)
    there_and_back = (position - low).remainder(2 * reach)
    return low + torch.minimum(there_and_back, 2 * reach - there_and_back)


def _in_image(position: Tensor, size: int, padding_mode: str) -> Tensor:
    if padding_mode == "reflection":
        position = _reflected(position, 0, size - 1)
    elif padding_mode == "symmetric":
        position = _reflected(position, -0.5, size - 0.5)
    return position if padding_mode == "constant" else position.clamp(0, size - 1)


@kernel("resample", fresh=True)
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """Values of `x` at points (x, y): PyTorch's grid_sample, with more ways to count and a value for the outside."""
    if sampling_mode not in ("bilinear", "nearest"):
        raise ValueError(f'sampling_mode "{sampling_mode}" is unknown')
    if padding_mode not in PADDING:
        raise ValueError(f'padding_mode "{padding_mode}" is unknown')
    if coordinates_mode not in ("unnormalized", MINUS_ONE_TO_ONE, ZERO_TO_ONE):
        raise ValueError(f'coordinates_mode "{coordinates_mode}" is unknown')
    points = single(coordinates)
    name, aligned = PADDING[padding_mode]
    same = coordinates_mode == MINUS_ONE_TO_ONE and aligned in (None, align_corners)
    if same and not arithmetic.stepwise(x) and (padding_value == 0 or padding_mode != "constant"):
        return F.grid_sample(arithmetic.wide(x), points, sampling_mode, name, align_corners).to(x.dtype)
    height, width = x.shape[-2:]
    h = _in_image(_pixel(points[..., 0], width, coordinates_mode, align_corners), width, padding_mode)
    v = _in_image(_pixel(points[..., 1], height, coordinates_mode, align_corners), height, padding_mode)
    take = _bilinear if sampling_mode == "bilinear" else _nearest
    return take(arithmetic.wide(x), _images(x), v, h, padding_value).to(x.dtype)


@kernel("affine", fresh=True)
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
    *,
    arithmetic: Arithmetic,
) -> Tensor:
    """`x` seen through an affine map of the coordinates, as PyTorch's affine_grid followed by grid_sample."""
    asked = (
        sampling_mode.lower(),
        padding_mode.lower(),
        padding_value,
        coordinates_mode.lower(),
        align_corners,
    )
    if asked != ("bilinear", "constant", 0.0, MINUS_ONE_TO_ONE, True):
        raise ValueError(
            f"is defined for bilinear, constant 0, {MINUS_ONE_TO_ONE}, align_corners; asked for {asked}"
        )
    maps = single(transform_matrix).reshape(-1, 2, 3).expand(x.shape[0], 2, 3)
    points = F.affine_grid(maps, [*x.shape[:2], output_height, output_width], align_corners=True)
    result: Tensor = resample(
        x, points, "bilinear", "constant", 0.0, MINUS_ONE_TO_ONE, True, arithmetic=arithmetic
    )
    return result
