"""Runs the artefact that ships on samples: in this process, or by a worker in another version's environment."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from modelbuild import processor, samples
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.onnxruntime import inside, ports, sessions, worker
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
        backend = _backend(options, model)
        return Run(outputs, session.version, backend, "executed", session.placement, _facts(artifact))


def _facts(artifact: Path) -> dict[str, Any]:
    """What else a reader of the report should know of the artefact, and of this machine."""
    facts: dict[str, Any] = {}
    if (artifact / QUANTISED).exists():
        facts["processor"] = processor.describe()
    if (artifact / MOBILE).exists():
        facts["mobile"] = json.loads((artifact / MOBILE).read_text())["sentences"]
    return facts


def _backend(options: Options, model: Path) -> str:
    """`CPUExecutionProvider`, and what is not as by default; a file in ORT format is not optimised again."""
    (level,), (threads,) = options.optimisation, options.threads
    unusual = [f"optimisation {level}"] if level != "all" and model.suffix == ".onnx" else []
    unusual += [f"{threads} threads"] if threads != 1 else []
    return ", ".join([worker.PROVIDER, *unusual])


def intermediates(
    artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
) -> Arrays:
    """The values called `names` as one call on all of `inputs` leaves them: the way's level, threads and version.

    Raises RecipeError for a name that no operation gives, inputs that are not the model's or not as many samples as
    it fixes, a value that is no tensor of numbers, and whatever ONNX Runtime has against it.
    """
    options, file = parse(params.get("options", {})), model_file(artifact)
    with tempfile.TemporaryDirectory() as folder:
        altered = Path(folder) / file.name
        altered.write_bytes(inside.exposing(file, names))
        with sessions.opened(altered, options, params.get("environment")) as session:
            ports.one_call(NAME, ports.of(session.inputs), inputs)
            ports.of([output for output in session.outputs if output[0] in names])
            found = _call(session, {name: np.ascontiguousarray(array) for name, array in inputs.items()})
            values = dict(zip([name for name, _, _ in session.outputs], found, strict=True))
    return {name: inputs[name] if name in inputs else values[name] for name in names}


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
