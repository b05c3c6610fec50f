"""Teachers that were not trained here: finished weights of a module, or a finished ONNX file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from onnx import ModelProto, TensorProto

from modelbuild import dataset, network
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes import canonical, source

ONNX_FILE = "model.onnx"
SPARE = 'Name what the module has no use for in "ignore".'


def teacher_weights(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the given weights as the teacher's, without those whose names match a pattern of "ignore".

    Weights in float16 or bfloat16 become numbers of the module's own precision: float32 holds each of them exactly.
    Raises RecipeError for a pattern that matches no name, and as `source.weights` does.
    """
    path, module = inputs["weights"], network.sized(network.build(params), params["module"])
    given = source.read(path)
    ignored = _matching(path.name, params.get("ignore", ()), [*given])
    needed = sorted(ignored & module.state_dict().keys())
    if needed:
        fact = f'"ignore" leaves out {needed[0]}, and {params["module"]} has it'
        raise RecipeError(path.name, fact, "Write patterns that match what it has not.")
    kept = {name: value for name, value in given.items() if name not in ignored}
    source.fit(path.name, module, params["module"], kept, SPARE)
    network.save(out_dir, module, params)


def _matching(place: str, patterns: Sequence[str], names: Sequence[str]) -> set[str]:
    found = set[str]()
    for pattern in patterns:
        matching = {name for name in names if fnmatchcase(name, pattern)}
        if not matching:
            fact = f'no weight is called as "{pattern}" in "ignore" says'
            raise RecipeError(place, fact, did_you_mean(pattern, [*names[:20]]))
        found |= matching
    return found


def teacher_onnx(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the given ONNX file as the teacher, byte by byte, beside what its outputs are made through.

    It need not be one that could be shipped: any operators that ONNX Runtime knows will do. Raises RecipeError when
    it is no ONNX file or keeps data outside the file.
    """
    path = inputs["model"]
    _refuse_external(source.parsed(path), path.name)
    shutil.copyfile(path, out_dir / ONNX_FILE)
    net = {"onnx": ONNX_FILE, "through": params.get("through"), "args": params.get("args", {})}
    dataset.write_json(out_dir / network.DESCRIPTION, net)


def _refuse_external(model: ModelProto, place: str) -> None:
    for message in canonical.walk(model):
        if isinstance(message, TensorProto) and message.data_location == TensorProto.EXTERNAL:
            remedy = "Save the model as one file: onnx.save(model, path, save_as_external_data=False)."
            raise RecipeError(place, f'the tensor "{message.name}" lies outside the ONNX file', remedy)
