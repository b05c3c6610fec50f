"""Artefacts whose values can be followed: made beside the ONNX file of the same student, as a build makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nets
import numpy as np
from made import RUNTIME
from torch import nn

from modelbuild.equivalence import localise
from modelbuild.recipes import export, identity, values
from modelbuild.runtimes.base import Inside
from modelbuild.runtimes.coreml.evaluator import mlpackage


@dataclass(frozen=True)
class Followed:
    """The target folders of one model, its Core ML artefact, and what the recipes are told."""

    targets: Mapping[str, Path]
    artifact: Path
    params: Mapping[str, Any]
    data: Mapping[str, Any]

    @property
    def inside(self) -> Inside:
        found: Inside = RUNTIME.inside(self.artifact)
        return found

    @property
    def names(self) -> Mapping[str, identity.Name]:
        return identity.read(self.targets["onnx"]).values

    @property
    def package(self) -> mlpackage.Package:
        return mlpackage.read(self.artifact / "model.mlpackage")

    def few(self, count: int = 3) -> dict[str, Any]:
        return {name: np.ascontiguousarray(array[:count]) for name, array in self.data.items()}

    def due(self, *rounds: str) -> dict[str, values.Value]:
        student, onnx = self.targets["student"], self.targets["onnx"]
        return values.torch_values(student, onnx, self.params, self.few(), rounds)

    def found(self, *names: str, artifact: Path | None = None) -> dict[str, Any]:
        asked = names or tuple(value for node in self.inside.nodes for value in node.gives)
        there: dict[str, Any] = RUNTIME.intermediates(
            artifact or self.artifact, self.few(), asked, {"options": {}}
        )
        return there

    def compared(self) -> dict[str, str]:
        """As the search for a fault sees it: what a cast makes counts too."""
        return localise.counterparts(self.inside, self.due())


def follow(folder: Path, kind: type[nn.Module], data: Mapping[str, Any], **options: Any) -> Followed:
    module = nets.Net(kind, lambda: dict(data)).module()
    params = nets.params(**options)
    targets = {**nets.targets(folder, module, data), "onnx": folder / "onnx"}
    for name in ("onnx", "artifact"):
        (folder / name).mkdir()
    export.export(targets, params, targets["onnx"])
    RUNTIME.convert(targets, folder / "artifact", params)
    return Followed(targets, folder / "artifact", params, data)
