"""What the model says on the evaluation data before any platform has it, and how far rounding moves it.

`outputs` are float32. `outputs64` is the same computation in float64, and each of `nudged` has every real input moved
by one unit in the last place, up, down or either way: they tell how much difference rounding alone explains.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from modelbuild import dataset, network, samples, tensors
from modelbuild.callables import in_words
from modelbuild.dataset import Array
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.recipes import double, inference, unoptimised

Arrays = Mapping[str, Array]
OUTPUTS, WIDE, FILE = "outputs.safetensors", "outputs64.safetensors", "reference.json"
NUDGED = {each: f"nudged{'' if each == 'up' else f'-{each}'}.safetensors" for each in samples.DIRECTIONS}


def torch_outputs(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the student's outputs in PyTorch, eager, on one CPU thread."""
    data = dataset.read(inputs["evaluation"]).inputs
    with deterministic():
        module = network.restore(inputs["student"])
        tensors.save(out_dir / OUTPUTS, inference.outputs(module, data))
        _write_nudged(out_dir, data, lambda moved: inference.outputs(module, moved))
        _write_double(out_dir, lambda: inference.outputs(module.double(), widened(data)))


def onnx_outputs(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the outputs of an ONNX model in ONNX Runtime on one CPU thread with every optimisation off."""
    path = inputs["onnx"] / "model.onnx"
    data = dataset.read(inputs["evaluation"]).inputs
    run = unoptimised.runner(path.read_bytes())
    tensors.save(out_dir / OUTPUTS, run(data))
    _write_nudged(out_dir, data, run)
    _write_double(out_dir, lambda: _onnx_double(onnx.load(path), widened(data)))


def widened(data: Arrays) -> dict[str, Array]:
    """`data` with float32 as float64."""
    return {
        name: array.astype(np.float64) if array.dtype == np.float32 else array for name, array in data.items()
    }


def _write_nudged(out_dir: Path, data: Arrays, compute: Callable[[Arrays], Arrays]) -> None:
    for direction, file in NUDGED.items():
        tensors.save(out_dir / file, compute(samples.nudged(data, direction)))


def _write_double(out_dir: Path, compute: Callable[[], Arrays]) -> None:
    """Not every model exists in float64 (a quantised one does not): reference.json then says why."""
    try:
        outputs, reason = compute(), None
    except RecipeError as error:
        outputs, reason = {}, error.fact
    if reason is None:
        tensors.save(out_dir / WIDE, outputs)
    dataset.write_json(out_dir / FILE, {"outputs64": reason is None, "reason": reason})


def _onnx_double(model: onnx.ModelProto, data: Arrays) -> Arrays:
    """ONNX Runtime has float64 kernels for some operators only; ONNX's own evaluator has the rest, slowly."""
    wide = double.widened(model)
    try:
        return unoptimised.runner(wide.SerializeToString())(data)
    except RecipeError:
        return unoptimised.batched(_evaluator(wide), unoptimised.fixed_batch(wide), data)


def _evaluator(model: onnx.ModelProto) -> Callable[[Arrays], dict[str, Array]]:
    names = [port.name for port in model.graph.output]
    try:
        session = ReferenceEvaluator(model)
    except Exception as error:
        raise RecipeError("reference", f"no float64 form of the model: {in_words(error)}") from error

    def call(feed: Arrays) -> dict[str, Array]:
        try:
            return dict(zip(names, session.run(None, dict(feed)), strict=True))
        except Exception as error:
            raise RecipeError("reference", f"no float64 form of the model: {in_words(error)}") from error

    return call
