"""Small ML Programs for tests, written with coremltools' builder, and two ways to compute them.

`evaluate` writes the program out and has it evaluated by modelbuild, as a file would be. `folded` computes it with
coremltools' own constant folding (`value_inference`), where that exists: a witness that shares no code with us.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import coremltools as ct
    from coremltools.converters.mil.backend.mil.load import MILProtoExporter
    from coremltools.converters.mil.mil import Builder as mb  # noqa: N813
    from coremltools.converters.mil.mil import types
    from coremltools.proto import Model_pb2

from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package

Array = np.ndarray[Any, Any]
Build = Callable[..., Any]  # of one MIL variable an input; returns a variable or several
TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
VERSIONS = {"iOS15": 6, "iOS16": 7, "iOS17": 8, "iOS18": 9}


def package(
    build: Build,
    inputs: Mapping[str, Array],
    folder: Path,
    target: str = "iOS17",
    open_axes: Mapping[str, Sequence[int]] | None = None,
) -> Package:
    """A program whose inputs have the dtypes and shapes of `inputs`; `open_axes` are of no fixed length."""
    from coremltools.converters.mil.mil import get_new_symbol

    def spec(name: str, array: Array) -> Any:
        free = (open_axes or {}).get(name, ())
        shape = [get_new_symbol() if axis in free else size for axis, size in enumerate(array.shape)]
        return mb.TensorSpec(shape=shape, dtype=types.numpy_type_to_builtin_type(array.dtype))

    names = list(inputs)
    source = f"lambda {', '.join(names)}: build({', '.join(names)})"
    body = eval(source, {"build": build})  # coremltools takes the inputs' names from the signature
    program = mb.program(
        input_specs=[spec(name, array) for name, array in inputs.items()],
        opset_version=getattr(ct.target, target),
    )(body)
    weights = folder / "weights"
    weights.mkdir(parents=True, exist_ok=True)
    proto = MILProtoExporter(program, str(weights), VERSIONS[target]).export()
    spec_ = Model_pb2.Model(specificationVersion=VERSIONS[target])
    spec_.mlProgram.CopyFrom(proto)
    return Package(folder / "test.mlpackage", spec_, folder)


def evaluate(
    build: Build,
    inputs: Mapping[str, Array],
    target: str = "iOS17",
    accumulation: Any = "float32",
    open_axes: Mapping[str, Sequence[int]] | None = None,
) -> list[Any]:
    """The outputs of the program, in their order, as modelbuild evaluates it."""
    with tempfile.TemporaryDirectory() as folder:
        made = package(build, inputs, Path(folder), target, open_axes)
        evaluator = Evaluator(made, accumulation)
        found = evaluator(inputs)
        return [found[name] for name in evaluator.function.body.outputs]


def folded(build: Build, inputs: Mapping[str, Array], target: str = "iOS17") -> list[Array]:
    """The outputs as coremltools folds them from constants; None where it has no `value_inference`."""
    found: list[Any] = []

    def body(dummy: Any) -> Any:
        result = build(*[mb.const(val=array) for array in inputs.values()])
        results = result if isinstance(result, (list, tuple)) else [result]
        found.extend(None if each.val is None else np.asarray(each.val) for each in results)
        return mb.identity(x=dummy)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        mb.program(input_specs=[mb.TensorSpec(shape=(1,))], opset_version=getattr(ct.target, target))(body)
    return found
