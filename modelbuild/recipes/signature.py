"""What an ONNX file says of itself, as `model.json` tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import ModelProto, helper

from modelbuild.recipes import opset

BATCH = "batch"
Shape = list[int | str | None]


def describe(model: ModelProto) -> dict[str, Any]:
    """{"opset", "ir_version", "inputs", "outputs"}; a port is {"name", "dtype", "shape"}."""
    ports = {"inputs": _ports(model.graph.input), "outputs": _ports(model.graph.output)}
    return {"opset": opset.version(model), "ir_version": model.ir_version, **ports}


def shape(port: Any) -> Shape:
    """The axes of `port`: a length, the name of an open axis, or None for an open axis without one."""
    axes = port.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param or None for axis in axes]


def _ports(ports: Sequence[Any]) -> list[dict[str, Any]]:
    return [{"name": port.name, "dtype": _dtype(port), "shape": shape(port)} for port in ports]


def _dtype(port: Any) -> str:
    return str(helper.tensor_dtype_to_np_dtype(port.type.tensor_type.elem_type))
