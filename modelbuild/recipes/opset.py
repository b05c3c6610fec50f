"""The operator set of an ONNX model: read back, converted where it is another, and read back again."""

from __future__ import annotations

from onnx import ModelProto, version_converter

from modelbuild.callables import in_words
from modelbuild.errors import RecipeError

DEFAULT_DOMAINS = ("", "ai.onnx")


def version(model: ModelProto) -> int | None:
    """The version of ONNX's own operators that `model` imports; None when it imports none."""
    return next((each.version for each in model.opset_import if each.domain in DEFAULT_DOMAINS), None)


def at(model: ModelProto, asked: int, place: str) -> ModelProto:
    """`model` in opset `asked`.

    Raises RecipeError when it is in another and cannot be converted, naming the one that it is in.
    """
    found = version(model)
    if found == asked:
        return model
    try:
        converted = version_converter.convert_version(model, asked)
    except Exception as error:
        raise _refusal(place, asked, found, in_words(error)) from error
    if version(converted) != asked:
        raise _refusal(place, asked, found, f"conversion left it in opset {version(converted)}")
    return converted


def _refusal(place: str, asked: int, found: int | None, why: str) -> RecipeError:
    fact = f"export.opset is {asked}, the model is in opset {found} and cannot be converted: {why}"
    return RecipeError(place, fact, f"Set export.opset to {found}." if found else "")
