"""Cases of activation functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from cases import Array, Case
from mil import mb

rng = np.random.default_rng(1)
NEW = ("iOS17", "iOS18")
LAST = ("iOS18",)
VALUES = np.array([[-6.0, -2.5, -1.0, -0.3], [-0.0, 0.3, 1.0, 7.5]])
FAR = np.array([-80.0, -20.0, 15.0, 25.0, 90.0])
EDGES = np.array([0.0, -0.0, 1e4, -1e4, np.nan])
INFINITIES = np.array([np.inf, -np.inf])
erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x: Array) -> Array:
    return np.where(x < 0, np.exp(-np.abs(x)), 1.0) / (1 + np.exp(-np.abs(x)))


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def call(op: str, **constants: Any) -> Callable[..., Any]:
    """A build that calls `op` on one variable `x`; constants that are floats get the type under test."""

    def build(f: Any, x: Any) -> Any:
        given = {n: f(v) if isinstance(v, float) else v for n, v in constants.items()}
        return getattr(mb, op)(x=x, **given)

    return build


# name -> (constants, truth)
PLAIN: dict[str, tuple[dict[str, float], Callable[[Array], Array]]] = {
    "relu": ({}, lambda x: np.where(x < 0, 0, x)),
    "relu6": ({}, lambda x: np.where(x < 0, 0, np.where(x > 6, 6, x))),
    "sigmoid": ({}, sigmoid),
    "silu": ({}, lambda x: x * sigmoid(x)),
    "softplus": ({}, softplus),
    "softsign": ({}, lambda x: x / (1 + np.abs(x))),
    "clamped_relu": (
        {"alpha": 2.0, "beta": 1.5},
        lambda x: np.where(x < 0, 2 * x, np.where(x > 1.5, 1.5, x)),
    ),
    "elu": ({"alpha": 1.5}, lambda x: np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0)))),
    "leaky_relu": ({"alpha": 0.25}, lambda x: np.where(x >= 0, x, x * 0.25)),
    "linear_activation": ({"alpha": -1.5, "beta": 0.75}, lambda x: -1.5 * x + 0.75),
    "scaled_tanh": ({"alpha": 1.75, "beta": 0.5}, lambda x: 1.75 * np.tanh(0.5 * x)),
    "sigmoid_hard": (
        {"alpha": 0.25, "beta": 0.5},
        lambda x: np.where(x < -2, 0, np.where(x > 2, 1, x / 4 + 0.5)),
    ),
    "thresholded_relu": ({"alpha": 0.5}, lambda x: np.where(x < 0.5, 0, x)),
}
CASES = [
    case
    for op, (constants, fn) in PLAIN.items()
    for case in (
        Case(op, "values", {"x": VALUES}, call(op, **constants), fn),
        Case(op, "far", {"x": FAR}, call(op, **constants), fn, targets=LAST),
        Case(op, "edges", {"x": EDGES}, call(op, **constants), fn, targets=LAST),
        Case(op, "rank5", {"x": rng.normal(size=(1, 2, 1, 3, 2))}, call(op, **constants), fn, targets=LAST),
    )
]
CASES += [
    Case(
        op,
        "infinities",
        {"x": INFINITIES},
        call(op, **PLAIN[op][0]),
        lambda x, to=to: np.array(to, float),
        targets=LAST,
    )
    for op, to in (
        ("relu", [np.inf, 0]),
        ("relu6", [6, 0]),
        ("sigmoid", [1, 0]),
        ("softplus", [np.inf, 0]),
        ("clamped_relu", [1.5, -np.inf]),
        ("elu", [np.inf, -1.5]),
        ("leaky_relu", [np.inf, -np.inf]),
        ("scaled_tanh", [1.75, -1.75]),
        ("sigmoid_hard", [1, 0]),
    )
]
CASES += [
    Case(
        "leaky_relu",
        "negative-slope",
        {"x": VALUES},
        call("leaky_relu", alpha=-0.5),
        lambda x: np.where(x < 0, -x / 2, x),
    ),
    Case(
        "clamped_relu",
        "negative-bound",
        {"x": VALUES},
        call("clamped_relu", alpha=0.5, beta=-1.0),
        lambda x: np.minimum(np.where(x < 0, x / 2, x), -1),
        unfolded="value_inference adds min(max(x, 0), beta) and min(alpha min(x, 0), beta): both are beta below 0",
    ),
    Case(
        "thresholded_relu",
        "at-the-threshold",
        {"x": np.array([-3.0, -2.0, -1.0, 0.0, 1.0])},
        call("thresholded_relu", alpha=-2.0),
        lambda x: np.array([0.0, -2, -1, 0, 1]),
    ),
    Case(
        "elu",
        "negative-alpha",
        {"x": VALUES},
        call("elu", alpha=-2.0),
        lambda x: np.where(x > 0, x, -2 * np.expm1(x)),
    ),
    Case(
        "elu",
        "small",
        {"x": np.array([-1e-4, -3e-4])},
        call("elu", alpha=1.0),
        np.expm1,
        unfolded="value_inference takes 1 from e^x: the digits cancel",
    ),
    # Half of the result's bits would go if the steps inside were rounded to float16.
    Case(
        "linear_activation",
        "cancellation",
        {"x": np.array([3.0, 3.001, 2.999])},
        call("linear_activation", alpha=333.25, beta=-1000.0),
        lambda x: 333.25 * x - 1000,
        ("float16",),
        LAST,
    ),
]

# -- constants of another dtype than x, allowed since iOS 17

WIDE = {"float16": np.float32, "float32": np.float16}
CASES += [
    Case(
        op,
        "other-dtype",
        {"x": VALUES},
        lambda f, x, op=op, given=constants: getattr(mb, op)(
            x=x, **{n: WIDE[f.__name__](v) for n, v in given.items()}
        ),
        fn,
        targets=NEW,
    )
    for op, (constants, fn) in PLAIN.items()
    if constants
]

# -- gelu

GELU: dict[str, Callable[[Array], Array]] = {
    "EXACT": lambda x: x * (1 + erf(x / math.sqrt(2))) / 2,
    "TANH_APPROXIMATION": lambda x: x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2,
    "SIGMOID_APPROXIMATION": lambda x: x / (1 + np.exp(-1.702 * x)),
}
CASES += [
    case
    for mode, fn in GELU.items()
    for case in (
        Case("gelu", mode, {"x": VALUES}, call("gelu", mode=mode), fn, ulps=2),
        Case("gelu", f"{mode}-far", {"x": FAR}, call("gelu", mode=mode), fn, ulps=2, targets=LAST),
        Case(
            "gelu",
            f"{mode}-middle",
            {"x": rng.uniform(-3, 0, 8)},
            call("gelu", mode=mode),
            fn,
            ulps=6,
            targets=LAST,
        ),
    )
]
CASES.append(Case("gelu", "default", {"x": VALUES}, call("gelu"), GELU["EXACT"], ulps=2))

# -- one parameter a channel

SLOPES = np.array([0.25, -0.5, 2.0])
BLOCK = rng.normal(size=(2, 3, 2, 4))
SCALES = np.array([1.5, -0.5, 0.25])


def by_channel(parameter: Array, rank: int) -> Array:
    return parameter.reshape(1, -1, *[1] * (rank - 2))


def prelu(x: Array, slopes: Array) -> Array:
    return np.where(x > 0, x, x * by_channel(slopes, x.ndim))


def parametric(x: Array) -> Array:
    return by_channel(SCALES, x.ndim) * softplus(x * by_channel(SLOPES, x.ndim))


CASES += [
    Case(
        "prelu",
        "rank4",
        {"x": BLOCK},
        lambda f, x: mb.prelu(x=x, alpha=SLOPES.astype(f)),
        lambda x: prelu(x, SLOPES),
    ),
    Case(
        "prelu",
        "rank3-one-slope",
        {"x": BLOCK[:, :, 0]},
        lambda f, x: mb.prelu(x=x, alpha=np.full(3, 0.25, f)),
        lambda x: prelu(x, np.full(3, 0.25)),
    ),
    Case(
        "prelu",
        "rank5-one-slope",
        {"x": BLOCK[..., None]},
        lambda f, x: mb.prelu(x=x, alpha=np.full(3, 0.25, f)),
        lambda x: prelu(x, np.full(3, 0.25)),
        targets=LAST,
    ),
    Case(
        "prelu",
        "other-dtype",
        {"x": BLOCK},
        lambda f, x: mb.prelu(x=x, alpha=SLOPES.astype(WIDE[f.__name__])),
        lambda x: prelu(x, SLOPES),
        targets=NEW,
    ),
    Case(
        "prelu",
        "open-axes",
        {"x": BLOCK},
        lambda f, x: mb.prelu(x=x, alpha=SLOPES.astype(f)),
        lambda x: prelu(x, SLOPES),
        targets=LAST,
        open_axes={"x": (0, 2)},
    ),
]
CASES += [
    Case(
        "softplus_parametric",
        label,
        {"x": x},
        lambda f, x: mb.softplus_parametric(x=x, alpha=SCALES.astype(f), beta=SLOPES.astype(f)),
        parametric,
        targets=targets,
    )
    for label, x, targets in (
        ("rank4", BLOCK, ("iOS15", "iOS16", "iOS17", "iOS18")),
        ("rank3", BLOCK[:, :, 0], LAST),
        ("rank5", BLOCK[:, :, None], LAST),
    )
]
CASES += [
    Case(
        "softplus_parametric",
        "far",
        {"x": np.array([[[-90.0, 90.0], [-60.0, 300.0], [50.0, -60.0]]])},
        lambda f, x: mb.softplus_parametric(x=x, alpha=SCALES.astype(f), beta=SLOPES.astype(f)),
        parametric,
        targets=LAST,
        unfolded="value_inference has infinity where e^(beta x) overflows",
    ),
    Case(
        "softplus_parametric",
        "other-dtype",
        {"x": BLOCK},
        lambda f, x: mb.softplus_parametric(
            x=x, alpha=SCALES.astype(WIDE[f.__name__]), beta=SLOPES.astype(WIDE[f.__name__])
        ),
        parametric,
        targets=NEW,
    ),
]

# -- softmax


def softmax(axis: int) -> Callable[[Array], Array]:
    def along(x: Array) -> Array:
        powers = np.exp(x - x.max(axis, keepdims=True))
        return powers / powers.sum(axis, keepdims=True)

    return along


CASES += [
    Case(
        "softmax",
        f"axis{axis}",
        {"x": BLOCK * 3},
        call("softmax", axis=axis),
        softmax(axis),
        accumulates=True,
    )
    for axis in (0, 1, -2, 3)
]
CASES += [
    Case("softmax", "default", {"x": BLOCK[0, 0]}, call("softmax"), softmax(-1), accumulates=True),
    Case(
        "softmax",
        "rank1",
        {"x": BLOCK[0, 0, 0]},
        call("softmax", axis=0),
        softmax(0),
        accumulates=True,
        targets=LAST,
    ),
    Case(
        "softmax", "one-value", {"x": np.array([[3.0], [-1e4]])}, call("softmax"), np.ones_like, targets=LAST
    ),
    Case(
        "softmax",
        "large",
        {"x": np.array([[6e4, 6e4, -6e4], [12.0, 11.0, 6e4], [-6e4, -6e4, -6e4]])},
        call("softmax"),
        softmax(-1),
        accumulates=True,
    ),
    # As attention masks are written: what is masked has no share, and a row that is all masked has no answer.
    Case(
        "softmax",
        "masked",
        {"x": np.array([[0.5, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf]])},
        call("softmax"),
        softmax(-1),
        accumulates=True,
        targets=LAST,
    ),
    # 4096 equal shares: summed up in float16, they would stay at 2048.
    Case(
        "softmax", "many", {"x": np.zeros((1, 4096))}, call("softmax"), lambda x: x + 1 / 4096, targets=LAST
    ),
    Case(
        "softmax",
        "open-axes",
        {"x": BLOCK},
        call("softmax", axis=2),
        softmax(2),
        targets=LAST,
        accumulates=True,
        open_axes={"x": (0, 2)},
    ),
]
