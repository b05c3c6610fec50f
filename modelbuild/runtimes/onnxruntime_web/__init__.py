"""ONNX Runtime Web: the canonical ONNX file in a browser, on WebAssembly and on WebGPU.

Two hosts run it: Node, which has the same WebAssembly and the same engine as Chromium, and a real headless Chromium.
What is here is asked on every build; the work is in the modules beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuild import nodejs
from modelbuild.runtimes.base import Conversion, Inside, Run, Runtime, Switch, Way
from modelbuild.runtimes.onnxruntime.options import switches
from modelbuild.runtimes.onnxruntime_web.options import NAME, environment, parse, ways

if TYPE_CHECKING:
    from modelbuild.golden import Golden
    from modelbuild.tensors import Arrays
PAGE = Path(__file__).parent / "bundle_page"


class OnnxRuntimeWeb:
    """The `Runtime` of the name "onnxruntime-web"."""

    name = NAME

    def toolchain(self) -> tuple[str, ...]:
        return ("onnxruntime",)

    def available(self) -> str | None:
        """Each way of running says for itself whether its host is there."""
        return None

    def conversion(self, options: Mapping[str, Any]) -> Conversion:
        parsed = parse(options)
        return Conversion(("onnx",), {} if parsed.batch is None else {"batch": parsed.batch})

    def modules(self) -> tuple[str, ...]:
        return ()

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        return ways(parse(options))

    # ---------------------------------------------------------------------------------------------------

    def convert(self, model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
        """Write model.onnx and io.json, as for ONNX Runtime."""
        from modelbuild.runtimes.onnxruntime import artefact

        artefact.convert(model, out, params)

    def run(self, artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
        """By the host that the options name, with the files in `params["environment"]`."""
        from modelbuild.runtimes.onnxruntime_web import check

        return check.run(artifact, inputs, params)

    def inside(self, artifact: Path) -> Inside:
        from modelbuild.runtimes.onnxruntime import inside

        return inside.of(inside.load(artifact / "model.onnx"))

    def intermediates(
        self, artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
    ) -> Arrays:
        """Values by their names in the file, which the host runs with these as further outputs."""
        from modelbuild.runtimes.onnxruntime_web import check

        return check.intermediates(artifact, inputs, names, params)

    def excerpt(self, artifact: Path, out: Path, reads: tuple[str, ...], gives: tuple[str, ...]) -> str:
        """shipped.onnx, as for ONNX Runtime."""
        from modelbuild.runtimes.onnxruntime import excerpt, inside

        return excerpt.write(inside.load(artifact / "model.onnx"), out, reads, gives)

    def switches(self, options: Mapping[str, Any]) -> tuple[Switch, ...]:
        return switches(options)

    def as_artifact(self, onnx: Path, out: Path) -> None:
        """The file itself with its ports."""
        from modelbuild.runtimes.onnxruntime import artefact

        artefact.as_it_is(onnx, out)

    def bundling(self, options: Mapping[str, Any]) -> Conversion | None:
        """The files of the newest version, for the declared backends."""
        if nodejs.find() is None:  # npm, which installs them, comes with it
            return None
        parsed = parse(options)
        page = {path.name: str(path) for path in sorted(PAGE.iterdir())}
        return Conversion((), {"backends": list(parsed.backends)}, environment(parsed.newest), page)

    def bundle(self, artifact: Path, out: Path, golden: Golden, params: Mapping[str, Any]) -> None:
        """A folder for any web server: index.html checks the golden samples."""
        from modelbuild.runtimes.onnxruntime_web import bundle

        bundle.write(artifact, out, golden, PAGE, params)


RUNTIME: Runtime = OnnxRuntimeWeb()
