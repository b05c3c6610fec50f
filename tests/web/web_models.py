"""Tiny models of one or a few nodes, and inputs whose bits would tell of any conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

Array = np.ndarray[Any, Any]
DTYPES = (
    *("float16", "float32", "float64", "bool"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)


def model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> onnx.ModelProto:
    graph = helper.make_graph(list(nodes), "tiny", list(inputs), list(outputs))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def port(name: str, shape: Sequence[int | str], kind: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def copies() -> onnx.ModelProto:
    """One input and output of every dtype, in which nothing changes."""
    kinds = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in DTYPES}
    return model(
        [helper.make_node("Identity", [f"in {name}"], [f"out {name}"]) for name in DTYPES],
        [port(f"in {name}", ["n", 3, 2], kind) for name, kind in kinds.items()],
        [port(f"out {name}", ["n", 3, 2], kind) for name, kind in kinds.items()],
    )


def any_bits(samples: int = 5) -> dict[str, Array]:
    """Inputs of `copies`: any bits, among them NaNs that carry something and a zero with a sign."""
    rng = np.random.default_rng(3)
    found: dict[str, Array] = {}
    for name in DTYPES:
        kind = np.dtype(name)
        drawn = rng.bytes(samples * 6 * kind.itemsize)
        array = np.frombuffer(drawn, kind if name != "bool" else np.uint8).copy()
        if kind.kind == "f":
            bits = array.view(f"u{kind.itemsize}")
            bits[0] = np.array(-0.0, kind).view(bits.dtype)
            bits[1] = np.array(np.inf, kind).view(bits.dtype) + 5  # a signalling NaN
            bits[2] = np.array(-np.inf, kind).view(bits.dtype) + 9
        found[f"in {name}"] = (array & 1).astype(bool) if name == "bool" else array
        found[f"in {name}"] = found[f"in {name}"].reshape(samples, 3, 2)
    return found


def in_two_places() -> onnx.ModelProto:
    """x [n, 3, 3] -> "positive" on a GPU, and "det" [n], which no GPU of ONNX Runtime Web can compute."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"], name="relu (first)"),
        helper.make_node("Det", ["x"], ["det"], name="det"),
    ]
    return model(nodes, [port("x", ["n", 3, 3])], [port("positive", ["n", 3, 3]), port("det", ["n"])])


def determinant() -> onnx.ModelProto:
    return model(
        [helper.make_node("Det", ["x"], ["det"], name="det")], [port("x", ["n", 3, 3])], [port("det", ["n"])]
    )


def looked_up() -> onnx.ModelProto:
    """x [n, 4], at int64 [n, 1] -> y [n, 1] = x[at]; stops when `at` is out of range."""
    return model(
        [helper.make_node("GatherElements", ["x", "at"], ["y"], axis=1, name="pick")],
        [port("x", ["n", 4]), port("at", ["n", 1], TensorProto.INT64)],
        [port("y", ["n", 1])],
    )


def squares(samples: int = 4) -> dict[str, Array]:
    return {"x": np.random.default_rng(5).standard_normal((samples, 3, 3)).astype(np.float32)}
