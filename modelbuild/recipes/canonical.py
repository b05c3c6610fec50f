"""One ONNX file for one network: what does not change the computation is taken out or put in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

from modelbuild.callables import in_words
from modelbuild.errors import RecipeError

PRODUCER = "modelbuild"
# The version of the file format that belongs to opset 18; a lower one gains nothing.
OLDEST_IR = 8


def canonical(model: ModelProto, place: str) -> ModelProto:
    """A copy of `model` without doc strings, metadata, and names of its producer, in one order, and checked.

    The file format version is the lowest that holds the model's opsets. Raises RecipeError, with `place` in
    front, for data outside the file and for a model that the ONNX checker refuses.
    """
    result = ModelProto()
    result.CopyFrom(model)
    for message in walk(result):
        _refuse_external(message, place)
        for field in ("doc_string", "metadata_props"):
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    _name_producer(result)
    _order(result)
    _check(result, place)
    return result


def write(path: Path, model: ModelProto) -> None:
    """Write `model`; equal models give equal bytes."""
    path.write_bytes(serialised(model))


def serialised(model: ModelProto) -> bytes:
    """`model` as `write` writes it."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def walk(message: Any) -> Iterator[Any]:
    """`message` and every message inside it: graphs of control flow, functions, tensors, types."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for each in (value,) if hasattr(value, "ListFields") else value:
            yield from walk(each)


def _refuse_external(message: Any, place: str) -> None:
    if isinstance(message, TensorProto) and message.data_location == TensorProto.EXTERNAL:
        remedy = "Save the model as one file: onnx.save(model, path, save_as_external_data=False)."
        raise RecipeError(place, f'the tensor "{message.name}" lies outside the ONNX file', remedy)


def _name_producer(model: ModelProto) -> None:
    for field in ("producer_version", "domain", "model_version"):
        model.ClearField(field)
    model.producer_name = PRODUCER
    needed = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    model.ir_version = max(OLDEST_IR, needed)


def _order(model: ModelProto) -> None:
    graph = model.graph
    _sort(model.opset_import, lambda each: each.domain)
    _sort(model.functions, lambda each: (each.domain, each.name, each.overload))
    _sort(graph.initializer, lambda each: each.name)
    _sort(graph.value_info, lambda each: each.name)
    constants = {each.name for each in graph.initializer}
    # Before IR 4 an initialiser had to be listed as an input too, and any caller could replace a weight.
    given = [each for each in graph.input if each.name not in constants]
    del graph.input[:]
    graph.input.extend(given)


def _sort(repeated: Any, key: Any) -> None:
    ordered = sorted(repeated, key=key)
    del repeated[:]
    repeated.extend(ordered)


def _check(model: ModelProto, place: str) -> None:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise RecipeError(place, f"the ONNX checker refuses the model: {in_words(error)}") from error
