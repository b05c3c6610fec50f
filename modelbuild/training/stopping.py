"""Early stopping: the best weights seen on held-out samples, and when it is time to end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modelbuild.training.settings import EarlyStopping
from modelbuild.training.weights import Tensors, Weights


@dataclass(slots=True)
class Best:
    """What was seen so far: the losses of all looks, and the weights of the best one.

    Source: Prechelt, "Early Stopping - But When?" (1998), the criterion UP with a patience.
    """

    spec: EarlyStopping
    looks: list[dict[str, float]] = field(default_factory=list)
    weights: Tensors = field(default_factory=dict)
    loss: float = math.inf
    step: int = 0
    misses: int = 0

    def due(self, step: int, steps: int) -> bool:
        """Whether to look after `step`: every `every` steps, and after the last."""
        return step % self.spec.every == 0 or step == steps

    def look(self, step: int, loss: float, weights: Weights) -> None:
        """Take note of the held-out `loss` of `weights` after `step`; keep them where it is the lowest so far."""
        self.looks.append({"step": step, "loss": loss})
        if loss < self.loss:
            self.loss, self.step, self.misses = loss, step, 0
            self.weights = weights.copy()
        else:
            self.misses += 1

    @property
    def over(self) -> bool:
        return self.misses >= self.spec.patience

    def facts(self) -> dict[str, Any]:
        """All but the weights, for a checkpoint."""
        return {"looks": self.looks, "misses": self.misses, "step": self.step}

    def put(self, facts: Mapping[str, Any], weights: Tensors) -> None:
        """Go on from `facts` and the best `weights`."""
        self.looks, self.misses, self.step = facts["looks"], facts["misses"], facts["step"]
        self.loss = min((look["loss"] for look in self.looks), default=math.inf)
        self.weights = weights

    def summary(self) -> dict[str, Any]:
        """For training.json: every look, the step whose weights were kept (0: none), and whether it ended early."""
        return {"held_out": self.looks, "best_step": self.step, "stopped": self.over}
