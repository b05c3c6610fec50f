"""Cases of compressed weights, as the file stores them, against loops over single elements."""

from __future__ import annotations

import itertools

import numpy as np
from cases import Case
from mil import mb, types

rng = np.random.default_rng(6)
IOS16, IOS18 = ("iOS16", "iOS17"), ("iOS18",)


def held(name, values):
    """An array that coremltools knows to be of sub-byte type `name`."""
    return np.array(values).astype(types.nptype_from_builtin(types.string_to_builtin(name)))


def case(op, label, build, truth, targets, **more):
    """`build(f)` gives the decompressed value, which is an output of the program as it is."""
    return Case(
        op,
        label,
        {"x": np.zeros(1)},
        lambda f, x: (build(f), mb.identity(x=x)),
        truth,
        targets=targets,
        **more,
    )


def packed(values, bits):
    """The numbers as bytes, each bit written by itself: lowest bit of the first number first."""
    data = np.zeros(-(-len(values) * bits // 8), np.uint8)
    for place, (value, bit) in enumerate(itertools.product(values, range(bits))):
        data[place // 8] |= ((int(value) >> bit) & 1) << (place % 8)
    return data


# -- iOS 16


def affine(label, data, zero_point, scale, axis):
    def truth(x):
        result = np.zeros(data.shape)
        for index in np.ndindex(data.shape):
            s, z = (np.ravel(v)[index[axis] if np.ndim(v) else 0] for v in (scale, zero_point))
            result[index] = float(s) * (int(data[index]) - float(z))
        return result, x

    def build(f):
        return mb.constexpr_affine_dequantize(
            quantized_data=data, zero_point=zero_point, scale=np.array(scale, f)[()], axis=np.int32(axis)
        )

    return case("constexpr_affine_dequantize", label, build, truth, IOS16)


def table16(label, bits, shape, of=None):
    indices, lut = rng.integers(0, 2**bits, np.prod(shape)), rng.integers(-100, 100, 2**bits)
    lut = lut / 8 if of is None else lut.astype(of)

    def truth(x):
        return np.array([lut[i] for i in indices]).reshape(shape), x

    def build(f):
        return mb.constexpr_lut_to_dense(
            indices=packed(indices, bits), lut=lut.astype(of or f), shape=np.array(shape, np.uint32)
        )

    return case("constexpr_lut_to_dense", label, build, truth, IOS16)


def spread(mask, values):
    """Zeros where the mask is not set, else the next value, in row-major order."""
    result, left = np.zeros(mask.shape), iter(values)
    for index in np.ndindex(mask.shape):
        result[index] = next(left) if mask[index] else 0
    return result


def sparse16(label, mask, of=None):
    values = rng.integers(1, 100, int(mask.sum()))
    values = values / 8 if of is None else values.astype(of)

    def build(f):
        return mb.constexpr_sparse_to_dense(
            nonzero_data=values.astype(of or f),
            mask=packed(mask.ravel(), 1),
            shape=np.array(mask.shape, np.uint32),
        )

    def truth(x):
        return spread(mask, values).astype(of or float), x

    return case("constexpr_sparse_to_dense", label, build, truth, IOS16)


def cast(label, targets):
    values = rng.uniform(-9, 9, (3, 4)).astype(np.float16)

    def build(f):
        return mb.constexpr_cast(source_val=values, output_dtype="fp32")

    return case(
        "constexpr_cast", label, build, lambda x: (values.astype(float), x), targets, dtypes=("float32",)
    )


# -- iOS 18


def blocks(index, shape, counts):
    """The block that an element is in, for `counts` blocks along each axis."""
    return tuple(i * count // size for i, size, count in zip(index, shape, counts, strict=True))


def scaled(data, scale, offset):
    result = np.zeros(data.shape)
    for index in np.ndindex(data.shape):
        at = blocks(index, data.shape, scale.shape)
        result[index] = scale[at] * (float(data[index]) - (0 if offset is None else float(offset[at])))
    return result


def in_range(name, shape):
    low, high = {"int4": (-8, 7), "uint4": (0, 15), "int8": (-128, 127), "uint8": (0, 255)}.get(name, (-9, 9))
    return rng.integers(low, high, shape, endpoint=True)


def of_type(name, values, f):
    return values.astype(f) if name == "float" else held(name, values)


def blockwise(label, name, shape, counts, offset=None):
    data, scale = in_range(name, shape), rng.integers(1, 40, counts) / 64
    shift = None if offset is None else in_range(offset, counts)

    def build(f):
        more = {} if shift is None else {"offset": of_type(offset, shift, f)}
        return mb.constexpr_blockwise_shift_scale(data=of_type(name, data, f), scale=scale.astype(f), **more)

    return case(
        "constexpr_blockwise_shift_scale", label, build, lambda x: (scaled(data, scale, shift), x), IOS18
    )


def looked_up(indices, lut, axis):
    length, shape = lut.shape[-1], list(indices.shape)
    if length > 1:
        shape[axis] *= length
    result = np.zeros(shape)
    for index in np.ndindex(*shape):
        place, part = list(index), 0
        if length > 1:
            place[axis], part = divmod(index[axis], length)
        result[index] = lut[blocks(place, indices.shape, lut.shape[:-2])][indices[tuple(place)], part]
    return result


def table18(label, bits, shape, groups, length=1, axis=None, of=None):
    indices = rng.integers(0, 2**bits, shape)
    lut = rng.integers(-100, 100, (*groups, 2**bits, length))
    lut = lut / 8 if of is None else lut.astype(of)

    def build(f):
        more = {} if axis is None else {"vector_axis": np.int32(axis)}
        return mb.constexpr_lut_to_dense(
            indices=held(f"uint{bits}", indices), lut=lut.astype(of or f), **more
        )

    def truth(x):
        return looked_up(indices, lut, axis).astype(of or float), x

    return case("constexpr_lut_to_dense", label, build, truth, IOS18)


def sparse18(label, mask, of=None):
    values = rng.integers(1, 100, int(mask.sum())) / 8 if of is None else in_range(of, int(mask.sum()))

    def build(f):
        nonzero = values.astype(f) if of is None else held(of, values)
        dense = mb.constexpr_sparse_to_dense(nonzero_data=nonzero, mask=held("uint1", mask))
        if of is None:
            return dense
        return mb.constexpr_blockwise_shift_scale(data=dense, scale=np.ones([1] * mask.ndim, f))

    return case("constexpr_sparse_to_dense", label, build, lambda x: (spread(mask, values), x), IOS18)


def sparse_scaled(label, name, mask, counts, offset=None):
    values, scale = in_range(name, int(mask.sum())), rng.integers(1, 40, counts) / 64
    shift = None if offset is None else in_range(offset, counts)

    def build(f):
        more = {} if shift is None else {"offset": of_type(offset, shift, f)}
        left, nonzero = mb.constexpr_sparse_blockwise_shift_scale(
            data_mask=held("uint1", mask),
            nonzero_data=of_type(name, values, f),
            scale=scale.astype(f),
            **more,
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=nonzero, mask=left)

    def truth(x):
        return np.where(mask, scaled(spread(mask, values), scale, shift), 0.0), x

    return case("constexpr_sparse_blockwise_shift_scale", label, build, truth, IOS18)


def sparse_table(label, bits, mask, groups, length=1, axis=None):
    values, lut = (
        rng.integers(0, 2**bits, int(mask.sum())),
        rng.integers(1, 100, (*groups, 2**bits, length)) / 8,
    )

    def build(f):
        more = {} if axis is None else {"vector_axis": np.int32(axis)}
        left, nonzero = mb.constexpr_lut_to_sparse(
            indices_mask=held("uint1", mask),
            indices_nonzero_data=held(f"uint{bits}", values),
            lut=lut.astype(f),
            **more,
        )
        return mb.constexpr_sparse_to_dense(nonzero_data=nonzero, mask=left)

    def truth(x):
        wide = mask if length == 1 else np.repeat(mask, length, axis)
        return np.where(wide, looked_up(spread(mask, values).astype(int), lut, axis), 0.0), x

    return case("constexpr_lut_to_sparse", label, build, truth, IOS18)


def joint_table(label):
    """A palette whose entries are themselves 8-bit, as coremltools' joint compression writes it."""
    indices, lut = rng.integers(0, 4, (4, 3)), in_range("int8", (1, 1, 4, 1))
    scale = np.array([[[[0.25]]]])

    def build(f):
        table = mb.constexpr_blockwise_shift_scale(data=held("int8", lut), scale=scale.astype(f))
        return mb.constexpr_lut_to_dense(indices=held("uint2", indices), lut=table)

    return case(
        "constexpr_lut_to_dense", label, build, lambda x: (looked_up(indices, lut / 4, None), x), IOS18
    )


BYTES = rng.integers(0, 256, (2, 3, 4))
MASK = rng.integers(0, 2, (4, 6)).astype(bool)
CASES: list[Case] = [
    affine("one-scale", BYTES.astype(np.uint8), np.uint8(128), 0.03, 0),
    affine("channels", BYTES.astype(np.uint8), np.array([0, 128, 255], np.uint8), [0.25, 0.3, -0.01], 1),
    affine("signed", (BYTES - 128).astype(np.int8), np.array([-128, 127], np.int8), [0.25, 0.3], 0),
    affine("negative-axis", (BYTES - 128).astype(np.int8), np.int8(3), [0.25, 0.5, 1, 2], -1),
    affine("float-zero-point", BYTES.astype(np.uint8), np.float32(100.5), 0.25, 0),
    *[table16(f"{bits}-bit", bits, (3, 7)) for bits in (1, 2, 4, 6, 8)],
    table16("rank-1", 6, (5,)),
    table16("of-bytes", 2, (3, 3), np.int8),
    table16("of-unsigned-bytes", 4, (2, 3, 2), np.uint8),
    sparse16("matrix", rng.integers(0, 2, (3, 7)).astype(bool)),
    sparse16("all", np.ones((3, 3), bool)),
    sparse16("none", np.zeros((3, 3), bool)),
    sparse16("of-bytes", rng.integers(0, 2, (2, 3, 3)).astype(bool), np.int8),
    cast("before-18", IOS16),
    cast("18", IOS18),
    *[
        blockwise(f"{name}-blocks", name, (4, 6), (2, 3))
        for name in ("int4", "uint4", "int8", "uint8", "float")
    ],
    *[blockwise(f"{name}-offset", name, (4, 6), (2, 3), name) for name in ("int4", "uint4", "int8", "uint8")],
    blockwise("float-offset", "uint4", (4, 6), (4, 2), "float"),
    blockwise("tensor", "int8", (2, 3, 4), (1, 1, 1), "int8"),
    blockwise("channels", "int4", (2, 3, 4), (1, 3, 1), "int4"),
    blockwise("every-value", "uint4", (2, 3), (2, 3)),
    *[table18(f"{bits}-bit", bits, (3, 7), (1, 1)) for bits in (1, 2, 3, 4, 6, 8)],
    table18("groups", 2, (6, 4), (2, 1)),
    table18("groups-both", 3, (6, 4), (3, 2)),
    table18("channels", 1, (3, 4, 2), (3, 1, 1)),
    table18("vectors-first", 2, (2, 3), (1, 1), 3, 0),
    table18("vectors-middle", 1, (2, 2, 3), (1, 1, 1), 2, 1),
    table18("vectors-last", 4, (2, 2, 3), (1, 1, 1), 4, -1),
    table18("vectors-groups", 2, (4, 6), (2, 3), 2, 1),
    table18("vectors-groups-first", 2, (4, 6), (2, 3), 2, -2),
    table18("one-long-vector", 2, (2, 3), (1, 1), 1, 0),
    table18("of-bytes", 2, (3, 3), (1, 1), of=np.int8),
    table18("of-unsigned-bytes", 4, (3, 3), (1, 1), of=np.uint8),
    sparse18("matrix", MASK),
    sparse18("cube", rng.integers(0, 2, (2, 3, 3)).astype(bool)),
    sparse18("none", np.zeros((2, 3), bool)),
    *[sparse18(f"of-{name}", MASK, name) for name in ("int4", "uint4", "int8", "uint8")],
    *[sparse_scaled(f"{name}", name, MASK, (1, 6), name) for name in ("int4", "uint4", "int8", "uint8")],
    sparse_scaled("blocks", "int8", MASK, (2, 3)),
    sparse_scaled("float-offset", "int8", MASK, (4, 1), "float"),
    sparse_table("tensor", 2, MASK, (1, 1)),
    sparse_table("groups", 4, MASK, (2, 1)),
    sparse_table("vectors", 1, MASK, (1, 1), 2, 0),
    sparse_table("vectors-last", 2, MASK, (1, 3), 3, -1),
    joint_table("of-quantised"),
]
