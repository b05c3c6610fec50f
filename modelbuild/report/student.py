"""The student in a few facts: how large it is and may be, and how it was trained."""

from __future__ import annotations

from collections.abc import Sequence

from modelbuild.report import clean, figures
from modelbuild.report.student_record import Candidate, Capacity, Cycle, Student, Training


def draw(student: Student, cycles: Sequence[Cycle]) -> str:
    """The facts that are known; where a search found it, it takes what its candidate does."""
    found = _trained(student.training) if student.training else []
    found += _sized(student.capacity) if student.capacity else _searched(cycles)
    items = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in found if value)
    return f'<div class="known"><dl class="facts">{items}</dl></div>' if items else ""


def _trained(training: Training) -> list[tuple[str, str]]:
    chosen, stopping = training.chosen, training.early_stopping
    device = f"{training.device} ({training.gpu})" if training.gpu else training.device
    return [
        ("Chosen", f"<b>{clean.html(chosen.name)}</b>, {clean.html(chosen.why)}" if chosen else ""),
        ("Parameters", f"{training.parameters:,}"),
        ("Steps", f"{training.steps:,}"),
        ("Device", clean.html(device, 100)),
        ("Precision", clean.html(training.precision, 40)),
        ("Final loss", figures.number(training.final_loss)),
        ("Weights", f"averaged, with a decay of {figures.number(training.ema)}" if training.ema else ""),
        ("Early stopping", _stopping(stopping.best_step, stopping.stopped) if stopping else ""),
    ]


def _stopping(step: int, stopped: bool) -> str:
    kept = f"the weights of step {step:,}" if step else "no held-out look was better than none"
    return f"{kept}; {'ended early' if stopped else 'trained to the end'}"


def _sized(capacity: Capacity) -> list[tuple[str, str]]:
    parts = f"{figures.size(capacity.weight_bytes)} of weights and {figures.size(capacity.activation_bytes)}"
    return [
        ("Memory", f"{figures.size(capacity.total)}: {parts} of activations at their peak"),
        ("May take", "" if capacity.limit is None else figures.size(capacity.limit) + _whose(capacity)),
    ]


def _whose(capacity: Capacity) -> str:
    if capacity.budget is None or capacity.fraction is None:
        return ""
    platform = f" of {clean.html(capacity.platform, 100)}" if capacity.platform else ""
    return f", {figures.number(capacity.fraction)} of the {figures.size(capacity.budget)}{platform}"


def _searched(cycles: Sequence[Cycle]) -> list[tuple[str, str]]:
    last = cycles[-1] if cycles else None
    found: Candidate | None = None
    if last is not None:
        found = next((one for one in last.candidates if one.name == last.chosen), None)
    if last is None or found is None or found.bytes is None or last.limit is None:
        return []
    return [("Memory", figures.size(found.bytes)), ("May take", figures.size(last.limit))]
