"""The training loop of teacher and student: a step, and what comes between two of them.

What it gives depends on learner, data, settings and seed alone, never on time, and not on whether it was interrupted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from modelbuild import checkpoints, network, progress
from modelbuild.errors import RecipeError
from modelbuild.training import checkpoint, device, generators, objective, optimisers, schedule, streams
from modelbuild.training.averaging import Average
from modelbuild.training.batch import Batch
from modelbuild.training.checkpoint import Keeper, State
from modelbuild.training.curve import CURE, Curve
from modelbuild.training.objective import Term
from modelbuild.training.settings import Settings
from modelbuild.training.stopping import Best
from modelbuild.training.streams import Stream
from modelbuild.training.weights import Tensors, Weights

if TYPE_CHECKING:
    from modelbuild.training.learner import Learner


def fit(
    learner: Learner,
    labelled: Stream,
    unlabelled: Stream | None,
    terms: Sequence[Term],
    settings: Settings,
    *,
    until: int | None = None,
    start: Path | None = None,
    state: Path | None = None,
) -> dict[str, Any]:
    """Train `learner` in place and return the content of training.json.

    Afterwards its weights are those to ship, on the CPU: the best on held-out samples with early stopping, else the
    average with `ema`, else the last. With `until` the training ends at that step of `settings.steps`, and writes
    where it stands into the folder `state`; with `start`, such a folder, it goes on from there and ends with the same
    bytes as one that was never interrupted, as long as all that changes in the learner lies in its parameters and
    buffers. So it does from the checkpoints it keeps in `checkpoints.folder()`.

    Raises RecipeError, with the step, when the loss is NaN or infinite; when weights are; for a device or precision
    that is not here; for data, terms or a `start` that do not fit.
    """
    run = _Run(learner, labelled, unlabelled, terms, settings, settings.steps if until is None else until)
    run.resume(start)
    run.train()
    if state is not None:
        checkpoint.write(state, run.state())
    return run.finish()


FORMAT = 1  # of a state; raised when what it holds changes


class _Run:
    """One training on its way from one step to another."""

    def __init__(
        self,
        learner: Learner,
        labelled: Stream,
        unlabelled: Stream | None,
        terms: Sequence[Term],
        settings: Settings,
        last: int,
    ) -> None:
        if not 0 < last <= settings.steps:
            raise RecipeError("training", f"cannot end after step {last} of {settings.steps}")
        self.compute = device.choose(settings)
        self.learner, self.terms, self.settings = learner.to(self.compute.device), terms, settings
        self.step, self.last = 0, last
        self.labelled, self.unlabelled, self.held_out = labelled, unlabelled, list[Batch]()
        if settings.early_stopping is not None:
            self._hold_out(settings.early_stopping.held_out)
        self.weights, self.optimiser = Weights(learner), optimisers.build(learner, settings)
        self.scaler = self.compute.scaler()
        self.average = None if settings.ema is None else Average(self.weights, settings.ema)
        self.best = None if settings.early_stopping is None else Best(settings.early_stopping)
        self.curve = Curve(settings.steps, last, self.compute.device)
        self.keeper = Keeper(checkpoints.folder(), settings.checkpoint)

    def _hold_out(self, share: float) -> None:
        self.labelled, held_out = streams.split(self.labelled, share, self.settings.seed)
        in_turn = streams.in_turn(held_out, self.settings.batch)
        self.held_out = [self.compute.move(batch) for batch in in_turn]

    def resume(self, start: Path | None) -> None:
        """Go on from the newest checkpoint that can be used, else from `start`, else begin."""
        found = self.keeper.latest(self._unusable)
        if found is None and start is not None:
            found = checkpoint.read(start)
            if reason := self._unfit(found):
                raise RecipeError(start.name, reason, "Build it again")
        if found is not None:
            self._put(found)
        progress.step(self.step, self.last)

    def train(self) -> None:
        """Go on to the last step, or to where held-out samples no longer gain."""
        self.learner.train()
        source = streams.batches(self.labelled, self.unlabelled, self.settings, skip=self.step)
        try:
            self._go(source, min(self.step + 1, self.last))  # memory is filled in one step: see `unfilled`
            with device.unfilled():
                self._go(source, self.last)
        except Exception as error:
            self.curve.settle()  # an earlier loss, not read yet, may be what broke this step
            if "deterministic implementation" in str(error):
                fact = f"an operation has no deterministic form on {self.compute.device.type}: {error}"
                raise RecipeError("training", fact.splitlines()[0], 'Set train.device to "cpu".') from error
            raise

    def _go(self, source: Iterator[Batch], last: int) -> None:
        while self.step < last and not (self.best is not None and self.best.over):
            self.step += 1
            self._learn(self.compute.move(next(source)))
            self._between()

    def _learn(self, batch: Batch) -> None:
        optimisers.steer(self.optimiser, schedule.at(self.step, self.settings))
        loss = objective.total(self.terms, self.compute.forward(self.learner, batch), batch)
        if not loss.requires_grad:
            raise RecipeError("training", "the loss depends on no weight", "Nothing can be learnt from it.")
        self.curve.add(loss)
        optimisers.forget_gradients(self.optimiser)
        torch.autograd.backward(self.scaler.scale(loss))
        if self.settings.clip is not None:
            self.scaler.unscale_(self.optimiser)
            nn.utils.clip_grad_norm_(optimisers.weights(self.optimiser), self.settings.clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.step)

    def _between(self) -> None:
        if self.best is not None and self.best.due(self.step, self.settings.steps):
            self._look(self.best)
        if self.keeper.due(self.step):
            self.keeper.keep(self.state())

    def _averaged(self) -> Tensors:
        return {} if self.average is None else self.average.values

    @torch.no_grad()
    def _look(self, best: Best) -> None:
        """Look at the held-out samples with the weights that would ship now.

        The student alone is in evaluation mode: what the learner adds in training, such as teacher forcing, stays.
        """
        self.learner.student.eval()
        with self.weights.replaced(self._averaged()):
            loss = sum(map(self._held_out_loss, self.held_out)) / sum(map(_samples, self.held_out))
            if not math.isfinite(loss):
                fact = (
                    f"the loss of held-out samples is {loss} after step {self.step} of {self.settings.steps}"
                )
                raise RecipeError("training", fact, CURE)
            best.look(self.step, loss, self.weights)
        self.learner.train()

    def _held_out_loss(self, batch: Batch) -> float:
        loss = objective.total(self.terms, self.compute.forward(self.learner, batch), batch)
        return loss.item() * _samples(batch)

    def state(self) -> State:
        """Where the training stands, once everything in it is known to be a number."""
        self._check()
        tensors = {
            "learner": self.weights.live(),
            "average": self._averaged(),
            "best": {} if self.best is None else self.best.weights,
            "optimiser": optimisers.tensors(self.optimiser),
            "generators": generators.tensors(self.compute.device),
        }
        facts = {
            "work": self._work(),
            "device": self.compute.device.type,
            "curve": self.curve.facts(),
            "best": None if self.best is None else self.best.facts(),
            "scaler": self.scaler.state_dict(),
            "generators": generators.facts(),
        }
        return State(self.step, tensors, facts)

    def _check(self) -> None:
        self.curve.settle()
        for name, each in self.learner.named_parameters():
            if each.requires_grad and not torch.isfinite(each).all():
                raise RecipeError("training", f"{name} is not finite after step {self.step}", CURE)

    def _work(self) -> dict[str, Any]:
        """What must be the same for a state to be one of this training."""
        settings = {k: v for k, v in asdict(self.settings).items() if k not in ("checkpoint", "device")}
        samples = [each.samples for each in (self.labelled, self.unlabelled) if each is not None]
        terms = [[term.name, term.weight] for term in self.terms]
        return {"format": FORMAT, "settings": settings, "samples": samples, "terms": terms}

    def _unusable(self, state: State) -> str:
        """Why a checkpoint cannot be gone on from; another device would give what no uninterrupted run gives."""
        was = state.facts["device"]
        if was != self.compute.device.type:
            return f"it was written on {was}, and the training is on {self.compute.device.type}"
        return self._unfit(state)

    def _unfit(self, state: State) -> str:
        if state.facts["work"] != self._work():
            return "it belongs to another training"
        if state.step > self.last:
            return f"it is of step {state.step}, beyond step {self.last}"
        fits = (
            self.weights.fitting(state.group("learner")),
            self.weights.fitting(state.group("average"), self._averaged()),
            self.weights.fitting(state.group("best"), None if state.group("best") else ()),
            optimisers.fitting(self.optimiser, state.group("optimiser")),
        )
        return "" if all(fits) else "it holds the weights of another network"

    def _put(self, state: State) -> None:
        self.step = state.step
        self.weights.put(state.group("learner"))
        optimisers.put(self.optimiser, state.group("optimiser"))
        for name, each in self._averaged().items():
            each.copy_(state.group("average")[name])
        if self.best is not None:
            self.best.put(state.facts["best"], state.group("best"))
        self.scaler.load_state_dict(state.facts["scaler"])
        self.curve.put(state.facts["curve"])
        generators.put(state.group("generators"), state.facts["generators"], self.compute.device)

    def finish(self) -> dict[str, Any]:
        """Leave the weights to ship in the learner, and tell of the training."""
        self._check()
        kept = self.best.weights if self.best is not None and self.best.weights else self._averaged()
        self.weights.put(kept)
        self.learner.to("cpu")
        told = {**self.curve.summary(), **self.compute.describe()}
        told |= {"precision": self.settings.precision, "ema": self.settings.ema}
        told["parameters"] = network.parameters(self.learner.student)
        return told if self.best is None else {**told, "early_stopping": self.best.summary()}


def _samples(batch: Batch) -> int:
    return len(next(iter(batch.inputs.values())))
