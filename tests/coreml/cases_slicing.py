"""Cases of operations that take or replace a part of a tensor, or turn the order along an axis round."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(2)
INT = ("float32",)
NEW = ("iOS17", "iOS18")
X = rng.uniform(-5, 5, (4, 5))
CUBE = rng.uniform(-5, 5, (3, 4, 5))


def whole(*shape, dtype=np.int32):
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


def places(x, begin, end, stride=None, begin_mask=None, end_mask=None, squeeze_mask=None):
    """Of each axis the indices that a slice takes, found by walking; and the axes that are dropped."""
    taken, dropped = [], []
    for axis, size in enumerate(x.shape):
        step = stride[axis] if stride else 1
        first, last = (each[axis] + size if each[axis] < 0 else each[axis] for each in (begin, end))
        if begin_mask and begin_mask[axis]:
            first = 0 if step > 0 else size - 1
        if end_mask and end_mask[axis]:
            last = size if step > 0 else -1
        if squeeze_mask and squeeze_mask[axis]:
            taken.append([first])
            dropped.append(axis)
            continue
        walk = []
        while (first < last) if step > 0 else (first > last):
            if 0 <= first < size:
                walk.append(first)
            first += step
        taken.append(walk)
    return taken, tuple(dropped)


def part(x, **slices):
    taken, dropped = places(x, **slices)
    return x[np.ix_(*taken)].squeeze(dropped)


def sliced(label, x, begin, end, *, dtypes=None, targets=None, unfolded="", open_axes=None, **masks):
    more = {name: value for name, value in (("dtypes", dtypes), ("targets", targets)) if value}
    return Case(
        "slice_by_index",
        label,
        {"x": x},
        lambda f, x: mb.slice_by_index(x=x, begin=begin, end=end, **masks),
        lambda x: part(x, begin=begin, end=end, **masks),
        unfolded=unfolded,
        open_axes=open_axes,
        **more,
    )


def updated(label, x, update, begin, end, **masks):
    def expected(x, update):
        taken, _ = places(x, begin, end, **masks)
        result = x.copy()
        result[np.ix_(*taken)] = update.reshape([len(each) for each in taken])
        return result

    return Case(
        "slice_update",
        label,
        {"x": x, "update": update},
        lambda f, x, update: mb.slice_update(x=x, update=update, begin=begin, end=end, **masks),
        expected,
        targets=("iOS18",),
    )


def sized(label, x, begin, size, to, **more):
    return Case(
        "slice_by_size",
        label,
        {"x": x},
        lambda f, x: mb.slice_by_size(x=x, begin=begin, size=size),
        lambda x: x[tuple(slice(*each) for each in to)],
        **more,
    )


def windows(label, x, axis, size, stride, **more):
    def expected(x):
        starts = range(0, x.shape[axis] - size + 1, stride or 1)
        parts = [np.take(x, range(start, start + size), axis) for start in starts]
        return np.stack(parts, axis % x.ndim)

    def build(f, x):
        return mb.sliding_windows(x=x, axis=axis, size=size, **({"stride": stride} if stride else {}))

    return Case("sliding_windows", label, {"x": x}, build, expected, **more)


def cut(label, x, axis, bounds, *, dtypes=None, unfolded="", open_axes=None, **arguments):
    def expected(x):
        ends = pairwise(bounds)
        return [np.take(x, range(first, last), axis) for first, last in ends]

    more = {"dtypes": dtypes} if dtypes else {}
    return Case(
        "split",
        label,
        {"x": x},
        lambda f, x: mb.split(x=x, axis=axis, **arguments),
        expected,
        unfolded=unfolded,
        open_axes=open_axes,
        **more,
    )


def reversed_part(x, lengths, sequence, batch):
    result = x.copy()
    for place in np.ndindex(*x.shape):
        length, source = lengths[place[batch]], list(place)
        if place[sequence] < length:
            source[sequence] = length - 1 - place[sequence]
        result[place] = x[tuple(source)]
    return result


SLICES = [
    sliced("plain", X, [1, 2], [3, 4]),
    sliced("to-the-end-and-beyond", X, [2, 0], [9, 5]),
    sliced("negative-bounds", X, [-3, -4], [-1, -1]),
    sliced("strides", X, [0, 1], [4, 5], stride=[2, 3]),
    sliced("uneven-stride", X, [1, 0], [4, 5], stride=[2, 3]),
    sliced("backwards", X, [3, 4], [0, 1], stride=[-1, -2]),
    sliced(
        "backwards-all", X, [0, 0], [0, 0], stride=[-1, -2], begin_mask=[True, True], end_mask=[True, True]
    ),
    sliced("backwards-uneven", X, [2, 3], [0, 0], stride=[-2, -2], end_mask=[False, True]),
    sliced("backwards-from-begin", X, [2, 1], [0, 0], stride=[-1, 1], end_mask=[True, True]),
    sliced("masks", X, [2, 3], [3, 4], begin_mask=[True, False], end_mask=[False, True]),
    sliced("squeeze", CUBE, [1, 0, -1], [0, 4, 0], squeeze_mask=[True, False, True]),
    sliced(
        "squeeze-masked",
        CUBE,
        [2, 1, 3],
        [0, 3, 0],
        begin_mask=[True, False, False],
        squeeze_mask=[True, False, True],
    ),
    sliced(
        "squeeze-and-backwards",
        CUBE,
        [1, 3, 0],
        [0, 0, 4],
        stride=[1, -1, 2],
        squeeze_mask=[True, False, False],
    ),
    sliced("to-scalar", whole(4), [2], [0], squeeze_mask=[True], dtypes=INT),
    sliced("to-float-scalar", np.array([1.5, -0.0, np.inf]), [-1], [0], squeeze_mask=[True]),
    sliced("ints", whole(4, 5), [1, 2], [3, 4], dtypes=INT),
    sliced("bools", whole(4, 5) % 3 == 0, [0, 2], [3, 4], stride=[2, 1], dtypes=INT),
    sliced("unsigned", whole(5, dtype=np.uint16), [4], [1], stride=[-2], dtypes=INT, targets=NEW),
    sliced("small", whole(5, dtype=np.int8), [1], [4], dtypes=INT, targets=NEW),
    Case(
        "reverse",
        "unsigned",
        {"x": whole(3, dtype=np.uint16)},
        lambda f, x: mb.reverse(x=x, axes=[0]),
        lambda x: x[::-1],
        INT,
        targets=NEW,
    ),
    sliced("empty", X, [2, 1], [2, 3], dtypes=INT),
    sliced("single", rng.uniform(size=(1, 4)), [0, 1], [1, 4]),
    sliced(
        "five", whole(2, 3, 2, 2, 3), [0, 1, 0, 1, 0], [2, 3, 1, 2, 3], stride=[1, 1, 1, 1, 2], dtypes=INT
    ),
    sliced("open", X, [1, -2], [-1, 5], end_mask=[False, True], open_axes={"x": (0, 1)}),
    Case(
        "slice_by_index",
        "dynamic",
        {"x": X, "begin": np.array([1, -3], np.int32), "end": np.array([3, 5], np.int32)},
        lambda f, x, begin, end: mb.slice_by_index(x=x, begin=begin, end=end),
        lambda x, begin, end: part(x, begin=begin, end=end),
    ),
    Case(
        "slice_by_index",
        "dynamic-squeeze",
        {"x": X, "begin": np.array([1, 4], np.int16), "end": np.array([0, 0], np.int16)},
        lambda f, x, begin, end: mb.slice_by_index(
            x=x, begin=begin, end=end, stride=np.array([1, -2], np.int16), squeeze_mask=[True, False]
        ),
        lambda x, begin, end: part(x, begin=begin, end=end, stride=[1, -2], squeeze_mask=[True, False]),
        targets=NEW,
        unfolded="solve_slice_by_index_slice puts 2**31 - 1 into the int16 stride, which overflows",
    ),
    sized("plain", X, [1, 2], [2, 3], ((1, 3), (2, 5))),
    sized("rest", X, [-3, 2], [2, -1], ((1, 3), (2, 5))),
    sized("ints", whole(4, 5), [0, 0], [1, 5], ((0, 1), (0, 5)), dtypes=INT),
    sized("bools", whole(4) % 2 == 0, [2], [1], ((2, 3),), dtypes=INT),
    sized("open", X, [1, 2], [2, -1], ((1, 3), (2, 5)), open_axes={"x": (0, 1)}),
    Case(
        "slice_by_size",
        "dynamic",
        {"x": CUBE, "begin": np.array([-1, 1, 0], np.int32)},
        lambda f, x, begin: mb.slice_by_size(x=x, begin=begin, size=[1, 2, 5]),
        lambda x, begin: x[2:3, 1:3],
    ),
    Case(
        "slice_by_size",
        "dynamic-size",
        {"x": CUBE, "begin": np.array([0, 1, 2], np.int16), "size": np.array([2, -1, 1], np.int16)},
        lambda f, x, begin, size: mb.slice_by_size(x=x, begin=begin, size=size),
        lambda x, begin, size: x[:2, 1:, 2:3],
        targets=NEW,
    ),
    updated("plain", X, rng.uniform(size=(2, 3)), [1, 2], [3, 5]),
    updated("strides", X, rng.uniform(size=(2, 2)), [0, 1], [4, 5], stride=[2, 3]),
    updated("backwards", X, rng.uniform(size=(3, 2)), [3, 4], [0, 1], stride=[-1, -2]),
    updated(
        "masks", X, rng.uniform(size=(3, 2)), [2, 3], [3, 4], begin_mask=[True, False], end_mask=[False, True]
    ),
    updated("squeeze", CUBE, rng.uniform(size=4), [1, 0, -1], [0, 4, 0], squeeze_mask=[True, False, True]),
    updated(
        "squeeze-and-backwards",
        CUBE,
        rng.uniform(size=(3, 2)),
        [1, 3, 0],
        [0, 0, 4],
        stride=[1, -1, 2],
        squeeze_mask=[True, False, False],
    ),
    Case(
        "slice_update",
        "dynamic",
        {"x": whole(4, 5), "update": whole(1, 5) - 9, "begin": np.array([2, 0], np.int32)},
        lambda f, x, update, begin: mb.slice_update(
            x=x, update=update, begin=begin, end=mb.add(x=begin, y=np.array([1, 5], np.int32))
        ),
        lambda x, update, begin: np.concatenate([x[:2], update, x[3:]]),
        dtypes=INT,
        targets=("iOS18",),
    ),
    Case(
        "slice_update",
        "unsigned",
        {"x": whole(4, dtype=np.uint16), "update": np.array([65000], np.uint16)},
        lambda f, x, update: mb.slice_update(x=x, update=update, begin=[1], end=[2]),
        lambda x, update: np.array([0, 65000, 2, 3]),
        dtypes=INT,
        targets=("iOS18",),
    ),
]

OTHERS = [
    windows("default-stride", X, 1, 3, None),
    windows("stride", X, -1, 2, 2),
    windows("first-axis", CUBE, 0, 2, 1),
    windows("middle-negative", CUBE, -2, 3, 1),
    windows("ints", whole(7), 0, 3, 2, dtypes=INT),
    windows("open", CUBE, 1, 2, 2, open_axes={"x": (0,)}),
    cut("equal", CUBE, 1, (0, 2, 4), num_splits=2),
    cut("sizes", CUBE, -1, (0, 1, 5), split_sizes=[1, 4]),
    cut("both", CUBE, 0, (0, 2, 3), num_splits=2, split_sizes=[2, 1]),
    cut(
        "one",
        X,
        0,
        (0, 4),
        num_splits=1,
        unfolded="value_inference gives a bare array where one result in a tuple is due",
    ),
    cut("ints", whole(2, 6), 1, (0, 2, 4, 6), num_splits=3, dtypes=INT),
    cut("open", X, 0, (0, 1, 4), split_sizes=[1, 3], open_axes={"x": (0, 1)}),
    Case(
        "reverse", "all", {"x": X}, lambda f, x: mb.reverse(x=x), lambda x: x.ravel()[::-1].reshape(x.shape)
    ),
    Case("reverse", "one", {"x": CUBE}, lambda f, x: mb.reverse(x=x, axes=[-2]), lambda x: x[:, ::-1]),
    Case(
        "reverse", "two", {"x": CUBE}, lambda f, x: mb.reverse(x=x, axes=[0, 2]), lambda x: x[::-1, :, ::-1]
    ),
    Case("reverse", "ints", {"x": whole(5)}, lambda f, x: mb.reverse(x=x, axes=[0]), lambda x: x[::-1], INT),
    Case(
        "reverse",
        "bools",
        {"x": whole(2, 3) % 4 == 1},
        lambda f, x: mb.reverse(x=x, axes=[1]),
        lambda x: x[:, ::-1],
        INT,
    ),
    Case(
        "reverse_sequence",
        "batch-first",
        {"x": X, "lengths": np.array([0, 5, 1, 3], np.int32)},
        lambda f, x, lengths: mb.reverse_sequence(x=x, lengths=lengths, seq_axis=1, batch_axis=0),
        lambda x, lengths: reversed_part(x, lengths, 1, 0),
        unfolded="value_inference is not implemented and says so by an exception",
    ),
    Case(
        "reverse_sequence",
        "batch-last",
        {"x": CUBE, "lengths": np.array([3, 0, 2, 1, 3], np.int32)},
        lambda f, x, lengths: mb.reverse_sequence(x=x, lengths=lengths, seq_axis=0, batch_axis=-1),
        lambda x, lengths: reversed_part(x, lengths, 0, 2),
        unfolded="value_inference is not implemented and says so by an exception",
    ),
    Case(
        "reverse_sequence",
        "default-sequence-axis",
        {"x": whole(3, 4), "lengths": np.array([2, 3, 1, 0], np.int32)},
        lambda f, x, lengths: mb.reverse_sequence(x=x, lengths=lengths, batch_axis=1),
        lambda x, lengths: reversed_part(x, lengths, 0, 1),
        INT,
        unfolded="value_inference is not implemented and says so by an exception",
    ),
    Case(
        "reverse_sequence",
        "unsigned",
        {"x": whole(2, 3, dtype=np.uint16), "lengths": np.array([3, 2], np.int16)},
        lambda f, x, lengths: mb.reverse_sequence(x=x, lengths=lengths, seq_axis=1),
        lambda x, lengths: reversed_part(x, lengths, 1, 0),
        INT,
        targets=NEW,
        unfolded="value_inference is not implemented and says so by an exception",
    ),
]

CASES = [*SLICES, *OTHERS]
