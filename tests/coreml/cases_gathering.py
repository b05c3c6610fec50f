"""Cases of operations that pick values by index."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(4)
INT = ("float32",)
OLD = ("iOS15", "iOS16")
FROM16 = ("iOS16", "iOS17", "iOS18")
NEW = ("iOS17", "iOS18")
X = rng.uniform(-5, 5, (4, 5))
CUBE = rng.uniform(-5, 5, (2, 3, 4))
NEGATIVE_AXIS = (
    "compute_gather takes the number of batch axes from a negative axis, which then is another one"
)


def ints(*values, dtype=np.int32):
    return np.array(values, dtype)


def picked(x, indices, axis, batch):
    """Value by value, as the definition writes it."""
    axis %= x.ndim
    inner = indices.ndim - batch
    shape = x.shape[:axis] + indices.shape[batch:] + x.shape[axis + 1 :]
    result = np.empty(shape, x.dtype)
    for place in np.ndindex(*shape):
        index = indices[place[:batch] + place[axis : axis + inner]]
        result[place] = x[(*place[:axis], index, *place[axis + inner :])]
    return result


def gathered(label, x, indices, axis=0, batch=0, **more):
    options = {"batch_dims": batch} if batch else {}
    return Case(
        "gather",
        label,
        {"x": x, "indices": indices},
        lambda f, x, indices: mb.gather(x=x, indices=indices, axis=axis, **options),
        lambda x, indices: picked(x, indices.astype(int), axis, batch),
        **more,
    )


def along(label, x, indices, axis, **more):
    def expected(x, indices):
        result = np.empty(indices.shape, x.dtype)
        for place in np.ndindex(*indices.shape):
            source = list(place)
            source[axis] = int(indices[place])
            result[place] = x[tuple(source)]
        return result

    return Case(
        "gather_along_axis",
        label,
        {"x": x, "indices": indices},
        lambda f, x, indices: mb.gather_along_axis(x=x, indices=indices, axis=axis),
        expected,
        **more,
    )


def by_tuples(label, x, indices, batch=0, **more):
    def expected(x, indices):
        rest = x.shape[batch + indices.shape[-1] :]
        result = np.empty(indices.shape[:-1] + rest, x.dtype)
        for place in np.ndindex(*indices.shape[:-1]):
            result[place] = x[(*place[:batch], *indices[place].astype(int))]
        return result

    options = {"batch_dims": batch} if batch else {}
    return Case(
        "gather_nd",
        label,
        {"x": x, "indices": indices},
        lambda f, x, indices: mb.gather_nd(x=x, indices=indices, **options),
        expected,
        **more,
    )


GATHER = [
    gathered("one", X, ints(2)),
    gathered("several", X, ints(3, 0, 3)),
    gathered("last-axis", CUBE, ints(1, 3), -1),
    gathered("middle-axis", CUBE, ints(2, 2, 0), 1),
    gathered("matrix-of-indices", CUBE, ints([0, 2], [1, 1]), 1),
    gathered("matrix-of-indices-last-axis", CUBE, ints([0, 3], [1, 1]), -1),
    gathered("negative", X, ints(-1, 0, -4), targets=OLD),
    gathered("negative-last-axis", CUBE, ints(-1, 2), -1, targets=OLD),
    gathered("negative-matrix", CUBE, ints([0, -2], [-3, 1]), 1, targets=OLD),
    gathered("ints", np.arange(6, dtype=np.int32).reshape(3, 2), ints(2, 1), dtypes=INT),
    gathered("infinities", np.array([np.nan, np.inf, -np.inf, -0.0]), ints(0, 3, 2)),
    gathered("short-indices", X, ints(3, 0, dtype=np.int16), targets=FROM16),
    gathered("unsigned-indices", X, ints(3, 0, dtype=np.uint16), targets=FROM16),
    gathered("byte-indices", X, ints(3, 0, dtype=np.uint8), targets=NEW),
    gathered("small-indices", X, ints(3, 0, dtype=np.int8), targets=NEW),
    gathered("negative-short-indices", X, ints(-1, 1, dtype=np.int16), targets=("iOS16",)),
    gathered("unsigned-values", ints(1, 65000, 3, dtype=np.uint16), ints(2, 1), targets=NEW, dtypes=INT),
    gathered("open", CUBE, ints(2, 0), 1, open_axes={"x": (0, 2), "indices": (0,)}),
    gathered("open-gathered", CUBE, ints(2, 0), 1, open_axes={"x": (1,)}),
    gathered("batch", CUBE, ints([2, 0], [1, 1]), 1, 1, targets=FROM16),
    gathered("batch-later-axis", CUBE, ints([2, 0], [1, 3]), 2, 1, targets=FROM16),
    gathered(
        "batch-negative-axis", CUBE, ints([2, 0], [1, 3]), -1, 1, targets=FROM16, unfolded=NEGATIVE_AXIS
    ),
    gathered("batch-of-two-axes", CUBE, ints([2, 0, 1], [1, 3, 3]), 2, 2, targets=FROM16),
    gathered("batch-and-matrix", CUBE, ints([[2, 0], [1, 1]], [[0, 0], [2, 1]]), 1, 1, targets=FROM16),
    gathered("batch-negative", CUBE, ints([-1, 0], [1, -3]), 1, 1, targets=("iOS16",)),
    gathered(
        "batch-middle", rng.uniform(size=(2, 3, 2, 4)), ints([1, 0, 1], [1, 1, 0]), 2, 1, targets=FROM16
    ),
    gathered(
        "batch-unsigned",
        ints([1, 65000], [3, 4], dtype=np.uint16),
        ints([1], [0]),
        1,
        1,
        targets=NEW,
        dtypes=INT,
    ),
    Case("gather", "defaults", {"x": X}, lambda f, x: mb.gather(x=x, indices=[1, 2]), lambda x: x[1:3]),
    Case(
        "gather",
        "scalar-index",
        {"x": CUBE},
        lambda f, x: mb.gather(x=x, indices=2, axis=1),
        lambda x: x[:, 2],
    ),
    Case(
        "gather",
        "to-scalar",
        {"x": ints(5, 6, 7)},
        lambda f, x: mb.gather(x=x, indices=1),
        lambda x: np.array(6),
        INT,
    ),
    Case(
        "gather",
        "dynamic-scalar-index",
        {"x": X, "i": ints(3)},
        lambda f, x, i: mb.gather(x=x, indices=mb.squeeze(x=i)),
        lambda x, i: x[3],
    ),
    Case(
        "gather",
        "validated",
        {"x": X, "indices": ints(3, 0)},
        lambda f, x, indices: mb.gather(x=x, indices=indices, validate_indices=True),
        lambda x, indices: x[[3, 0]],
        targets=NEW,
    ),
]

ALONG = [
    along("first", X, ints([0, 3, 2, 1, 0], [3, 3, 0, 0, 1]), 0),
    along("last", X, ints([4, 0, 1], [2, 2, 2], [0, 4, 0], [1, 2, 3]), -1),
    along("middle", CUBE, rng.integers(0, 3, (2, 5, 4)).astype(np.int32), 1),
    along("negative", X, ints([-1, 0], [2, -5], [0, 4], [-2, 3]), 1, targets=OLD),
    along("vector", ints(5, 6, 7), ints(2, 2, 0, 1), 0, dtypes=INT),
    along("short-indices", X, ints([3, 0, 0, 1, 2], dtype=np.int16), 0, targets=FROM16),
    along("unsigned-indices", X, ints([3, 0, 0, 1, 2], dtype=np.uint16), 0, targets=FROM16),
    along("byte-indices", X, ints([3, 0, 0, 1, 2], dtype=np.uint8), 0, targets=NEW),
    along("unsigned-values", ints(1, 65000, 3, dtype=np.uint16), ints(2, 1), 0, targets=NEW, dtypes=INT),
    along("open", X, ints([0, 3, 2, 1, 0]), 0, open_axes={"x": (0,), "indices": (0,)}),
    Case(
        "gather_along_axis",
        "defaults",
        {"x": X},
        lambda f, x: mb.gather_along_axis(x=x, indices=np.array([[3, 2, 1, 0, 3]], np.int32)),
        lambda x: np.array([[x[3, 0], x[2, 1], x[1, 2], x[0, 3], x[3, 4]]]),
    ),
    Case(
        "gather_along_axis",
        "validated",
        {"x": X},
        lambda f, x: mb.gather_along_axis(
            x=x, indices=np.array([[1]] * 4, np.int32), axis=1, validate_indices=True
        ),
        lambda x: x[:, 1:2],
        targets=NEW,
    ),
]

TUPLES = [
    by_tuples("values", X, ints([0, 4], [3, 1], [3, 1])),
    by_tuples("rows", X, ints([2], [0])),
    by_tuples("matrix-of-tuples", CUBE, ints([[0, 2], [1, 1]], [[1, 0], [0, 0]])),
    by_tuples("one", CUBE, ints(1, 2, 3)),
    by_tuples("one-row", CUBE, ints(1)),
    by_tuples("negative", CUBE, ints([-1, -3], [0, 2]), targets=OLD),
    by_tuples("ints", np.arange(6, dtype=np.int32).reshape(3, 2), ints([2, 1]), dtypes=INT),
    by_tuples("short-indices", X, ints([3, 4], dtype=np.int16), targets=FROM16),
    by_tuples("unsigned-indices", X, ints([3, 4], dtype=np.uint16), targets=FROM16),
    by_tuples("batch", CUBE, ints([2, 3], [0, 1]), 1, targets=FROM16),
    by_tuples("batch-rows", CUBE, ints([[2], [0], [2]], [[1], [1], [0]]), 1, targets=FROM16),
    by_tuples("batch-of-two-axes", CUBE, ints([[2], [0], [3]], [[1], [1], [0]]), 2, targets=FROM16),
    by_tuples("batch-negative", CUBE, ints([[-1], [0]], [[1], [-3]]), 1, targets=("iOS16",)),
    by_tuples(
        "unsigned-values", ints([1, 65000], [3, 4], dtype=np.uint16), ints([0, 1]), targets=NEW, dtypes=INT
    ),
    by_tuples("open", CUBE, ints([1, 2], [0, 1]), open_axes={"x": (0, 2), "indices": (0,)}),
    Case(
        "gather_nd",
        "validated",
        {"x": CUBE, "indices": ints([1, 2])},
        lambda f, x, indices: mb.gather_nd(x=x, indices=indices, validate_indices=True),
        lambda x, indices: x[1, 2][None],
        targets=NEW,
        unfolded="the type rule compares the indices of a tuple with all lengths, more than there are indices",
    ),
]

CASES = [*GATHER, *ALONG, *TUPLES]
