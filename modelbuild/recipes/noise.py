"""The noise of a model: what moves its outputs on the evaluation inputs that is nobody's fault, measured.

Rounding and arithmetics below fp32 are read from what the reference wrote. What a runtime's own optimisations and
threads do is measured here, in the installed ONNX Runtime on the canonical file, one thing switched at a time.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import dataset, tensors
from modelbuild.callables import in_words
from modelbuild.equivalence import demand, metrics
from modelbuild.equivalence import noise as noises
from modelbuild.equivalence.noise import FP64, NUDGED, OPTIMISATION, THREADS, Asked, Spread
from modelbuild.errors import RecipeError
from modelbuild.recipes import reference, unoptimised
from modelbuild.recipes.unoptimised import Arrays, Call
from modelbuild.runtimes.onnxruntime import worker

ROUNDED_ROLE = "rounded."
# From the plainest way of running to the usual one: what each step is called, and the level and threads it leads to.
PLAIN = ("disabled", 1)
STEPS = {OPTIMISATION: ("all", 1), THREADS: ("all", 2)}


def measure(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write noise.json.

    `inputs` by role: reference, onnx, evaluation, and `rounded.` with the name of each arithmetic below fp32.
    `params`: "outputs", what the manifest's runtime gate says of the outputs, where it does.
    """
    folder, asked = inputs["reference"], demand.outputs(params.get("outputs", {}))
    told = json.loads((folder / reference.FILE).read_text())
    sources = {NUDGED: [tensors.opened(folder / file) for file in reference.NUDGED.values()]}
    if told["outputs64"]:
        sources[FP64] = [tensors.opened(folder / reference.WIDE)]
    rounded = {
        role.removeprefix(ROUNDED_ROLE): tensors.opened(path / reference.OUTPUTS)
        for role, path in inputs.items()
        if role.startswith(ROUNDED_ROLE)
    }
    data = dataset.read(inputs["evaluation"]).inputs
    within, missing = _runtime(inputs["onnx"] / "model.onnx", data, asked)
    if not told["outputs64"]:
        missing[FP64] = told["reason"]
    truth = tensors.opened(folder / reference.OUTPUTS)
    found = noises.measure(truth, sources, rounded, within, missing, asked)
    noises.write(out_dir / noises.FILE, found)


def _runtime(model: Path, data: Arrays, asked: Asked) -> tuple[dict[str, dict[str, Spread]], dict[str, str]]:
    """By source and output how far each step moves it; and the sources that cannot be measured, with the reason."""
    try:
        return _steps(model, data, asked), {}
    except RecipeError as error:
        return {}, dict.fromkeys(STEPS, error.fact)


def _steps(model: Path, data: Arrays, asked: Asked) -> dict[str, dict[str, Spread]]:
    sessions = [_session(model, *way) for way in (PLAIN, *STEPS.values())]
    calls = [_caller(session) for session in sessions]
    totals: dict[str, dict[str, metrics.Sums | None]] = {step: {} for step in STEPS}
    for answers in unoptimised.answers(calls, _fixed(sessions[0]), data):
        for step, before, after in zip(STEPS, answers, answers[1:], strict=False):
            for name in before:
                _add(totals[step], name, before, after, asked)
    return {
        step: {
            name: Spread(math.inf, math.inf) if s is None else noises.spread(s) for name, s in each.items()
        }
        for step, each in totals.items()
    }


def _add(
    totals: dict[str, metrics.Sums | None], name: str, before: Arrays, after: Arrays, asked: Asked
) -> None:
    """Add one batch; None, and so for good, where the shape has changed."""
    if before[name].shape != after[name].shape or (name in totals and totals[name] is None):
        totals[name] = None
        return
    found, known = noises.between(name, before, after, asked), totals.get(name)
    totals[name] = found if known is None else known + found


def _session(model: Path, level: str, threads: int) -> worker.Session:
    try:
        return worker.Session(str(model), level, threads)
    except Exception as error:
        fact = f"ONNX Runtime does not load the model, optimisations {level}: {in_words(error)}"
        raise RecipeError("noise", fact) from error


def _caller(session: worker.Session) -> Call:
    names = [name for name, _, _ in session.outputs]

    def call(feed: Arrays) -> dict[str, Any]:
        try:
            return dict(zip(names, session.run(feed), strict=True))
        except Exception as error:
            raise RecipeError("noise", f"ONNX Runtime does not run the model: {in_words(error)}") from error

    return call


def _fixed(session: worker.Session) -> int | None:
    """The number of samples that every call takes, where the model fixes it."""
    lengths = [shape[0] for _, _, shape in session.inputs if shape]
    return next((length for length in lengths if isinstance(length, int)), None)
