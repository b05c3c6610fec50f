"""Models that were not trained here: finished weights of a module, or a finished ONNX file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorShapeProto, load_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from modelbuild import network
from modelbuild.callables import in_words
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.limits import LIMITS
from modelbuild.recipes import canonical, export, identity, opset, signature
from modelbuild.recipes.signature import BATCH

State = Mapping[str, Tensor]
AS_SAFETENSORS = "Save them with safetensors.torch.save_file(model.state_dict(), path)."


def weights(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the given weights as the student's, in the precision of the module.

    Raises RecipeError when the file is no safetensors file, or its names, shapes or kinds of number are not
    those of the module.
    """
    path, module = inputs["weights"], network.build(params)
    fit(path.name, module, params["module"], read(path))
    network.save(out_dir, module, params)


def onnx(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the given ONNX file in canonical form and in the opset asked for.

    An open first axis of every input is named "batch"; a fixed one stays fixed. Raises RecipeError when it is
    no ONNX file, keeps data outside the file, cannot be had in the opset or does not pass the ONNX checker.
    """
    path = inputs["model"]
    model = parsed(path)
    _name_batch(model)
    asked = params["export"].get("opset")
    checked = canonical.canonical(model, path.name)
    if asked is not None and asked != opset.version(checked):
        checked = canonical.canonical(opset.at(checked, asked, path.name), path.name)
    export.write(out_dir, checked, identity.unknown(checked))


def read(path: Path) -> State:
    """The weights in a safetensors file. Raises RecipeError when it is none, or too large."""
    if path.stat().st_size > LIMITS.arrays_bytes:
        raise RecipeError(path.name, f"has {path.stat().st_size} bytes, more than {LIMITS.arrays_bytes}")
    try:
        state: State = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise RecipeError(
            path.name, f"is not a safetensors file: {in_words(error)}", AS_SAFETENSORS
        ) from error
    return state


def fit(place: str, module: nn.Module, named: str, given: State, spare: str = "") -> None:
    """Put `given` into `module`, called `named`, as numbers of its own precision.

    Raises RecipeError, with `place` in front, when names, shapes or kinds of number are not those of the module;
    `spare` is the remedy where there are more than it wants.
    """
    wanted = module.state_dict()
    _check_names(place, given, wanted, named, spare)
    _check_values(place, given, wanted)
    module.load_state_dict(given)


def _check_names(place: str, given: State, wanted: State, module: str, spare: str) -> None:
    missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    facts = [
        f"{text} {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
        for text, names in (("is missing", missing), ("has unexpected", unexpected))
        if names
    ]
    if facts:
        remedy = did_you_mean(unexpected[0], missing[:20]) if unexpected and missing else ""
        remedy = remedy or (spare if unexpected else "")
        raise RecipeError(place, f"does not fit {module}: it {' and it '.join(facts)}", remedy)


def _check_values(place: str, given: State, wanted: State) -> None:
    for name, want in wanted.items():
        have = given[name]
        if have.shape != want.shape:
            fact = f'"{name}" has shape {list(have.shape)}, and the module wants {list(want.shape)}'
            raise RecipeError(place, fact, "Are the module's args those it was trained with?")
        if have.is_floating_point() != want.is_floating_point():
            raise RecipeError(place, f'"{name}" is {have.dtype}, and the module wants {want.dtype}')


def parsed(path: Path) -> ModelProto:
    """The ONNX file at `path`. Raises RecipeError when it is none, or says nothing."""
    try:
        model = load_model(path, load_external_data=False)
    except Exception as error:
        raise RecipeError(path.name, f"is not an ONNX file: {in_words(error)}") from error
    if not model.graph.node:
        raise RecipeError(path.name, "is not an ONNX file, or has no node")
    return model


def _name_batch(model: ModelProto) -> None:
    constants = {each.name for each in model.graph.initializer}
    ports = [port for port in model.graph.input if port.name not in constants]
    shapes = [signature.shape(port) for port in ports]
    if not all(shape and not isinstance(shape[0], int) for shape in shapes):
        return
    names = {shape[0] for shape in shapes if shape[0]}
    for message in canonical.walk(model):
        if isinstance(message, TensorShapeProto.Dimension) and message.dim_param in names:
            message.dim_param = BATCH
    for port in [*ports, *model.graph.output]:
        axes = port.type.tensor_type.shape.dim
        if axes and not axes[0].WhichOneof("value"):
            axes[0].dim_param = BATCH
