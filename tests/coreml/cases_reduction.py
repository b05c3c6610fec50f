"""Cases of reductions and running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Array, Case
from mil import mb

rng = np.random.default_rng(2)
NEW = ("iOS17", "iOS18")
LAST = ("iOS18",)
INT = ("int32",)
Axes = tuple[int, ...] | None
Truth = Callable[..., Array]


def log_sum_exp(x: Array, axis: Axes, keepdims: bool) -> Array:
    return np.log(np.sum(np.exp(x), axis=axis, keepdims=keepdims))


REDUCTIONS: dict[str, Truth] = {
    "reduce_l1_norm": lambda x, **how: np.sum(np.abs(x), **how),
    "reduce_l2_norm": lambda x, **how: np.sqrt(np.sum(x * x, **how)),
    "reduce_log_sum": lambda x, **how: np.log(np.sum(x, **how)),
    "reduce_log_sum_exp": lambda x, **how: np.log(np.sum(np.exp(x), **how)),
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **how: np.sum(x * x, **how),
}
EXACT = ("reduce_max", "reduce_min")
BLOCK = rng.uniform(0.5, 2.0, (2, 3, 2, 2)) * np.where(rng.random((2, 3, 2, 2)) < 0.2, -0.25, 1)


def call(op: str, **constants: Any) -> Callable[..., Any]:
    return lambda f, x: getattr(mb, op)(x=x, **constants)


def over(op: str, axes: Axes, keep: bool) -> Callable[[Array], Array]:
    """The truth: in float64, then without the fraction where the values are integers."""

    def reduce(x: Array) -> Array:
        given = tuple(range(x.ndim)) if axes is None else axes
        result = REDUCTIONS[op](x.astype(np.float64), axis=given, keepdims=keep)
        return np.asarray(result).astype(np.int64) if x.dtype.kind == "i" else np.asarray(result)

    return reduce


CASES = [
    Case(
        op,
        f"axes{'all' if axes is None else list(axes)}{'-kept' if keep else ''}",
        {"x": BLOCK},
        call(op, axes=axes, keep_dims=keep),
        over(op, axes, keep),
        targets=targets,
        accumulates=op not in EXACT,
    )
    for op in REDUCTIONS
    for axes, keep, targets in (
        ((1,), False, ("iOS15", "iOS16", "iOS17", "iOS18")),
        ((-1,), True, LAST),
        ((0, 2), False, LAST),
        ((3, -3), True, LAST),
        ((-2, 1, 0), False, LAST),
        (None, False, LAST),
        (None, True, LAST),
    )
]
CASES += [
    Case(
        op,
        "default",
        {"x": BLOCK},
        call(op),
        over(op, None, False),
        targets=LAST,
        accumulates=op not in EXACT,
    )
    for op in REDUCTIONS
]
CASES += [
    Case(
        op,
        "open-axes",
        {"x": BLOCK[0]},
        call(op, axes=[0, -1], keep_dims=True),
        over(op, (0, 2), True),
        targets=LAST,
        accumulates=op not in EXACT,
        open_axes={"x": (0, 1)},
    )
    for op in REDUCTIONS
]
CASES += [
    Case(op, "length-one", {"x": BLOCK[:, :1]}, call(op, axes=[1]), over(op, (1,), False), targets=LAST)
    for op in REDUCTIONS
]
WHOLE = np.array([[7, 2, -4], [1, 3, 6], [-9, 2, 2]], np.int32)
CASES += [
    Case(op, f"int32-axis{axis}", {"x": x}, call(op, axes=[axis]), over(op, (axis,), False), INT)
    for op in REDUCTIONS
    for axis, x in ((1, np.abs(WHOLE) if op == "reduce_log_sum" else WHOLE), (0, np.abs(WHOLE)))
]
CASES += [
    Case(
        "reduce_mean",
        "int32-below-zero",
        {"x": np.array([-1, -2], np.int32)},
        call("reduce_mean"),
        lambda x: np.array(-1),
        INT,
    ),
    # 2^24 + 1 is no float32: integers are not to be added up as floats.
    Case(
        "reduce_sum",
        "int32-large",
        {"x": np.array([2**24, 1, 2**30], np.int32)},
        call("reduce_sum"),
        lambda x: np.array(2**30 + 2**24 + 1),
        INT,
        LAST,
    ),
    Case(
        "reduce_prod",
        "int32-large",
        {"x": np.array([2**15 + 1, 2**10 + 1], np.int32)},
        call("reduce_prod"),
        lambda x: np.array((2**15 + 1) * (2**10 + 1)),
        INT,
        LAST,
    ),
    Case(
        "reduce_mean",
        "int32-large",
        {"x": np.array([2**31 - 1, 2**31 - 3], np.int32)},
        call("reduce_mean"),
        lambda x: np.array(2**31 - 2),
        INT,
        LAST,
    ),
]

# -- edges

NUMBERLESS = np.array([[1.0, np.nan, 2.0], [np.inf, 1.0, 2.0], [-np.inf, np.inf, 0.0]])
CASES += [
    Case(
        op,
        "nan-and-infinity",
        {"x": NUMBERLESS},
        call(op, axes=[1]),
        lambda x, to=to: np.array(to),
        targets=LAST,
        accumulates=op not in EXACT,
        unfolded="value_inference takes an infinite maximum from itself, which is NaN"
        if op == "reduce_log_sum_exp"
        else "",
    )
    for op, to in (
        ("reduce_max", [np.nan, np.inf, np.inf]),
        ("reduce_min", [np.nan, 1.0, -np.inf]),
        ("reduce_sum", [np.nan, np.inf, np.nan]),
        ("reduce_mean", [np.nan, np.inf, np.nan]),
        ("reduce_l1_norm", [np.nan, np.inf, np.inf]),
        ("reduce_l2_norm", [np.nan, np.inf, np.inf]),
        ("reduce_sum_square", [np.nan, np.inf, np.inf]),
        ("reduce_prod", [np.nan, np.inf, np.nan]),
        ("reduce_log_sum_exp", [np.nan, np.inf, np.inf]),
    )
]
CASES += [
    Case(
        "reduce_log_sum_exp",
        "large",
        {"x": np.array([[1000.0, 1000.0], [-1000.0, -1001.0]])},
        call("reduce_log_sum_exp", axes=[1]),
        lambda x: np.array([1000 + np.log(2), -1000 + np.log1p(np.exp(-1))]),
        accumulates=True,
    ),
    Case(
        "reduce_log_sum_exp",
        "nothing-there",
        {"x": np.full((1, 3), -np.inf)},
        call("reduce_log_sum_exp", axes=[1]),
        lambda x: np.array([-np.inf]),
        targets=LAST,
        accumulates=True,
        unfolded="value_inference takes an infinite maximum from itself, which is NaN",
    ),
    Case(
        "reduce_log_sum",
        "zero",
        {"x": np.zeros((1, 3))},
        call("reduce_log_sum", axes=[1]),
        lambda x: np.array([-np.inf]),
    ),
    # In float16 the total would be stuck at 2048, and the squares of the values are beyond its range.
    Case(
        "reduce_sum",
        "many",
        {"x": np.ones((1, 4000))},
        call("reduce_sum", axes=[1]),
        lambda x: np.array([4000.0]),
    ),
    Case(
        "reduce_mean",
        "many",
        {"x": np.full((1, 4000), 40.0)},
        call("reduce_mean", axes=[1]),
        lambda x: np.array([40.0]),
    ),
    Case(
        "reduce_l2_norm",
        "squares-beyond-half",
        {"x": np.array([[300.0, -400.0]])},
        call("reduce_l2_norm", axes=[1]),
        lambda x: np.array([500.0]),
    ),
    Case(
        "reduce_prod",
        "beyond-half-on-the-way",
        {"x": np.array([[400.0, 300.0, 0.25]])},
        call("reduce_prod", axes=[1]),
        lambda x: np.array([30000.0]),
    ),
]
for op, nothing in (("reduce_sum", 0.0), ("reduce_prod", 1.0), ("reduce_l2_norm", 0.0)):
    CASES.append(
        Case(
            op,
            "no-values",
            {"x": np.zeros((2, 0))},
            call(op, axes=[1]),
            lambda x, nothing=nothing: np.full(2, nothing),
            targets=LAST,
            open_axes={"x": (1,)},
        )
    )

# -- positions

PLACES = np.array([[[3.0, -1.0, 3.0], [2.0, 8.0, -4.0]], [[0.0, -0.0, 0.0], [-np.inf, np.inf, 1.0]]])
POSITIONS: dict[str, Truth] = {"reduce_argmax": np.argmax, "reduce_argmin": np.argmin}
for op, fn in POSITIONS.items():
    CASES += [
        Case(
            op,
            f"axis{axis}{'-kept' if keep else ''}",
            {"x": PLACES},
            call(op, axis=axis, keep_dims=keep),
            lambda x, fn=fn, axis=axis, keep=keep: fn(x, axis=axis, keepdims=keep),
            targets=targets,
        )
        for axis, keep, targets in (
            (2, False, ("iOS15", "iOS16", "iOS17", "iOS18")),
            (0, True, LAST),
            (-2, False, LAST),
        )
    ]
    CASES += [
        Case(
            op,
            "default",
            {"x": PLACES},
            call(op),
            lambda x, fn=fn: fn(x, axis=-1),
            targets=("iOS15", "iOS18"),
        ),
        Case(op, "int32", {"x": WHOLE}, call(op, axis=0), lambda x, fn=fn: fn(x, axis=0), INT),
        Case(
            op,
            "nan",
            {"x": np.array([1.0, np.nan, 5.0, -5.0])},
            call(op, axis=0),
            lambda x: np.array(1),
            targets=LAST,
        ),
        Case(
            op,
            "uint16",
            {"x": PLACES},
            call(op, axis=1, output_dtype="uint16"),
            lambda x, fn=fn: fn(x, axis=1).astype(np.uint16),
            targets=NEW,
        ),
    ]

# -- running sums


def running(axis: int, exclusive: bool, reverse: bool) -> Callable[[Array], Array]:
    def sums(x: Array) -> Array:
        result = np.zeros_like(x)
        lines, terms = np.moveaxis(result, axis, 0), np.moveaxis(x, axis, 0)
        order = range(len(terms))[::-1] if reverse else range(len(terms))
        total = np.zeros_like(terms[0])
        for index in order:
            lines[index] = total if exclusive else total + terms[index]
            total = total + terms[index]
        return result

    return sums


MANY = rng.normal(size=(3, 4, 2))
BROKEN = "value_inference calls np.zeros(shape, data), a TypeError, for exclusive sums"
CASES += [
    Case(
        "cumsum",
        f"axis{axis}{'-exclusive' if exclusive else ''}{'-reverse' if reverse else ''}",
        {"x": MANY},
        call("cumsum", axis=axis, exclusive=exclusive, reverse=reverse),
        running(axis, exclusive, reverse),
        targets=("iOS15", "iOS16", "iOS17", "iOS18") if axis == 1 else LAST,
        accumulates=True,
        unfolded=BROKEN if exclusive else "",
    )
    for axis in (0, 1, -1)
    for exclusive in (False, True)
    for reverse in (False, True)
]
CASES += [
    Case(
        "cumsum",
        "default",
        {"x": MANY},
        call("cumsum"),
        running(0, False, False),
        targets=LAST,
        accumulates=True,
    ),
    Case("cumsum", "rank1", {"x": MANY[:, 0, 0]}, call("cumsum"), running(0, False, False), targets=LAST),
    Case(
        "cumsum",
        "one-value",
        {"x": MANY[:1]},
        call("cumsum", exclusive=True, reverse=True),
        lambda x: x * 0,
        targets=LAST,
        unfolded=BROKEN,
        accumulates=True,
    ),
    Case(
        "cumsum",
        "exclusive-infinity",
        {"x": np.array([1.0, np.inf, 2.0])},
        call("cumsum", exclusive=True),
        lambda x: np.array([0.0, 1.0, np.inf]),
        targets=LAST,
        unfolded=BROKEN,
    ),
    Case("cumsum", "int32", {"x": WHOLE}, call("cumsum", axis=1), running(1, False, False), INT),
    Case(
        "cumsum",
        "int32-exclusive",
        {"x": WHOLE},
        call("cumsum", exclusive=True),
        running(0, True, False),
        INT,
        LAST,
        unfolded=BROKEN,
    ),
    Case(
        "cumsum",
        "no-values",
        {"x": np.zeros((0, 2))},
        call("cumsum", exclusive=True),
        lambda x: x,
        targets=LAST,
        unfolded=BROKEN,
        open_axes={"x": (0,)},
    ),
    # In float16 steps the total would be stuck at 2048.
    Case(
        "cumsum",
        "many",
        {"x": np.ones(2060)},
        call("cumsum"),
        lambda x: np.arange(1, 2061.0),
        targets=LAST,
        ulps=1,
    ),
]
