"""The folder to put on a web server: model, the few files of ONNX Runtime Web, golden samples, a page that checks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelbuild import golden
from modelbuild.errors import RecipeError
from modelbuild.golden import Golden
from modelbuild.runtimes.onnxruntime_web.check import DIST
from modelbuild.runtimes.onnxruntime_web.options import NAME

PAGE = Path(__file__).parent / "bundle_page"
LOADED = re.compile(r"ort-wasm[\w.-]*\.mjs")


def write(artifact: Path, out: Path, given: Golden, params: Mapping[str, Any]) -> None:
    """Write the bundle of `artifact` for the "backends" of the options, the first of them the usual one.

    Raises RecipeError for an output that the page could not compare, and where a file of the package is missing.
    """
    for name, array in {**given.inputs, **given.outputs}.items():
        if array.dtype == "float16":
            remedy = "Have the model take and give float32"
            raise RecipeError(NAME, f'"{name}" is float16, which not every browser has an array for', remedy)
    backends = params["options"]["backends"]
    shutil.copytree(artifact, out, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in sorted(PAGE.iterdir()):
        shutil.copyfile(path, out / path.name)
    (out / "ort").mkdir()
    dist = Path(params["environment"]) / DIST
    for backend in backends:
        for name in _files(dist, backend):
            shutil.copyfile(dist / name, out / "ort" / name)
    golden.write(out / "golden", given, {"backends": list(backends)})


def _files(dist: Path, backend: str) -> Iterator[str]:
    """The module of a backend, and the WebAssembly that it loads."""
    module = f"ort.{backend}.min.mjs"
    if not (dist / module).is_file():
        raise RecipeError(NAME, f"this version has no {module}", "Name a newer one in versions")
    yield module
    for name in sorted(set(LOADED.findall((dist / module).read_text()))):
        yield name
        yield name.removesuffix(".mjs") + ".wasm"
