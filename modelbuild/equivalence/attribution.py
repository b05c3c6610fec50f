"""Whose difference it is: a chain of runs of one model, each with one thing more switched, and what that does.

The chain leads from the teacher to the file that ships. A step is the distance from one run to the next; its total
the distance to the student in PyTorch. A red run is the fault of the first stage whose total is over the limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from modelbuild.equivalence import sequences, tasks
from modelbuild.equivalence.demand import OutputDemand, within
from modelbuild.equivalence.metrics import METRICS, Sums, max_abs, rmse, sums
from modelbuild.errors import RecipeError
from modelbuild.tensors import Arrays

Array = NDArray[Any]
Stage = Literal["distillation", "export", "precision", "runtime", "optimisation", "artefact"]
STUDENT, ONNX = "the student in PyTorch, float32", "the ONNX file, optimisations off"
ORIGINS = {STUDENT: "student", ONNX: "onnx"}  # what its own task figure goes by, where nothing was distilled


class State(NamedTuple):
    """One run: the stage that leads to it, what ran in words, its outputs (samples first) or None and a `reason`."""

    stage: Stage
    words: str
    outputs: Arrays | None
    reason: str = ""


def waterfall(
    reference: Arrays,
    states: Sequence[State],
    limits: Mapping[str, Mapping[str, float]],
    teacher: Arrays | None = None,
    labels: Array | None = None,
    origin: str = STUDENT,
    asked: Mapping[str, OutputDemand] = MappingProxyType({}),
) -> dict[str, Any]:
    """steps.json without its "run": {"outputs": {name: [step]}, "tasks": {name: [{"stage", "metric", "value"}]}}.

    `states` begin after the `origin`, whose outputs are `reference`; `limits`, by output and metric, hold the total.
    A state that could not be had is a step with a note, and the next one is measured from the last that was.
    `asked` tells what the outputs are. A task has a figure at the "teacher", at the origin ("distillation" with a
    teacher, else as in ORIGINS) and at each stage.
    """
    found: dict[str, Any] = {"outputs": {}, "tasks": {}}
    own = ORIGINS[origin] if teacher is None else "distillation"
    known = [("teacher", teacher), (own, reference), *((each.stage, each.outputs) for each in states)]
    taught = _cut(teacher or {}, asked)
    runs = [e if e.outputs is None else e._replace(outputs=_cut(e.outputs, asked)) for e in states]
    for name, truth in sorted(_cut(reference, asked).items()):
        first = [_distillation(truth, taught[name])] if name in taught else []
        found["outputs"][name] = [*first, *_steps(name, truth, runs, limits.get(name, {}), origin)]
        figures = [*_figures(name, reference, known, labels, asked.get(name, tasks.UNDECLARED))]
        if figures:
            found["tasks"][name] = figures
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
    name: str, truth: Array, states: Sequence[State], limits: Mapping[str, float], origin: str
) -> Iterator[dict[str, Any]]:
    before, said = truth, origin
    for state in states:
        step = {**_step(state.stage, said, state.words), "limit": limits.get("max_abs")}
        reason = state.reason or _unlike(name, truth, state.outputs)
        if reason or state.outputs is None:
            yield {**step, "note": reason, "ok": False if state.outputs is not None else None}
            continue
        value = state.outputs[name]
        s, total = sums(before, value), sums(truth, value)
        numbers = _numbers(max_abs=max_abs(s), rmse=rmse(s), total=max_abs(total))
        yield {**step, **numbers, **_held(total, limits)}
        before, said = value, state.words


def _held(total: Sums, limits: Mapping[str, float]) -> dict[str, Any]:
    """Whether `total` keeps to all limits, and a note where it does not although max_abs, which is shown, does."""
    measured = {metric: METRICS[metric](total) for metric in sorted(limits)}
    over = [metric for metric, each in measured.items() if not within(metric, each, limits[metric])]
    note = ""
    if over and "max_abs" not in over:
        note = f"in all {over[0]} {measured[over[0]]:.3g}, limit {limits[over[0]]:.3g}"
    return {"ok": not over if limits else None, "note": note}


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


def _cut(outputs: Arrays, asked: Mapping[str, OutputDemand]) -> dict[str, Array]:
    """Each output that has lengths with 0 past them, as the gate has it."""
    ends = {name: _ends(name, outputs, asked.get(name, tasks.UNDECLARED)) for name in outputs}
    return {
        name: array if (found := ends[name]) is None else sequences.blank(array, found)
        for name, array in outputs.items()
    }


def _ends(name: str, outputs: Arrays, asked: OutputDemand) -> Array | None:
    """Where each sample ends; None where an output has no lengths, or what is given as such is a fault itself."""
    given = outputs.get(asked.lengths) if asked.lengths is not None else None
    if asked.lengths is None or given is None or outputs[name].ndim < 2 or len(given) != len(outputs[name]):
        return None
    try:
        return sequences.lengths(asked.lengths, given)
    except RecipeError:
        return None


def _figures(
    name: str,
    reference: Arrays,
    known: Sequence[tuple[str, Arrays | None]],
    labels: Array | None,
    asked: OutputDemand,
) -> Iterator[dict[str, Any]]:
    """The first metric of the task that fits output and labels, wherever the output is there in its shape."""
    if labels is None:
        return
    shape = reference[name].shape
    for metric in tasks.metrics(reference[name], labels, asked)[:1]:
        for stage, outputs in known:
            if outputs is not None and name in outputs and outputs[name].shape == shape:
                scores = tasks.scores(metric, outputs[name], labels, asked, _ends(name, outputs, asked))
                value = float(tasks.figure(metric)(scores.sum(axis=0)))
                yield {"stage": stage, "metric": metric, **_numbers(value=value)}
