"""A learner that has everything a checkpoint must not forget, and trainings of it that take milliseconds."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from modelbuild.deterministic import deterministic
from modelbuild.training import loop, losses
from modelbuild.training.batch import Batch
from modelbuild.training.objective import Term
from modelbuild.training.settings import Settings
from modelbuild.training.streams import Stream

STEPS = 30
SAMPLES = 40


class Student(nn.Module):
    """Batch statistics, dropout, draws from every generator, a tied weight, and a buffer no state dict shows."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 8)
        self.again = self.second
        self.norm, self.drop, self.last = nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2)
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.norm(self.again(self.second(torch.relu(self.first(x)))))
        if self.training:
            self.scale = self.scale * 0.9 + 0.1 * x.abs().mean()  # in the buffer's place, not into it
            hidden = hidden + 0.01 * (random.random() + np.random.rand())
        return self.last(self.drop(hidden)) * self.scale, hidden


class Learner(nn.Module):
    """The student and a learnt projection of its hidden state."""

    def __init__(self, student: nn.Module | None = None) -> None:
        super().__init__()
        self.student, self.projection = student or Student(), nn.Linear(8, 4)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        y, hidden = self.student(*batch.inputs.values())
        return {"y": y, "hidden.first": self.projection(hidden)}


def hidden_loss(outputs: Any, batch: Batch) -> Tensor:
    return losses.l2(outputs["hidden.first"], batch.targets["hidden.deep"])


def on(output: str, target: str) -> Any:
    def value(outputs: Any, batch: Batch) -> Tensor:
        wanted = batch.targets[target]
        return losses.l2(outputs[output][: len(wanted)], wanted)

    return value


TERMS = [
    Term("task", 0.5, on("y", "label")),
    Term("soft", 0.5, on("y", "teacher.y")),
    Term("hidden", 0.1, hidden_loss),
]


def stream(samples: int = SAMPLES, labelled: bool = True, seed: int = 0) -> Stream:
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, 3, generator=draw)
    targets = {"teacher.y": x[:, :2].sin(), "hidden.deep": x.sum(1, keepdim=True).cos().repeat(1, 4)}
    return Stream({"x": x}, {"label": x[:, :2] * 0.5, **targets} if labelled else targets)


def settings(**given: Any) -> Settings:
    return Settings.of({"steps": STEPS, "batch": 8, "lr": 0.02, **given}, "here")


def train(
    given: Settings, unlabelled: bool = False, seed: int = 0, **more: Any
) -> tuple[Learner, dict[str, Any]]:
    """A learner with first weights and draws of `seed`, trained."""
    with deterministic(seed):
        learner = Learner()
        extra = stream(24, labelled=False, seed=1) if unlabelled else None
        return learner, loop.fit(learner, stream(), extra, TERMS, given, **more)


def contents(learner: nn.Module) -> dict[str, bytes]:
    """Every parameter and buffer, bit by bit."""
    named = [*learner.named_parameters(), *learner.named_buffers()]
    return {name: each.detach().numpy().tobytes() for name, each in named}


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
