"""The folder to put on a web server: model, the few files of ONNX Runtime Web, golden samples, a page that checks."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import golden
from modelbuild.errors import RecipeError
from modelbuild.golden import Golden
from modelbuild.runtimes.onnxruntime_web.check import DIST
from modelbuild.runtimes.onnxruntime_web.options import NAME

LOADED = re.compile(r"ort-wasm[\w.-]*\.mjs")


def write(artifact: Path, out: Path, given: Golden, page: Path, params: Mapping[str, Any]) -> None:
    """Write the bundle of `artifact` for the "backends" of the options, the first of them the usual one.

    `page` is the folder of the page that checks. Raises RecipeError where a file of the package is missing.
    """
    backends = params["options"]["backends"]
    shutil.copytree(artifact, out, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for path in sorted(page.iterdir()):
        shutil.copyfile(path, out / path.name)
    (out / "ort").mkdir()
    dist = Path(params["environment"]) / DIST
    for path in sorted(dist.parent.glob("LICENSE*")):
        shutil.copyfile(path, out / "ort" / path.name)
    for backend in backends:
        for name in _files(dist, backend):
            shutil.copyfile(dist / name, out / "ort" / name)
    told = {"backends": list(backends), "runtime": NAME, "artefact": "model.onnx"}
    golden.write(out / "golden", given, told)


def _files(dist: Path, backend: str) -> list[str]:
    """The module of a backend, and the WebAssembly that it loads."""
    module = f"ort.{backend}.min.mjs"
    source = (dist / module).read_text() if (dist / module).is_file() else ""
    names = [module]
    for name in sorted(set(LOADED.findall(source))):
        names += [name, name.removesuffix(".mjs") + ".wasm"]
    missing = [name for name in names if not (dist / name).is_file()]
    if missing or len(names) == 1:
        fact = f"this version has no {', '.join(missing) or 'WebAssembly that ' + module + ' loads'}"
        raise RecipeError(NAME, fact, "Name another in versions")
    return names
