"""Whose difference it is: a chain of runs of one model, each with one thing more switched, and what that does.

The chain leads from the teacher to the file that ships. A step is the distance from one run to the next; its total
the distance to the student in PyTorch. A red run is the fault of the first stage whose total is over the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import decisions
from modelbuild.equivalence.metrics import max_abs, rmse, sums
from modelbuild.tensors import Arrays

Array = NDArray[Any]
Stage = Literal["distillation", "export", "precision", "runtime", "optimisation", "artefact"]
STUDENT, ONNX = "the student in PyTorch, float32", "the ONNX file, optimisations off"


class State(NamedTuple):
    """One run: the stage that leads to it, what ran in words, its outputs (samples first) or None and a `reason`."""

    stage: Stage
    words: str
    outputs: Arrays | None
    reason: str = ""


def waterfall(
    reference: Arrays,
    states: Sequence[State],
    limits: Mapping[str, float | None],
    teacher: Arrays | None = None,
    labels: Array | None = None,
    origin: str = STUDENT,
) -> dict[str, Any]:
    """steps.json without its "run": {"outputs": {name: [step]}, "tasks": {name: [{"stage", "accuracy"}]}}.

    `states` begin after the `origin`, whose outputs are `reference`; `limits`, in an output's unit, hold the total.
    A state that could not be had is a step with a note, and the next one is measured from the last that was.
    """
    found: dict[str, Any] = {"outputs": {}, "tasks": {}}
    for name, truth in sorted(reference.items()):
        first = [_distillation(truth, teacher[name])] if teacher is not None and name in teacher else []
        found["outputs"][name] = [*first, *_steps(name, truth, states, limits.get(name), origin)]
        if labels is not None and _labelled(truth, labels):
            found["tasks"][name] = [*_accuracies(name, reference, states, teacher, labels)]
    return found


def blamed(steps: Sequence[Mapping[str, Any]]) -> str:
    """The first stage whose total is over the limit; "" where none is."""
    return next((str(step["stage"]) for step in steps if step["ok"] is False), "")


def _distillation(student: Array, teacher: Array) -> dict[str, Any]:
    """What distilling changed: wanted, hence without a limit here; gate 1 judges it."""
    step = _step("distillation", "the teacher", STUDENT)
    if teacher.shape != student.shape:
        return {
            **step,
            "note": f"the teacher's output has shape {teacher.shape}, the student's {student.shape}",
        }
    s = sums(teacher, student)
    return {**step, **_numbers(max_abs=max_abs(s), rmse=rmse(s), total=0.0)}


def _steps(
    name: str, truth: Array, states: Sequence[State], limit: float | None, origin: str
) -> Iterator[dict[str, Any]]:
    before, said = truth, origin
    for state in states:
        step = {**_step(state.stage, said, state.words), "limit": limit}
        reason = state.reason or _unlike(name, truth, state.outputs)
        if reason or state.outputs is None:
            yield {**step, "note": reason, "ok": False if state.outputs is not None else None}
            continue
        value = state.outputs[name]
        s, total = sums(before, value), max_abs(sums(truth, value))
        ok = None if limit is None else bool(total <= limit)
        yield {**step, **_numbers(max_abs=max_abs(s), rmse=rmse(s), total=total), "ok": ok}
        before, said = value, state.words


def _step(stage: Stage, before: str, after: str) -> dict[str, Any]:
    numbers = {"max_abs": None, "rmse": None, "total": None, "limit": None, "ok": None}
    return {"stage": stage, "from": before, "to": after, **numbers, "note": ""}


def _numbers(**numbers: float) -> dict[str, float | None]:
    """What JSON can hold of them."""
    return {name: float(value) if np.isfinite(value) else None for name, value in numbers.items()}


def _unlike(name: str, truth: Array, outputs: Arrays | None) -> str:
    if outputs is None:
        return "it could not be run"
    if name not in outputs:
        return f'it gives no "{name}"'
    value = outputs[name]
    if value.shape != truth.shape or value.dtype != truth.dtype:
        return f"it gives {value.dtype} {value.shape} where {truth.dtype} {truth.shape} is due"
    return "" if np.isfinite(value).all() or value.dtype.kind != "f" else "it gives NaN or Inf"


def _labelled(scores: Array, labels: Array) -> bool:
    fits = labels.dtype.kind in "iu" and labels.shape == (len(scores),) and decisions.decides(scores)
    return bool(fits) and bool((labels >= 0).all()) and int(labels.max()) < scores.shape[1]


def _accuracies(
    name: str, reference: Arrays, states: Sequence[State], teacher: Arrays | None, labels: Array
) -> Iterator[dict[str, Any]]:
    shape = reference[name].shape
    known = [("teacher", teacher), ("distillation", reference), *((s.stage, s.outputs) for s in states)]
    for stage, outputs in known:
        if outputs is not None and name in outputs and outputs[name].shape == shape:
            yield {"stage": stage, "accuracy": decisions.accuracy(outputs[name], labels)}
