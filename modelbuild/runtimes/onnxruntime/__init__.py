"""ONNX Runtime on CPU, in the installed version or in others: the canonical ONNX file, or the same in ORT format.

What is here is asked on every build; the work, and the packages that do it, are in the modules beside it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuild.runtimes.base import Conversion, Inside, Run, Runtime, Switch, Way
from modelbuild.runtimes.onnxruntime.options import NAME, environment, parse, reading, switches, ways

if TYPE_CHECKING:
    from modelbuild.tensors import Arrays


class OnnxRuntime:
    """The `Runtime` of the same name."""

    name = NAME

    def toolchain(self) -> tuple[str, ...]:
        return (NAME,)

    def available(self) -> str | None:
        if importlib.util.find_spec(NAME) is None:
            return "onnxruntime is not installed: pip install onnxruntime"
        return None

    def conversion(self, options: Mapping[str, Any]) -> Conversion:
        """An ORT file is written by the oldest version: each promises to load the files of those before it."""
        parsed = parse(options)
        by = environment(parsed.oldest) if parsed.format == "ort" else None
        return Conversion(("onnx",), reading(parsed), by)

    def modules(self) -> tuple[str, ...]:
        return ()

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        return ways(parse(options))

    # ---------------------------------------------------------------------------------------------------

    def convert(self, model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
        """Write model.onnx or model.ort, io.json and, for a device, required_operators.config and mobile.json."""
        from modelbuild.runtimes.onnxruntime import artefact

        artefact.convert(model, out, params)

    def run(self, artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
        """In this process, or by a worker in `params["environment"]`."""
        from modelbuild.runtimes.onnxruntime import check

        return check.run(artifact, inputs, params)

    def inside(self, artifact: Path) -> Inside:
        """The nodes of the file that ships, in ORT format with those that were fused when it was written."""
        from modelbuild.runtimes.onnxruntime import artefact, inside

        return inside.of(inside.load(artefact.model_file(artifact)))

    def intermediates(
        self, artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
    ) -> Arrays:
        """Values by their names in the file, which is run with these as further outputs."""
        from modelbuild.runtimes.onnxruntime import check

        return check.intermediates(artifact, inputs, names, params)

    def excerpt(self, artifact: Path, out: Path, reads: tuple[str, ...], gives: tuple[str, ...]) -> str:
        """shipped.onnx, of either format."""
        from modelbuild.runtimes.onnxruntime import artefact, excerpt, inside

        return excerpt.write(inside.load(artefact.model_file(artifact)), out, reads, gives)

    def switches(self, options: Mapping[str, Any]) -> tuple[Switch, ...]:
        return switches(options)

    def as_artifact(self, onnx: Path, out: Path) -> None:
        """The file itself with its ports; a way's options run it, those of ORT format too."""
        from modelbuild.runtimes.onnxruntime import artefact

        artefact.as_it_is(onnx, out)


RUNTIME: Runtime = OnnxRuntime()
