"""Opens a Core ML file, an `.mlpackage` folder or a single `.mlmodel`, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from modelbuild import strictjson
from modelbuild.errors import ModelbuildError, RecipeError
from modelbuild.limits import LIMITS
from modelbuild.runtimes.coreml.evaluator import program
from modelbuild.runtimes.coreml.evaluator.program import Function
from modelbuild.wording import quote

DATA = "Data"
MODEL_PATH = "@model_path/"
DAMAGED = "The package is damaged: convert it again"


@dataclass(frozen=True, slots=True)
class Package:
    """`spec` is the Model protobuf, `folder` where the model file lies and its weights are found from."""

    path: Path
    spec: Any
    folder: Path

    @property
    def functions(self) -> Mapping[str, Function]:
        """The functions of the ML Program. Raises RecipeError when the file holds another kind of model."""
        kind = self.spec.WhichOneof("Type")
        if kind != "mlProgram":
            fact = f"holds a {kind or 'model of no kind'}, not an ML Program"
            raise RecipeError(self.path.name, fact, "Convert it for iOS 15 or later, as an ML Program")
        return program.read(self.spec.mlProgram, self.path.name)

    def blob(self, name: str) -> Path:
        """The weight file that the program calls `name`. Raises RecipeError when it lies elsewhere or is gone."""
        relative = PurePosixPath(name.removeprefix(MODEL_PATH))
        if not name.startswith(MODEL_PATH) or ".." in relative.parts or relative.is_absolute():
            raise RecipeError(
                self.path.name, f"takes weights from {quote(name)}, outside the package", DAMAGED
            )
        return _inside(self.path, self.folder / relative)


def read(path: Path) -> Package:
    """Open `path`. Raises RecipeError, saying what is missing or wrong, for anything but a Core ML model."""
    model = _root_model(path) if path.is_dir() else _inside(path, path)
    return Package(path, _parsed(path, model), model.parent)


def _root_model(path: Path) -> Path:
    """The model file that Manifest.json names, inside the package."""
    manifest = path / "Manifest.json"
    if not manifest.is_file():
        fact = "is a folder without a Manifest.json, so not an .mlpackage"
        raise RecipeError(path.name, fact, "Give the .mlpackage folder itself, or an .mlmodel file")
    try:
        value = strictjson.read(manifest, manifest.name)
        item = value["itemInfoEntries"][value["rootModelIdentifier"]]["path"]
    except (ModelbuildError, LookupError, TypeError) as error:
        fact = f"its Manifest.json names no model: {error}"
        raise RecipeError(path.name, fact, DAMAGED) from error
    return _inside(path, path / DATA / str(item))


def _inside(path: Path, file: Path) -> Path:
    """`file`, which must lie in the package `path` and be there."""
    home = path if path.is_dir() else path.parent
    try:
        contained = file == path or file.resolve().is_relative_to(home.resolve())
        there = file.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # no name at all, too long a name, links in a circle
        raise RecipeError(path.name, f"names {quote(file.name)}, which is no file's name", DAMAGED) from error
    if not contained:
        raise RecipeError(path.name, f"names {quote(file.name)}, which lies outside the package", DAMAGED)
    if not there:
        what = "is no file" if file == path else f"has no {quote(file.name)}"
        raise RecipeError(path.name, what, "Give all of an .mlpackage folder, or an .mlmodel file")
    return file


def _parsed(path: Path, model: Path) -> Any:
    from coremltools.proto import Model_pb2
    from google.protobuf.message import DecodeError

    try:
        if model.stat().st_size > LIMITS.arrays_bytes:
            raise RecipeError(path.name, f"has a model file of more than {LIMITS.arrays_bytes} bytes")
        spec = Model_pb2.Model()
        spec.ParseFromString(model.read_bytes())
    except (OSError, DecodeError) as error:
        raise RecipeError(path.name, f"cannot be read as a Core ML model: {error}") from error
    if spec.WhichOneof("Type") is None:
        raise RecipeError(
            path.name, "is not a Core ML model", "Give an .mlpackage folder or an .mlmodel file"
        )
    return spec
