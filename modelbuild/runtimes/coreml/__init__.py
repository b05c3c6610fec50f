"""Core ML: the student as an ML Program package, checked on any machine.

On Linux the very files that ship are evaluated operation by operation (evidence "interpreted"); on macOS Core ML
itself runs them (evidence "executed"). What is here is asked on every build; the work is in the modules beside it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuild.runtimes.base import Conversion, Run, Runtime, Way
from modelbuild.runtimes.coreml.options import NAME, parse

if TYPE_CHECKING:
    from modelbuild.tensors import Arrays

ROUNDS = {
    "float32": "float16",
    "float16": "float16-sums",
}  # how sums are rounded -> what that leaves of float32

RUN_ONLY = ("accumulation", "batch")  # options that leave the package as it is


class CoreML:
    """The `Runtime` of the name "coreml"."""

    name = NAME

    def toolchain(self) -> tuple[str, ...]:
        return ("coremltools", "torch")

    def available(self) -> str | None:
        if importlib.util.find_spec("coremltools") is None:
            return "coremltools is not installed: pip install coremltools"
        return None

    def conversion(self, options: Mapping[str, Any]) -> Conversion:
        parse(options)
        read = {name: value for name, value in options.items() if name not in RUN_ONLY}
        return Conversion(("student", "evaluation"), read)

    def modules(self) -> tuple[str, ...]:
        return ()

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        """One run a way of adding up float16; on macOS Core ML decides that, and there is one."""
        parsed = parse(options)
        if not parsed.half:
            return {"": Way(options)}
        if sys.platform == "darwin":
            return {"": Way(options, ROUNDS["float16"])}
        ways = [each for each in ROUNDS if each in parsed.accumulation]  # float32, the usual, first
        named = {"" if way == ways[0] else f"{way}-sums": way for way in ways}
        return {name: Way({**options, "accumulation": [way]}, ROUNDS[way]) for name, way in named.items()}

    # ---------------------------------------------------------------------------------------------------

    def convert(self, model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
        """Write model.mlpackage, io.json (ports, and our names beside Core ML's) and modules.json."""
        from modelbuild.runtimes.coreml.converter import convert

        convert.convert(model, out, params)

    def run(self, artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
        """Through `MLModel.predict` on macOS, through our evaluator elsewhere."""
        from modelbuild.runtimes.coreml import check

        return check.run(artifact, inputs, params)

    def intermediates(self, artifact: Path, inputs: Arrays, names: tuple[str, ...]) -> Arrays:
        """Values by the names they have in the program (see modules.json for the modules they come from)."""
        from modelbuild.runtimes.coreml import check

        return check.intermediates(artifact, inputs, names)


RUNTIME: Runtime = CoreML()
