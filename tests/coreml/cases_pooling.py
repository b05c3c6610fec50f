"""Cases of pooling."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(23)
FROM_IOS16 = ("iOS16", "iOS17", "iOS18")
SAME, LOWER, VALID = {"pad_type": "same"}, {"pad_type": "same_lower"}, {"pad_type": "valid"}


def custom(*pads: int, **more) -> dict:
    return {"pad_type": "custom", "pad": list(pads), **more}


def pooled(kind, x, kernel, strides, pads, results, exclude):
    """Window by window; `results` is how many there are. What lies beyond the padding takes part in nothing."""
    spatial = x.shape[2:]
    result = np.zeros((*x.shape[:2], *results))
    for at in np.ndindex(*results):
        start = [i * s - before for i, s, (before, _) in zip(at, strides, pads, strict=True)]
        inside = tuple(
            slice(max(0, a), min(n, a + k)) for a, k, n in zip(start, kernel, spatial, strict=True)
        )
        values = x[(slice(None), slice(None), *inside)].reshape(*x.shape[:2], -1)
        reach = [
            min(n + after, a + k) - a
            for a, k, n, (_, after) in zip(start, kernel, spatial, pads, strict=True)
        ]
        if kind == "max":
            value = values.max(axis=-1)
        elif kind == "avg":
            value = values.sum(axis=-1) / (values.shape[-1] if exclude else np.prod(reach))
        else:
            value = np.sqrt((values**2).sum(axis=-1))
        result[(slice(None), slice(None), *at)] = value
    return result


def pool(
    kind, label, shape, kernel, results, pads=None, strides=None, args=VALID, exclude=None, x=None, **more
) -> Case:
    rank = len(kernel)
    given = dict(args)
    if strides is not None:
        given["strides"] = list(strides)
    if exclude is not None:
        given["exclude_padding_from_average"] = exclude

    def build(f, x):
        return getattr(mb, f"{kind}_pool")(x=x, kernel_sizes=list(kernel), **given)

    def expected(x):
        return pooled(kind, x, kernel, strides or [1] * rank, pads or [(0, 0)] * rank, results, exclude)

    values = rng.normal(size=shape) if x is None else x
    return Case(f"{kind}_pool", label, {"x": values}, build, expected, accumulates=kind != "max", **more)


def everywhere(kind: str) -> list[Case]:
    """What all three kinds have in common, on one and two axes."""
    return [
        pool(kind, "1-D, defaults", (2, 3, 5), [2], [4]),
        pool(kind, "1-D, stride with a rest", (1, 2, 8), [3], [3], strides=[2]),
        pool(kind, "1-D, custom", (1, 2, 5), [3], [5], [(1, 1)], args=custom(1, 1)),
        pool(
            kind, "1-D, custom, more than half the window", (1, 2, 4), [3], [6], [(2, 2)], args=custom(2, 2)
        ),
        pool(kind, "1-D, custom before", (1, 2, 5), [3], [5], [(2, 0)], args=custom(2, 0)),
        pool(kind, "1-D, custom after", (1, 2, 5), [3], [3], [(0, 2)], strides=[2], args=custom(0, 2)),
        pool(kind, "1-D, same", (1, 2, 5), [4], [5], [(1, 2)], args=SAME),
        pool(kind, "1-D, same, stride", (1, 2, 7), [3], [3], [(1, 1)], strides=[3], args=SAME),
        pool(kind, "1-D, same_lower", (1, 2, 5), [4], [5], [(2, 1)], args=LOWER, targets=FROM_IOS16),
        pool(kind, "1-D, pad is void unless custom", (1, 2, 5), [2], [4], args={**VALID, "pad": [1, 1]}),
        pool(
            kind, "1-D, open length", (1, 2, 6), [3], [3], [(0, 1)], [2], args=SAME, open_axes={"x": (0, 2)}
        ),
        pool(kind, "1-D, ceil", (1, 2, 6), [3], [3], strides=[2], args={**VALID, "ceil_mode": True}),
        pool(kind, "2-D, defaults", (2, 2, 4, 5), [2, 3], [3, 3]),
        pool(kind, "2-D, stride", (1, 2, 6, 7), [2, 3], [3, 3], strides=[2, 2]),
        pool(
            kind,
            "2-D, custom",
            (1, 1, 4, 4),
            [2, 3],
            [3, 2],
            [(1, 1), (1, 1)],
            [2, 2],
            args=custom(1, 1, 1, 1),
        ),
        pool(
            kind,
            "2-D, custom, all different",
            (1, 1, 4, 4),
            [3, 4],
            [3, 6],
            [(1, 0), (2, 3)],
            args=custom(1, 0, 2, 3),
        ),
        pool(kind, "2-D, same", (1, 2, 5, 4), [2, 3], [3, 2], [(0, 1), (0, 1)], [2, 2], args=SAME),
        pool(
            kind,
            "2-D, same_lower",
            (1, 2, 5, 4),
            [2, 3],
            [3, 2],
            [(1, 0), (1, 0)],
            [2, 2],
            args=LOWER,
            targets=FROM_IOS16,
        ),
        pool(
            kind, "2-D, ceil", (1, 1, 5, 6), [2, 3], [3, 3], strides=[2, 2], args={**VALID, "ceil_mode": True}
        ),
        pool(
            kind,
            "2-D, ceil with padding",
            (1, 1, 5, 6),
            [3, 3],
            [3, 4],
            [(1, 1), (1, 1)],
            [2, 2],
            args=custom(1, 1, 1, 1, ceil_mode=True),
        ),
        pool(
            kind,
            "2-D, ceil that would begin in the padding after",
            (1, 1, 5, 5),
            [2, 2],
            [2, 2],
            [(1, 1), (1, 1)],
            [3, 3],
            args=custom(1, 1, 1, 1, ceil_mode=True),
        ),
        pool(kind, "2-D, global", (1, 3, 5, 4), [5, 4], [1, 1], stepwise_ulps=128),
        pool(kind, "zeros and infinities", (), [2], [4], x=np.array([[[0.0, -0.0, np.inf, 1.0, np.nan]]])),
    ]


def deep(kind: str) -> list[Case]:
    return [
        pool(kind, "3-D, defaults", (1, 2, 3, 3, 4), [2, 2, 2], [2, 2, 3]),
        pool(
            kind,
            "3-D, same",
            (1, 1, 3, 4, 4),
            [2, 3, 3],
            [2, 2, 4],
            [(0, 1), (0, 1), (1, 1)],
            [2, 2, 1],
            args=SAME,
        ),
        pool(
            kind,
            "3-D, same_lower",
            (1, 1, 3, 4, 4),
            [2, 3, 3],
            [2, 2, 4],
            [(1, 0), (1, 0), (1, 1)],
            [2, 2, 1],
            args=LOWER,
            targets=FROM_IOS16,
        ),
        pool(
            kind,
            "3-D, custom",
            (1, 1, 3, 3, 3),
            [2, 3, 2],
            [4, 2, 3],
            [(1, 1), (1, 1), (0, 1)],
            [1, 2, 1],
            args=custom(1, 1, 1, 1, 0, 1),
        ),
    ]


def exclusive(exclude: bool) -> list[Case]:
    """Padding counted or not, on each of the paths on which it is."""
    how = "not counted" if exclude else "counted"
    return [
        pool(
            "avg",
            f"1-D, even padding {how}",
            (1, 2, 5),
            [3],
            [5],
            [(1, 1)],
            args=custom(1, 1),
            exclude=exclude,
        ),
        pool("avg", f"1-D, uneven padding {how}", (1, 2, 5), [4], [5], [(1, 2)], args=SAME, exclude=exclude),
        pool(
            "avg",
            f"2-D, even padding {how}",
            (1, 2, 4, 5),
            [3, 3],
            [4, 5],
            [(1, 1), (1, 1)],
            args=SAME,
            exclude=exclude,
        ),
        pool(
            "avg",
            f"2-D, uneven padding {how}",
            (1, 2, 4, 5),
            [2, 3],
            [4, 5],
            [(0, 1), (1, 1)],
            args=SAME,
            exclude=exclude,
        ),
        pool(
            "avg",
            f"2-D, ceil, padding {how}",
            (1, 1, 6, 6),
            [3, 3],
            [4, 4],
            [(1, 1), (1, 1)],
            [2, 2],
            args=custom(1, 1, 1, 1, ceil_mode=True),
            exclude=exclude,
        ),
        pool(
            "avg",
            f"3-D, uneven padding {how}",
            (1, 1, 3, 3, 3),
            [2, 3, 2],
            [3, 3, 3],
            [(0, 1), (1, 1), (0, 1)],
            args=SAME,
            exclude=exclude,
        ),
    ]


LARGE = np.full((1, 1, 4), 60000.0)
CASES = [
    *everywhere("max"),
    *deep("max"),
    *everywhere("avg"),
    *deep("avg"),
    *exclusive(True),
    *exclusive(False),
    *everywhere("l2"),
    pool(
        "max",
        "padding is below every value",
        (),
        [3],
        [2],
        [(1, 1)],
        args=custom(1, 1),
        x=np.array([[[-5.0, -9.0]]]),
    ),
    pool(
        "max",
        "uneven padding is below every value",
        (),
        [3],
        [2],
        [(2, 0)],
        args=custom(2, 0),
        x=np.array([[[-5.0, -9.0]]]),
    ),
    Case(
        "avg_pool",
        "sums beyond half precision",
        {"x": LARGE},
        lambda f, x: mb.avg_pool(x=x, kernel_sizes=[2], pad_type="valid"),
        lambda x: np.full((1, 1, 3), x[0, 0, 0]),
    ),
    Case(
        "l2_pool",
        "squares beyond half precision",
        {"x": LARGE / 2},
        lambda f, x: mb.l2_pool(x=x, kernel_sizes=[2], pad_type="valid"),
        lambda x: np.full((1, 1, 3), x[0, 0, 0] * np.sqrt(2)),
    ),
]
