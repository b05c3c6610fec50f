"""The inputs and outputs of a model as ONNX Runtime tells them, and as io.json keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuild import samples
from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime.options import NAME
from modelbuild.samples import Port

if TYPE_CHECKING:
    from modelbuild.tensors import Arrays

DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({kind}{bits})": f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
}
FILE = "io.json"


def of(nodes: Sequence[tuple[str, str, tuple[Any, ...]]]) -> list[Port]:
    """The ports that a session tells of. Raises RecipeError for one that is no tensor of numbers."""
    return [Port(name, _dtype(name, kind), shape) for name, kind, shape in nodes]


def _dtype(name: str, kind: str) -> str:
    if kind not in DTYPES:
        raise RecipeError(NAME, f'"{name}" is a {kind}', "Export inputs and outputs as plain number tensors")
    return DTYPES[kind]


def write(folder: Path, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Write io.json."""
    ports = {"inputs": [p._asdict() for p in inputs], "outputs": [p._asdict() for p in outputs]}
    (folder / FILE).write_text(json.dumps(ports, indent=1, sort_keys=True, allow_nan=False))


def one_call(place: str, takes: Sequence[Port], inputs: Arrays) -> int:
    """The number of samples in `inputs`, which one call can take. Raises RecipeError, at `place`, where it cannot."""
    count = samples.counted(place, [samples.wanted(port) for port in takes], inputs)
    size, fixed = samples.batch_of(place, takes, None)
    if fixed and count != size:
        fact = f"the model takes {size} samples a call, and {count} were given for one"
        raise RecipeError(place, fact, "Give as many as it takes")
    return count
