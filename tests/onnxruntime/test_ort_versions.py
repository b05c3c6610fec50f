"""Models in other versions of ONNX Runtime, each in the environment that the build would make for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from runtime_conformance import CASES, Case, dense, dense_inputs, installed, write_onnx

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import RUNTIME, worker

PROJECT = Path(__file__).parents[2]
VERSIONS = ("1.16.3", "1.18.1", "1.24.4", "1.32.0")


@pytest.fixture(autouse=True)
def at_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environments are kept in the project's cache, and made the first time only."""
    monkeypatch.chdir(PROJECT)


def told(version: str, **options: Any) -> dict[str, Any]:
    (way,) = RUNTIME.runs({**options, "versions": [version]}).values()
    return {"options": dict(way.options), **installed(way.environment)}


def converted(folder: Path, model: onnx.ModelProto, **options: Any) -> Path:
    asked = RUNTIME.conversion(options)
    (folder / "out").mkdir()
    params = {"options": dict(asked.options), **installed(asked.environment)}
    RUNTIME.convert({"onnx": write_onnx(folder / "onnx", model)}, folder / "out", params)
    return folder / "out"


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("version", VERSIONS)
def test_opset_18_gives_the_answer_in_every_version(tmp_path: Path, version: str, case: Case) -> None:
    run = RUNTIME.run(converted(tmp_path, case.build("batch")), case.inputs(), told(version))
    assert (run.version, run.backend, run.evidence) == (version, worker.PROVIDER, "executed")
    for name, array in case.answer(case.inputs()).items():
        np.testing.assert_allclose(run.outputs[name], array, rtol=0, atol=1e-5)


def later(opset: int, ir: int) -> onnx.ModelProto:
    model = dense()
    return helper.make_model(model.graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


@pytest.mark.parametrize("ir", [9, 10])
def test_a_model_that_is_too_new_is_refused_with_a_way_out(tmp_path: Path, ir: int) -> None:
    out = converted(tmp_path, later(20, ir))
    with pytest.raises(RecipeError) as caught:
        RUNTIME.run(out, dense_inputs(), told("1.16.3"))
    assert caught.value.place == "onnxruntime"
    assert f"version 1.16.3 does not load the model (opset 20, IR {ir}): " in caught.value.fact
    assert "\n" not in caught.value.fact
    assert '{"opset": 18} reaches 1.16' in caught.value.remedy
    run = RUNTIME.run(out, dense_inputs(), told("1.18.1"))
    assert run.version == "1.18.1"


def test_where_it_runs_does_not_change_a_bit(tmp_path: Path) -> None:
    out = converted(tmp_path, dense())
    ours = RUNTIME.run(out, dense_inputs(), {"options": {}})
    theirs = RUNTIME.run(out, dense_inputs(), told(onnxruntime.__version__))
    assert theirs.version == ours.version
    assert theirs.placement == ours.placement
    for name, array in ours.outputs.items():
        assert array.tobytes() == theirs.outputs[name].tobytes()


def test_the_oldest_version_writes_a_file_that_all_load(tmp_path: Path) -> None:
    out = converted(tmp_path, dense(), format="ort", versions=["1.32.0", "1.16.3"])
    assert not (out / "model.onnx").exists()
    for version in VERSIONS:
        run = RUNTIME.run(out, dense_inputs(), told(version, format="ort"))
        np.testing.assert_allclose(
            run.outputs["logits"], CASES["dense"].answer(dense_inputs())["logits"], rtol=0, atol=1e-5
        )
