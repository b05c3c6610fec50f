"""Where the error of a run comes from: a bar for what each step from the teacher to the file that ships adds."""

from __future__ import annotations

from collections.abc import Sequence

from modelbuild.report import axis, clean, figures, sentences
from modelbuild.report.axis import Axis
from modelbuild.report.details import Quality, Step, Waterfall
from modelbuild.report.histograms import gallery

_SCALE, _MARK, _LEAST = 1000.0, 6.0, 8.0
_START = {"teacher": "the teacher", "student": "the student", "onnx": "the ONNX file"}


def draw(falls: Sequence[Waterfall]) -> str:
    """One waterfall for every run and output, side by side where the page is wide."""
    pairs = [(fall, output) for fall in falls for output in fall.outputs]
    worst = sorted(pairs, key=lambda pair: turning(pair[0].outputs[pair[1]]) is None)
    return gallery([_fall(*pair) for pair in worst], "More runs", kind="falls")


def turning(steps: Sequence[Step]) -> Step | None:
    """The first step after which the run is over the limit."""
    return next((step for step in steps if step.ok is False), None)


def _fall(fall: Waterfall, output: str) -> str:
    steps, tasks = fall.outputs[output], fall.tasks.get(output, ())
    values = [value for step in steps for value in (step.max_abs, step.total, step.limit)]
    shared = axis.spanning(values, 0.0, _SCALE)
    red = turning(steps)
    rows = "".join(_step(step, step is red, tasks, shared) for step in steps)
    said = "".join(
        f"<span>{_START[each.stage]}'s {figure}</span>"
        for each in tasks
        if each.stage in _START and (figure := _quality(each.stage, tasks, ": "))
    )
    heading = (
        f"<figcaption><b>{clean.html(fall.run)}</b> <code>{clean.html(output)}</code> {said}</figcaption>"
    )
    return f'<figure>{heading}<ol class="steps">{rows}</ol>{_scale(shared, steps)}</figure>'


def _step(step: Step, turns: bool, tasks: Sequence[Quality], shared: Axis) -> str:
    mark = ' <span class="badge red">turns red here</span>' if turns else ""
    name = f'<span class="name"><b>{clean.html(sentences.stage(step.stage))}</b>{mark}</span>'
    bar = _bar(step, turns, shared) if step.max_abs is not None else ""
    took = f'<span class="took">{_figures(step, tasks)}</span>'
    return f'<li class="{"over" if step.ok is False else "step"}">{name}{took}{bar}{_note(step)}</li>'


def _figures(step: Step, tasks: Sequence[Quality]) -> str:
    if step.max_abs is None:
        return ""
    held = step.limit is not None and step.total is not None
    parts = (
        "the same bits" if step.max_abs == 0 else f"+{figures.number(step.max_abs, 3)}",
        f"total {figures.number(step.total, 3)}" if held else "",
        _quality(step.stage, tasks, " "),
    )
    return ", ".join(filter(None, parts))


def _quality(stage: str, tasks: Sequence[Quality], apart: str) -> str:
    for each in tasks:
        if each.stage == stage and each.value is not None:
            return f"{clean.html(each.metric)}{apart}{figures.number(each.value)}"
    return ""


def _bar(step: Step, turns: bool, shared: Axis) -> str:
    """The bar is what the step adds, the mark the total after it; beyond the limit the ground is red."""
    parts = [_rect("zone", shared.at(step.limit), _SCALE)] if step.limit else []
    if step.max_abs:
        parts.append(_rect("turns" if turns else "added", 0, max(shared.at(step.max_abs), _LEAST)))
    parts += [_rect("total", shared.at(step.total) - _MARK / 2, _MARK)] if step.total else []
    parts += [_rect("edge", shared.at(step.limit) - _MARK / 2, _MARK)] if step.limit else []
    box = f'viewBox="0 0 {_SCALE:.0f} 10" preserveAspectRatio="none" aria-hidden="true"'
    return f"<svg {box}>{''.join(parts)}</svg>"


def _rect(kind: str, x: float, width: float) -> str:
    return f'<rect class="{kind}" x="{x}" width="{width}" height="10"/>'


def _note(step: Step) -> str:
    words = step.note if step.note.strip() else step.after
    return f'<span class="note">{clean.html(words)}</span>'


def _scale(shared: Axis, steps: Sequence[Step]) -> str:
    limits = {step.limit for step in steps if step.limit is not None}
    said = f"; limit {figures.number(max(limits), 3)}" if limits else ""
    words = (axis.power(shared.low), f"max_abs, logarithmic{said}", axis.power(shared.high))
    return f'<p class="scale">{"".join(f"<span>{word}</span>" for word in words)}</p>'
