"""ONNX Runtime with every optimisation off, one thread: the plainest reading of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto

from modelbuild import samples
from modelbuild.callables import in_words
from modelbuild.dataset import Array
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes import signature
from modelbuild.recipes.inference import BATCH

Arrays = Mapping[str, Array]
Call = Callable[[Arrays], dict[str, Array]]
SILENT = 4


def runner(model: bytes) -> Call:
    """A function from input arrays to output arrays, each [samples, ...], for the serialised `model`.

    Raises RecipeError when the model does not load; the function does when the inputs are not the model's.
    """
    session = session_of(model)
    names = [port.name for port in session.get_outputs()]
    wanted = [port.name for port in session.get_inputs()]
    lengths = [port.shape[0] for port in session.get_inputs() if port.shape]
    fixed = next((length for length in lengths if isinstance(length, int)), None)

    def call(feed: Arrays) -> dict[str, Array]:
        try:
            return dict(zip(names, session.run(names, dict(feed)), strict=True))
        except Exception as error:
            raise RecipeError(
                "reference", f"ONNX Runtime does not run the model: {in_words(error)}"
            ) from error

    def run(data: Arrays) -> dict[str, Array]:
        _check_names(wanted, list(data))
        return batched(call, fixed, data)

    return run


def fixed_batch(model: ModelProto) -> int | None:
    """The number of samples that every call of `model` takes, where it is fixed."""
    shapes = [signature.shape(port) for port in model.graph.input]
    return next((shape[0] for shape in shapes if shape and isinstance(shape[0], int)), None)


def batched(call: Call, fixed: int | None, data: Arrays) -> dict[str, Array]:
    """`call` over all samples; where the batch is fixed the last one is filled up with its last sample.

    Raises RecipeError when an output's first axis is not the sample axis.
    """
    parts: dict[str, list[Array]] = {}
    for (answer,) in answers([call], fixed, data):
        for name, rows in answer.items():
            parts.setdefault(name, []).append(rows)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def answers(calls: Sequence[Call], fixed: int | None, data: Arrays) -> Iterator[list[dict[str, Array]]]:
    """Batch by batch what each of `calls` gives, in their order; batches and errors as in `batched`."""
    count = len(next(iter(data.values())))
    size = fixed or BATCH
    for start in range(0, count, size):
        kept = min(size, count - start)
        feed, fed = samples.batch(data, start, fixed or kept), fixed or kept
        yield [
            {
                name: samples.rows_of("reference", name, np.asarray(value), fed)[:kept]
                for name, value in call(feed).items()
            }
            for call in calls
        ]


def session_of(model: bytes, place: str = "reference") -> Any:
    """ONNX Runtime on the CPU with `model` as it stands: nothing optimised, one thread. Raises RecipeError."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    options.log_severity_level = SILENT
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        fact = f"ONNX Runtime {onnxruntime.__version__} does not load it: {in_words(error)}"
        raise RecipeError(place, fact) from error


def _check_names(wanted: list[str], given: list[str]) -> None:
    if set(wanted) != set(given):
        fact = f"the model's inputs are {', '.join(wanted)}, and those of the data set {', '.join(given)}"
        missing = [name for name in wanted if name not in given]
        raise RecipeError("reference", fact, did_you_mean(missing[0], given) if missing else "")
