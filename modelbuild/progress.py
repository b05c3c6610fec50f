"""How a recipe tells the build how far it is, wherever the recipe runs.

A recipe calls `step(done, total, loss=0.3)`. In a job process the build has set a sink that carries the
numbers home; anywhere else the call does nothing, so that a recipe stays a plain function.
"""

from __future__ import annotations

from collections.abc import Callable

Sink = Callable[[int, int, dict[str, float]], None]


def _nowhere(done: int, total: int, values: dict[str, float]) -> None:
    pass


_sink: Sink = _nowhere


def set_sink(sink: Sink) -> None:
    """Send every later `step` of this process to `sink(done, total, values)`."""
    global _sink
    _sink = sink


def step(done: int, total: int, **values: float) -> None:
    """Report `done` of `total` steps and the figures worth watching, by name."""
    _sink(done, total, values)
