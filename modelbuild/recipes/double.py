"""An ONNX model with every float32 in it made float64: the same computation, its rounding out of the way."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from modelbuild.recipes.canonical import walk

# Attributes that hold the number of an element type.
TYPE_ATTRIBUTES = {"Cast": "to", "EyeLike": "dtype", "SequenceEmpty": "dtype"}


def widened(model: ModelProto) -> ModelProto:
    """A copy of `model` in which inputs, weights, constants and outputs of type float32 are float64."""
    result = ModelProto()
    result.CopyFrom(model)
    for message in list(walk(result)):
        if isinstance(message, NodeProto):
            _widen_node(message)
    for message in list(walk(result)):
        _widen(message)
    return result


def _widen(message: Any) -> None:
    if isinstance(message, TensorProto) and message.data_type == TensorProto.FLOAT:
        message.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(message).astype(np.float64), message.name)
        )
    elif isinstance(message, TypeProto.Tensor) and message.elem_type == TensorProto.FLOAT:
        message.elem_type = TensorProto.DOUBLE


def _widen_node(node: NodeProto) -> None:
    """Types that a node names in an attribute, or leaves to a default of float32."""
    for attribute in node.attribute:
        if attribute.name == TYPE_ATTRIBUTES.get(node.op_type) and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.DOUBLE
        if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
            attribute.CopyFrom(_constant(attribute))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1))))


def _constant(attribute: AttributeProto) -> AttributeProto:
    value = attribute.f if attribute.name == "value_float" else list(attribute.floats)
    return helper.make_attribute("value", numpy_helper.from_array(np.array(value, dtype=np.float64)))
