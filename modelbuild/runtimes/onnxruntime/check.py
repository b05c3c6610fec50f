"""Runs the artefact that ships on samples: in this process, or by a worker in another version's environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from modelbuild import processor, samples
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.onnxruntime import ports, sessions, worker
from modelbuild.runtimes.onnxruntime.artefact import MOBILE, QUANTISED, model_file
from modelbuild.runtimes.onnxruntime.options import NAME, Options, parse

if TYPE_CHECKING:
    from modelbuild.tensors import Arrays

Array = NDArray[Any]


def run(artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
    """Outputs for every sample. Raises RecipeError for inputs that are not the model's, or when it does not load."""
    options = parse(params.get("options", {}))
    model = model_file(artifact)
    with sessions.opened(model, options, params.get("environment")) as session:
        outputs = _outputs(session, inputs, options)
        return Run(
            outputs, session.version, _backend(options), "executed", session.placement, _facts(artifact)
        )


def _facts(artifact: Path) -> dict[str, Any]:
    """What else a reader of the report should know of the artefact, and of this machine."""
    facts: dict[str, Any] = {}
    if (artifact / QUANTISED).exists():
        facts["processor"] = processor.describe()
    if (artifact / MOBILE).exists():
        facts["mobile"] = json.loads((artifact / MOBILE).read_text())["sentences"]
    return facts


def _backend(options: Options) -> str:
    """`CPUExecutionProvider`, and what is not as by default."""
    (level,), (threads,) = options.optimisation, options.threads
    unusual = [f"optimisation {level}"] if level != "all" and options.format == "onnx" else []
    unusual += [f"{threads} threads"] if threads != 1 else []
    return ", ".join([worker.PROVIDER, *unusual])


def intermediates(artifact: Path, inputs: Arrays, names: tuple[str, ...]) -> Arrays:
    """The values called `names` for every sample of `inputs`. Raises RecipeError for a name no node gives."""
    if model_file(artifact).suffix != ".onnx":
        raise RecipeError(NAME, "values inside a file in ORT format cannot be named", 'Say "format": "onnx"')
    model = onnx.load(artifact / "model.onnx")
    inside = {name for node in model.graph.node for name in node.output if name}
    for name in names:
        if name not in inside:
            raise RecipeError(NAME, f'no node gives "{name}"', did_you_mean(name, sorted(inside)))
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = Options(optimisation=("disabled",))
    with sessions.opened(model.SerializeToString(), options, None) as session:
        return _outputs(session, inputs, options)


def _outputs(session: Any, inputs: Arrays, options: Options) -> Arrays:
    takes = ports.of(session.inputs)
    count = samples.counted(NAME, [samples.wanted(port) for port in takes], inputs)
    size, fixed = samples.batch_of(NAME, takes, options.batch)
    names = [name for name, _, _ in session.outputs]
    parts: list[list[Array]] = [[] for _ in names]
    for start in range(0, count, size):
        kept = min(size, count - start)
        fed = size if fixed else kept
        found = _call(session, samples.batch(inputs, start, fed))
        for name, part, value in zip(names, parts, found, strict=True):
            part.append(samples.rows_of(NAME, name, value, fed)[:kept])
    return {name: np.concatenate(part) for name, part in zip(names, parts, strict=True)}


def _call(session: Any, feed: Arrays) -> Sequence[Any]:
    try:
        found: Sequence[Any] = session.run(feed)
        return found
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(NAME, f"the model stopped: {sessions.first_line(error)}", "") from error
