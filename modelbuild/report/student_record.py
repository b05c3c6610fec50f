"""What is known of the student: how it was found among others, how large it is, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """The first thing that the gates demand, on the output where it is worst."""

    metric: str
    against: str
    output: str
    measured: float | None
    limit: float
    more_is_better: bool


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate after one cycle; `differs`, path -> JSON, is what it has other than the student.

    `state` is "trained", "stopped", "failed" or "over"; `bytes` what it takes in memory, where there is a limit.
    """

    name: str
    differs: Mapping[str, str]
    parameters: int | None
    bytes: int | None
    state: str
    steps: int
    ok: bool
    quality: Figure | None
    shortfall: float | None
    goes_on: bool
    why: str


@dataclass(frozen=True, slots=True)
class Cycle:
    """Cycle `cycle` of `cycles`, up to step `steps`; `keep` go on, None after the last; `limit` is in bytes."""

    cycle: int
    cycles: int
    steps: int
    keep: int | None
    limit: int | None
    chosen: str | None
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Stopping:
    """Early stopping: the step whose weights were kept, and whether it ended the training."""

    best_step: int
    stopped: bool


@dataclass(frozen=True, slots=True)
class Chosen:
    """The candidate of a search that the student is."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Training:
    """How the student was trained; `ema` is the decay of the averaged weights, None where they are not averaged."""

    parameters: int
    steps: int
    device: str
    final_loss: float | None
    precision: str = ""
    gpu: str = ""
    ema: float | None = None
    early_stopping: Stopping | None = None
    chosen: Chosen | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the student takes, in bytes, and what it may take: `fraction` of the `budget` of the `platform`."""

    weight_bytes: int
    activation_bytes: int
    total: int
    limit: int | None
    budget: int | None = None
    fraction: float | None = None
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Student:
    """What of it is known, None where nothing is."""

    training: Training | None = None
    capacity: Capacity | None = None
