"""The losses of a training: found out when they are no numbers, averaged for the record, reported on the way."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from modelbuild import progress
from modelbuild.errors import RecipeError

POINTS = 20
REPORT_STEPS, REPORT_SECONDS = 20, 1.0  # whichever comes first
LAG = 20  # losses that may wait on a GPU: reading one stops the queue


class Curve:
    """The mean loss of each twentieth of `steps`, and progress towards step `last`.

    On a GPU losses are read some steps late; each is still known by its step. Nothing may be kept of a training
    before `settle`.
    """

    def __init__(self, steps: int, last: int, device: torch.device) -> None:
        self._steps, self._last, self._lag = steps, last, 1 if device.type == "cpu" else LAG
        self._every = max(1, steps // POINTS)
        self._waiting: list[Tensor] = []
        self._step, self._loss, self._since = 0, math.nan, list[float]()
        self._points: list[dict[str, float]] = []
        self._reported = time.monotonic()

    def add(self, loss: Tensor) -> None:
        """Take the loss of the next step. Raises RecipeError as `settle` does."""
        self._waiting.append(loss.detach())
        if len(self._waiting) >= self._lag:
            self.settle()

    def settle(self) -> None:
        """Read all losses taken. Raises RecipeError, with the step, for the first that is NaN or infinite."""
        waiting, self._waiting = self._waiting, []
        for loss in torch.stack(waiting).tolist() if len(waiting) > 1 else [each.item() for each in waiting]:
            self._step += 1
            if not math.isfinite(loss):
                raise RecipeError(
                    "training", f"the loss is {loss} at step {self._step} of {self._steps}", CURE
                )
            self._note(loss)

    def _note(self, loss: float) -> None:
        self._loss = loss
        self._since.append(loss)
        if self._step % self._every == 0 or self._step == self._steps:
            self._points.append(self._mean())
            self._since.clear()
        self._report()

    def _mean(self) -> dict[str, float]:
        return {"step": self._step, "loss": sum(self._since) / len(self._since)}

    def _report(self) -> None:
        now = time.monotonic()
        if (
            self._step % REPORT_STEPS == 0
            or self._step == self._last
            or now - self._reported >= REPORT_SECONDS
        ):
            self._reported = now
            progress.step(self._step, self._last, loss=self._loss)

    def facts(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"step": self._step, "loss": self._loss, "since": self._since, "points": self._points}

    def put(self, facts: Mapping[str, Any]) -> None:
        """Go on from `facts`."""
        self._step, self._loss = facts["step"], facts["loss"]
        self._since, self._points = facts["since"], facts["points"]

    def summary(self) -> dict[str, Any]:
        """For training.json; where the training ended within a twentieth, the last mean is of what there was."""
        points = [*self._points, self._mean()] if self._since else self._points
        return {"steps": self._step, "final_loss": self._loss, "curve": points}


CURE = "Lower train.lr, set train.clip (1.0 is usual), or look for wild values in the data."
