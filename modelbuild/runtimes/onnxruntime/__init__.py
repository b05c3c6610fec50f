"""ONNX Runtime on CPU: the artefact is the canonical ONNX file, checked to load, with its ports beside it.

Only `convert`, `run` and `intermediates` import onnxruntime, onnx and numpy; the rest runs on every build.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from modelbuild import samples
from modelbuild.errors import ManifestError, RecipeError, did_you_mean
from modelbuild.runtimes.base import Run, Runtime, Target, Way
from modelbuild.samples import Wanted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from modelbuild.tensors import Arrays

NAME = "onnxruntime"
PROVIDER = "CPUExecutionProvider"
LEVELS = {
    "disabled": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
DEFAULT_BATCH = 64
FATAL = 4
ASSIGNMENT = "session.record_ep_graph_assignment_info"


class Options(NamedTuple):
    """What a platform may say about this runtime. `batch` is samples a call; None leaves it to the model."""

    optimisation: str = "all"
    threads: int = 1
    batch: int | None = None
    precision: str = "float32"
    format: str = "onnx"


class Port(NamedTuple):
    """One input or output: a fixed axis is a number, a free one its name or None; samples first."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]


class OnnxRuntime:
    """The `Runtime` of the same name."""

    name = NAME

    def toolchain(self) -> tuple[str, ...]:
        return (NAME,)

    def available(self) -> str | None:
        if importlib.util.find_spec(NAME) is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        return None

    def needs(self, options: Mapping[str, Any]) -> tuple[Target, ...]:
        parse(options)
        return ("onnx",)

    def modules(self) -> tuple[str, ...]:
        return ()

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        return {"": Way()}

    def convert(self, model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
        """Copy model.onnx and write io.json.

        The copy is opened, not the original: weights left behind are missed here, not on the device.
        """
        options = parse(params.get("options", {}))
        target = out / "model.onnx"
        shutil.copyfile(model["onnx"] / "model.onnx", target)
        session = _session(target, options)
        inputs, outputs = _ports(session.get_inputs()), _ports(session.get_outputs())
        _batch(inputs, options)
        ports = {"inputs": [p._asdict() for p in inputs], "outputs": [p._asdict() for p in outputs]}
        (out / "io.json").write_text(json.dumps(ports, indent=1, sort_keys=True, allow_nan=False))

    def run(self, artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
        import onnxruntime

        options = parse(params.get("options", {}))
        session = _session(artifact / "model.onnx", options)
        outputs = _outputs(session, inputs, options)
        return Run(outputs, onnxruntime.__version__, PROVIDER, "executed", _placement(session))

    def intermediates(self, artifact: Path, inputs: Arrays, names: tuple[str, ...]) -> Arrays:
        """Values by their ONNX names, optimisation off: a fused node would have no such value."""
        import onnx

        model = onnx.load(artifact / "model.onnx")
        inside = {name for node in model.graph.node for name in node.output if name}
        for name in names:
            if name not in inside:
                raise RecipeError(NAME, f'no node gives "{name}"', did_you_mean(name, sorted(inside)))
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        options = Options(optimisation="disabled")
        return _outputs(_session(model.SerializeToString(), options), inputs, options)


RUNTIME: Runtime = OnnxRuntime()


def parse(options: Mapping[str, Any]) -> Options:
    """The options of a platform. Raises ManifestError, placed at the option, for one that cannot be."""
    names = list(Options._fields)
    for name in options:
        if name not in names:
            raise ManifestError(f"options/{name}", f"{NAME} has no such option", did_you_mean(name, names))
    parsed = Options(**options)
    _one_of("optimisation", parsed.optimisation, list(LEVELS))
    _one_of("precision", parsed.precision, ["float32"])
    _one_of("format", parsed.format, ["onnx"])
    _count("threads", parsed.threads)
    _count("batch", DEFAULT_BATCH if parsed.batch is None else parsed.batch)
    return parsed


def _one_of(option: str, value: object, allowed: list[str]) -> None:
    if value not in allowed:
        fact = f"{json.dumps(value)} is not one of {', '.join(allowed)}"
        raise ManifestError(f"options/{option}", fact, did_you_mean(str(value), allowed))


def _count(option: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        fact = f"{json.dumps(value)} is not a whole number from 1 up"
        raise ManifestError(f"options/{option}", fact, f'Leave "{option}" out for the default')


def _session(model: Path | bytes, options: Options) -> Any:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, LEVELS[options.optimisation]
    )
    settings.intra_op_num_threads = options.threads
    settings.inter_op_num_threads = 1
    settings.use_deterministic_compute = True
    settings.log_severity_level = FATAL
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.add_session_config_entry(ASSIGNMENT, "1")
    try:
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, settings, providers=[PROVIDER])
    except Exception as error:
        fact = f"version {onnxruntime.__version__} does not load the model: {_first_line(error)}"
        raise RecipeError(NAME, fact, "Export to a lower opset, or use a newer ONNX Runtime") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _ports(nodes: list[Any]) -> list[Port]:
    return [Port(node.name, _dtype(node), tuple(node.shape)) for node in nodes]


def _dtype(node: Any) -> str:
    if node.type not in DTYPES:
        raise RecipeError(
            NAME, f'"{node.name}" is a {node.type}', "Export inputs and outputs as plain number tensors"
        )
    return DTYPES[node.type]


def _batch(inputs: list[Port], options: Options) -> tuple[int, bool]:
    """Samples a call, and whether the model fixes that number."""
    fixed = {port.shape[0] for port in inputs if port.shape and isinstance(port.shape[0], int)}
    if not fixed:
        return options.batch or DEFAULT_BATCH, False
    if len(fixed) > 1 or (options.batch is not None and {options.batch} != fixed):
        fact = f"the model takes batches of {sorted(map(str, fixed))}, the platform says {options.batch}"
        raise RecipeError(NAME, fact, 'Export with a dynamic batch, or leave "batch" out')
    return int(next(iter(fixed))), True


def _outputs(session: Any, inputs: Arrays, options: Options) -> Arrays:
    import numpy as np

    ports = _ports(session.get_inputs())
    count = samples.counted(NAME, [_wanted(port) for port in ports], inputs)
    size, fixed = _batch(ports, options)
    names = [port.name for port in session.get_outputs()]
    parts: list[list[NDArray[np.generic]]] = [[] for _ in names]
    for start in range(0, count, size):
        kept = min(size, count - start)
        fed = size if fixed else kept
        found = _call(session, names, samples.batch(inputs, start, fed))
        for name, part, value in zip(names, parts, found, strict=True):
            part.append(samples.rows_of(NAME, name, value, fed)[:kept])
    return {name: np.concatenate(part) for name, part in zip(names, parts, strict=True)}


def _call(session: Any, names: list[str], feed: Arrays) -> list[Any]:
    try:
        return list(session.run(names, dict(feed)))
    except Exception as error:
        raise RecipeError(NAME, f"the model stopped: {_first_line(error)}", "") from error


def _wanted(port: Port) -> Wanted:
    def fits(shape: tuple[int, ...]) -> bool:
        same = (
            axis == size or not isinstance(axis, int) for axis, size in zip(port.shape, shape, strict=False)
        )
        return len(shape) == len(port.shape) and all([*same][1:])

    return Wanted(port.name, port.dtype, port.shape, fits)


def _placement(session: Any) -> dict[str, str]:
    """Node -> provider as the session itself tells it; empty where this ONNX Runtime cannot tell."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return {}
    parts = session.get_provider_graph_assignment_info()
    return {node.name: str(part.ep_name) for part in parts for node in part.get_nodes() if node.name}
