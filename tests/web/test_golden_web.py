"""The checker for Node with ONNX Runtime Web itself: that of the bundle, and that of an app's own packages."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime_conformance import dense, dense_answer, dense_inputs, write_onnx

from modelbuild import golden
from modelbuild.golden import Golden, Limit
from modelbuild.runtimes import base
from modelbuild.runtimes.onnxruntime_web.hosts import Host

RUNTIME: Any = base.find("onnxruntime-web")
Check = Callable[[Path, Path], tuple[int, str]]


def samples() -> Golden:
    inputs = {name: array[:5] for name, array in dense_inputs().items()}
    return Golden(inputs, dense_answer(inputs), dict.fromkeys(("logits", "hidden"), Limit(1e-5, "")))


@pytest.fixture
def check(node: Host) -> Check:
    def check(folder: Path, where: Path) -> tuple[int, str]:
        command = [node.program, str(folder / "golden" / "check.mjs")]
        done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=120, check=False)
        return done.returncode, done.stdout + done.stderr

    return check


def spoil(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    weight = next(each for each in model.graph.initializer if each.name == "w2")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) + np.float32(0.01), "w2"))
    onnx.save(model, folder / "model.onnx")


def holds_and_is_red_when_spoilt(check: Check, folder: Path, where: Path) -> None:
    code, said = check(folder, where)
    assert code == 0, said
    assert said.startswith("holds: 5 samples, hidden off by ")
    spoil(folder)
    code, said = check(folder, where)
    assert (code, said.startswith("RED: ")) == (1, True), said
    assert "within 0.00001 (sample " in said


def test_it_runs_the_model_by_the_apps_own_package(check: Check, dist: Path, tmp_path: Path) -> None:
    golden.write(tmp_path / "golden", samples(), {"artefact": "model.onnx"})
    onnx.save(dense("n"), tmp_path / "model.onnx")
    holds_and_is_red_when_spoilt(check, tmp_path, dist.parents[2])


def test_it_runs_the_bundle_by_what_the_bundle_ships(check: Check, dist: Path, tmp_path: Path) -> None:
    (tmp_path / "artifact").mkdir()
    RUNTIME.convert({"onnx": write_onnx(tmp_path / "onnx", dense())}, tmp_path / "artifact", {"options": {}})
    params = {"options": {"backends": ["wasm"]}, "environment": str(dist.parents[2])}
    (tmp_path / "bundle").mkdir()
    RUNTIME.bundle(tmp_path / "artifact", tmp_path / "bundle", samples(), params)
    holds_and_is_red_when_spoilt(check, tmp_path / "bundle", tmp_path)
