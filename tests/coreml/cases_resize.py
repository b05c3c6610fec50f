"""Cases of resizing."""

from __future__ import annotations

import itertools

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(25)
FROM_IOS16 = ("iOS16", "iOS17", "iOS18")
FROM_IOS17 = ("iOS17", "iOS18")
ROUNDED_POINTS = (
    48  # PyTorch works out where it samples in float32, which moves a result by more than its own rounding
)
MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def points(size: int, count: int, mode: str) -> np.ndarray:
    """The sampling grid by the formulas of MIL's definition, one point after the other."""
    found = []
    for i in range(count):
        if mode == "ALIGN_CORNERS" and count == 1:
            point = (size - 1) / 2
        elif mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
            point = i * ((size - 1) / max(1, count - 1))
        elif mode == "DEFAULT":
            point = i * ((size - size / count) / max(1, count - 1))
        elif mode == "OFFSET_CORNERS":
            delta = max(1, size - 1) / count
            point = 0.5 * delta + i * delta
        else:
            spacing = size / count
            point = i * spacing + 0.5 * spacing - 0.5
        found.append(min(size - 1, max(0, point)))
    return np.array(found)


def along(x, axis, count, mode):
    grid, own = points(x.shape[axis], count, mode), np.arange(x.shape[axis])
    return np.apply_along_axis(lambda line: np.interp(grid, own, line), axis, x)


def linear(x, sizes, mode):
    for axis, count in enumerate(sizes, x.ndim - len(sizes)):
        x = along(x, axis, count, mode)
    return x


def nearest(x, sizes, shift):
    for axis, count in enumerate(sizes, x.ndim - len(sizes)):
        x = np.stack(
            [np.take(x, int(np.floor((i + shift) * x.shape[axis] / count)), axis) for i in range(count)], axis
        )
    return x


def bilinear(label, shape, sizes, mode=None, **more) -> Case:
    given = {} if mode is None else {"sampling_mode": mode}

    def build(f, x):
        return mb.resize_bilinear(x=x, target_size_height=sizes[0], target_size_width=sizes[1], **given)

    def expected(x):
        return linear(x, sizes, mode or "DEFAULT")

    more = {"ulps": ROUNDED_POINTS if mode == "UNALIGN_CORNERS" else 4, **more}
    return Case(
        "resize_bilinear", label, {"x": rng.normal(size=shape)}, build, expected, accumulates=True, **more
    )


def upsample(op, label, shape, scales, expected, **args) -> Case:
    more = {key: args.pop(key) for key in ("targets", "open_axes", "ulps") if key in args}

    def build(f, x):
        return getattr(mb, op)(x=x, scale_factor_height=scales[0], scale_factor_width=scales[1], **args)

    return Case(op, label, {"x": rng.normal(size=shape)}, build, expected, accumulates="bil" in op, **more)


def resize(label, shape, to, dims, expected, x=None, as_input=None, **args) -> Case:
    """`as_input`: the integer type in which `to` comes when it is no constant."""
    more = {key: args.pop(key) for key in ("dtypes", "unfolded") if key in args}
    inputs = {"x": rng.normal(size=shape) if x is None else x}
    if as_input:
        inputs["to"] = np.array(to, np.int32)

    def build(f, x, *shape):
        target = np.array(to, np.int32)
        if shape:
            (target,) = shape
            target = target if as_input == "int32" else mb.cast(x=target, dtype=as_input)
        return mb.resize(x=x, shape=target, resized_dims=np.uint32(dims), **args)

    more = {
        "targets": FROM_IOS17,
        "accumulates": args.get("interpolation_mode") != "NEAREST_NEIGHBOR",
        **more,
    }
    return Case("resize", label, inputs, build, lambda x, *_: expected(x), **more)


LINE = np.array([[[0.0, 1.0]]])
NEAREST = {"interpolation_mode": "NEAREST_NEIGHBOR"}
# What coremltools' own tests expect of Core ML: values of a line [0, 1] at five points.
MEASURED = {
    "STRICT_ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
    "DEFAULT": [0, 0.4, 0.8, 1, 1],
    "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
    "UNALIGN_CORNERS": [0, 0.1, 0.5, 0.9, 1],
}


def measured(mode: str) -> Case:
    return Case(
        "resize_bilinear",
        f"as Apple measured it, {mode}",
        {"x": LINE},
        lambda f, x: mb.resize_bilinear(x=x, target_size_height=1, target_size_width=5, sampling_mode=mode),
        lambda x: np.array([[MEASURED[mode]]], float),
        accumulates=True,
    )


CASES = [
    *[measured(mode) for mode in MEASURED],
    *[
        bilinear(f"{mode}, {'x'.join(map(str, sizes))}", (1, 2, 4, 5), sizes, mode)
        for mode, sizes in itertools.product(MODES, [(7, 9), (2, 3), (1, 1), (4, 5), (8, 10)])
    ],
    bilinear("default mode", (1, 2, 3, 4), (5, 7)),
    bilinear("rank 3", (2, 3, 4), (5, 3), "UNALIGN_CORNERS"),
    bilinear("rank 3, offset", (2, 3, 4), (5, 3), "OFFSET_CORNERS"),
    bilinear("rank 5", (1, 2, 2, 3, 4), (2, 6), "STRICT_ALIGN_CORNERS"),
    bilinear("rank 5, default", (1, 2, 2, 3, 4), (2, 6), "DEFAULT"),
    bilinear("from one pixel", (1, 2, 1, 1), (3, 4), "OFFSET_CORNERS"),
    bilinear("from one pixel, default", (1, 2, 1, 1), (3, 4), "DEFAULT"),
    bilinear("open axes", (1, 2, 3, 4), (5, 6), "UNALIGN_CORNERS", open_axes={"x": (0, 2, 3)}),
    bilinear("open axes, default", (1, 2, 3, 4), (5, 6), "DEFAULT", open_axes={"x": (0, 2, 3)}),
    Case(
        "resize_bilinear",
        "sizes left out",
        {"x": rng.normal(size=(1, 3, 4))},
        lambda f, x: mb.resize_bilinear(x=x),
        lambda x: x[:, :1, :1],
    ),
    upsample(
        "upsample_bilinear", "whole factors", (1, 2, 3, 4), (2, 3), lambda x: linear(x, (6, 12), MODES[0])
    ),
    upsample(
        "upsample_bilinear",
        "corners not aligned",
        (1, 2, 3, 4),
        (2, 3),
        lambda x: linear(x, (6, 12), "UNALIGN_CORNERS"),
        align_corners=False,
    ),
    upsample(
        "upsample_bilinear",
        "fractional factors",
        (1, 2, 5, 10),
        (2.5, 4.1),
        lambda x: linear(x, (12, 41), "UNALIGN_CORNERS"),
        ulps=ROUNDED_POINTS,
        align_corners=False,
    ),
    upsample(
        "upsample_bilinear",
        "smaller",
        (1, 2, 6, 7),
        (0.5, 0.75),
        lambda x: linear(x, (3, 5), "STRICT_ALIGN_CORNERS"),
        align_corners=True,
    ),
    upsample(
        "upsample_bilinear",
        "open axes, fractional factors",
        (1, 2, 10, 3),
        (4.1, 1.5),
        lambda x: linear(x, (41, 4), "UNALIGN_CORNERS"),
        ulps=ROUNDED_POINTS,
        align_corners=False,
        open_axes={"x": (2, 3)},
    ),
    *[
        upsample(
            "upsample_bilinear",
            f"align_corners {align}, half_pixel_centers {half}",
            (1, 2, 3, 4),
            (2, 3),
            lambda x, mode=mode: linear(x, (6, 12), mode),
            align_corners=align,
            half_pixel_centers=half,
            targets=FROM_IOS16,
        )
        for align, half, mode in [
            (True, False, "STRICT_ALIGN_CORNERS"),
            (False, True, "UNALIGN_CORNERS"),
            (False, False, "DEFAULT"),
        ]
    ],
    Case(
        "upsample_bilinear",
        "factors left out",
        {"x": rng.normal(size=(2, 3, 4))},
        lambda f, x: mb.upsample_bilinear(x=x),
        lambda x: x,
    ),
    Case(
        "upsample_bilinear",
        "as Apple measured it",
        {"x": np.array([[[[1.0, 2.0]]]])},
        lambda f, x: mb.upsample_bilinear(
            x=x, scale_factor_height=2, scale_factor_width=3, align_corners=False, half_pixel_centers=False
        ),
        lambda x: np.array([[[[1, 4 / 3, 5 / 3, 2, 2, 2]] * 2]]),
        targets=FROM_IOS16,
    ),
    upsample(
        "upsample_nearest_neighbor", "whole factors", (1, 2, 3, 4), (2, 3), lambda x: nearest(x, (6, 12), 0)
    ),
    upsample("upsample_nearest_neighbor", "rank 3", (2, 3, 4), (1, 2), lambda x: nearest(x, (3, 8), 0)),
    upsample("upsample_nearest_neighbor", "rank 5", (1, 2, 2, 3, 4), (3, 1), lambda x: nearest(x, (9, 4), 0)),
    upsample(
        "upsample_nearest_neighbor", "fractions", (1, 2, 3, 10), (2.5, 4.1), lambda x: nearest(x, (7, 41), 0)
    ),
    upsample(
        "upsample_nearest_neighbor", "smaller", (1, 2, 6, 7), (0.5, 0.75), lambda x: nearest(x, (3, 5), 0)
    ),
    upsample(
        "upsample_nearest_neighbor",
        "open axes",
        (1, 2, 3, 10),
        (2.5, 4.1),
        lambda x: nearest(x, (7, 41), 0),
        open_axes={"x": (2, 3)},
    ),
    *[
        Case(
            "upsample_nearest_neighbor",
            f"as Apple measured it, {scales}",
            {"x": np.array([[[[1.5, -2.5, 3.5]]]])},
            lambda f, x, scales=scales: mb.upsample_nearest_neighbor(
                x=x, scale_factor_height=scales[0], scale_factor_width=scales[1]
            ),
            lambda x, rows=rows: np.array([[rows]]),
        )
        for scales, rows in [((3.17, 0.67), [[1.5, -2.5]] * 3), ((2.0, 1.12), [[1.5, -2.5, 3.5]] * 2)]
    ],
    Case(
        "upsample_nearest_neighbor",
        "factors left out",
        {"x": rng.normal(size=(2, 3, 4))},
        lambda f, x: mb.upsample_nearest_neighbor(x=x),
        lambda x: x,
    ),
    *[
        Case(
            "resize_nearest_neighbor",
            f"{'x'.join(map(str, sizes))} of {'x'.join(map(str, shape))}",
            {"x": rng.normal(size=shape)},
            lambda f, x, sizes=sizes: mb.resize_nearest_neighbor(
                x=x, target_size_height=sizes[0], target_size_width=sizes[1]
            ),
            lambda x, sizes=sizes: nearest(x, sizes, 0.5),
        )
        for shape, sizes in [
            ((1, 2, 3, 4), (6, 12)),
            ((2, 7, 6), (3, 4)),
            ((1, 1, 2, 5, 4), (3, 7)),
            ((1, 2, 5, 5), (5, 1)),
        ]
    ],
    resize("linear", (1, 2, 3, 4), [1, 5, 7], 2, lambda x: linear(x, (5, 7), "DEFAULT")),
    *[
        resize(
            f"linear, {mode}",
            (1, 2, 3, 4),
            [5, 7],
            2,
            lambda x, mode=mode: linear(x, (5, 7), mode),
            sampling_mode=mode,
        )
        for mode in MODES
    ],
    resize(
        "one axis", (2, 3, 4), [6], 1, lambda x: linear(x, (6,), "UNALIGN_CORNERS"), sampling_mode=MODES[4]
    ),
    resize("three axes", (1, 3, 4, 2), [2, 5, 3], 3, lambda x: linear(x, (2, 5, 3), "DEFAULT")),
    resize(
        "all of a shape",
        (2, 3, 4),
        [9, 9, 6, 8],
        2,
        lambda x: linear(x, (6, 8), "DEFAULT"),
        x=rng.normal(size=(1, 2, 3, 4)),
    ),
    resize("a size 0 is the axis's own", (1, 2, 3, 4), [0, 7], 2, lambda x: linear(x, (3, 7), "DEFAULT")),
    resize("all sizes 0", (1, 2, 3, 4), [1, 0, 0], 2, lambda x: x),
    resize(
        "sizes from an input",
        (1, 2, 3, 4),
        [1, 5, 7],
        2,
        lambda x: linear(x, (5, 7), "DEFAULT"),
        as_input="int32",
    ),
    resize(
        "sizes of int16", (1, 2, 3, 4), [1, 5, 0], 2, lambda x: linear(x, (5, 4), "DEFAULT"), as_input="int16"
    ),
    resize(
        "sizes of uint16",
        (1, 2, 3, 4),
        [1, 5, 7],
        2,
        lambda x: linear(x, (5, 7), "DEFAULT"),
        as_input="uint16",
    ),
    resize("nearest", (1, 2, 3, 4), [6, 12], 2, lambda x: nearest(x, (6, 12), 0.5), **NEAREST),
    resize("nearest, smaller", (1, 2, 7, 6), [3, 4], 2, lambda x: nearest(x, (3, 4), 0.5), **NEAREST),
    resize(
        "nearest, three axes", (1, 2, 3, 4), [3, 5, 2], 3, lambda x: nearest(x, (3, 5, 2), 0.5), **NEAREST
    ),
    resize(
        "nearest, int32",
        (1, 2, 3),
        [4, 7],
        2,
        lambda x: nearest(x, (4, 7), 0.5),
        x=rng.integers(-9, 9, (1, 2, 3)).astype(np.int32),
        dtypes=("int32",),
        **NEAREST,
    ),
    resize(
        "nearest, sizes from an input",
        (1, 2, 3, 4),
        [1, 0, 7],
        2,
        lambda x: nearest(x, (3, 7), 0.5),
        as_input="int32",
        **NEAREST,
    ),
    Case(
        "resize",
        "nearest as Apple measured it",
        {"x": np.array([-6.174, 9.371]).reshape(1, 1, 1, 2, 1)},
        lambda f, x: mb.resize(
            x=x, shape=[1, 1, 3, 2], resized_dims=np.uint32(2), sampling_mode="DEFAULT", **NEAREST
        ),
        lambda x: x[..., [0, 1, 1], :][..., [0, 0]],
        targets=FROM_IOS17,
    ),
]
