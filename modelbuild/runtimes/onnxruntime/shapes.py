"""Types and shapes of values inside a model: as ONNX Runtime infers them or, where it cannot, as a run shows them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto
from onnx.helper import make_tensor_value_info, np_dtype_to_tensor_dtype

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import ort_onnx, ports, sessions, worker
from modelbuild.runtimes.onnxruntime.options import NAME, Options
from modelbuild.samples import Port

MODEL = "model.onnx"
SAMPLES, LENGTH = 1, 32  # of a trial: the size of a free first axis, and of other free axes


def of(model: ModelProto, names: Sequence[str]) -> dict[str, ValueInfoProto]:
    """The type and shape of each of `names`; free axes keep the name that they have in the inputs.

    What the model itself says of the values inside is not believed. Raises RecipeError for a value that is no tensor
    of numbers, and where neither way shows its shape.
    """
    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / MODEL
        source.write_bytes(bare.SerializeToString())
        inferred = _inferred(source)
        found = {name: inferred[name] for name in names if _known(name, inferred)}
        unknown = [name for name in dict.fromkeys(names) if name not in found]
        return {**found, **(_tried(bare, unknown, source) if unknown else {})}


def _inferred(source: Path) -> dict[str, ValueInfoProto]:
    """A file in ORT format keeps what was inferred; nothing else that ONNX Runtime writes does."""
    target = source.with_suffix(".ort")
    try:
        worker.save(str(source), str(target), "disabled")
    except Exception as error:
        raise sessions.does_not_load(source, worker.VERSION, error) from error
    return ort_onnx.types(target.read_bytes())


def _known(name: str, inferred: dict[str, ValueInfoProto]) -> bool:
    return name in inferred and inferred[name].type.tensor_type.HasField("shape")


def _tried(model: ModelProto, names: Sequence[str], source: Path) -> dict[str, ValueInfoProto]:
    """Run once on zeros: the number of axes seldom hangs on the numbers, and all of them stay free."""
    there = {port.name for port in model.graph.output}
    model.graph.output.extend(ValueInfoProto(name=name) for name in names if name not in there)
    source.write_bytes(model.SerializeToString())
    with sessions.opened(source, Options(("disabled",)), None) as session:
        wanted = [output for output in session.outputs if output[0] in names]
        dtypes = {port.name: port.dtype for port in ports.of(wanted)}
        try:
            values = session.run({port.name: _zeros(port) for port in ports.of(session.inputs)})
        except Exception as error:
            fact = f'the shape of "{names[0]}" follows from what is computed, and a trial stopped: '
            raise RecipeError(NAME, fact + sessions.first_line(error), "Cut at another value") from error
    ranks = {name: np.ndim(value) for (name, _, _), value in zip(session.outputs, values, strict=True)}
    kinds = {name: np_dtype_to_tensor_dtype(np.dtype(dtypes[name])) for name in names}
    return {name: make_tensor_value_info(name, kinds[name], [None] * ranks[name]) for name in names}


def _zeros(port: Port) -> NDArray[Any]:
    sizes = [
        axis if isinstance(axis, int) else LENGTH if at else SAMPLES for at, axis in enumerate(port.shape)
    ]
    return np.zeros(sizes, port.dtype)
