"""Core ML: the student as an ML Program package, checked on any machine.

On Linux the very files that ship are evaluated operation by operation (evidence "interpreted"); on macOS Core ML
itself runs them (evidence "executed"). What is here is asked on every build; the work is in the modules beside it.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuild.runtimes.base import Conversion, Inside, Run, Runtime, Way
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
        return Conversion(("student", "evaluation", "onnx"), read)

    def modules(self) -> tuple[str, ...]:
        return ()

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        """One run a way of adding up float16; on macOS Core ML decides that, and there is one."""
        parsed = parse(options)
        weights = _weights(parsed.compression)
        if not parsed.half:
            return {"": Way(options, f"{weights}float32" if weights else None)}
        if sys.platform == "darwin":
            return {"": Way(options, weights + ROUNDS["float16"])}
        ways = [each for each in ROUNDS if each in parsed.accumulation]  # float32, the usual, first
        named = {"" if way == ways[0] else f"{way}-sums": way for way in ways}
        return {
            name: Way({**options, "accumulation": [way]}, weights + ROUNDS[way])
            for name, way in named.items()
        }

    # ---------------------------------------------------------------------------------------------------

    def convert(self, model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
        """Write model.mlpackage, io.json (ports, our names beside Core ML's), modules.json and identity.json."""
        from modelbuild.runtimes.coreml.converter import convert

        convert.convert(model, out, params)

    def run(self, artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
        """Through `MLModel.predict` on macOS, through our evaluator elsewhere."""
        from modelbuild.runtimes.coreml import check

        return check.run(artifact, inputs, params)

    def inside(self, artifact: Path) -> Inside:
        """The operations of the main function, one with blocks inside as one."""
        from modelbuild.runtimes.coreml import inside

        return inside.of(artifact)

    def intermediates(
        self, artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
    ) -> Arrays:
        """Values by the names they have in the program; not on macOS, where Core ML shows none."""
        from modelbuild.runtimes.coreml import check

        return check.intermediates(artifact, inputs, names, params)

    def excerpt(self, artifact: Path, out: Path, reads: tuple[str, ...], gives: tuple[str, ...]) -> str:
        """An .mlpackage; what is of another type than Core ML has at its borders is cast there."""
        from modelbuild.runtimes.coreml import excerpt
        from modelbuild.runtimes.coreml.evaluator import mlpackage
        from modelbuild.runtimes.coreml.ports import PACKAGE

        return excerpt.write(mlpackage.read(artifact / PACKAGE), out, reads, gives)


def _weights(steps: Sequence[Mapping[str, Any]]) -> str:
    """What stands in front of an arithmetic for weights stored so; in PyTorch only 8-bit integers are known."""
    if not steps:
        return ""
    (*more, step) = steps
    if more or step["kind"] != "linear":
        return "uncompressed-"
    return f"int8-{'symmetric' if step['symmetric'] else 'affine'}-{step['min_elements']}-"


RUNTIME: Runtime = CoreML()
