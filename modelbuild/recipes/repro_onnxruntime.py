"""Shows one fault by itself: runs a few operations of an ONNX model and holds what they give to what they should.

    pip install numpy onnxruntime==VERSION      (the version that README.txt names)
    python reproduce.py                         the operations as they shipped
    python reproduce.py reference               the same operations of the model that they were made from

Exit code 1: the fault is there. 0: it is not. 2: it cannot be tried here, and why.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
TYPES = {"float16": "float16", "float": "float32", "double": "float64", "int32": "int32", "int64": "int64"}
PROVIDER = "CPUExecutionProvider"
ANY_VERSION = "--any-version"  # where that is the question


class CannotTryError(Exception):
    """Why, in words."""


def main(arguments: list[str]) -> int:
    """0, 1 or 2, as above."""
    wanted = [each for each in arguments if each != ANY_VERSION] or ["shipped"]
    try:
        if len(wanted) > 1 or wanted[0] not in ("shipped", "reference"):
            raise CannotTryError(f"usage: python reproduce.py [shipped|reference] [{ANY_VERSION}]")
        about = json.loads((HERE / "finding.json").read_text(encoding="utf-8"))["reproduce"]
        return tried(about, wanted[0], ANY_VERSION in arguments)
    except CannotTryError as error:
        print(f"cannot be tried here: {error}")
        return 2


def tried(about: dict[str, Any], which: str, any_version: bool) -> int:
    """1 where a value is off, 0 where none is."""
    numpy, runtime = imported(about, any_version)
    if not about[which]:
        raise CannotTryError(f"this folder has no {which} model")
    inputs, expected = (arrays(numpy, about, side) for side in ("inputs", "values"))
    wrong = False
    found = called(runtime, about, which, inputs)
    print(f"{about['operation']} in {about[which]}, onnxruntime {runtime.__version__}")
    for value, due, array in zip(about["values"], expected, found, strict=True):
        measured = apart(numpy, due, array)
        for metric, limit in value["limits"].items():
            print(f"  {value['name']}: {metric} {measured[metric]:.6g}, limit {limit:.6g}")
            wrong |= not measured[metric] <= limit
    print("reproduced" if wrong else "not reproduced")
    return int(wrong)


def imported(about: dict[str, Any], any_version: bool) -> tuple[Any, Any]:
    """NumPy and ONNX Runtime."""
    install = f"pip install numpy onnxruntime=={about['version']}"
    try:
        import numpy
        import onnxruntime
    except ImportError as error:
        raise CannotTryError(f"{error}; {install}") from error
    if onnxruntime.__version__ != about["version"] and not any_version:
        there = f"onnxruntime {onnxruntime.__version__} is installed, and this was seen in {about['version']}"
        raise CannotTryError(f"{there}; {install}, or add {ANY_VERSION}")
    return numpy, onnxruntime


def arrays(numpy: Any, about: dict[str, Any], side: str) -> list[Any]:
    """What lies in inputs.npz or expected.npz, in the order of `about`."""
    file = {"inputs": "inputs.npz", "values": "expected.npz"}[side]
    with numpy.load(HERE / file, allow_pickle=False) as kept:
        return [kept[f"value_{number}"] for number in range(len(about[side]))]


def called(runtime: Any, about: dict[str, Any], which: str, inputs: list[Any]) -> list[Any]:
    """What the model gives; the artefact runs as it did, the reference as plainly as can be."""
    shipped = which == "shipped"
    name = "name" if shipped else "reference"
    settings = runtime.SessionOptions()
    level = LEVELS[about["optimisation"] if shipped else "disabled"]
    settings.graph_optimization_level = getattr(runtime.GraphOptimizationLevel, level)
    settings.intra_op_num_threads = about["threads"] if shipped else 1
    settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    settings.log_severity_level = 4
    try:
        session = runtime.InferenceSession(str(HERE / about[which]), settings, providers=[PROVIDER])
        takes = {port.name: TYPES.get(port.type[len("tensor(") : -1]) for port in session.get_inputs()}
        pairs = [(port[name], array) for port, array in zip(about["inputs"], inputs, strict=True)]
        feed = {port: array.astype(takes[port] or array.dtype) for port, array in pairs}
        found: list[Any] = session.run([value[name] for value in about["values"]], feed)
    except Exception as error:  # whatever it is, it is no answer
        raise CannotTryError(f"ONNX Runtime does not run {about[which]}: {error}") from error
    return found


def apart(numpy: Any, due: Any, found: Any) -> dict[str, float]:
    """The largest difference and the root mean square; infinite where there is no number, or another shape."""
    if due.shape != found.shape:
        return {"max_abs": float("inf"), "rmse": float("inf")}
    one, two = due.astype("float64"), found.astype("float64")
    known = numpy.isfinite(one)
    errors = numpy.abs(one[known] - two[known]) if known.any() else numpy.zeros(1)
    measured = {"max_abs": float(errors.max()), "rmse": float(numpy.sqrt((errors**2).mean()))}
    return {metric: each if numpy.isfinite(each) else float("inf") for metric, each in measured.items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
