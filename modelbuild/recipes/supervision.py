"""The task: which loss holds an output to the ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from modelbuild.dataset import LABEL, Array
from modelbuild.errors import RecipeError
from modelbuild.recipes import losses
from modelbuild.recipes.objective import Term


def task_term(spec: Mapping[str, Any], label: Array, place: str) -> Term:
    """The term that `spec` asks for: {"kind", "weight", "output"}, each with a default.

    Without a kind, class numbers mean cross-entropy and real numbers l2; without an output, the first.
    Raises RecipeError for a kind that is not known.
    """
    kind = spec.get("kind") or ("l2" if label.dtype.kind == "f" else "cross_entropy")
    loss = losses.named(place, losses.TASK, kind, {})
    return Term(spec.get("output"), LABEL, float(spec.get("weight", 1.0)), loss)


def target(label: Array) -> Tensor:
    """The ground truth as torch's losses want it: class numbers int64, real numbers float32.

    Raises RecipeError for a negative class number, which torch would pass over in silence when it is -100.
    """
    if label.dtype.kind == "i" and label.min() < 0:
        raise RecipeError(LABEL, f"the smallest class number is {label.min()}", "Classes count from 0.")
    return torch.tensor(label, dtype=torch.float32 if label.dtype.kind == "f" else torch.int64)
