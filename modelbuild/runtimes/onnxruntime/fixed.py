"""Fixed shapes: a device compiles for one size of every value, so the batch is written into the model."""

from __future__ import annotations

import onnx
from onnx import GraphProto, ModelProto, ValueInfoProto
from onnx.shape_inference import infer_shapes
from onnxruntime.tools.onnx_model_utils import make_dim_param_fixed

from modelbuild.callables import in_words
from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime.options import NAME


def with_fixed_shapes(model: ModelProto, batch: int) -> ModelProto:
    """A copy of `model` for `batch` samples a call, with the shapes of all values inferred from that.

    Raises RecipeError for an input with another open axis, or whose first axis is fixed to another number, for an
    output whose size depends on what is computed, and for a model that then contradicts itself.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = {each.name for each in graph.initializer}
    for value in graph.input:
        if value.name not in constants:
            _fix(value, batch, graph)
    return _inferred(result)


def _fix(value: ValueInfoProto, batch: int, graph: GraphProto) -> None:
    """Fix the first axis of an input, and whatever else in the graph is called like it."""
    shape = value.type.tensor_type.shape
    if not shape.dim:
        fact = f'the input "{value.name}" has no axes, so none for the samples'
        raise RecipeError(NAME, fact, "Keep the sample axis first in every input of the model")
    first = shape.dim[0]
    if first.HasField("dim_value") and first.dim_value != batch:
        fact = f'the input "{value.name}" is fixed to {first.dim_value} samples, and {batch} were asked for'
        raise RecipeError(NAME, fact, f'Say "batch": {first.dim_value}, or export with an open batch')
    if first.dim_param:
        make_dim_param_fixed(graph, first.dim_param, batch)
    first.dim_value = batch
    for axis, dim in enumerate(shape.dim):
        if dim.dim_value < 1:
            raise _open("input", value, axis, 'Export with that axis fixed, or leave "shapes" out')


def _open(role: str, value: ValueInfoProto, axis: int, remedy: str) -> RecipeError:
    name = value.type.tensor_type.shape.dim[axis].dim_param
    called = f' ("{name}")' if name else ""
    return RecipeError(
        NAME, f'axis {axis}{called} of the {role} "{value.name}" stays open with a fixed batch', remedy
    )


def _inferred(model: ModelProto) -> ModelProto:
    try:
        result: ModelProto = infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise RecipeError(NAME, f"the model does not fit its own shapes: {in_words(error)}") from error
    for value in result.graph.output:
        _refuse_open(value)
    return result


def _refuse_open(output: ValueInfoProto) -> None:
    kind, remedy = output.type.tensor_type, 'Make its size follow from the inputs, or leave "shapes" out'
    if not kind.HasField("shape"):
        raise RecipeError(
            NAME, f'the output "{output.name}" has no shape that is known before it is run', remedy
        )
    for axis, dim in enumerate(kind.shape.dim):
        if dim.dim_value < 1:
            raise _open("output", output, axis, remedy)
