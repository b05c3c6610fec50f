"""Cases of operations that make, join, repeat, pad or order tensors."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(3)
INT = ("float32",)
FROM16 = ("iOS16", "iOS17", "iOS18")
NEW = ("iOS17", "iOS18")
X = rng.uniform(-5, 5, (3, 4))
CUBE = rng.uniform(-5, 5, (2, 3, 4))
EDGES = np.array([[0.0, -np.inf, 2.0, np.inf], [-0.0, 1.0, -3.0, 1.0], [np.inf, np.inf, -np.inf, 0.0]])
WIDE = np.round(rng.uniform(-300, 300, (2, 3000)), 0) + np.linspace(0, 0.4, 3000)
UNSTABLE = "value_inference sorts by np.argsort, which does not keep the order of equal values"
UNSIGNED = "value_inference negates unsigned values to sort them downwards"


def whole(*shape, dtype=np.int32):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def scalar(x):
    """A value of rank 0, which a program's input cannot be."""
    return mb.squeeze(x=x, axes=[0])


def order(x, axis, ascending):
    """Indices in order, of equal values the lower index first: by sorting pairs."""
    result = np.empty(x.shape, np.int32)
    for place in np.ndindex(*(1 if i == axis % x.ndim else n for i, n in enumerate(x.shape))):
        line = tuple(slice(None) if i == axis % x.ndim else p for i, p in enumerate(place))
        pairs = sorted((v if ascending else -v, i) for i, v in enumerate(x[line].tolist()))
        result[line] = [i for _, i in pairs]
    return result


def best(x, k, axis, ascending):
    indices = np.take(order(x, axis, ascending), range(x.shape[axis] if k == -1 else k), axis)
    return np.take_along_axis(x, indices, axis), indices


def argsorted(label, x, axis=-1, ascending=False, **more):
    return Case(
        "argsort",
        label,
        {"x": x},
        lambda f, x: mb.argsort(x=x, axis=axis, ascending=ascending),
        lambda x: order(x, axis, ascending),
        **more,
    )


def top(label, x, k, axis=-1, ascending=False, *, options=None, values_only=False, **more):
    def expected(x):
        values, indices = best(x, k, axis, ascending)
        return values if values_only else (values, indices)

    def build(f, x):
        return mb.topk(x=x, k=k, axis=axis, ascending=ascending, **(options or {}))

    return Case("topk", label, {"x": x}, build, expected, **more)


def band(label, x, lower, upper, **more):
    def expected(x):
        result = x.copy()
        for *_, m, n in np.ndindex(*x.shape):
            if (lower >= 0 and m - n > lower) or (upper >= 0 and n - m > upper):
                result[..., m, n] = 0
        return result

    return Case(
        "band_part",
        label,
        {"x": x},
        lambda f, x: mb.band_part(x=x, lower=lower, upper=upper),
        expected,
        **more,
    )


def padded(label, x, pad, mode="constant", value=None, **more):
    def source(index, size):
        if 0 <= index < size:
            return index
        if mode == "constant":
            return None
        if mode == "replicate":
            return 0 if index < 0 else size - 1
        return -index if index < 0 else 2 * (size - 1) - index

    def expected(x):
        pairs = [(0, 0)] * (x.ndim - len(pad) // 2) + list(zip(pad[::2], pad[1::2], strict=True))
        result = np.full([n + a + b for n, (a, b) in zip(x.shape, pairs, strict=True)], value or 0.0)
        for place in np.ndindex(*result.shape):
            origin = [source(i - a, n) for i, (a, _), n in zip(place, pairs, x.shape, strict=True)]
            if None not in origin:
                result[place] = x[tuple(origin)]
        return result

    def build(f, x):
        more = {} if value is None else {"constant_val": f(value)}
        return mb.pad(x=x, pad=pad, mode=mode, **more) if mode != "constant" else mb.pad(x=x, pad=pad, **more)

    return Case("pad", label, {"x": x}, build, expected, **more)


def ranged(label, start, end, step, values, **more):
    """`values` are of float type where `start` is a float."""
    kind = float if isinstance(start, float) else np.int32

    def build(f, end, start, step):
        return mb.range_1d(end=scalar(end), start=scalar(start), step=scalar(step))

    inputs = {"end": np.array([end], kind), "start": np.array([start], kind), "step": np.array([step], kind)}
    dtypes = ("float32", "float16") if kind is float else INT
    return Case("range_1d", label, inputs, build, lambda *_: np.array(values, kind), dtypes=dtypes, **more)


def hot(label, indices, size, places, on=1, off=0, dtype=np.int32, axis=-1, **more):
    """`places` are the indices of a result of `size` along `axis` that are on."""

    def expected(indices):
        shape = list(indices.shape)
        shape.insert(axis % (indices.ndim + 1), size)
        result = np.full(shape, off, np.float64 if dtype is float else dtype)
        for place in places:
            result[place] = on
        return result

    def build(f, indices):
        kind = f if dtype is float else dtype
        return mb.one_hot(
            indices=indices, one_hot_vector_size=size, axis=axis, on_value=kind(on), off_value=kind(off)
        )

    dtypes = ("float32", "float16") if dtype is float else INT
    return Case("one_hot", label, {"indices": indices}, build, expected, dtypes=dtypes, **more)


ORDER = [
    argsorted("down", X),
    argsorted("up", X, ascending=True),
    argsorted("first-axis", X, axis=0),
    argsorted("ties-and-infinities", EDGES, unfolded=UNSTABLE),
    argsorted("ties-up", EDGES, ascending=True, axis=-2, unfolded=UNSTABLE),
    argsorted("ints", np.array([3, -1, 3, 0], np.int32), dtypes=INT, unfolded=UNSTABLE),
    argsorted("many-ties", whole(2, 40).astype(float) % 3, unfolded=UNSTABLE),
    argsorted("open", CUBE, axis=1, open_axes={"x": (0, 1)}),
    Case("argsort", "defaults", {"x": X}, lambda f, x: mb.argsort(x=x), lambda x: order(x, -1, False)),
    Case("topk", "defaults", {"x": X}, lambda f, x: mb.topk(x=x), lambda x: best(x, 1, -1, False)),
    top("largest", X, 3),
    top("smallest", X, 2, ascending=True),
    top("first-axis", X, 2, axis=0),
    top("middle-axis", CUBE, 2, axis=-2, ascending=True),
    top("ties-and-infinities", EDGES, 3, unfolded=UNSTABLE),
    top("ties-up", EDGES, 3, ascending=True, unfolded=UNSTABLE),
    top("ints", np.array([[3, -1, 3, 0]], np.int32), 3, dtypes=INT, unfolded=UNSTABLE),
    top("open", CUBE, 2, axis=1, open_axes={"x": (0,)}),
    top("wide", WIDE, 5, dtypes=INT),
    top("wide-up", WIDE, 4, ascending=True, dtypes=INT),
    top("wide-with-ties", np.round(WIDE), 30, unfolded=UNSTABLE),
    top("wide-one-of-ties", np.minimum(WIDE, 250.0), 1, dtypes=INT, unfolded=UNSTABLE),
    top("wide-first-axis", WIDE.T, 3, axis=0, ascending=True, dtypes=INT),
    top("unsorted", X, 4, options={"sort": True}, targets=FROM16),
    top("values-only", X, 2, options={"return_indices": False}, values_only=True, targets=FROM16),
    top(
        "wide-values-only",
        WIDE,
        3,
        options={"return_indices": False},
        values_only=True,
        targets=FROM16,
        dtypes=INT,
    ),
    top("short-indices", X, 2, options={"output_indices_dtype": "uint16"}, targets=NEW),
    top("small", np.array([[3, -1, 7, 0]], np.int8), 3, dtypes=INT, targets=NEW),
    top("bytes", np.array([[3, 255, 7, 0]], np.uint8), 3, dtypes=INT, targets=NEW, unfolded=UNSIGNED),
    top("unsigned", np.array([[3, 65000, 7, 0]], np.uint16), 3, dtypes=INT, targets=NEW, unfolded=UNSIGNED),
    top("wide-unsigned", whole(1, 2000, dtype=np.uint16), 3, dtypes=INT, targets=NEW, unfolded=UNSIGNED),
    Case(
        "topk",
        "short-k",
        {"x": X},
        lambda f, x: mb.topk(x=x, k=np.int8(2), sort=False),
        lambda x: best(x, 2, -1, False),
        targets=NEW,
    ),
]

MADE = [
    Case(
        "fill",
        "default",
        {"x": X},
        lambda f, x: (mb.identity(x=x), mb.fill(shape=[2, 3])),
        lambda x: (x, np.zeros((2, 3))),
        INT,
    ),
    Case(
        "fill",
        "dynamic-floats",
        {"shape": np.array([2, 1, 3], np.int32)},
        lambda f, shape: mb.fill(shape=shape, value=f(-2.7)),
        lambda shape: np.full((2, 1, 3), -2.7),
    ),
    Case(
        "fill",
        "dynamic-ints",
        {"shape": np.array([3], np.int32)},
        lambda f, shape: mb.fill(shape=shape, value=np.int32(2**31 - 1)),
        lambda shape: np.full(3, 2**31 - 1),
        INT,
    ),
    Case(
        "fill",
        "dynamic-bools",
        {"shape": np.array([2, 2], np.int32)},
        lambda f, shape: mb.fill(shape=shape, value=True),
        lambda shape: np.full((2, 2), True),
        INT,
    ),
    Case(
        "fill_like",
        "floats",
        {"x": whole(2, 3)},
        lambda f, x: mb.fill_like(ref_tensor=x, value=f(0.1)),
        lambda x: np.full((2, 3), 0.1),
        targets=FROM16,
    ),
    Case(
        "fill_like",
        "default",
        {"x": whole(2, 3)},
        lambda f, x: mb.fill_like(ref_tensor=x),
        lambda x: np.zeros((2, 3)),
        INT,
        targets=FROM16,
    ),
    Case(
        "fill_like",
        "ints-open",
        {"x": X},
        lambda f, x: mb.fill_like(ref_tensor=x, value=np.int32(-7)),
        lambda x: np.full((3, 4), -7),
        targets=FROM16,
        open_axes={"x": (0,)},
    ),
    Case(
        "fill_like",
        "bools",
        {"x": X},
        lambda f, x: mb.fill_like(ref_tensor=x, value=True),
        lambda x: np.full((3, 4), True),
        INT,
        targets=FROM16,
    ),
    ranged("up", 0.0, 3.5, 0.5, [0, 0.5, 1, 1.5, 2, 2.5, 3]),
    ranged("up-uneven", -1.0, 2.25, 0.5, [-1, -0.5, 0, 0.5, 1, 1.5, 2]),
    ranged("down", 5.0, 1.0, -2.0, [5, 3]),
    ranged("ints", 1, 8, 3, [1, 4, 7]),
    ranged("ints-exact-end", 1, 7, 3, [1, 4]),
    ranged("ints-down", 4, -2, -1, [4, 3, 2, 1, 0, -1]),
    Case(
        "range_1d",
        "constants",
        {"end": np.array([4], np.int32)},
        lambda f, end: mb.range_1d(end=scalar(end), start=0, step=1),
        lambda end: np.arange(4),
        INT,
    ),
    hot("last", np.array([1, 0, 2], np.int32), 3, [(0, 1), (1, 0), (2, 2)]),
    hot("first", np.array([[1, 0]], np.int32), 3, [(1, 0, 0), (0, 0, 1)], 2.5, -0.5, float, axis=0),
    hot("middle", np.array([[1, 0]], np.int32), 2, [(0, 1, 0), (0, 0, 1)], 7, 3, axis=-2),
    hot("outside", np.array([5, -1, 2], np.int32), 3, [(2, 2)]),
    hot("bools", np.array([1, 0], np.int32), 2, [(0, 1), (1, 0)], True, False, np.bool_),
    Case(
        "one_hot",
        "scalar",
        {"indices": np.array([1], np.int32)},
        lambda f, indices: mb.one_hot(indices=scalar(indices), one_hot_vector_size=3),
        lambda indices: np.array([0, 1, 0]),
        INT,
    ),
    Case(
        "one_hot",
        "defaults",
        {"indices": np.array([1, 0], np.int32)},
        lambda f, indices: mb.one_hot(indices=indices, one_hot_vector_size=2),
        lambda indices: np.array([[0, 1], [1, 0]]),
        INT,
    ),
    Case(
        "one_hot",
        "dynamic-size",
        {"indices": np.array([1, 0], np.int32), "size": np.array([3], np.int32)},
        lambda f, indices, size: mb.one_hot(
            indices=indices, one_hot_vector_size=scalar(size), on_value=f(1.5), off_value=f(0)
        ),
        lambda indices, size: np.array([[0, 1.5, 0], [1.5, 0, 0]]),
    ),
    Case(
        "non_zero",
        "floats",
        {"x": np.array([[0.0, 2.0, np.nan], [-0.0, -np.inf, 0.0]])},
        lambda f, x: mb.non_zero(x=x),
        lambda x: np.array([[0, 1], [0, 2], [1, 1]]),
    ),
    Case(
        "non_zero",
        "bools",
        {"x": whole(4) % 3 == 0},
        lambda f, x: mb.non_zero(x=x),
        lambda x: np.array([[0], [3]]),
        INT,
    ),
    Case(
        "non_zero",
        "none",
        {"x": np.zeros((2, 2), np.int32)},
        lambda f, x: mb.non_zero(x=x),
        lambda x: np.zeros((0, 2), np.int32),
        INT,
    ),
]

JOINED = [
    Case(
        "concat",
        "last",
        {"x": X, "y": X[:, :2] * 2},
        lambda f, x, y: mb.concat(values=[x, y], axis=-1),
        lambda x, y: np.hstack([x, y]),
    ),
    Case(
        "concat",
        "middle-of-three",
        {"x": CUBE, "y": CUBE[:, :1] + 1},
        lambda f, x, y: mb.concat(values=[y, x, y], axis=1),
        lambda x, y: np.stack([y[:, 0], x[:, 0], x[:, 1], x[:, 2], y[:, 0]], 1),
    ),
    Case(
        "concat",
        "interleave",
        {"x": X, "y": X + 9},
        lambda f, x, y: mb.concat(values=[x, y], axis=0, interleave=True),
        lambda x, y: np.array([x[0], y[0], x[1], y[1], x[2], y[2]]),
        unfolded="value_inference takes no notice of interleave",
    ),
    Case(
        "concat",
        "interleave-last",
        {"x": X, "y": X + 9},
        lambda f, x, y: mb.concat(values=[x, y, x], axis=-1, interleave=True),
        lambda x, y: np.stack([x[:, i // 3] if i % 3 != 1 else y[:, i // 3] for i in range(12)], 1),
        unfolded="value_inference takes no notice of interleave",
    ),
    Case(
        "concat",
        "one",
        {"x": X},
        lambda f, x: mb.concat(values=[x], axis=0),
        lambda x: x,
    ),
    Case(
        "concat",
        "ints-and-constant",
        {"x": whole(2)},
        lambda f, x: mb.concat(values=[np.array([7], np.int32), x], axis=0),
        lambda x: np.array([7, 0, 1]),
        INT,
    ),
    Case(
        "concat",
        "scalars",
        {"x": np.array([3], np.int32), "y": np.array([4], np.int32)},
        lambda f, x, y: mb.concat(values=[scalar(x), scalar(y)], axis=0),
        lambda x, y: np.array([3, 4]),
        INT,
    ),
    Case(
        "concat",
        "open-bools",
        {"x": whole(2, 2) > 1, "y": whole(1, 2) > 0},
        lambda f, x, y: mb.concat(values=[x, y], axis=0),
        lambda x, y: np.array([[False, False], [True, True], [False, True]]),
        INT,
        open_axes={"x": (0,)},
    ),
    Case(
        "stack",
        "first",
        {"x": X, "y": X + 9},
        lambda f, x, y: mb.stack(values=[x, y], axis=0),
        lambda x, y: np.array([x, y]),
    ),
    Case(
        "stack",
        "last",
        {"x": X, "y": X + 9},
        lambda f, x, y: mb.stack(values=[x, y, x], axis=-1),
        lambda x, y: np.array([x, y, x]).transpose(1, 2, 0),
    ),
    Case(
        "stack",
        "scalars",
        {"x": np.array([3], np.int32), "y": np.array([4], np.int32)},
        lambda f, x, y: mb.stack(values=[scalar(x), scalar(y)], axis=0),
        lambda x, y: np.array([3, 4]),
        INT,
    ),
    Case(
        "tile",
        "two",
        {"x": X},
        lambda f, x: mb.tile(x=x, reps=(2, 3)),
        lambda x: np.array([[x[i % 3, j % 4] for j in range(12)] for i in range(6)]),
    ),
    Case("tile", "once", {"x": X}, lambda f, x: mb.tile(x=x, reps=(1, 1)), lambda x: x),
    Case(
        "tile",
        "ints",
        {"x": whole(3)},
        lambda f, x: mb.tile(x=x, reps=(2,)),
        lambda x: np.array([0, 1, 2] * 2),
        INT,
    ),
    Case(
        "tile",
        "dynamic-bools",
        {"x": whole(1, 2) > 0, "reps": np.array([2, 1], np.int32)},
        lambda f, x, reps: mb.tile(x=x, reps=reps),
        lambda x, reps: np.array([[False, True]] * 2),
        INT,
    ),
    Case(
        "tile",
        "open",
        {"x": X},
        lambda f, x: mb.tile(x=x, reps=(1, 2)),
        lambda x: np.hstack([x, x]),
        open_axes={"x": (1,)},
    ),
    band("upper", rng.uniform(size=(4, 4)), 0, -1),
    band("lower", rng.uniform(size=(2, 3, 5)), -1, 0),
    band("diagonal", rng.uniform(size=(4, 3)), 0, 0),
    band("band", rng.uniform(size=(2, 5, 4)), 2, 1),
    band("ints", whole(3, 4) + 1, 1, 0, dtypes=INT),
    band("bools", whole(3, 4) >= 0, 0, 2, dtypes=INT),
    band(
        "not-a-number",
        np.where(np.eye(3) > 0, 1.0, np.nan),
        0,
        1,
        unfolded="value_inference multiplies by 0, which leaves NaN where the definition sets 0",
    ),
    Case("band_part", "default", {"x": X}, lambda f, x: mb.band_part(x=x), lambda x: x),
]

PADDED = [
    padded("constant", X, [1, 0, 0, 2], value=-2.5),
    padded("default", X, [0, 1, 2, 0]),
    padded("last-axis", CUBE, [3, 1], value=np.inf),
    padded("four-axes", rng.uniform(size=(1, 2, 2, 3)), [1, 0, 0, 0, 2, 1, 0, 3], value=0.1),
    padded("five-axes", rng.uniform(size=(1, 2, 1, 2, 2)), [0, 1, 0, 0, 1, 0, 0, 0, 0, 1]),
    padded("reflect", X, [2, 1, 3, 0], "reflect"),
    padded("reflect-last", CUBE, [0, 2], "reflect"),
    padded("reflect-three-axes", CUBE, [1, 1, 2, 0, 0, 3], "reflect"),
    padded("replicate", X, [2, 1, 0, 3], "replicate"),
    padded("replicate-last", CUBE, [4, 4], "replicate"),
    padded("replicate-four-axes", rng.uniform(size=(2, 1, 2, 3)), [1, 0, 1, 1, 0, 2, 3, 0], "replicate"),
    padded("replicate-nothing", X, [0, 0, 0, 0], "replicate"),
    padded("open", X, [1, 0, 0, 2], "reflect", open_axes={"x": (0, 1)}),
    Case(
        "pad",
        "dynamic",
        {"x": X, "pad": np.array([0, 1, 2, 0], np.int32)},
        lambda f, x, pad: mb.pad(x=x, pad=pad, mode="constant", constant_val=f(1.5)),
        lambda x, pad: np.pad(x, ((0, 1), (2, 0)), constant_values=1.5),
    ),
    Case(
        "pad",
        "dynamic-replicate",
        {"x": X, "pad": np.array([0, 1, 2, 0], np.int32)},
        lambda f, x, pad: mb.pad(x=x, pad=pad, mode="replicate"),
        lambda x, pad: np.pad(x, ((0, 1), (2, 0)), mode="edge"),
    ),
]

CASES = [*ORDER, *MADE, *JOINED, *PADDED]
