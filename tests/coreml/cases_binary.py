"""Cases of element-wise operations on two or three values: arithmetic, comparisons, logic, selection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Array, Case
from mil import mb

rng = np.random.default_rng(5)
LAST = ("iOS18",)
INT, BOOL = ("int32",), ("bool",)
CASES: list[Case] = []


def pair(op: str) -> Callable[..., Any]:
    return lambda f, x, y: getattr(mb, op)(x=x, y=y)


LEFT = np.array([[[7.5, -7.5, 0.0]], [[1.0, -3.25, 6.0]]])  # 2, 1, 3
RIGHT = np.array([[2.0, 2.5, -3.0], [-2.0, -7.5, 0.5]])  # 2, 3
ARITHMETIC: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "floor_div": np.floor_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "real_div": np.divide,
    "sub": np.subtract,
}
COMPARISONS: dict[str, Callable[[Array, Array], Array]] = {
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "not_equal": np.not_equal,
}
LOGIC = {"logical_and": np.logical_and, "logical_or": np.logical_or, "logical_xor": np.logical_xor}
NUMBERS = np.array([[-7, 7, 0, 8], [9, -9, 1, -8]], np.int32)
DIVISORS = np.array([2, -3, 5, -8], np.int32)
GRID = np.array([0.0, -0.0, 1.0, -2.5, np.inf, -np.inf, np.nan])
for op, fn in {**ARITHMETIC, **COMPARISONS}.items():
    CASES += [
        Case(op, "broadcast", {"x": LEFT, "y": RIGHT}, pair(op), fn),
        Case(op, "special", {"x": GRID[:, None], "y": GRID}, pair(op), fn, targets=LAST),
        Case(
            op,
            "constant-y",
            {"x": LEFT},
            lambda f, x, op=op: getattr(mb, op)(x=x, y=f(-2.5)),
            lambda x, fn=fn: fn(x, -2.5),
            targets=LAST,
        ),
        Case(
            op,
            "constant-x",
            {"y": RIGHT},
            lambda f, y, op=op: getattr(mb, op)(x=f(7.5), y=y),
            lambda y, fn=fn: fn(7.5, y),
            targets=LAST,
        ),
    ]
    if op != "real_div":
        CASES.append(Case(op, "int32", {"x": NUMBERS, "y": DIVISORS}, pair(op), fn, INT))
CASES += [
    Case(op, "bool", {"x": np.array([[True], [False]]), "y": np.array([True, False])}, pair(op), fn, BOOL)
    for op, fn in LOGIC.items()
]
CASES += [
    Case(
        "logical_not",
        "bool",
        {"x": np.array([[True, False]])},
        lambda f, x: mb.logical_not(x=x),
        lambda x: np.array([[False, True]]),
        BOOL,
    ),
    Case(
        "real_div",
        "int32",
        {"x": NUMBERS, "y": DIVISORS},
        pair("real_div"),
        lambda x, y: np.array([[-3, -2, 0, -1], [4, 3, 0, 1]]),
        INT,
    ),
    # 3 / 0.1 in floats is nearest to 30, but 0.1 as a float is more than 0.1.
    Case(
        "floor_div",
        "below-a-whole-number",
        {
            "x": np.array([1.0, 3.0, -1.0, 79.0, 26.1875]),
            "y": np.array([0.1, 0.1, 0.1, -0.11224365, -0.012557983]),
        },
        pair("floor_div"),
        np.floor_divide,
        targets=LAST,
        ulps=1,
    ),
    Case(
        "pow",
        "broadcast",
        {"x": np.array([[0.5], [2.0], [3.0]]), "y": np.array([-1.0, 0.5, 3.0])},
        pair("pow"),
        np.power,
    ),
    Case(
        "pow",
        "special",
        {"x": np.array([[0.0], [1.0], [-2.0], [np.inf], [np.nan]]), "y": np.array([0.0, 2.0, 0.5, -3.0])},
        pair("pow"),
        np.power,
        targets=LAST,
    ),
    Case(
        "pow",
        "constant-y",
        {"x": np.array([0.5, -2.0, 3.0])},
        lambda f, x: mb.pow(x=x, y=f(3.0)),
        lambda x: x * x * x,
        targets=LAST,
    ),
    Case(
        "pow",
        "int32",
        {"x": NUMBERS, "y": np.array([0, 1, 2, 3], np.int32)},
        pair("pow"),
        lambda x, y: np.array([[1, 7, 0, 512], [1, -9, 1, -512]]),
        INT,
    ),
    Case(
        "add",
        "open-axes",
        {"x": rng.normal(size=(2, 3)), "y": rng.normal(size=(1, 3))},
        pair("add"),
        np.add,
        targets=LAST,
        open_axes={"x": (0,), "y": (0,)},
    ),
    Case(
        "mul",
        "rank5",
        {"x": rng.normal(size=(2, 1, 3, 1, 2)), "y": rng.normal(size=(2, 1, 2, 1))},
        pair("mul"),
        np.multiply,
        targets=LAST,
    ),
]

# -- select

CHOICE = np.array([[True], [False]])


def selected(c: Array, a: Array, b: Array) -> Array:
    shape = np.broadcast_shapes(c.shape, a.shape, b.shape)
    c, a, b = (np.broadcast_to(each, shape) for each in (c, a, b))
    return np.array([p if k else q for k, p, q in zip(c.flat, a.flat, b.flat, strict=True)]).reshape(shape)


# coremltools states the shape that `a` and `b` broadcast to, whatever that of `cond`: see test_coreml_elementwise.
CASES += [
    Case(
        "select",
        label,
        {"c": CHOICE, "a": a, "b": b},
        lambda f, c, a, b: mb.select(cond=c, a=a, b=b),
        selected,
        dtypes,
    )
    for label, a, b, dtypes in (
        ("broadcast", LEFT[0], RIGHT, ("float32", "float16")),
        ("nan-not-chosen", np.array([[1.0], [np.nan]]), np.array([[np.inf], [2.0]]), ("float32", "float16")),
        ("int32", NUMBERS, DIVISORS, INT),
        ("bool", np.array([[True, False], [True, True]]), np.array([False, False]), BOOL),
    )
]
CASES += [
    Case(
        "select",
        "constants",
        {"c": np.array([[True], [False]])},
        lambda f, c: mb.select(cond=c, a=f(1.5), b=np.full((2, 1), -np.inf, f)),
        lambda c: np.array([[1.5], [-np.inf]]),
        targets=LAST,
    ),
    Case(
        "select",
        "constant-cond",
        {"a": LEFT[0], "b": RIGHT},
        lambda f, a, b: mb.select(cond=np.array([True, False, True]), a=a, b=b),
        lambda a, b: selected(np.array([True, False, True]), a, b),
        targets=LAST,
    ),
]
