"""Cases of matrix products: linear, matmul, einsum."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(21)
INT = np.int32


def eighths(*shape: int) -> np.ndarray:
    """Numbers that every float type holds exactly, so that a constant is the same in each."""
    return rng.integers(-16, 17, shape) / 8


def whole(*shape: int) -> np.ndarray:
    return rng.integers(-9, 10, shape).astype(INT)


def linear(label, x, weight, bias=None, like=None, **more) -> Case:
    """`like`: the type of weight and bias where it is not that of x."""

    def build(f, x):
        kind = like or (INT if weight.dtype == INT else f)
        offset = {} if bias is None else {"bias": bias.astype(kind)}
        return mb.linear(x=x, weight=weight.astype(kind), **offset)

    def expected(x):
        return np.einsum("...i,oi->...o", x, weight) + (0 if bias is None else bias)

    more = {"accumulates": True, **more}
    return Case("linear", label, {"x": x}, build, expected, **more)


def product(x, y):
    """The product written out: batches by np.broadcast, one dot product after the other."""
    wide_x, wide_y = (x[None] if x.ndim == 1 else x), y
    batch = np.broadcast_shapes(wide_x.shape[:-2], wide_y.shape[:-2])
    wide_x = np.broadcast_to(wide_x, (*batch, *wide_x.shape[-2:]))
    wide_y = np.broadcast_to(wide_y, (*batch, *wide_y.shape[-2:]))
    result = np.zeros((*batch, wide_x.shape[-2], wide_y.shape[-1]), x.dtype)
    for at in np.ndindex(*result.shape):
        result[at] = sum(
            wide_x[(*at[:-1], k)] * wide_y[(*at[:-2], k, at[-1])] for k in range(wide_x.shape[-1])
        )
    return result[..., 0, :] if x.ndim == 1 else result


def matmul(label, x, y, transpose_x=False, transpose_y=False, **more) -> Case:
    def build(f, x, y):
        return mb.matmul(x=x, y=y, transpose_x=transpose_x, transpose_y=transpose_y)

    def expected(x, y):
        return product(x.swapaxes(-1, -2) if transpose_x else x, y.swapaxes(-1, -2) if transpose_y else y)

    more = {"accumulates": x.dtype != INT, **more}
    return Case("matmul", label, {"x": x, "y": y}, build, expected, **more)


def einsum(label, x, y, equation, form, **more) -> Case:
    def build(f, x, y):
        return mb.einsum(values=(x, y), equation=equation)

    return Case(
        "einsum", label, {"x": x, "y": y}, build, lambda x, y: np.einsum(form, x, y), accumulates=True, **more
    )


W34, B4 = eighths(4, 3), eighths(4)
HUGE = np.array([[3e4, -3e4, 1.0], [np.inf, 1.0, 0.5], [np.nan, 0.0, -0.0]])
ONLY_IOS17 = ("iOS17", "iOS18")

CASES = [
    linear("rank 1", rng.normal(size=3), W34, B4),
    linear("rank 2", rng.normal(size=(5, 3)), W34, B4),
    linear("rank 3", rng.normal(size=(2, 5, 3)), W34, B4, open_axes={"x": (0, 1)}),
    linear("rank 4, no bias", rng.normal(size=(2, 1, 5, 3)), W34),
    linear(
        "one row of many columns", rng.uniform(0, 1, (1, 300)), eighths(2, 300), eighths(2), stepwise_ulps=300
    ),
    linear("infinite and NaN", HUGE, np.array([[1.0, 1.0, 2.0], [0.5, -0.5, 1.0]]), eighths(2)),
    linear("no rows", np.zeros((0, 3)), W34, B4, unfolded="mb.const refuses an empty array"),
    linear("int32", whole(2, 3), whole(4, 3), whole(4), dtypes=("int32",), accumulates=False),
    linear(
        "half weights in float32",
        rng.normal(size=(2, 3)),
        W34,
        B4,
        like=np.float16,
        dtypes=("float32",),
        targets=ONLY_IOS17,
    ),
    linear(
        "float32 weights in half",
        rng.normal(size=(2, 3)),
        W34,
        B4,
        like=np.float32,
        dtypes=("float16",),
        targets=ONLY_IOS17,
    ),
    Case(
        "linear",
        "constant x",
        {"x": rng.normal(size=(2,))},
        lambda f, x: mb.add(x=x, y=mb.linear(x=np.array([1, 2, -1.5]).astype(f), weight=W34[:2].astype(f))),
        lambda x: x + np.array([1, 2, -1.5]) @ W34[:2].T,
    ),
    matmul("2 and 2", rng.normal(size=(3, 4)), rng.normal(size=(4, 5))),
    matmul("transpose x", rng.normal(size=(4, 3)), rng.normal(size=(4, 5)), True),
    matmul("transpose y", rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), False, True),
    matmul("both transposed", rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 4)), True, True),
    matmul("batches broadcast", rng.normal(size=(2, 1, 3, 4)), rng.normal(size=(3, 4, 2))),
    matmul("rank 5 and 2", rng.normal(size=(1, 2, 2, 3, 4)), rng.normal(size=(4, 2))),
    matmul("2 and 4", rng.normal(size=(3, 4)), rng.normal(size=(2, 2, 4, 1))),
    matmul("1 and 2", rng.normal(size=4), rng.normal(size=(4, 2))),
    matmul(
        "open axes",
        rng.normal(size=(2, 3, 4)),
        rng.normal(size=(2, 4, 2)),
        open_axes={"x": (0, 1), "y": (0, 2)},
    ),
    matmul("int32", whole(2, 3), whole(3, 4), dtypes=("int32",)),
    matmul("int32, 1 and 2", whole(3), whole(3, 4), dtypes=("int32",)),
    matmul("infinite and NaN", HUGE, np.array([[1.0, 2.0], [1.5, 1.0], [0.5, 2.0]])),
    matmul("long sums", rng.uniform(0, 1, (1, 400)), rng.uniform(0, 1, (400, 2)), ulps=16, stepwise_ulps=400),
    Case(
        "matmul",
        "half constant in float32",
        {"x": rng.normal(size=(2, 3))},
        lambda f, x: mb.matmul(x=x, y=W34.T.astype(np.float16)),
        lambda x: x @ W34.T,
        dtypes=("float32",),
        targets=ONLY_IOS17,
        unfolded="it refuses two constants of different types, where only one is a constant in the program",
    ),
    Case(
        "matmul",
        "float32 constant in half",
        {"y": rng.normal(size=(3, 2))},
        lambda f, y: mb.matmul(x=W34.astype(np.float32), y=y),
        lambda y: W34 @ y,
        dtypes=("float16",),
        accumulates=True,
        targets=ONLY_IOS17,
    ),
    Case(
        "matmul",
        "float32 constant that half cannot hold",
        {"x": np.array([[1.0, 1.0]])},
        lambda f, x: mb.matmul(x=x, y=np.array([[1e5], [-99999.0]], np.float32)),
        lambda x: np.array([[1.0]]),
        dtypes=("float16",),
        targets=ONLY_IOS17,
    ),
    einsum(
        "rank 4",
        rng.normal(size=(2, 3, 4, 5)),
        rng.normal(size=(2, 5, 4, 2)),
        "nchw,nwhu->nchu",
        "nchw,nwhu->nchu",
    ),
    einsum(
        "other letters",
        rng.normal(size=(1, 3, 2, 5)),
        rng.normal(size=(1, 5, 2, 2)),
        "abcd,adce->abce",
        "abcd,adce->abce",
    ),
    einsum(
        "broadcast batches",
        rng.normal(size=(2, 3, 1, 5)),
        rng.normal(size=(1, 5, 4, 2)),
        "nchw,nwhu->nchu",
        "nchw,nwHu->ncHu",
        unfolded="it broadcasts x by the shape y has after x was broadcast, and np.einsum then refuses axis n",
    ),
    einsum("rank 3", rng.normal(size=(3, 4, 5)), rng.normal(size=(5, 4, 2)), "chw,whr->chr", "chw,whr->chr"),
    einsum(
        "rank 3, broadcast",
        rng.normal(size=(3, 4, 5)),
        rng.normal(size=(5, 1, 2)),
        "chw,whr->chr",
        "chw,wHr->chr",
    ),
]
