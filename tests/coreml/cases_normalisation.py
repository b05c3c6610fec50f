"""Cases of normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cases import Array, Case
from mil import TARGETS, mb

rng = np.random.default_rng(3)
NEW = ("iOS17", "iOS18")
LAST = ("iOS18",)
OTHER = {"float16": np.float32, "float32": np.float16}
BLOCK = rng.normal(size=(2, 3, 4, 2)) * 2 + 1
GAMMA, BETA = np.array([1.5, -0.5, 0.25]), np.array([0.5, 2.0, -1.0])
MEAN, VARIANCE = np.array([1.0, -0.5, 0.25]), np.array([0.25, 4.0, 1.5])


def by_channel(parameter: Array, x: Array) -> Array:
    return parameter.reshape(1, -1, *[1] * (x.ndim - 2))


def scaled(x: Array, gamma: Array | None, beta: Array | None) -> Array:
    x = x if gamma is None else x * by_channel(gamma, x)
    return x if beta is None else x + by_channel(beta, x)


def by_moments(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    middle = x.mean(axes, keepdims=True)
    return (x - middle) / np.sqrt(((x - middle) ** 2).mean(axes, keepdims=True) + epsilon)


def given(f: Any, **values: Any) -> dict[str, Any]:
    """Constants in type `f`; those that are None are left out."""
    return {n: f(v) if np.isscalar(v) else v.astype(f) for n, v in values.items() if v is not None}


# -- batch_norm


def batch_norm(
    label: str, x: Array, gamma: Array | None, beta: Array | None, epsilon: float, **how: Any
) -> Case:
    other = how.pop("other", False)

    def build(f: Any, x: Any) -> Any:
        kind = OTHER[f.__name__] if other else f
        eps = {} if epsilon == 1e-5 else {"epsilon": kind(epsilon)}
        return mb.batch_norm(x=x, **given(kind, mean=MEAN, variance=VARIANCE, gamma=gamma, beta=beta), **eps)

    def expected(x: Array) -> Array:
        result = (x - by_channel(MEAN, x)) / np.sqrt(by_channel(VARIANCE, x) + epsilon)
        return scaled(result, gamma, beta)

    return Case("batch_norm", label, {"x": x}, build, expected, accumulates=True, **how)


CASES = [
    batch_norm("rank4", BLOCK, GAMMA, BETA, 0.125),
    batch_norm("rank3", BLOCK[..., 0], GAMMA, BETA, 0.125, targets=LAST),
    batch_norm("rank5", BLOCK[:, :, None], GAMMA, BETA, 0.125, targets=LAST),
    batch_norm("plain", BLOCK, None, None, 0.125, targets=LAST),
    batch_norm("gamma-only", BLOCK, GAMMA, None, 1e-5, targets=LAST),
    batch_norm("beta-only", BLOCK, None, BETA, 1e-5, targets=LAST),
    batch_norm("other-dtype", BLOCK, GAMMA, BETA, 0.125, targets=NEW, other=True),
    batch_norm("open-axes", BLOCK, GAMMA, BETA, 0.125, targets=LAST, open_axes={"x": (0, 2, 3)}),
]

# -- instance_norm


def instance_norm(
    label: str, x: Array, gamma: Array | None, beta: Array | None, epsilon: float, **how: Any
) -> Case:
    other = how.pop("other", False)

    def build(f: Any, x: Any) -> Any:
        kind = OTHER[f.__name__] if other else f
        eps = {} if epsilon == 1e-5 else {"epsilon": kind(epsilon)}
        return mb.instance_norm(x=x, **given(kind, gamma=gamma, beta=beta), **eps)

    def expected(x: Array) -> Array:
        return scaled(by_moments(x, tuple(range(2, x.ndim)), epsilon), gamma, beta)

    return Case("instance_norm", label, {"x": x}, build, expected, accumulates=True, **how)


CASES += [
    instance_norm("rank4", BLOCK, GAMMA, BETA, 0.125),
    instance_norm("rank3", BLOCK[..., 0], GAMMA, BETA, 0.125, targets=LAST),
    instance_norm("plain", BLOCK, None, None, 1e-5, targets=LAST),
    instance_norm("gamma-only", BLOCK, GAMMA, None, 0.125, targets=LAST),
    instance_norm("beta-only", BLOCK, None, BETA, 0.125, targets=LAST),
    instance_norm("one-value-a-channel", BLOCK[:, :, :1, :1], GAMMA, BETA, 0.125, targets=LAST, ulps=16),
    instance_norm("other-dtype", BLOCK, GAMMA, BETA, 0.125, targets=NEW, other=True),
    instance_norm("open-axes", BLOCK, GAMMA, BETA, 0.125, targets=LAST, open_axes={"x": (0, 2, 3)}),
    # The squares of the values are beyond float16: in float32 it is no matter.
    Case(
        "instance_norm",
        "squares-beyond-half",
        {"x": BLOCK * 400},
        lambda f, x: mb.instance_norm(x=x, epsilon=f(0.125)),
        lambda x: by_moments(x, (2, 3), 0.125),
        targets=LAST,
    ),
]

# -- layer_norm


def layer_norm(
    label: str, x: Array, axes: Sequence[int], offset: float | None, epsilon: float = 0.125, **how: Any
) -> Case:
    """`offset` is where beta starts (None: neither gamma nor beta); gamma's values are all different."""
    other = how.pop("other", False)
    over = sorted(axis % x.ndim for axis in axes)
    shape = [x.shape[axis] for axis in over]
    gamma = None if offset is None else np.linspace(0.5, 2.0, int(np.prod(shape))).reshape(shape)
    beta = None if offset is None else np.linspace(offset, 1.0, int(np.prod(shape))).reshape(shape)

    def build(f: Any, x: Any) -> Any:
        kind = OTHER[f.__name__] if other else f
        eps = {} if epsilon == 1e-5 else {"epsilon": kind(epsilon)}
        return mb.layer_norm(x=x, axes=list(axes), **given(kind, gamma=gamma, beta=beta), **eps)

    def expected(x: Array) -> Array:
        result = by_moments(x, tuple(over), epsilon)
        kept = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
        return result if gamma is None or beta is None else result * gamma.reshape(kept) + beta.reshape(kept)

    return Case("layer_norm", label, {"x": x}, build, expected, **{"ulps": 8, "accumulates": True, **how})


CASES += [
    layer_norm("last-axis", BLOCK, [-1], -1.0, targets=TARGETS),
    layer_norm("two-axes", BLOCK, [-2, -1], -1.0, targets=LAST),
    layer_norm("two-axes-in-another-order", BLOCK, [3, 2], -1.0, targets=LAST),
    layer_norm("middle-axis", BLOCK, [1], -1.0),
    layer_norm("apart", BLOCK, [0, 2], -1.0, targets=LAST),
    layer_norm("apart-in-another-order", BLOCK, [2, 0], -1.0, targets=LAST),
    layer_norm("all-axes", BLOCK, [0, 1, 2, 3], None, targets=LAST),
    layer_norm("plain", BLOCK, [-1], None, targets=LAST),
    layer_norm("default-epsilon", BLOCK, [-2, -1], None, 1e-5, targets=LAST, stepwise_ulps=128),
    layer_norm("rank2", BLOCK[0, 0], [1], 0.5, targets=LAST),
    layer_norm("rank5", BLOCK[:, :, None], [4], 0.5, targets=LAST),
    layer_norm("other-dtype", BLOCK, [-1], 0.5, targets=NEW, other=True),
    layer_norm("other-dtype-middle-axis", BLOCK, [1], 0.5, targets=NEW, other=True),
    layer_norm("open-axes", BLOCK, [-1], 0.5, targets=LAST, open_axes={"x": (0, 1, 2)}),
    layer_norm("squares-beyond-half", BLOCK * 400, [-2, -1], None, targets=LAST, accumulates=False),
    layer_norm(
        "far-from-zero",
        rng.normal(size=(2, 64)) + 100,
        [-1],
        None,
        targets=LAST,
        accumulates=False,
        ulps=64,
    ),
]

# -- l2_norm


def l2_norm(epsilon: float) -> Callable[[Array], Array]:
    return lambda x: x / np.sqrt((x * x).sum((-3, -2, -1), keepdims=True) + epsilon)


CASES += [
    Case(
        "l2_norm",
        label,
        {"x": x},
        lambda f, x: mb.l2_norm(x=x, epsilon=f(0.5)),
        l2_norm(0.5),
        targets=targets,
        accumulates=True,
    )
    for label, x, targets in (
        ("rank3", BLOCK[0], TARGETS),
        ("rank4", BLOCK, TARGETS),
        ("rank5", BLOCK.reshape(2, 1, 3, 4, 2), LAST),
        ("zeros", np.zeros((1, 2, 2)), LAST),
    )
]
CASES += [
    Case(
        "l2_norm",
        "default",
        {"x": BLOCK},
        lambda f, x: mb.l2_norm(x=x),
        l2_norm(1e-6),
        accumulates=True,
        targets=LAST,
    ),
    Case(
        "l2_norm",
        "default-small",
        {"x": np.full((1, 2, 2), 1e-3)},
        lambda f, x: mb.l2_norm(x=x),
        l2_norm(1e-6),
        ("float32",),
        targets=LAST,
    ),
    Case(
        "l2_norm",
        "other-dtype",
        {"x": BLOCK},
        lambda f, x: mb.l2_norm(x=x, epsilon=OTHER[f.__name__](0.5)),
        l2_norm(0.5),
        targets=NEW,
    ),
    Case(
        "l2_norm",
        "squares-beyond-half",
        {"x": BLOCK * 1000},
        lambda f, x: mb.l2_norm(x=x, epsilon=f(0.5)),
        l2_norm(0.5),
        targets=LAST,
    ),
]

# -- local_response_norm


def response(size: int, alpha: float, beta: float, k: float) -> Callable[[Array], Array]:
    def norm(x: Array) -> Array:
        result = np.zeros_like(x)
        for channel in range(x.shape[1]):
            near = x[:, max(channel - size // 2, 0) : channel + (size - 1) // 2 + 1]
            result[:, channel] = x[:, channel] / (k + alpha / size * (near**2).sum(1)) ** beta
        return result

    return norm


CHANNELS = rng.normal(size=(2, 6, 2, 3)) * 3
CASES += [
    Case(
        "local_response_norm",
        f"size{size}",
        {"x": x},
        lambda f, x, size=size: mb.local_response_norm(x=x, size=size, alpha=f(0.5), beta=f(0.625), k=f(2.0)),
        response(size, 0.5, 0.625, 2.0),
        targets=TARGETS if size == 2 else LAST,
        accumulates=True,
    )
    for size, x in (
        (1, CHANNELS),
        (2, CHANNELS),
        (3, CHANNELS[..., :1]),
        (4, CHANNELS[:, :, :1]),
        (5, CHANNELS[:, :4]),
        (9, CHANNELS),
    )
]
CASES += [
    Case(
        "local_response_norm",
        "default",
        {"x": CHANNELS * 20},
        lambda f, x: mb.local_response_norm(x=x, size=3),
        response(3, 1e-4, 0.75, 1.0),
        targets=LAST,
    ),
    Case(
        "local_response_norm",
        "squares-beyond-half",
        {"x": CHANNELS * 200},
        lambda f, x: mb.local_response_norm(x=x, size=3, alpha=f(0.5), beta=f(0.5), k=f(2.0)),
        response(3, 0.5, 0.5, 2.0),
        targets=LAST,
    ),
    Case(
        "local_response_norm",
        "other-dtype",
        {"x": CHANNELS},
        lambda f, x: mb.local_response_norm(
            x=x, size=3, alpha=OTHER[f.__name__](0.5), beta=OTHER[f.__name__](0.5), k=OTHER[f.__name__](2.0)
        ),
        response(3, 0.5, 0.5, 2.0),
        targets=NEW,
    ),
    Case(
        "local_response_norm",
        "open-axes",
        {"x": CHANNELS},
        lambda f, x: mb.local_response_norm(x=x, size=3, alpha=f(0.5), beta=f(0.5), k=f(2.0)),
        response(3, 0.5, 0.5, 2.0),
        targets=LAST,
        open_axes={"x": (0, 1, 3)},
    ),
]
