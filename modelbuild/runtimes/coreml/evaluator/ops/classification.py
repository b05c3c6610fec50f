"""classify: from probabilities to the most probable class and a table of all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import kernel


@kernel("classify")
def classify(probabilities: Tensor, classes: Any) -> tuple[Any, dict[Any, float]]:
    """The class of the largest probability (the first of equals), and class -> probability in the given order."""
    labels = [each.item() if isinstance(each, Tensor) else each for each in classes]
    values = probabilities.reshape(-1).tolist()
    if len(labels) != len(values):
        raise ValueError(f"{len(values)} probabilities for {len(labels)} classes")
    if not labels:
        raise ValueError("there is no class to choose from")
    best = labels[int(torch.argmax(probabilities))]
    label = best if isinstance(best, str) else torch.tensor(best, dtype=torch.int64)
    return label, dict(zip(labels, values, strict=True))
