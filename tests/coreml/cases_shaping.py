"""Cases of operations that give the same values another shape."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(1)
INT = ("float32",)
NEW = ("iOS17", "iOS18")
X = rng.uniform(-5, 5, (2, 3, 4))
NO_AXES = "value_inference multiplies no lengths to the float 1.0, by which NumPy cannot reshape"
EDGES = np.array([[0.0, -0.0, np.inf], [-np.inf, np.nan, 1e-7]])


def whole(*shape, dtype=np.int32):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def reshaped(label, x, shape, to, **more):
    return Case(
        "reshape", label, {"x": x}, lambda f, x: mb.reshape(x=x, shape=shape), lambda x: x.reshape(to), **more
    )


def expanded(label, x, axes, to, **more):
    return Case(
        "expand_dims",
        label,
        {"x": x},
        lambda f, x: mb.expand_dims(x=x, axes=axes),
        lambda x: x.reshape(to),
        **more,
    )


def squeezed(label, x, axes, to, **more):
    return Case(
        "squeeze",
        label,
        {"x": x},
        lambda f, x: mb.squeeze(x=x) if axes is None else mb.squeeze(x=x, axes=axes),
        lambda x: x.reshape(to),
        **more,
    )


def transposed(label, x, perm, **more):
    def expected(x):
        result = np.empty([x.shape[axis] for axis in perm], x.dtype)
        for place in np.ndindex(*result.shape):
            source = [0] * x.ndim
            for axis, index in zip(perm, place, strict=True):
                source[axis] = index
            result[place] = x[tuple(source)]
        return result

    return Case("transpose", label, {"x": x}, lambda f, x: mb.transpose(x=x, perm=perm), expected, **more)


def flattened(label, x, axis, to, **more):
    return Case(
        "flatten2d",
        label,
        {"x": x},
        lambda f, x: mb.flatten2d(x=x, axis=axis),
        lambda x: x.reshape(to),
        **more,
    )


def moved(op, x, shape, place, label="blocks", **arguments):
    """`place` tells where in a result of `shape` the value at (n, c, h, w) goes; None if nowhere."""

    def expected(x):
        result = np.zeros(shape)
        for source in np.ndindex(*x.shape):
            target = place(*source)
            if target is not None:
                result[target] = x[source]
        return result

    targets = ("iOS16", "iOS17", "iOS18") if op == "pixel_unshuffle" else ("iOS15", "iOS16", "iOS17", "iOS18")
    more = {"open_axes": arguments.pop("open_axes")} if "open_axes" in arguments else {}
    return Case(
        op, label, {"x": x}, lambda f, x: getattr(mb, op)(x=x, **arguments), expected, targets=targets, **more
    )


def cropped(n, c, h, w, b=2, crops=((1, 0), (0, 2)), shape=(2, 2, 3, 4)):
    i, j = divmod(n // b, 3)
    row, column = h * 2 + i - crops[0][0], w * 3 + j - crops[1][0]
    inside = 0 <= row < shape[2] and 0 <= column < shape[3]
    return (n % b, c, row, column) if inside else None


FLAT = [
    Case("identity", "floats", {"x": EDGES}, lambda f, x: mb.identity(x=x), lambda x: x),
    Case("identity", "ints", {"x": whole(2, 3)}, lambda f, x: mb.identity(x=x), lambda x: x, INT),
    Case("shape", "fixed", {"x": X}, lambda f, x: mb.shape(x=x), lambda x: np.array([2, 3, 4])),
    Case("shape", "ints", {"x": whole(5)}, lambda f, x: mb.shape(x=x), lambda x: np.array([5]), INT),
    Case(
        "shape",
        "open",
        {"x": X},
        lambda f, x: mb.shape(x=x),
        lambda x: np.array([2, 3, 4]),
        open_axes={"x": (0, 2)},
    ),
    reshaped("merge", X, (6, 4), (6, 4)),
    reshaped("edges", EDGES, (3, 1, 2), (3, 1, 2)),
    reshaped("rest", X, (4, -1), (4, 6)),
    reshaped("zero-and-rest", X, (0, -1, 2), (2, 6, 2)),
    reshaped("zeros-and-rest", X, (-1, 0, 0), (2, 3, 4)),
    reshaped("zeros-from-the-right", rng.uniform(size=(2, 50)), (1, 0, -1, 0), (1, 1, 2, 50), targets=NEW),
    reshaped("zero-of-fewer", X, (-1, 0), (6, 4), targets=NEW),
    reshaped("ints", whole(2, 6), (3, 4), (3, 4), dtypes=INT),
    reshaped("bools", whole(2, 3) % 2 == 1, (6,), (6,), dtypes=INT),
    reshaped("small-ints", whole(2, 3, dtype=np.int8), (6,), (6,), dtypes=INT, targets=NEW),
    reshaped(
        "unsigned", whole(2, 3, dtype=np.uint16) + np.uint16(65000), (6,), (6,), dtypes=INT, targets=NEW
    ),
    reshaped("open", X, (-1, 4), (6, 4), open_axes={"x": (0,)}),
    Case(
        "reshape",
        "shape-of-another",
        {"x": X, "y": whole(3, 8)},
        lambda f, x, y: mb.reshape(x=x, shape=mb.shape(x=y)),
        lambda x, y: x.reshape(3, 8),
        open_axes={"y": (0, 1)},
    ),
    Case(
        "reshape",
        "dynamic",
        {"x": X, "to": np.array([3, -1], np.int32)},
        lambda f, x, to: mb.reshape(x=x, shape=to),
        lambda x, to: x.reshape(3, 8),
    ),
    Case(
        "reshape",
        "dynamic-short-ints",
        {"x": X, "to": np.array([0, -1, 2], np.int16)},
        lambda f, x, to: mb.reshape(x=x, shape=to),
        lambda x, to: x.reshape(2, 6, 2),
        targets=NEW,
    ),
    Case(
        "reshape_like",
        "two",
        {"x": rng.uniform(size=(2, 3, 30)), "a": whole(2, 3, 4), "b": whole(1, 5, 6)},
        lambda f, x, a, b: mb.reshape_like(
            x=x, ref_tensors=[a, b], begins=[0, 1], ends=[2, 0], end_masks=[False, True]
        ),
        lambda x, a, b: x.reshape(2, 3, 5, 6),
        targets=("iOS16", "iOS17", "iOS18"),
    ),
    Case(
        "reshape_like",
        "negative",
        {"x": whole(12), "a": rng.uniform(size=(7, 3, 4))},
        lambda f, x, a: mb.reshape_like(x=x, ref_tensors=[a], begins=[-2], ends=[9], end_masks=[False]),
        lambda x, a: x.reshape(3, 4),
        targets=("iOS16", "iOS17", "iOS18"),
        dtypes=INT,
    ),
    expanded("first", X, [0], (1, 2, 3, 4)),
    expanded("last", X, [-1], (2, 3, 4, 1)),
    expanded("before-last", X, [-2], (2, 3, 1, 4)),
    expanded("several", rng.uniform(size=(2, 3)), [3, 0, -3], (1, 2, 1, 1, 3)),
    expanded("unsorted", rng.uniform(size=(2, 3)), [-1, 0], (1, 2, 3, 1)),
    expanded("ints", whole(3), [1], (3, 1), dtypes=INT),
    expanded("bools", whole(3) % 2 == 0, [0], (1, 3), dtypes=INT),
    expanded("unsigned", whole(3, dtype=np.uint8), [0], (1, 3), dtypes=INT, targets=NEW),
    squeezed("all", rng.uniform(size=(1, 3, 1, 2)), None, (3, 2)),
    squeezed("some", rng.uniform(size=(1, 3, 1, 2, 1)), [0, -1], (3, 1, 2)),
    squeezed("one", rng.uniform(size=(1, 3, 1)), [2], (1, 3)),
    squeezed("to-scalar", np.array([2.5]), [0], ()),
    squeezed(
        "longer-stays",
        rng.uniform(size=(2, 1, 3)),
        [0, 1],
        (2, 3),
        unfolded="np.squeeze refuses axes that are longer than 1, which the type rule keeps",
    ),
    squeezed("ints", whole(1, 3), [0], (3,), dtypes=INT),
    squeezed("open", rng.uniform(size=(1, 3, 1)), [0], (3, 1), open_axes={"x": (1,)}),
    transposed("matrix", EDGES, (1, 0)),
    transposed("three", X, (2, 0, 1)),
    transposed("negative", X, (-1, 0, -2)),
    transposed("five", whole(2, 1, 3, 2, 2), (4, 2, 0, 3, 1), dtypes=INT),
    transposed("bools", whole(2, 3) % 2 == 0, (1, 0), dtypes=INT),
    transposed("unsigned", whole(2, 3, dtype=np.uint16), (1, 0), dtypes=INT, targets=NEW),
    transposed("open", X, (1, 2, 0), open_axes={"x": (0, 1, 2)}),
    flattened("vector-last", np.arange(3.0), -1, (1, 3), unfolded=NO_AXES),
    flattened("vector-first", np.arange(3.0), 1, (3, 1), unfolded=NO_AXES),
    flattened("matrix", rng.uniform(size=(4, 3)), -1, (4, 3)),
    flattened("three-last", rng.uniform(size=(2, 3, 2)), -1, (6, 2)),
    flattened("three-first", whole(5, 5, 2), 1, (5, 10), dtypes=INT),
    flattened("before-all", X, 0, (1, 24), unfolded=NO_AXES),
    Case("flatten2d", "default", {"x": X}, lambda f, x: mb.flatten2d(x=x), lambda x: x.reshape(2, 12)),
]

BLOCKS = [
    moved(
        "depth_to_space",
        rng.uniform(size=(2, 8, 3, 2)),
        (2, 2, 6, 4),
        lambda n, c, h, w: (n, c % 2, h * 2 + c // 2 // 2, w * 2 + c // 2 % 2),
        block_size=2,
    ),
    moved(
        "depth_to_space",
        rng.uniform(size=(1, 18, 1, 2)),
        (1, 2, 3, 6),
        lambda n, c, h, w: (n, c % 2, h * 3 + c // 2 // 3, w * 3 + c // 2 % 3),
        "three-open",
        block_size=3,
        open_axes={"x": (0, 2)},
    ),
    moved(
        "space_to_depth",
        rng.uniform(size=(2, 2, 6, 4)),
        (2, 8, 3, 2),
        lambda n, c, h, w: (n, (h % 2 * 2 + w % 2) * 2 + c, h // 2, w // 2),
        block_size=2,
    ),
    moved(
        "pixel_shuffle",
        rng.uniform(size=(2, 8, 3, 2)),
        (2, 2, 6, 4),
        lambda n, c, h, w: (n, c // 4, h * 2 + c % 4 // 2, w * 2 + c % 2),
        upscale_factor=2,
    ),
    moved(
        "pixel_unshuffle",
        rng.uniform(size=(2, 3, 4, 6)),
        (2, 12, 2, 3),
        lambda n, c, h, w: (n, c * 4 + h % 2 * 2 + w % 2, h // 2, w // 2),
        downscale_factor=np.uint32(2),
    ),
    moved(
        "space_to_batch",
        rng.uniform(size=(2, 2, 3, 4)),
        (12, 2, 2, 2),
        lambda n, c, h, w: (((h + 1) % 2 * 3 + w % 3) * 2 + n, c, (h + 1) // 2, w // 3),
        block_shape=[2, 3],
        paddings=[[1, 0], [0, 2]],
    ),
    moved(
        "batch_to_space",
        rng.uniform(size=(12, 2, 2, 2)),
        (2, 2, 3, 4),
        cropped,
        block_shape=[2, 3],
        crops=[[1, 0], [0, 2]],
    ),
]

CASES = [*FLAT, *BLOCKS]
