"""The hosts that this machine has, ONNX Runtime Web installed from its committed lock, and models written down."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from runtime_conformance import installed

from modelbuild import nodejs
from modelbuild.runtimes.onnxruntime_web import chromium as browser
from modelbuild.runtimes.onnxruntime_web.check import DIST
from modelbuild.runtimes.onnxruntime_web.hosts import Host
from modelbuild.runtimes.onnxruntime_web.options import environment

VERSION = "1.30.0"


def required(name: str, found: object, reason: str) -> str:
    """`found`; where it is None the test is skipped, or fails where MODELBUILD_TEST_REQUIRE names it."""
    if found is None:
        if name in os.environ.get("MODELBUILD_TEST_REQUIRE", ""):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return str(found)


@pytest.fixture(scope="session")
def node() -> Host:
    return Host("node", required("node", nodejs.find(), f"there is no Node: {nodejs.REMEDY}"))


@pytest.fixture(scope="session")
def chromium() -> Host:
    return Host("chromium", required("chromium", browser.find(), browser.missing()))


@pytest.fixture(scope="session")
def dist(node: Host) -> Path:
    """The folder "dist" of onnxruntime-web, in the environment that the product installs from its lock."""
    return Path(installed(environment(VERSION))["environment"]) / DIST


Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Writes model.onnx and io.json, and gives the path of the former."""

    def write(model: onnx.ModelProto) -> Path:
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / "model.onnx")
        sides = {"inputs": model.graph.input, "outputs": model.graph.output}
        ports = {side: [described(port) for port in found] for side, found in sides.items()}
        (tmp_path / "io.json").write_text(json_of(ports))
        return tmp_path / "model.onnx"

    return write


def json_of(value: Any) -> str:
    import json

    return json.dumps(value)


def described(port: onnx.ValueInfoProto) -> dict[str, Any]:
    kind = port.type.tensor_type
    dtype = str(np.dtype(helper.tensor_dtype_to_np_dtype(kind.elem_type)))
    return {"name": port.name, "dtype": dtype, "shape": [d.dim_param or d.dim_value for d in kind.shape.dim]}
