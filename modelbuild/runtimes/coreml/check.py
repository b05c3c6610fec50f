"""Runs the package that ships on samples: here by evaluating it, on macOS by Core ML itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import torch

from modelbuild import samples
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.coreml import ports
from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.options import NAME, Options, parse
from modelbuild.runtimes.coreml.ports import PACKAGE, Array, Ports
from modelbuild.tensors import Arrays

USUAL_BATCH = 64
Call = Callable[[Mapping[str, Array]], Mapping[str, Any]]


def run(artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
    """Outputs for every sample; the first `accumulation` says how float16 is added up where that is ours to say.

    Raises RecipeError for inputs that are not the package's, and for an operation that cannot be evaluated.
    """
    options, about = parse(params.get("options", {})), Ports.read(artifact)
    if sys.platform == "darwin":
        from modelbuild.runtimes.coreml import predict

        outputs = _outputs(predict.caller(artifact / PACKAGE, about), about, inputs, options)
        return Run(outputs, predict.version(), about.compute_units, "executed")
    sums = options.accumulation[0]
    evaluator = Evaluator(mlpackage.read(artifact / PACKAGE), sums)
    outputs = _outputs(evaluator, about, inputs, options)
    backend = f"evaluator, {sums} sums" if options.half else "evaluator"
    return Run(outputs, f"coremltools {coremltools.__version__}", backend, "interpreted")


def intermediates(
    artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
) -> Arrays:
    """The values called `names` in the program as one call on all of `inputs` leaves them, added up as `run` does.

    Raises RecipeError for a name that no operation gives, more samples than a call may hold, and on macOS.
    """
    if sys.platform == "darwin":
        fact = "Core ML shows no value inside a model, so what it computes there is not evidenced"
        raise RecipeError(NAME, fact, "Look inside on Linux, where the package is evaluated")
    options, about = parse(params.get("options", {})), Ports.read(artifact)
    count = samples.counted(NAME, [ports.wanted(port) for port in about.inputs], inputs)
    sizes = ports.batch_sizes(about.inputs, inputs)
    if count not in sizes:
        fact = f"the package takes {sizes[-1]} to {sizes[0]} samples a call, and {count} were given for one"
        raise RecipeError(NAME, fact, "Give as many as it takes")
    evaluator = Evaluator(mlpackage.read(artifact / PACKAGE), options.accumulation[0], names)
    with _one_thread():
        evaluator(_into(about, inputs))
    return {name: np.asarray(evaluator.watched[name]) for name in names}


@contextmanager
def _one_thread() -> Iterator[None]:
    """The order of a parallel sum depends on how many threads there are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _outputs(call: Call, about: Ports, inputs: Arrays, options: Options) -> Arrays:
    parts: dict[str, list[Array]] = {port.name: [] for port in about.outputs}
    with _one_thread():
        for feed, count in _feeds(about, inputs, options):
            fed, given = len(next(iter(feed.values()))), call(_into(about, feed))
            for port in about.outputs:
                value = ports.out_of(port, _one(given, port))
                parts[port.name].append(samples.rows_of(NAME, port.name, value, fed)[:count])
    return {name: np.concatenate(part) for name, part in parts.items()}


def _one(given: Mapping[str, Any], port: ports.Output) -> Any:
    if port.core_name not in given:
        fact = f'the package gives no "{port.core_name}"; it gives {", ".join(sorted(given)) or "nothing"}'
        raise RecipeError(NAME, fact, "Build the artefact again")
    return given[port.core_name]


def _into(about: Ports, feed: Mapping[str, Array]) -> dict[str, Array]:
    return {port.core_name: ports.into(port, feed[port.name]) for port in about.inputs}


def _feeds(about: Ports, inputs: Arrays, options: Options) -> Iterator[tuple[Arrays, int]]:
    """Calls, each with the number of its samples that count: one too short is filled up with its last sample."""
    count = samples.counted(NAME, [ports.wanted(port) for port in about.inputs], inputs)
    sizes = ports.batch_sizes(about.inputs, inputs)
    usual = options.batch or USUAL_BATCH
    if options.batch is not None and options.batch not in sizes:
        fact = f"the package takes batches of {sizes[-1]} to {sizes[0]}, the platform says {options.batch}"
        raise RecipeError(NAME, fact, 'Leave "batch" out')
    size = next((each for each in sizes if each <= usual), sizes[-1])
    for start in range(0, count, size):
        kept = min(size, count - start)
        fed = min(each for each in sizes if each >= kept)
        yield samples.batch(inputs, start, fed), kept
