"""Cases of crops, boxes and points of images."""

from __future__ import annotations

import itertools

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(26)
BEFORE_IOS17, FROM_IOS17 = ("iOS15", "iOS16"), ("iOS17", "iOS18")
GRIDS = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS")
SIXTEEN = np.arange(1.0, 17).reshape(1, 1, 4, 4)


def crop(label, shape, height, width, **more) -> Case:
    def expected(x):
        return x[..., height[0] : x.shape[-2] - height[1], width[0] : x.shape[-1] - width[1]]

    return Case(
        "crop",
        label,
        {"x": rng.normal(size=shape)},
        lambda f, x: mb.crop(x=x, crop_height=list(height), crop_width=list(width)),
        expected,
        ulps=0,
        **more,
    )


# -- boxes


def between(image, v, h, outside):
    """Linear interpolation at one point; the whole of it is `outside` where the point is."""
    height, width = image.shape[-2:]
    if not (0 <= v <= height - 1 and 0 <= h <= width - 1):
        return np.full(image.shape[0], outside)
    top, left = int(v), int(h)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = image[:, top, left] + (h - left) * (image[:, top, right] - image[:, top, left])
    lower = image[:, bottom, left] + (h - left) * (image[:, bottom, right] - image[:, bottom, left])
    return upper + (v - top) * (lower - upper)


def point(start, end, i, count, mode):
    """The sampling grid of resize_bilinear with Xin = end - start + 1, from `start` on."""
    size = end - start + 1
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        if count == 1:
            return start + (size - 1) / 2 * (mode == "ALIGN_CORNERS")
        return start + i * (size - 1) / (count - 1)
    if mode == "DEFAULT":
        return start + min(size - 1, max(0, i * size / count))
    delta = max(1, size - 1) / count
    return start + min(size - 1, max(0, 0.5 * delta + i * delta))


def boxed(
    x,
    boxes,
    images,
    sizes,
    normalized=False,
    scale=1.0,
    form="CORNERS_HEIGHT_FIRST",
    mode="DEFAULT",
    outside=0.0,
):
    """[n, channels, *sizes], one point after the other."""
    result = np.zeros((len(boxes), x.shape[1], *sizes))
    for n, (box, image) in enumerate(zip(boxes, images, strict=True)):
        a, b, c, d = box * scale
        if "WIDTH" in form:
            a, b, c, d = b, a, d, c
        top, left, bottom, right = (
            (a - c / 2, b - d / 2, a + c / 2, b + d / 2) if "CENTER" in form else (a, b, c, d)
        )
        if normalized:
            top, bottom = top * (x.shape[2] - 1), bottom * (x.shape[2] - 1)
            left, right = left * (x.shape[3] - 1), right * (x.shape[3] - 1)
        for i, j in np.ndindex(*sizes):
            v, h = point(top, bottom, i, sizes[0], mode), point(left, right, j, sizes[1], mode)
            result[n, :, i, j] = between(x[image], v, h, outside)
    return result


# Corners and sizes in eighths of a pixel: no rounding before the formula of interest.
BOXES = np.array([[0.0, 0.0, 4.0, 5.0], [0.5, 1.25, 2.75, 3.0], [1.0, 2.0, 1.0, 2.0], [3.0, 4.0, 1.0, 0.5]])
CENTRES = np.array([[2.0, 2.5, 4.0, 5.0], [2.0, 2.0, 1.5, 2.25]])
NAMES = {"normalized": "normalized_coordinates", "scale": "spatial_scale", "form": "box_coordinate_mode"}
NAMES |= {"mode": "sampling_mode", "outside": "pad_value"}


def named(f, given):
    """MIL's names; the value for the outside has the type of the image."""
    return {NAMES[key]: f(value) if key == "outside" else value for key, value in given.items()}


def crop_resize(
    label, boxes, images=None, sizes=(3, 2), shape=(2, 2, 5, 6), as_input=False, kind=None, **given
) -> Case:
    """From iOS 17 on; `kind`: the type of the boxes where it is another than the image's."""
    more = {key: given.pop(key) for key in ("dtypes", "open_axes") if key in given}
    taken = np.arange(len(boxes)) if images is None else np.array(images)
    inputs = {"x": rng.normal(size=shape)}
    if as_input:
        inputs["boxes"], inputs["images"] = boxes, taken.astype(np.int32)

    def build(f, x, *rest):
        where = {"boxes": boxes.astype(kind or f)}
        if images is not None:
            where["box_indices"] = taken.astype(np.int32)
        if rest:
            where = dict(zip(("boxes", "box_indices"), rest, strict=True))
        return mb.crop_resize(x=x, **where, target_height=sizes[0], target_width=sizes[1], **named(f, given))

    def expected(x, *rest):
        return boxed(x, boxes, taken, sizes, **given)

    return Case("crop_resize", label, inputs, build, expected, targets=FROM_IOS17, accumulates=True, **more)


def from_roi(label, boxes, images=None, sizes=(3, 2), shape=(2, 2, 5, 6), **given) -> Case:
    """Before iOS 17: boxes of every image, or with the number of their own in front."""
    more = {key: given.pop(key) for key in ("targets", "open_axes") if key in given}
    roi = boxes if images is None else np.concatenate([np.array(images)[:, None], boxes], axis=1)
    roi = roi.reshape(len(boxes), 1, -1, 1, 1)

    def expected(x, _):
        if images is not None:
            return boxed(x, boxes, images, sizes, **given)[:, None]
        each = [boxed(x, boxes, [n] * len(boxes), sizes, **given) for n in range(len(x))]
        return np.stack(each, axis=1)

    return Case(
        "crop_resize",
        label,
        {"x": rng.normal(size=shape), "roi": roi},
        lambda f, x, roi: mb.crop_resize(
            x=x, roi=roi, target_height=sizes[0], target_width=sizes[1], **named(f, given)
        ),
        expected,
        accumulates=True,
        **{"targets": BEFORE_IOS17, **more},
    )


OVER_THE_EDGE = np.array([[0.125, 0.25, 1.25, 1.0], [0.5, 1.75, 1.0, 0.25], [0.0, 0.375, 0.625, 0.75]])
MEASURED_BOXES = [
    ([1, 1, 2, 2], 2, [6, 7, 10, 11]),
    ([1, 1, 2, 2], 1, [8.5]),
    ([2, 2, 1, 1], 2, [11, 10, 7, 6]),
]


def measured_boxes() -> list[Case]:
    """What coremltools' own tests expect of Core ML."""
    found = []
    for corners, size, values in MEASURED_BOXES:
        roi = np.array(corners, float).reshape(1, 1, 4, 1, 1)
        found.append(
            Case(
                "crop_resize",
                f"as Apple measured it, {corners} to {size}",
                {"x": SIXTEEN},
                lambda f, x, roi=roi, size=size: mb.crop_resize(
                    x=x,
                    roi=roi.astype(f),
                    target_height=size,
                    target_width=size,
                    sampling_mode="ALIGN_CORNERS",
                ),
                lambda x, size=size, values=values: np.array(values, float).reshape(1, 1, 1, size, size),
                targets=BEFORE_IOS17,
            )
        )
    edge = np.array([[0.1, 0.3, 1.3, 1.0], [0.5, 1.8, 1.0, 0.3], [0.0, 0.4, 0.6, 0.7]])
    values = [3.1, 5.2, 10.0, 10.0, 10.0, 7.9, 10.0, 13.9, 2.2, 3.1, 9.4, 10.3]
    found.append(
        Case(
            "crop_resize",
            "as Apple measured it, over the edge",
            {"x": SIXTEEN},
            lambda f, x: mb.crop_resize(
                x=x,
                boxes=edge.astype(np.float32),
                box_indices=np.zeros(3, np.int32),
                target_height=2,
                target_width=2,
                normalized_coordinates=True,
                sampling_mode="ALIGN_CORNERS",
                pad_value=f(10.0),
            ),
            lambda x: np.array(values).reshape(3, 1, 2, 2),
            targets=FROM_IOS17,
        )
    )
    return found


# -- points


def pixel(position, size, mode, align):
    if mode == "unnormalized":
        return position
    share = position if "zero" in mode else (position + 1) / 2
    return share * (size - 1) if align else share * size - 0.5


def folded(position, size, mode):
    """`position` turned back at the mirrors, as often as it takes."""
    low, high = (0, size - 1) if mode == "reflection" else (-0.5, size - 0.5)
    while mode in ("reflection", "symmetric") and low < high and not low <= position <= high:
        position = 2 * low - position if position < low else 2 * high - position
    return position if mode == "constant" else min(max(position, 0), size - 1)


def sampled(x, points, kind, padding, value, mode, align):
    height, width = x.shape[-2:]
    result = np.zeros((*x.shape[:2], *points.shape[1:3]))

    def at(n, row, column):
        inside = 0 <= row < height and 0 <= column < width
        return x[n, :, int(row), int(column)] if inside else np.full(x.shape[1], value)

    for n, i, j in np.ndindex(*points.shape[:3]):
        h = folded(pixel(points[n, i, j, 0], width, mode, align), width, padding)
        v = folded(pixel(points[n, i, j, 1], height, mode, align), height, padding)
        if kind == "nearest":
            result[n, :, i, j] = at(n, np.rint(v), np.rint(h))
            continue
        top, left = np.floor(v), np.floor(h)
        upper = at(n, top, left) * (left + 1 - h) + at(n, top, left + 1) * (h - left)
        lower = at(n, top + 1, left) * (left + 1 - h) + at(n, top + 1, left + 1) * (h - left)
        result[n, :, i, j] = upper * (top + 1 - v) + lower * (v - top)
    return result


def resample(
    label,
    points,
    kind="bilinear",
    padding="constant",
    value=0.0,
    mode="unnormalized",
    align=True,
    x=None,
    **more,
):
    def build(f, x, points):
        given = more_points(points)
        return mb.resample(
            x=x,
            coordinates=given,
            sampling_mode=kind,
            padding_mode=padding,
            padding_value=f(value),
            coordinates_mode=mode,
            align_corners=align,
        )

    held = more.pop("held", None)

    def more_points(points):
        return points if held is None else mb.cast(x=points, dtype=held)

    image = rng.normal(size=(len(points), 2, 4, 5)) if x is None else x
    more = {"targets": ("iOS16", "iOS17", "iOS18"), "accumulates": True, "ulps": 16, **more}
    return Case(
        "resample",
        label,
        {"x": image, "points": points},
        build,
        lambda x, points: sampled(x, points, kind, padding, value, mode, align),
        **more,
    )


COUNTS = ("unnormalized", "normalized_minus_one_to_one", "normalized_zero_to_one")
PADDINGS = ("constant", "border", "reflection", "symmetric")
# In and out of the image on every side, in 64ths: exact in half precision too, and nowhere halfway between pixels.
FAR = {
    "unnormalized": rng.integers(-5 * 16, 10 * 16, (2, 3, 4, 2)) / 16 + 1 / 32,
    "normalized_minus_one_to_one": rng.integers(-3 * 32, 3 * 32, (2, 3, 4, 2)) / 32 + 1 / 64,
    "normalized_zero_to_one": rng.integers(-2 * 32, 3 * 32, (2, 3, 4, 2)) / 32 + 1 / 64,
}
WHOLE = np.array([[[[0, 0], [1, 2], [4, 3], [5, 1]], [[2, 2], [-1, 0], [3, 1], [2, 4]]]], np.int32)
SQUARE = np.array([11.0, 22.0, 33.0, 44.0]).reshape(1, 1, 2, 2)
# What coremltools' own tests expect of Core ML for these points of the square.
MEASURED_POINTS = np.array([-1.0, -2.0, -3.7, -1.0, 0.0, 0.0, 3.5, 1.2]).reshape(1, 2, 2, 2)
MEASURED_SAMPLES = [
    ("bilinear", "constant", 6.17, COUNTS[1], True, [8.585, 6.17, 27.5, 6.17]),
    ("nearest", "border", -1.0, COUNTS[0], False, [11.0, 11.0, 11.0, 44.0]),
    ("bilinear", "reflection", -1.0, COUNTS[2], True, [22.0, 36.3, 11.0, 34.1]),
    ("nearest", "symmetric", -1.0, COUNTS[2], False, [22.0, 33.0, 11.0, 33.0]),
]


def measured_samples() -> list[Case]:
    return [
        Case(
            "resample",
            f"as Apple measured it, {kind}, {padding}",
            {"x": SQUARE, "points": MEASURED_POINTS},
            lambda f, x, points, kind=kind, padding=padding, value=value, mode=mode, align=align: mb.resample(
                x=x,
                coordinates=points,
                sampling_mode=kind,
                padding_mode=padding,
                padding_value=f(value),
                coordinates_mode=mode,
                align_corners=align,
            ),
            lambda x, points, values=values: np.array(values).reshape(1, 1, 2, 2),
            dtypes=("float32",),
            ulps=64,
        )
        for kind, padding, value, mode, align, values in MEASURED_SAMPLES
    ]


def affine(label, x, maps, sizes, as_constant=False, **more) -> Case:
    settings = {
        "output_height": sizes[0],
        "output_width": sizes[1],
        "sampling_mode": "bilinear",
        "padding_mode": "constant",
        "coordinates_mode": "normalized_minus_one_to_one",
        "align_corners": True,
    }

    def expected(x, *_):
        across, down = np.meshgrid(np.linspace(-1, 1, sizes[1]), np.linspace(-1, 1, sizes[0]))
        rows = np.broadcast_to(maps, (len(x), 6)).reshape(-1, 2, 3, 1, 1)
        points = np.moveaxis(rows[:, :, 0] * across + rows[:, :, 1] * down + rows[:, :, 2], 1, -1)
        return sampled(x, points, "bilinear", "constant", 0.0, "normalized_minus_one_to_one", True)

    def build(f, x, *matrix):
        by = matrix[0] if matrix else maps.astype(f)
        return mb.affine(x=x, transform_matrix=by, padding_value=f(0), **settings)

    inputs = {"x": x} if as_constant else {"x": x, "matrix": maps}
    return Case("affine", label, inputs, build, expected, accumulates=True, ulps=16, **more)


TURN = np.array([[0.5, -0.75, 0.125, 0.625, 0.5, -0.25]])
TWO = np.concatenate([TURN, np.array([[-1.0, 0.25, 0.5, 0.0, 1.25, 0.0]])])
MEASURED_MAP = np.array([[-1.0, -2.0, -3.7, -1.0, 3.5, 1.2]])

CASES = [
    crop("two axes", (1, 2, 4, 5), (0, 1), (2, 1)),
    crop("rank 3", (2, 4, 5), (1, 2), (0, 3)),
    crop("rank 5", (1, 1, 2, 4, 5), (1, 0), (0, 1)),
    crop("nothing", (1, 4, 5), (0, 0), (0, 0)),
    crop("open axes", (1, 4, 5), (1, 0), (1, 1), open_axes={"x": (1, 2)}),
    *[crop_resize(f"{mode}", BOXES, [0, 1, 1, 0], mode=mode) for mode in GRIDS],
    *[crop_resize(f"{mode}, to one pixel", BOXES, [0, 1, 1, 0], (1, 1), mode=mode) for mode in GRIDS],
    *[crop_resize(f"{mode}, larger", BOXES[:2], sizes=(7, 9), mode=mode) for mode in GRIDS],
    crop_resize(
        "OFFSET_CORNERS, box of less than a pixel", np.array([[1.0, 2.0, 1.5, 2.75]]), mode="OFFSET_CORNERS"
    ),
    crop_resize("defaults", BOXES[:2], sizes=(2, 3)),
    crop_resize("normalized", BOXES[:2] / 8, normalized=True, mode="ALIGN_CORNERS"),
    crop_resize("normalized, other sizes", BOXES[:2] / 8, shape=(2, 1, 3, 8), normalized=True),
    crop_resize("scaled", BOXES[:2] * 4, scale=0.25, mode="OFFSET_CORNERS"),
    crop_resize("normalized and scaled", BOXES[:2] / 4, normalized=True, scale=0.5),
    crop_resize("corners, width first", BOXES[1:3], form="CORNERS_WIDTH_FIRST"),
    crop_resize("centre and size", CENTRES, form="CENTER_SIZE_HEIGHT_FIRST", mode="ALIGN_CORNERS"),
    crop_resize(
        "centre and size, width first", CENTRES[1:], form="CENTER_SIZE_WIDTH_FIRST", mode="ALIGN_CORNERS"
    ),
    crop_resize(
        "over the edge", OVER_THE_EDGE, [1, 0, 1], normalized=True, outside=10.0, mode="ALIGN_CORNERS"
    ),
    crop_resize(
        "over the edge, default grid", OVER_THE_EDGE, [1, 0, 1], (4, 4), normalized=True, outside=-2.0
    ),
    crop_resize("boxes from inputs", BOXES, [0, 1, 1, 0], as_input=True),
    crop_resize("open axes", BOXES, [0, 1, 1, 0], as_input=True, open_axes={"x": (0, 1)}),
    crop_resize("half boxes, float32 image", BOXES, [0, 1, 1, 0], kind=np.float16, dtypes=("float32",)),
    crop_resize("float32 boxes, half image", BOXES, [0, 1, 1, 0], kind=np.float32, dtypes=("float16",)),
    crop_resize("boxes of uint16", np.round(BOXES), [0, 1, 1, 0], kind=np.uint16),
    from_roi("boxes of every image", BOXES),
    from_roi("boxes of one image each", BOXES, [0, 0, 0, 0], shape=(1, 2, 5, 6)),
    from_roi(
        "every image, all settings",
        CENTRES * 2,
        scale=0.5,
        form="CENTER_SIZE_WIDTH_FIRST",
        mode="ALIGN_CORNERS",
    ),
    from_roi("normalized, over the edge", OVER_THE_EDGE, normalized=True, mode="STRICT_ALIGN_CORNERS"),
    from_roi("value for the outside", OVER_THE_EDGE, normalized=True, outside=3.0, targets=("iOS16",)),
    from_roi("open axes", BOXES, open_axes={"x": (0, 1)}),
    *measured_boxes(),
    *[
        resample(f"{kind}, {padding}, {mode}, align {align}", FAR[mode], kind, padding, 0.0, mode, align)
        for kind, padding, mode, align in itertools.product(
            ("bilinear", "nearest"), PADDINGS, COUNTS, (True, False)
        )
    ],
    resample("value for the outside", FAR[COUNTS[1]], value=2.5, mode=COUNTS[1]),
    resample("nearest, value for the outside", FAR[COUNTS[0]], "nearest", value=2.5),
    resample("value for the outside is void", FAR[COUNTS[1]], padding="border", value=2.5, mode=COUNTS[1]),
    resample("int32 points", WHOLE, targets=("iOS15", "iOS16", "iOS17", "iOS18")),
    resample("int16 points", WHOLE, held="int16", padding="border", targets=FROM_IOS17),
    resample("uint8 points", np.abs(WHOLE), held="uint8", targets=FROM_IOS17),
    resample("uint16 points", np.abs(WHOLE), "nearest", held="uint16", targets=FROM_IOS17),
    resample("int8 points", WHOLE, held="int8", targets=FROM_IOS17),
    resample(
        "float32 points in iOS 15", FAR[COUNTS[1]], mode=COUNTS[1], dtypes=("float32",), targets=("iOS15",)
    ),
    resample(
        "one pixel",
        FAR[COUNTS[1]][:1],
        padding="reflection",
        mode=COUNTS[1],
        x=np.array([[[[1.5]], [[-2.0]]]]),
    ),
    resample(
        "one pixel, not aligned",
        FAR[COUNTS[1]][:1],
        "nearest",
        "symmetric",
        0.0,
        COUNTS[1],
        False,
        np.array([[[[1.5]]]]),
    ),
    resample(
        "one pixel, counted", FAR[COUNTS[0]][:1], padding="reflection", x=np.array([[[[1.5]], [[-2.0]]]])
    ),
    resample("open axes", FAR[COUNTS[1]], mode=COUNTS[1], open_axes={"x": (2, 3), "points": (1, 2)}),
    *measured_samples(),
    affine("turned", rng.normal(size=(1, 2, 4, 5)), TURN, (3, 6)),
    affine("a map for each image", rng.normal(size=(2, 1, 4, 5)), TWO, (5, 3)),
    affine("one map for all", rng.normal(size=(3, 2, 4, 4)), TURN, (2, 2)),
    affine("constant map", rng.normal(size=(1, 2, 4, 5)), TURN, (4, 4), as_constant=True),
    Case(
        "affine",
        "as Apple measured it",
        {"x": SQUARE, "matrix": MEASURED_MAP},
        lambda f, x, matrix: mb.affine(
            x=x,
            transform_matrix=matrix,
            output_height=2,
            output_width=5,
            sampling_mode="bilinear",
            padding_mode="constant",
            padding_value=f(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=True,
        ),
        lambda x, matrix: np.array([10.7525, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0]).reshape(1, 1, 2, 5),
        dtypes=("float32",),
        ulps=64,
    ),
]
