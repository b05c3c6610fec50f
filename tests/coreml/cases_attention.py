"""Cases of attention as one operation, which iOS 18 has."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

rng = np.random.default_rng(24)


def attended(query, key, value, mask=None):
    scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ value


def attention(label, batch, queries, keys, width=4, value_width=3, mask=None, **more) -> Case:
    shapes = {"query": (queries, width), "key": (keys, width), "value": (keys, value_width)}
    inputs = {name: rng.normal(size=(*batch, *shape)) for name, shape in shapes.items()}
    if mask is None:
        return Case(
            "scaled_dot_product_attention",
            label,
            inputs,
            lambda f, q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
            attended,
            **{**COMMON, **more},
        )
    return Case(
        "scaled_dot_product_attention",
        label,
        {**inputs, "mask": mask},
        lambda f, q, k, v, m: mb.scaled_dot_product_attention(query=q, key=k, value=v, attn_mask=m),
        attended,
        **{**COMMON, **more},
    )


COMMON = {"targets": ("iOS18",), "accumulates": True, "ulps": 8}
CAUSAL = np.tril(np.ones((3, 5), bool), 1)
NONE_FOR_ONE = CAUSAL.copy()
NONE_FOR_ONE[1] = False
BIAS = rng.normal(size=(3, 5))
SHUT = np.where(NONE_FOR_ONE, 0.0, -np.inf)

CASES = [
    attention("rank 3", (2,), 3, 5),
    attention("rank 4", (1, 2), 3, 5),
    attention("rank 5", (1, 2, 2), 2, 3),
    attention("one query", (1, 2), 1, 5),
    attention("one key", (1, 2), 3, 1),
    attention("values as wide as keys", (1, 2), 3, 5, 4, 4),
    attention("open lengths", (1, 2), 3, 5, open_axes={"query": (2,), "key": (2,), "value": (2,)}),
    attention("bool mask", (1, 2), 3, 5, mask=CAUSAL),
    attention("bool mask for each head", (1, 2), 3, 5, mask=rng.random((1, 2, 3, 5)) < 0.7),
    attention("bool mask of rank 1", (1, 2), 3, 5, mask=np.array([True, False, True, True, False])),
    attention("bool mask, rank 3", (2,), 3, 5, mask=np.ones((2, 1, 5), bool)),
    attention("float mask", (1, 2), 3, 5, mask=BIAS),
    attention("float mask of rank 1", (1, 2), 3, 5, mask=BIAS[0]),
    attention("float mask over heads", (2, 3), 3, 5, mask=rng.normal(size=(2, 1, 1, 5))),
    attention("large negative mask", (1, 2), 3, 5, mask=np.where(CAUSAL, 0.0, -30000.0)),
    attention("a query that sees no key, bool", (1, 2), 3, 5, mask=NONE_FOR_ONE),
    attention("a query that sees no key, float", (1, 2), 3, 5, mask=SHUT),
    attention("values of another width with a mask", (1, 2), 3, 5, 4, 2, mask=CAUSAL),
    Case(
        "scaled_dot_product_attention",
        "scores beyond half precision",
        {"q": np.full((1, 1, 4), 300.0), "k": np.full((1, 2, 4), 300.0), "v": np.array([[[1.0], [3.0]]])},
        lambda f, q, k, v: mb.scaled_dot_product_attention(query=q, key=k, value=v),
        lambda q, k, v: np.array([[[2.0]]]),
        targets=("iOS18",),
    ),
    Case(
        "scaled_dot_product_attention",
        "constant keys and values",
        {"q": rng.normal(size=(1, 3, 2))},
        lambda f, q: mb.scaled_dot_product_attention(
            query=q, key=np.eye(2, dtype=f)[None], value=np.array([[[1, 2], [3, 4]]], f)
        ),
        lambda q: attended(q, np.eye(2)[None], np.array([[[1.0, 2.0], [3.0, 4.0]]])),
        **COMMON,
    ),
]
