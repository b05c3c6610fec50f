"""The training loop of teacher and student; budgets are steps, so that the machine's load changes nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from modelbuild import dataset, network, progress
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes import objective
from modelbuild.recipes.objective import Batch, Term

REPORT_EVERY = 20
CURVE_POINTS = 20
WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Budget:
    """The "train" part of a manifest.

    Optimiser steps, samples a step, AdamW's peak learning rate and weight decay, and the seed of initial
    weights and batch order.
    """

    steps: int
    batch: int = 64
    lr: float = 0.01
    weight_decay: float = 0.01
    seed: int = 0

    @classmethod
    def of(cls, train: Mapping[str, Any], place: str) -> Budget:
        """Read `train`; RecipeError for an unknown name, no step count or a figure that is not positive."""
        known = [each.name for each in fields(cls)]
        for name in train:
            if name not in known:
                raise RecipeError(place, f'train has no "{name}"', did_you_mean(name, known))
        if "steps" not in train:
            raise RecipeError(place, "train says no number of steps", 'Add "steps", for example 300.')
        budget = cls(**train)
        if budget.steps < 1 or budget.batch < 1 or budget.lr <= 0 or budget.weight_decay < 0:
            raise RecipeError(place, "steps, batch and lr must be positive and weight_decay not negative")
        return budget


@dataclass(frozen=True, slots=True)
class Stream:
    """Samples in memory: inputs in the order of `forward`, targets by name, one row a sample."""

    inputs: Sequence[Tensor]
    targets: Mapping[str, Tensor]

    def take(self, rows: Tensor) -> Batch:
        inputs = [each.index_select(0, rows) for each in self.inputs]
        return Batch(inputs, {name: each.index_select(0, rows) for name, each in self.targets.items()})


def batches(labelled: Stream, unlabelled: Stream | None, budget: Budget) -> Iterator[Batch]:
    """Batches without end, in an order that depends on the seed alone.

    With unlabelled samples every batch is half of the one, half of the other.
    """
    generator = torch.Generator().manual_seed(budget.seed)
    if unlabelled is None:
        yield from (labelled.take(rows) for rows in _rows(labelled, budget.batch, generator))
        return
    half = max(1, budget.batch // 2)
    first = _rows(labelled, max(1, budget.batch - half), generator)
    second = _rows(unlabelled, half, generator)
    yield from (_joined(labelled.take(a), unlabelled.take(b)) for a, b in zip(first, second, strict=True))


def _rows(stream: Stream, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    samples = len(stream.inputs[0])
    size = min(batch, samples)
    whole = samples - samples % size
    while True:
        yield from torch.split(torch.randperm(samples, generator=generator)[:whole], size)


def _joined(labelled: Batch, unlabelled: Batch) -> Batch:
    inputs = [torch.cat(pair) for pair in zip(labelled.inputs, unlabelled.inputs, strict=True)]
    both = {name: torch.cat((labelled.targets[name], each)) for name, each in unlabelled.targets.items()}
    return Batch(inputs, {**labelled.targets, **both})


def learning_rate(step: int, steps: int, peak: float) -> float:
    """The rate of step 1..steps: a linear rise to `peak` over the first tenth, then half a cosine down to 0.

    Source: Loshchilov and Hutter, "SGDR", arXiv:1608.03983, equation 5 (one cycle, minimum 0); the warm-up is
    that of Goyal et al., arXiv:1706.02677, section 2.2.
    """
    rise = max(1, round(WARM_UP * steps))
    if step <= rise:
        return peak * step / rise
    return peak * 0.5 * (1 + math.cos(math.pi * (step - rise) / (steps - rise + 1)))


def fit(module: nn.Module, source: Iterator[Batch], terms: Sequence[Term], budget: Budget) -> dict[str, Any]:
    """Train `module` in place with AdamW and return the content of training.json.

    Raises RecipeError, with the number of the step, when the loss is NaN or infinite.
    """
    module.train()
    weights, decay = module.parameters(), budget.weight_decay
    optimiser = torch.optim.AdamW(weights, lr=budget.lr, weight_decay=decay, fused=True)
    curve = _Curve(budget.steps)
    for step in range(1, budget.steps + 1):
        optimiser.param_groups[0]["lr"] = learning_rate(step, budget.steps, budget.lr)
        batch = next(source)
        loss = objective.total(terms, network.run(module, batch.inputs), batch)
        value = loss.item()
        if not math.isfinite(value):
            fact = f"the loss is {value} at step {step} of {budget.steps}"
            raise RecipeError("training", fact, "Lower train.lr, or look for wild values in the data.")
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        curve.add(step, value)
    return {**curve.summary(), "parameters": network.parameters(module)}


class _Curve:
    """The mean loss of each twentieth of the run, and progress on the way."""

    def __init__(self, steps: int) -> None:
        self.steps, self.points = steps, list[dict[str, float]]()
        self.every, self.since = max(1, steps // CURVE_POINTS), list[float]()
        self.last = math.nan

    def add(self, step: int, loss: float) -> None:
        self.last = loss
        self.since.append(loss)
        if step % REPORT_EVERY == 0 or step == self.steps:
            progress.step(step, self.steps, loss=loss)
        if step % self.every == 0 or step == self.steps:
            self.points.append({"step": step, "loss": sum(self.since) / len(self.since)})
            self.since.clear()

    def summary(self) -> dict[str, Any]:
        return {"steps": self.steps, "final_loss": self.last, "curve": self.points}


def write(out_dir: Path, module: nn.Module, summary: Mapping[str, Any]) -> None:
    """Write weights.safetensors and training.json."""
    network.save(out_dir / "weights.safetensors", module)
    dataset.write_json(out_dir / "training.json", summary)
