"""Attention as one operation (iOS 18)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.kernels import kernel


@kernel("scaled_dot_product_attention", fresh=True)
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *, arithmetic: Arithmetic
) -> Tensor:
    """softmax(query . key / sqrt(E) + mask) . value; a bool mask is True where a key takes part.

    A query that may look at no key gives NaN, as MIL's formula does; PyTorch's own operation gives zeros there.
    """
    if arithmetic.stepwise(query):
        return _stepwise(query, key, value, attn_mask, arithmetic)
    q, k, v = arithmetic.wide(query), arithmetic.wide(key), arithmetic.wide(value)
    if attn_mask is None:
        return F.scaled_dot_product_attention(q, k, v).to(query.dtype)
    mask = attn_mask if attn_mask.dtype is torch.bool else attn_mask.to(q.dtype)
    if mask.ndim == 1:
        mask = mask.unsqueeze(0)
    result = F.scaled_dot_product_attention(q, k, v, mask)
    seen = (
        mask.any(-1, keepdim=True) if mask.dtype is torch.bool else mask.amax(-1, keepdim=True) != -math.inf
    )
    return torch.where(seen, result, math.nan).to(query.dtype)


def _stepwise(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, arithmetic: Arithmetic
) -> Tensor:
    scores = arithmetic.dot(query, key.mT) / math.sqrt(query.shape[-1])
    if mask is not None:
        scores = (
            scores.masked_fill(~mask, -math.inf)
            if mask.dtype is torch.bool
            else scores + mask.to(scores.dtype)
        )
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    return arithmetic.dot(weights / arithmetic.total(weights, (-1,), keep=True), value)
