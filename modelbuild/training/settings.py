"""The "train" part of a manifest, checked: budgets are steps, so that the machine's load changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

from modelbuild.errors import RecipeError, did_you_mean

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("cosine", "one_cycle", "constant")
PRECISIONS = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
SWING = 0.05  # what one_cycle adds to the momentum and takes from it


@dataclass(frozen=True, slots=True)
class EarlyStopping:
    """Look every `every` steps at the share `held_out` of the training samples; end after `patience` looks without
    a gain.
    """

    every: int = 50
    patience: int = 5
    held_out: float = 0.1


@dataclass(frozen=True, slots=True)
class Settings:
    """How to train: optimiser steps, samples a step, and all that shapes a step.

    `momentum` is that of SGD and beta1 of AdamW; `lr` the peak of the learning rate, reached after the share
    `warm_up` of the steps; `clip` the largest norm of a gradient; `ema` the decay of the averaged weights;
    `unlabelled_share` that of each batch where there are unlabelled samples; `checkpoint` the steps between two
    checkpoints (None: a span of time). `seed` decides initial weights, batch order and held-out samples.
    """

    steps: int = 1000
    batch: int = 128
    optimiser: str = "adamw"
    momentum: float = 0.9
    lr: float = 0.003
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warm_up: float = 0.1
    clip: float | None = None
    ema: float | None = None
    precision: str = "float32"
    device: str = "auto"
    early_stopping: EarlyStopping | None = None
    unlabelled_share: float = 0.5
    checkpoint: int | None = None
    seed: int = 0

    @classmethod
    def of(cls, train: Mapping[str, Any], place: str) -> Settings:
        """Read `train`; RecipeError for a name that is not known and a value that cannot be."""
        given = _checked(dict(train), [each.name for each in fields(cls)], "train", place)
        if given.get("early_stopping") is not None:
            spec = _checked(given["early_stopping"], [e.name for e in fields(EarlyStopping)], STOPPING, place)
            given["early_stopping"] = EarlyStopping(**spec)
        settings = cls(**given)
        if settings.schedule == "one_cycle" and not SWING <= settings.momentum < 1 - SWING:
            fact = f"momentum is {settings.momentum}, and one_cycle moves it by {SWING} up and down"
            raise RecipeError(place, fact, f"Choose one from {SWING} to below {1 - SWING}.")
        return settings


STOPPING = "train.early_stopping"


class _Rule(NamedTuple):
    holds: Callable[[Any], bool]
    words: str


def _whole(least: int) -> _Rule:
    return _Rule(lambda v: type(v) is int and v >= least, f"a whole number from {least} up")


def _one_of(names: tuple[str, ...]) -> _Rule:
    return _Rule(lambda v: v in names, f"one of {', '.join(names)}")


def _number(holds: Callable[[float], bool], words: str) -> _Rule:
    return _Rule(lambda v: type(v) in (int, float) and holds(v), words)


_POSITIVE = _number(lambda v: 0 < v < float("inf"), "a positive number")
_BETWEEN = _number(lambda v: 0 < v < 1, "a number between 0 and 1")
_SHARE = _number(lambda v: 0 <= v < 1, "a number from 0 to below 1")
_RULES = {
    "steps": _whole(1),
    "batch": _whole(1),
    "optimiser": _one_of(OPTIMISERS),
    "momentum": _SHARE,
    "lr": _POSITIVE,
    "weight_decay": _number(lambda v: 0 <= v < float("inf"), "a number from 0 up"),
    "schedule": _one_of(SCHEDULES),
    "warm_up": _SHARE,
    "clip": _POSITIVE,
    "ema": _BETWEEN,
    "precision": _one_of(PRECISIONS),
    "device": _one_of(DEVICES),
    "early_stopping": _Rule(lambda v: isinstance(v, Mapping), "an object"),
    "unlabelled_share": _BETWEEN,
    "checkpoint": _whole(1),
    "seed": _whole(0),
    "every": _whole(1),
    "patience": _whole(1),
    "held_out": _BETWEEN,
}
_OPTIONAL = ("clip", "ema", "early_stopping", "checkpoint")


def _checked(given: Mapping[str, Any], known: list[str], where: str, place: str) -> dict[str, Any]:
    for name, value in given.items():
        if name not in known:
            raise RecipeError(place, f'{where} has no "{name}"', did_you_mean(name, known))
        absent = value is None and name in _OPTIONAL
        if not absent and not _RULES[name].holds(value):
            raise RecipeError(place, f"{where}.{name} is {value!r}, not {_RULES[name].words}")
    return dict(given)
