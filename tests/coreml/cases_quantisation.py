"""Cases of quantize and dequantize, against scalar loops."""

from __future__ import annotations

import math

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(5)
TARGETS = ("iOS17", "iOS18")
LIMITS = {"int8": (-128, 127), "uint8": (0, 255)}
HALVES = np.array([-2.5, -1.5, -0.5, -0.25, 0.0, -0.0, 0.5, 1.5, 2.5, 3.5, 0.75, 126.5])
FAR = np.array([-1e4, -128.5, -127.5, 127.5, 128.5, 254.5, 255.5, 1e4, np.inf, -np.inf])


def parameter(values, index, axis, none):
    return none if values is None else np.ravel(values)[index[axis] if np.ndim(values) else 0]


def quantized(x, scale, dtype, zero_point=None, axis=0):
    """Python's round goes to the even neighbour in a tie."""
    low, high = LIMITS[dtype]
    result = np.zeros(x.shape, dtype)
    for index in np.ndindex(x.shape):
        ratio = x[index] / float(parameter(scale, index, axis, 1))
        whole = ratio if math.isinf(ratio) else round(ratio)
        result[index] = min(max(whole + int(parameter(zero_point, index, axis, 0)), low), high)
    return result


def dequantized(x, scale, zero_point=None, axis=0):
    result = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        shift = int(parameter(zero_point, index, axis, 0))
        result[index] = float(parameter(scale, index, axis, 1)) * (int(x[index]) - shift)
    return result


def quantize(label, x, scale, dtype, zero_point=None, axis=None, **more):
    def build(f, x):
        extra = {} if axis is None else {"axis": np.int32(axis)}
        if zero_point is not None:
            extra["zero_point"] = np.array(zero_point, dtype)[()]
        return mb.quantize(input=x, scale=np.array(scale, f)[()], output_dtype=dtype, **extra)

    def truth(x):
        return quantized(x, np.array(scale), dtype, zero_point, axis or 0)

    return Case("quantize", label, {"x": x}, build, truth, targets=TARGETS, **more)


def dequantize(label, x, scale, zero_point=None, axis=None, **more):
    def build(f, x):
        extra = {} if axis is None else {"axis": np.int32(axis)}
        if zero_point is not None:
            extra["zero_point"] = np.array(zero_point, x_dtype)[()]
        return mb.dequantize(input=x, scale=np.array(scale, f)[()], **extra)

    x_dtype = x.dtype
    return Case(
        "dequantize",
        label,
        {"x": x},
        build,
        lambda x: dequantized(x, np.array(scale), zero_point, axis or 0),
        targets=TARGETS,
        **more,
    )


FRACTIONS = (
    rng.integers(-40, 40, (2, 3, 4)) / 16
)  # with the scales below, ratios that both types hold exactly
SCALES = [0.5, 0.25, 2.0]
SIGNED = rng.integers(-128, 128, (2, 3, 4)).astype(np.int8)
UNSIGNED = rng.integers(0, 256, (2, 3, 4)).astype(np.uint8)
CASES: list[Case] = [
    quantize("halves", HALVES, 1.0, "int8"),
    quantize("halves-zero-point", HALVES, 0.5, "int8", 3),
    quantize("halves-uint8", HALVES, 1.0, "uint8", 128),
    quantize("no-zero-point-uint8", HALVES, 0.25, "uint8"),
    quantize("far", FAR, 1.0, "int8", unfolded="casts infinity to an integer with a warning"),
    quantize("far-uint8", FAR, 1.0, "uint8", 1, unfolded="casts infinity to an integer with a warning"),
    quantize(
        "far-zero-point", FAR, 2.0, "int8", -100, unfolded="casts infinity to an integer with a warning"
    ),
    quantize("channels", FRACTIONS, SCALES, "int8", [1, -2, 3], 1),
    quantize("channels-negative-axis", FRACTIONS, [0.5, 1.0, 2.0, 0.25], "uint8", [0, 10, 128, 255], -1),
    quantize("channels-first", FRACTIONS, [0.5, 4.0], "int8", axis=0),
    quantize("negative-scale", FRACTIONS, -0.5, "int8"),
    quantize("open", FRACTIONS, SCALES, "uint8", [1, 2, 3], 1, open_axes={"x": (0, 2)}),
    quantize("rank-1", FRACTIONS[0, :, 0], SCALES, "int8", [1, 2, 3], 0),
    quantize("empty", np.zeros((0, 3)), SCALES, "int8", [1, 2, 3], 1),
    dequantize("signed", SIGNED, 0.37),
    dequantize("signed-zero-point", SIGNED, 0.37, -100),
    dequantize("unsigned", UNSIGNED, 0.02, 255),
    dequantize("channels", SIGNED, [0.5, 0.3, 0.001], [1, -2, 127], 1),
    dequantize("channels-negative-axis", UNSIGNED, [0.5, 0.3, 0.001, -2], [0, 1, 128, 255], -1),
    dequantize("channels-first", UNSIGNED, [0.5, 0.3], axis=0),
    dequantize("open", UNSIGNED, [0.5, 0.3, 2.0], [1, 2, 3], 1, open_axes={"x": (0, 2)}),
    dequantize("extremes", np.array([-128, 127], np.int8), 1.0, 127),
    dequantize("extremes-uint8", np.array([0, 255], np.uint8), 1.0, 255),
]
