"""Cases of convolutions and transposed convolutions."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(22)
FROM_IOS16 = ("iOS16", "iOS17", "iOS18")
FROM_IOS17 = ("iOS17", "iOS18")


def eighths(*shape: int) -> np.ndarray:
    """Numbers that every float type holds exactly, so that a constant is the same in each."""
    return rng.integers(-16, 17, shape) / 8


def convolved(x, w, b, strides, pads, dilations, groups):
    """The sum written out: for each place of the result, the part of `x` under the kernel times the kernel."""
    rank = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], spans, strides, strict=True)]
    out, into = w.shape[0] // groups, w.shape[1]
    result = np.zeros((x.shape[0], w.shape[0], *sizes))
    for at in np.ndindex(*sizes):
        under = tuple(
            slice(at[i] * strides[i], at[i] * strides[i] + spans[i], dilations[i]) for i in range(rank)
        )
        for g in range(groups):
            part = x[(slice(None), slice(g * into, (g + 1) * into), *under)]
            for o in range(g * out, (g + 1) * out):
                result[(slice(None), o, *at)] = (part * w[o]).sum(axis=tuple(range(1, rank + 2)))
    return result if b is None else result + b.reshape(-1, *[1] * rank)


def conv(
    label,
    shape,
    weight,
    pads=None,
    strides=None,
    dilations=None,
    groups=1,
    bias=True,
    like=None,
    args=None,
    **more,
):
    """`pads`: what the case should come to; `args`: how the program says it."""
    rank = len(shape) - 2
    w, b = eighths(*weight), eighths(weight[0]) if bias else None
    given = dict(args or {})
    for name, value in (("strides", strides), ("dilations", dilations)):
        if value is not None:
            given[name] = list(value)
    if groups != 1:
        given["groups"] = groups

    def build(f, x):
        kind = like or f
        offset = {} if b is None else {"bias": b.astype(kind)}
        return mb.conv(x=x, weight=w.astype(kind), **offset, **given)

    def expected(x):
        return convolved(
            x, w, b, strides or [1] * rank, pads or [(0, 0)] * rank, dilations or [1] * rank, groups
        )

    more = {"accumulates": True, **more}
    return Case("conv", label, {"x": rng.normal(size=shape)}, build, expected, **more)


SAME, LOWER = {"pad_type": "same"}, {"pad_type": "same_lower"}


def custom(*pads: int) -> dict:
    return {"pad_type": "custom", "pad": list(pads)}


def transposed(x, w, b, strides, dilations, groups, before, sizes):
    """Each value of `x` times the kernel, added where it falls; then the part that is asked for."""
    rank = x.ndim - 2
    spans = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    room = [
        max((n - 1) * s + k, o + c)
        for n, s, k, o, c in zip(x.shape[2:], strides, spans, before, sizes, strict=True)
    ]
    into, out = w.shape[0] // groups, w.shape[1]
    result = np.zeros((x.shape[0], out * groups, *room))
    for at in np.ndindex(*x.shape[2:]):
        under = tuple(
            slice(at[i] * strides[i], at[i] * strides[i] + spans[i], dilations[i]) for i in range(rank)
        )
        for g in range(groups):
            for c in range(g * into, (g + 1) * into):
                value = x[(slice(None), c, *at)].reshape(-1, *[1] * (rank + 1))
                result[(slice(None), slice(g * out, (g + 1) * out), *under)] += value * w[c]
    result = result[(..., *[slice(o, o + c) for o, c in zip(before, sizes, strict=True)])]
    return result if b is None else result + b.reshape(-1, *[1] * rank)


def conv_transpose(
    label,
    shape,
    weight,
    before,
    sizes,
    strides=None,
    dilations=None,
    groups=1,
    bias=True,
    like=None,
    args=None,
    **more,
):
    """`before`, `sizes`: which part of the full result the case should come to."""
    rank = len(shape) - 2
    w, b = eighths(*weight), eighths(weight[1] * groups) if bias else None
    given = dict(args or {})
    for name, value in (("strides", strides), ("dilations", dilations)):
        if value is not None:
            given[name] = list(value)
    if groups != 1:
        given["groups"] = groups

    def build(f, x):
        kind = like or f
        offset = {} if b is None else {"bias": b.astype(kind)}
        return mb.conv_transpose(x=x, weight=w.astype(kind), **offset, **given)

    def expected(x):
        return transposed(x, w, b, strides or [1] * rank, dilations or [1] * rank, groups, before, sizes)

    more = {"accumulates": True, **more}
    return Case("conv_transpose", label, {"x": rng.normal(size=shape)}, build, expected, **more)


CONVOLUTIONS = [
    conv("1-D, defaults", (2, 3, 7), (4, 3, 3)),
    conv("1-D, no bias", (1, 3, 7), (4, 3, 1), bias=False),
    conv("1-D, stride and dilation", (1, 2, 11), (3, 2, 3), strides=[2], dilations=[3]),
    conv("1-D, custom on both sides", (1, 2, 5), (3, 2, 3), [(2, 2)], args=custom(2, 2)),
    conv("1-D, causal", (1, 2, 5), (3, 2, 3), [(4, 0)], dilations=[2], args=custom(4, 0)),
    conv("1-D, same, even kernel", (1, 2, 5), (3, 2, 4), [(1, 2)], args=SAME),
    conv("1-D, same_lower, even kernel", (1, 2, 5), (3, 2, 4), [(2, 1)], args=LOWER, targets=FROM_IOS16),
    conv("1-D, same, stride", (1, 2, 7), (2, 2, 4), [(1, 2)], strides=[3], args=SAME),
    conv(
        "1-D, same_lower, stride", (1, 2, 7), (2, 2, 5), [(2, 2)], strides=[3], args=LOWER, targets=FROM_IOS16
    ),
    conv("1-D, same, kernel smaller than the stride", (1, 1, 7), (2, 1, 1), strides=[3], args=SAME),
    conv("1-D, pad is void unless custom", (1, 2, 5), (3, 2, 3), args={"pad_type": "valid", "pad": [1, 1]}),
    conv("1-D, open length", (1, 2, 6), (3, 2, 4), [(1, 1)], strides=[2], args=SAME, open_axes={"x": (0, 2)}),
    conv("1-D, depthwise", (1, 4, 6), (4, 1, 3), [(1, 1)], groups=4, args=custom(1, 1)),
    conv("1-D, long sums", (1, 60, 5), (2, 60, 5), ulps=16, stepwise_ulps=300),
    conv("2-D, defaults", (2, 3, 5, 6), (4, 3, 3, 2)),
    conv("2-D, valid by name", (1, 2, 5, 4), (2, 2, 2, 2), args={"pad_type": "valid"}),
    conv("2-D, groups", (1, 6, 5, 5), (4, 3, 3, 3), groups=2),
    conv("2-D, depthwise with two each", (1, 3, 5, 4), (6, 1, 2, 3), groups=3, bias=False),
    conv("2-D, uneven strides", (1, 2, 7, 8), (2, 2, 3, 3), strides=[2, 3]),
    conv("2-D, dilation", (1, 2, 7, 8), (2, 2, 2, 3), dilations=[2, 3]),
    conv("2-D, custom", (1, 2, 4, 5), (2, 2, 3, 3), [(1, 1), (2, 2)], args=custom(1, 1, 2, 2)),
    conv(
        "2-D, custom, four different", (1, 2, 4, 5), (2, 2, 3, 3), [(0, 1), (2, 3)], args=custom(0, 1, 2, 3)
    ),
    conv("2-D, same, odd", (1, 2, 4, 5), (2, 2, 3, 3), [(1, 1), (1, 1)], args=SAME),
    conv("2-D, same, stride 2", (1, 2, 6, 5), (2, 2, 3, 3), [(0, 1), (1, 1)], strides=[2, 2], args=SAME),
    conv("2-D, same, dilation", (1, 2, 6, 5), (2, 2, 2, 3), [(1, 2), (2, 2)], dilations=[3, 2], args=SAME),
    conv(
        "2-D, same_lower, stride 2",
        (1, 2, 6, 5),
        (2, 2, 3, 4),
        [(1, 0), (2, 1)],
        strides=[2, 2],
        args=LOWER,
        targets=FROM_IOS16,
    ),
    conv(
        "2-D, everything",
        (2, 4, 7, 6),
        (6, 2, 2, 2),
        [(1, 0), (0, 2)],
        [2, 1],
        [1, 2],
        2,
        args=custom(1, 0, 0, 2),
    ),
    conv(
        "2-D, open axes",
        (1, 2, 6, 5),
        (2, 2, 3, 3),
        [(0, 1), (1, 1)],
        [2, 2],
        args=SAME,
        open_axes={"x": (2, 3)},
    ),
    conv("3-D, defaults", (1, 2, 4, 3, 3), (2, 2, 2, 2, 2)),
    conv("3-D, same", (1, 1, 3, 3, 4), (2, 1, 2, 3, 2), [(0, 1), (1, 1), (0, 1)], args=SAME),
    conv(
        "3-D, everything",
        (1, 2, 4, 4, 5),
        (4, 1, 2, 2, 2),
        [(1, 1), (0, 2), (1, 0)],
        [2, 1, 2],
        [1, 2, 1],
        2,
        args=custom(1, 1, 0, 2, 1, 0),
    ),
    conv(
        "half weights in float32",
        (1, 2, 5),
        (3, 2, 3),
        like=np.float16,
        dtypes=("float32",),
        targets=FROM_IOS17,
    ),
    conv(
        "float32 weights in half",
        (1, 2, 5),
        (3, 2, 3),
        like=np.float32,
        dtypes=("float16",),
        targets=FROM_IOS17,
    ),
    Case(
        "conv",
        "open weight",
        {"x": rng.normal(size=(1, 4, 5, 5)), "w": rng.normal(size=(2, 2, 3, 2))},
        lambda f, x, w: mb.conv(x=x, weight=w, groups=2, strides=[1, 2], bias=np.array([1, -2], f)),
        lambda x, w: convolved(x, w, np.array([1.0, -2.0]), [1, 2], [(0, 0)] * 2, [1, 1], 2),
        accumulates=True,
    ),
    Case(
        "conv",
        "infinite and NaN",
        {"x": np.array([[[1.0, np.inf, 0.0, 2.0, np.nan, -1.0, 3e4, 3e4]]])},
        lambda f, x: mb.conv(x=x, weight=np.array([[[1, 2]]], f)),
        lambda x: convolved(x, np.array([[[1.0, 2.0]]]), None, [1], [(0, 0)], [1], 1),
    ),
]
SCALE, OFFSET = np.array([0.5, 0.25]), np.array([-1.0, 2.0])
BYTES = rng.integers(0, 16, (2, 2, 2, 2)).astype(np.uint8)


def quantized(label, scale, offset, **args):
    def build(f, x):
        kind = {
            "quantization_type": "linear",
            "quant_scale": np.asarray(scale, f),
            "quant_bias": np.asarray(offset, f),
        }
        return mb.conv_quantized(x=x, weight=BYTES, **kind, **args)

    def expected(x):
        wide = BYTES * np.reshape(scale, (-1, 1, 1, 1)) + np.reshape(offset, (-1, 1, 1, 1))
        bias = args["bias"].astype(float) if "bias" in args else None
        pads = [(0, 1), (0, 1)] if args.get("pad_type") == "same" else [(0, 0)] * 2
        return convolved(x, wide, bias, [1, 1], pads, [1, 1], args.get("groups", 1))

    shape = (1, 2 * args.get("groups", 1), 3, 4)
    return Case("conv_quantized", label, {"x": rng.normal(size=shape)}, build, expected, accumulates=True)


QUANTIZED = [
    quantized("one scale", 0.5, -1.0),
    quantized("a scale a channel", SCALE, OFFSET, nbits=4, pad_type="same"),
    quantized("bias and groups", SCALE, OFFSET, bias=np.array([1, 2], np.uint8), groups=2),
]
TRANSPOSES = [
    conv_transpose("1-D, defaults", (2, 3, 4), (3, 2, 3), [0], [6]),
    conv_transpose("1-D, stride", (1, 2, 4), (2, 3, 3), [0], [9], strides=[2]),
    conv_transpose("1-D, stride beyond the kernel", (1, 2, 3), (2, 1, 2), [0], [8], strides=[3], bias=False),
    conv_transpose("1-D, custom", (1, 2, 4), (2, 3, 4), [1], [8], strides=[2], args=custom(1, 1)),
    conv_transpose("1-D, custom, uneven", (1, 2, 4), (2, 3, 4), [2], [7], strides=[2], args=custom(2, 1)),
    conv_transpose(
        "1-D, custom, uneven the other way", (1, 2, 4), (2, 3, 4), [0], [7], strides=[2], args=custom(0, 3)
    ),
    conv_transpose("1-D, pad is void unless custom", (1, 2, 4), (2, 2, 3), [0], [6], args={"pad": [1, 1]}),
    conv_transpose("1-D, same", (1, 2, 4), (2, 3, 3), [0], [8], strides=[2], args=SAME),
    conv_transpose("1-D, same, even excess", (1, 2, 4), (2, 3, 4), [1], [8], strides=[2], args=SAME),
    conv_transpose("1-D, same, wide kernel", (1, 2, 4), (2, 3, 5), [1], [8], strides=[2], args=SAME),
    conv_transpose(
        "1-D, same, stride beyond the kernel", (1, 2, 3), (2, 3, 2), [0], [9], strides=[3], args=SAME
    ),
    conv_transpose(
        "1-D, open length", (1, 2, 4), (2, 3, 3), [0], [8], [2], args=SAME, open_axes={"x": (0, 2)}
    ),
    conv_transpose(
        "1-D, output_shape with same",
        (1, 2, 4),
        (2, 3, 3),
        [1],
        [7],
        [2],
        args={**SAME, "output_shape": [1, 3, 7]},
    ),
    conv_transpose(
        "1-D, output_shape with valid",
        (1, 2, 4),
        (2, 3, 3),
        [0],
        [10],
        [2],
        args={"output_shape": [1, 3, 10]},
    ),
    conv_transpose(
        "1-D, output_shape adds after",
        (1, 2, 4),
        (2, 3, 3),
        [1],
        [8],
        [2],
        args={**custom(1, 1), "output_shape": [1, 3, 8]},
    ),
    conv_transpose(
        "1-D, output_shape beyond the last window",
        (1, 2, 3),
        (2, 3, 2),
        [0],
        [9],
        [3],
        args={**custom(0, 0), "output_shape": [1, 3, 9]},
    ),
    conv_transpose("1-D, long sums", (1, 80, 3), (80, 2, 4), [0], [6], ulps=16, stepwise_ulps=300),
    conv_transpose("2-D, defaults", (2, 3, 3, 2), (3, 2, 2, 3), [0, 0], [4, 4]),
    conv_transpose(
        "2-D, groups", (1, 4, 3, 2), (4, 3, 2, 2), [0, 0], [6, 4], strides=[2, 2], groups=2, bias=False
    ),
    conv_transpose("2-D, depthwise", (1, 3, 3, 2), (3, 1, 2, 2), [0, 0], [6, 4], strides=[2, 2], groups=3),
    conv_transpose(
        "2-D, dilation", (1, 2, 3, 3), (2, 2, 2, 3), [0, 0], [5, 9], strides=[1, 2], dilations=[2, 2]
    ),
    conv_transpose(
        "2-D, custom", (1, 2, 3, 3), (2, 2, 3, 4), [1, 0], [5, 7], strides=[2, 2], args=custom(1, 1, 0, 1)
    ),
    conv_transpose("2-D, same", (1, 2, 3, 3), (2, 2, 3, 4), [0, 1], [6, 6], strides=[2, 2], args=SAME),
    conv_transpose(
        "2-D, same, dilation", (1, 1, 3, 3), (1, 2, 2, 2), [0, 1], [6, 6], [2, 2], [2, 3], args=SAME
    ),
    conv_transpose(
        "2-D, output_shape",
        (1, 2, 3, 3),
        (2, 2, 3, 3),
        [1, 0],
        [6, 5],
        [2, 2],
        args={**custom(1, 1, 0, 2), "output_shape": [1, 2, 6, 5]},
    ),
    conv_transpose("3-D, defaults", (1, 2, 2, 2, 3), (2, 2, 2, 2, 2), [0, 0, 0], [3, 3, 4]),
    conv_transpose("3-D, same", (1, 1, 2, 2, 3), (1, 2, 3, 2, 3), [0, 0, 0], [4, 4, 6], [2, 2, 2], args=SAME),
    conv_transpose(
        "3-D, everything",
        (1, 4, 2, 2, 3),
        (4, 1, 2, 3, 2),
        [1, 0, 0],
        [3, 5, 4],
        [2, 2, 1],
        [2, 1, 2],
        2,
        args=custom(1, 1, 0, 0, 0, 1),
    ),
    conv_transpose(
        "half weights in float32",
        (1, 2, 4),
        (2, 3, 3),
        [0],
        [6],
        like=np.float16,
        dtypes=("float32",),
        targets=FROM_IOS17,
    ),
    conv_transpose(
        "float32 weights in half",
        (1, 2, 4),
        (2, 3, 3),
        [0],
        [6],
        like=np.float32,
        dtypes=("float16",),
        targets=FROM_IOS17,
    ),
    Case(
        "conv_transpose",
        "open weight",
        {"x": rng.normal(size=(1, 2, 4)), "w": rng.normal(size=(2, 3, 3))},
        lambda f, x, w: mb.conv_transpose(x=x, weight=w, strides=[2]),
        lambda x, w: transposed(x, w, None, [2], [1], 1, [0], [9]),
        accumulates=True,
        targets=FROM_IOS17,
    ),
    Case(
        "conv_transpose",
        "an infinite weight touches no gap between values",
        {"x": np.array([[[1.0, 2.0, 3.0]]])},
        lambda f, x: mb.conv_transpose(x=x, weight=np.array([[[np.inf, 1.0]]], f), strides=[3]),
        lambda x: transposed(x, np.array([[[np.inf, 1.0]]]), None, [3], [1], 1, [0], [8]),
        accumulates=True,
    ),
]
CASES = [*CONVOLUTIONS, *QUANTIZED, *TRANSPOSES]
