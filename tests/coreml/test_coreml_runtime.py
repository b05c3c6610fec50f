"""Core ML keeps what every runtime promises, in float32 and in float16."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from runtime_conformance import RuntimeConformance

from modelbuild.runtimes import base


class TestCoreML(RuntimeConformance):
    name = "coreml"


class TestCoreMLInHalfPrecision(RuntimeConformance):
    name = "coreml"
    options: ClassVar[Mapping[str, Any]] = {"precision": "float16"}
    atol = 5e-2


@pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")
class TestCoreMLItself(RuntimeConformance):
    name = "coreml"
    options: ClassVar[Mapping[str, Any]] = {"compute_units": "cpu_only"}
    atol = 1e-4

    def test_what_runs_is_core_ml(self, runtime: base.Runtime, case, artifact) -> None:
        run = runtime.run(artifact, case.inputs(), self.told())
        assert (run.evidence, run.backend) == ("executed", "cpu_only")
        assert run.version.startswith("macOS 1")
