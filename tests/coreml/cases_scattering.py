"""Cases of operations that write values by index."""

from __future__ import annotations

import operator

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(5)
INT = ("float32",)
OLD = ("iOS15", "iOS16")
NEW = ("iOS17", "iOS18")
MODES = {
    "update": lambda old, new: new,
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "max": max,
    "min": min,
}
X = rng.uniform(1, 5, (4, 5))
CUBE = rng.uniform(1, 5, (2, 3, 4))
FOLDED_UPDATES = "value_inference writes the updates, whatever the mode"


def ints(*values, dtype=np.int32):
    return np.array(values, dtype)


def written(data, places, updates, mode):
    """One value after another."""
    result = data.copy()
    for place, value in zip(places, updates.ravel(), strict=True):
        result[place] = MODES[mode](result[place], value)
    return result


def row_places(data, indices, axis):
    axis %= data.ndim
    shape = data.shape[:axis] + indices.shape + data.shape[axis + 1 :]
    return [(*p[:axis], indices[p[axis]], *p[axis + 1 :]) for p in np.ndindex(*shape)]


def along_places(indices, axis):
    axis %= indices.ndim
    return [(*p[:axis], indices[p], *p[axis + 1 :]) for p in np.ndindex(*indices.shape)]


def tuple_places(data, indices):
    rest = data.shape[indices.shape[-1] :]
    return [(*indices[p], *r) for p in np.ndindex(*indices.shape[:-1]) for r in np.ndindex(*rest)]


def case(op, label, data, indices, mode, axis, **more):
    shapes = {
        "scatter": lambda: (
            data.shape[: axis % data.ndim] + indices.shape + data.shape[axis % data.ndim + 1 :]
        ),
        "scatter_along_axis": lambda: indices.shape,
        "scatter_nd": lambda: indices.shape[:-1] + data.shape[indices.shape[-1] :],
    }
    places = {
        "scatter": lambda data, indices: row_places(data, indices, axis),
        "scatter_along_axis": lambda data, indices: along_places(indices, axis),
        "scatter_nd": tuple_places,
    }
    updates = rng.uniform(0.5, 6, shapes[op]())
    updates = updates if data.dtype.kind == "f" else updates.astype(np.int32)
    options = {} if op == "scatter_nd" else {"axis": axis}

    def build(f, data, indices, updates):
        return getattr(mb, op)(data=data, indices=indices, updates=updates, mode=mode, **options)

    def expected(data, indices, updates):
        return written(data, places[op](data, indices), updates, mode)

    if mode in ("add", "sub", "mul", "div"):
        more = {"accumulates": True, "stepwise_ulps": 16} | more
    if op == "scatter_along_axis" and mode != "update":
        more = {"unfolded": FOLDED_UPDATES} | more
    return Case(op, label, {"data": data, "indices": indices, "updates": updates}, build, expected, **more)


def rows(label, data, indices, mode, axis=0, **more):
    return case("scatter", label, data, indices, mode, axis, **more)


def along(label, data, indices, mode, axis=0, **more):
    return case("scatter_along_axis", label, data, indices, mode, axis, **more)


def tuples(label, data, indices, mode, **more):
    return case("scatter_nd", label, data, indices, mode, 0, **more)


TWICE = ints(2, 0, 2)
SPREAD = ints([0, 3, 2, 1, 0], [3, 3, 0, 1, 1], [0, 1, 1, 1, 3])
PAIRS = ints([0, 4], [3, 1], [0, 4], [0, 4])

ROWS = [
    *[rows(f"{mode}-twice", X, TWICE, mode) for mode in MODES],
    *[rows(f"{mode}-once", X, ints(3, 1), mode) for mode in MODES],
    *[
        rows(f"{mode}-ints", ints([9, 8], [7, 6]), ints(1, 1), mode, dtypes=INT)
        for mode in MODES
        if mode != "div"
    ],
    rows("one-row", X, ints(2), "update"),
    rows("last-axis", CUBE, ints(3, 0), "update", -1),
    rows("middle-axis", CUBE, ints(2, 1, 2), "sub", 1),
    rows("middle-axis-twice", CUBE, ints(2, 1, 2), "update", 1),
    rows("middle-axis-divided", CUBE, ints(2, 1, 2), "div", -2),
    rows("vector", np.arange(5.0), ints(4, 4, 1), "add"),
    rows("negative", X, ints(-1, 0), "update", targets=OLD),
    rows("negative-added", X, ints(-1, 3, -4), "add", 0, targets=OLD),
    rows("open", X, ints(1, 3), "update", open_axes={"data": (1,), "updates": (1,)}),
    rows("open-scattered", X, ints(1, 3), "max", open_axes={"data": (0,)}),
    Case(
        "scatter",
        "defaults",
        {"data": ints([1, 2, 3], [4, 5, 6])},
        lambda f, data: mb.scatter(data=data, indices=[1, 0], updates=ints([5, 6, 7], [8, 9, 10])),
        lambda data: ints([9, 11, 13], [9, 11, 13]),
        INT,
    ),
    Case(
        "scatter",
        "validated",
        {"data": X},
        lambda f, data: mb.scatter(
            data=data, indices=[1], updates=np.zeros((1, 5), f), mode="update", validate_indices=True
        ),
        lambda data: np.array([data[0], data[0] * 0, data[2], data[3]]),
        targets=NEW,
    ),
    Case(
        "scatter",
        "not-a-number",
        {"data": np.array([1.0, np.nan, 2.0, np.inf]), "updates": np.array([np.nan, 5.0, -np.inf, np.inf])},
        lambda f, data, updates: mb.scatter(data=data, indices=[0, 1, 2, 3], updates=updates, mode="max"),
        lambda data, updates: np.array([np.nan, np.nan, 2.0, np.inf]),
    ),
]

ALONG = [
    *[along(f"{mode}-twice", X, SPREAD, mode) for mode in MODES],
    *[
        along(f"{mode}-ints", ints(9, 8, 7), ints(1, 2, 1), mode, dtypes=INT)
        for mode in MODES
        if mode != "div"
    ],
    along("last-axis", X, ints([4, 0], [2, 2], [0, 4], [1, 3]), "update", -1),
    along("middle-axis", CUBE, rng.integers(0, 3, (2, 4, 4)).astype(np.int32), "add", 1),
    along("negative", X, ints([-1, 0], [2, -5], [0, 4], [-2, 3]), "update", 1, targets=OLD),
    along("open", X, SPREAD, "update", open_axes={"data": (0,), "indices": (0,), "updates": (0,)}),
    Case(
        "scatter_along_axis",
        "defaults",
        {"data": ints([1, 2, 3], [4, 5, 6])},
        lambda f, data: mb.scatter_along_axis(
            data=data, indices=[[1, 0, 1], [1, 1, 0]], updates=ints([5, 6, 7], [8, 9, 10])
        ),
        lambda data: ints([1, 8, 13], [17, 14, 13]),
        INT,
        unfolded=FOLDED_UPDATES,
    ),
    Case(
        "scatter_along_axis",
        "validated",
        {"data": X},
        lambda f, data: mb.scatter_along_axis(
            data=data,
            indices=np.full((1, 5), 2, np.int32),
            updates=np.ones((1, 5), f),
            mode="update",
            validate_indices=True,
        ),
        lambda data: np.array([data[0], data[1], data[0] * 0 + 1, data[3]]),
        targets=NEW,
    ),
]

TUPLES = [
    *[tuples(f"{mode}-twice", X, PAIRS, mode) for mode in MODES],
    *[tuples(f"{mode}-rows", CUBE, ints([1], [0]), mode) for mode in MODES],
    *[
        tuples(f"{mode}-ints", ints([9, 8], [7, 6]), ints([1, 1], [1, 1]), mode, dtypes=INT)
        for mode in ("mul", "min")
    ],
    tuples("matrix-of-tuples", CUBE, ints([[0, 2], [1, 1]], [[1, 0], [0, 0]]), "update"),
    tuples("one", CUBE, ints([1, 2, 3]), "sub"),
    Case(
        "scatter_nd",
        "scalar-update",
        {"data": CUBE, "indices": ints(1, 2, 3), "updates": np.array([7.5])},
        lambda f, data, indices, updates: mb.scatter_nd(
            data=data, indices=indices, updates=mb.squeeze(x=updates), mode="min"
        ),
        lambda data, indices, updates: written(data, [(1, 2, 3)], updates, "min"),
    ),
    tuples("rows-twice", CUBE, ints([1, 0], [1, 0]), "update"),
    tuples("negative", CUBE, ints([-1, -3], [0, 2]), "update", targets=OLD),
    tuples(
        "open", CUBE, ints([1, 0], [1, 2]), "add", open_axes={"data": (0,), "indices": (0,), "updates": (0,)}
    ),
    Case(
        "scatter_nd",
        "transposed",
        {"data": X, "updates": np.array([7.0, 8.0])},
        lambda f, data, updates: mb.scatter_nd(
            data=mb.transpose(x=data, perm=[1, 0]), indices=[[4, 0], [1, 2]], updates=updates, mode="update"
        ),
        lambda data, updates: written(data.T, [(4, 0), (1, 2)], updates, "update"),
    ),
    Case(
        "scatter_nd",
        "defaults",
        {"data": ints([1, 2, 3], [4, 5, 6])},
        lambda f, data: mb.scatter_nd(data=data, indices=[[1, 0], [0, 2]], updates=ints(5, 10)),
        lambda data: ints([1, 2, 13], [9, 5, 6]),
        INT,
    ),
    Case(
        "scatter_nd",
        "validated",
        {"data": X, "indices": ints([1, 4])},
        lambda f, data, indices: mb.scatter_nd(
            data=data, indices=indices, updates=np.array([9], f), validate_indices=True
        ),
        lambda data, indices: written(data, [(1, 4)], np.array([9.0]), "add"),
        targets=NEW,
    ),
]

CASES = [*ROWS, *ALONG, *TUPLES]
