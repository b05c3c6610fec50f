"""Cases of element-wise operations on one value; casts and operations on two are in files of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Array, Case
from mil import mb

rng = np.random.default_rng(0)
NEW = ("iOS17", "iOS18")
LAST = ("iOS18",)
INT = ("int32",)
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e4, -1e4, 3e-5])
TIES = np.array([-2.5, -1.5, -0.5, -0.0, 0.5, 1.5, 2.5, 1.2, -1.2, 1e4, np.inf, -np.inf, np.nan])


def call(op: str, **constants: Any) -> Callable[..., Any]:
    """A build that calls `op` on one variable `x`; constants that are floats get the type under test."""

    def build(f: Any, x: Any) -> Any:
        given = {n: f(v) if isinstance(v, float) else v for n, v in constants.items()}
        return getattr(mb, op)(x=x, **given)

    return build


# name -> (truth, lowest, highest value of the plain case)
UNARY: dict[str, tuple[Callable[[Array], Array], float, float]] = {
    "abs": (np.abs, -5, 5),
    "acos": (np.arccos, -1, 1),
    "asin": (np.arcsin, -1, 1),
    "atan": (np.arctan, -5, 5),
    "atanh": (np.arctanh, -0.9, 0.9),
    "ceil": (np.ceil, -5, 5),
    "cos": (np.cos, -5, 5),
    "cosh": (np.cosh, -3, 3),
    "erf": (np.vectorize(math.erf, otypes=[np.float64]), -3, 3),
    "exp": (np.exp, -5, 5),
    "exp2": (np.exp2, -5, 5),
    "floor": (np.floor, -5, 5),
    "sign": (np.sign, -5, 5),
    "sin": (np.sin, -5, 5),
    "sinh": (np.sinh, -3, 3),
    "sqrt": (np.sqrt, 0, 9),
    "square": (np.square, -5, 5),
    "tan": (np.tan, -1, 1),
    "tanh": (np.tanh, -3, 3),
}
CASES = [
    case
    for op, (fn, low, high) in UNARY.items()
    for case in (
        Case(op, "values", {"x": rng.uniform(low, high, (3, 4))}, call(op), fn),
        Case(op, "special", {"x": SPECIAL}, call(op), fn, targets=LAST),
    )
]
CASES += [
    Case(op, "ties", {"x": TIES}, call(op), fn)
    for op, fn in (("round", np.rint), ("ceil", np.ceil), ("floor", np.floor))
]
CASES += [
    Case("tanh", "rank5", {"x": rng.normal(size=(1, 2, 1, 3, 2))}, call("tanh"), np.tanh, targets=LAST),
    Case(
        "cosh",
        "overflow",
        {"x": np.array([12.0, -12.0, 90.0, 11.0])},
        call("cosh"),
        np.cosh,
        targets=LAST,
    ),
    Case(
        "exp",
        "open-axes",
        {"x": rng.normal(size=(2, 3))},
        call("exp"),
        np.exp,
        targets=LAST,
        open_axes={"x": (0, 1)},
    ),
    Case(
        "exp",
        "no-values",
        {"x": np.zeros((0, 3))},
        call("exp"),
        np.exp,
        targets=LAST,
        open_axes={"x": (0,)},
    ),
]
WHOLE = np.array([[-7, 0, 3], [2, -1, 11]], np.int32)
CASES += [
    Case("abs", "int32", {"x": WHOLE}, call("abs"), np.abs, INT),
    Case("sign", "int32", {"x": WHOLE}, call("sign"), np.sign, INT),
    Case("square", "int32", {"x": WHOLE}, call("square"), np.square, INT),
    # 2^-1 is no integer, 2^31 and more are beyond the range.
    Case(
        "exp2",
        "int32",
        {"x": np.array([-2, -1, 0, 1, 5, 30], np.int32)},
        call("exp2"),
        lambda x: np.array([0, 0, 1, 2, 32, 2**30], np.int32),
        INT,
    ),
    Case(
        "exp2",
        "int32-beyond",
        {"x": np.array([31, 60], np.int32)},
        call("exp2"),
        lambda x: np.full(2, 2**31 - 1, np.int32),
        INT,
        LAST,
        unfolded="NumPy's float64 -> int32 beyond the range is undefined: INT_MIN on x86",
    ),
]

# -- with constants

CASES += [
    Case(
        "clip",
        "values",
        {"x": np.array([[-3.0, -1.0, 0.5], [2.0, 2.5, np.nan], [np.inf, -np.inf, 1.9]])},
        call("clip", alpha=-1.0, beta=2.0),
        lambda x: np.where(x < -1, -1, np.where(x > 2, 2, x)),
    ),
    Case(
        "clip",
        "wrong-order",
        {"x": np.array([-3.0, 0.0, 3.0])},
        call("clip", alpha=2.0, beta=-1.0),
        lambda x: np.full(3, -1.0),
        targets=("iOS15", "iOS16"),  # refused by the builder from iOS 17 on
    ),
    Case(
        "threshold",
        "values",
        {"x": np.array([-3.0, 0.25, 0.5, 7.0, np.nan, np.inf, -np.inf])},
        call("threshold", alpha=0.3),
        lambda x: np.where(x < 0.3, 0.3, x),
    ),
    Case(
        "threshold",
        "int32",
        {"x": WHOLE},
        call("threshold", alpha=np.int32(2)),
        lambda x: np.array([[2, 2, 3], [2, 2, 11]]),
        INT,
    ),
]
AROUND_ZERO = np.array([[1.0, -2.0, 0.5], [0.0, 3e-3, 40.0]])
CASES += [
    Case("inverse", "default", {"x": AROUND_ZERO}, call("inverse"), lambda x: 1 / (x + 1e-4)),
    Case(
        "inverse",
        "epsilon",
        {"x": AROUND_ZERO},
        call("inverse", epsilon=0.5),
        lambda x: 1 / (x + 0.5),
    ),
    Case(
        "inverse",
        "no-epsilon",
        {"x": np.array([0.0, np.inf, -np.inf, np.nan, -4.0])},
        call("inverse", epsilon=0.0),
        lambda x: 1 / x,
        targets=LAST,
    ),
    Case(
        "rsqrt",
        "default",
        {"x": np.array([[1.0, 2.0, 0.25], [1e-3, 50.0, 9.0]])},
        call("rsqrt"),
        lambda x: (x + 1e-12) ** -0.5,
    ),
    Case(
        "rsqrt",
        "zero",
        {"x": np.array([0.0, -1.0, np.inf, np.nan])},
        call("rsqrt"),
        lambda x: (x + 1e-12) ** -0.5,
        ("float32",),
        targets=LAST,
    ),
    Case(
        "rsqrt",
        "epsilon",
        {"x": AROUND_ZERO},
        call("rsqrt", epsilon=2.5),
        lambda x: (x + 2.5) ** -0.5,
    ),
    # The epsilon is added before the root is taken, in float32 even where the value is a float16 number.
    Case(
        "rsqrt",
        "wide-epsilon",
        {"x": np.array([0.0, 1.0, 4.0])},
        lambda f, x: mb.rsqrt(x=x, epsilon=np.float32(1e-6)),
        lambda x: (x + np.float64(np.float32(1e-6))) ** -0.5,
        targets=NEW,
    ),
    Case("log", "default", {"x": np.array([[1.0, 2.0, 0.5], [1e-3, 40.0, 7.0]])}, call("log"), np.log),
    Case(
        "log",
        "zero",
        {"x": np.array([0.0, -1.0, np.inf, np.nan])},
        call("log"),
        lambda x: np.log(x + float(np.float32(1e-45))),
        ("float32",),
        targets=LAST,
    ),
    Case(
        "log",
        "zero-in-half",
        {"x": np.array([0.0, 2.0], np.float16)},
        lambda f, x: mb.log(x=x),
        lambda x: np.array([-np.inf, np.log(2.0)]),
        ("float16",),
        targets=LAST,
    ),
    Case("log", "epsilon", {"x": AROUND_ZERO[1:]}, call("log", epsilon=1.0), lambda x: np.log(x + 1)),
    Case(
        "log",
        "wide-epsilon",
        {"x": np.array([0.0, 1.0])},
        lambda f, x: mb.log(x=x, epsilon=np.float32(1e-12)),
        lambda x: np.log(x + 1e-12),
        targets=NEW,
    ),
]
