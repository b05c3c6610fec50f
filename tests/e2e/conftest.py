"""Tiny projects: one built once a worker and copied for each test, and fresh ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from project_dir import ProjectDir


@pytest.fixture(scope="session")
def onnx_model() -> bytes:
    """Four inputs, three classes, one matrix product."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    weight = np.arange(12, dtype=np.float32).reshape(4, 3) % 5
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["scores"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return bytes(model.SerializeToString(deterministic=True))


@pytest.fixture
def fresh(tmp_path: Path, onnx_model: bytes) -> ProjectDir:
    """A project that was never built."""
    return ProjectDir.create(tmp_path / "fresh", onnx_model)


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory, onnx_model: bytes) -> ProjectDir:
    project = ProjectDir.create(tmp_path_factory.mktemp("built") / "project", onnx_model)
    result = project.doit()
    assert result.code == 0, result.text
    return project


@pytest.fixture
def project(tmp_path: Path, built_once: ProjectDir) -> ProjectDir:
    """A project that was built, moved here from where it was built."""
    return built_once.copy_to(tmp_path / "project")
