"""The hosts that this machine has, ONNX Runtime Web installed from its committed lock, and models written down."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import helper

from modelbuild import nodejs
from modelbuild.runtimes.onnxruntime_web import chromium as browser
from modelbuild.runtimes.onnxruntime_web import hosts
from modelbuild.runtimes.onnxruntime_web.hosts import Host

VERSION = "1.30.0"
LOCK = hosts.HERE / "locks" / VERSION
HOME = Path(__file__).parents[2] / ".cache" / "third-party"


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
    """The folder "dist" of onnxruntime-web."""
    place = HOME / f"onnxruntime-web-{VERSION}"
    place.mkdir(parents=True, exist_ok=True)
    found = place / "node_modules" / "onnxruntime-web" / "dist"
    with FileLock(f"{place}.lock"):
        if not found.is_dir():
            for name in ("package.json", "package-lock.json"):
                shutil.copyfile(LOCK / name, place / name)
            beside = Path(node.program).parent
            env = {**os.environ, "PATH": os.pathsep.join([str(beside), os.environ["PATH"]])}
            command = [str(beside / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            subprocess.run(command, cwd=place, env=env, check=True, capture_output=True)
    return found


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
