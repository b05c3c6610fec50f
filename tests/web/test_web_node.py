"""ONNX Runtime Web in Node: real answers, to the bit where nothing is computed, and every way it can go wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import web_models
from runtime_conformance import CASES, dense

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime_web import hosts
from modelbuild.runtimes.onnxruntime_web.hosts import Host, Settings, answer

Write = Callable[[onnx.ModelProto], Path]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", list(CASES))
def test_answers(case: str, threads: int, node: Host, dist: Path, written: Write) -> None:
    inputs, settings = CASES[case].inputs(), Settings(threads=threads)
    found = answer(node, dist, written(CASES[case].build("n")), inputs, settings)
    expected = CASES[case].answer(inputs)
    assert found.outputs.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found.outputs[name], array, rtol=0, atol=1e-5)
    assert found.version == json.loads((dist.parent / "package.json").read_text())["version"]
    assert found.backend.startswith("wasm in Node " if threads == 1 else f"wasm, {threads} threads, in Node ")
    assert set(found.placement.values()) == {"CPUExecutionProvider"}
    assert found.facts["threads"] == threads
    assert found.facts.keys() == {"node", "v8", "threads"}


def test_every_bit_of_every_dtype_comes_back(node: Host, dist: Path, written: Write) -> None:
    inputs = web_models.any_bits()
    found = answer(node, dist, written(web_models.copies()), inputs, Settings(batch=2))
    for name in web_models.DTYPES:
        assert found.outputs[f"out {name}"].dtype == name
        assert found.outputs[f"out {name}"].tobytes() == inputs[f"in {name}"].tobytes()


@pytest.mark.parametrize(("size", "batch"), [("n", None), ("n", 3), (8, None), (70, 70)])
def test_batches(size: int | str, batch: int | None, node: Host, dist: Path, written: Write) -> None:
    inputs = CASES["dense"].inputs()
    found = answer(node, dist, written(dense(size)), inputs, Settings(batch=batch))
    expected = CASES["dense"].answer(inputs)["logits"]
    np.testing.assert_allclose(found.outputs["logits"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("level", "nodes"), [("disabled", 4), ("all", 3)])
def test_optimisation_is_what_was_asked_for(
    level: str, nodes: int, node: Host, dist: Path, written: Write
) -> None:
    settings = Settings(optimisation=level)
    found = answer(node, dist, written(dense("n")), CASES["dense"].inputs(), settings)
    assert list(found.placement) == [f"all {nodes} nodes"]


def test_a_file_that_is_no_model_is_refused(node: Host, dist: Path, written: Write) -> None:
    path = written(dense("n"))
    path.write_bytes(b"no model")
    with pytest.raises(RecipeError, match=r"version [\d.]+ does not load the model: .*protobuf"):
        answer(node, dist, path, CASES["dense"].inputs(), Settings())


def test_a_model_that_stops_is_told(node: Host, dist: Path, written: Write) -> None:
    inputs = {"x": np.zeros((2, 4), np.float32), "at": np.array([[1], [9]])}
    with pytest.raises(RecipeError, match=r"the model stopped: gather_elements\.cc.* Index out of range"):
        answer(node, dist, written(web_models.looked_up()), inputs, Settings())


def test_has_no_webgpu(node: Host, dist: Path, written: Write) -> None:
    with pytest.raises(RecipeError, match="Node has no WebGPU"):
        answer(node, dist, written(dense("n")), CASES["dense"].inputs(), Settings("webgpu"))


def test_silence_has_an_end(node: Host, dist: Path, written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hosts.SECONDS, "wasm", 0.02)
    with pytest.raises(RecipeError, match=r"Node: no answer within 0\.02 seconds"):
        answer(node, dist, written(dense("n")), CASES["dense"].inputs(), Settings())


def test_settings_of_the_shell_do_not_reach_it(
    node: Host, dist: Path, written: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NODE_OPTIONS", f"--require {tmp_path}/absent.js")
    assert answer(node, dist, written(dense("n")), CASES["dense"].inputs(), Settings()).outputs


def script(path: Path, code: str) -> Host:
    path.write_text(f"#!{sys.executable}\nimport os, sys\nif '--version' in sys.argv:\n    {code}\n")
    path.chmod(0o755)
    return Host("node", str(path))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("print('v16.20.0')", "is version v16.20.0; 18 is the oldest"),
        ("print('Python 3')", "is no Node: it calls its version 'Python 3'"),
        (
            "sys.exit(print('v20.0.0'))\nsys.exit('boom [or so]')",
            r"exit code 1 and no answer: boom \[or so\]",
        ),
        ("sys.exit(print('v20.0.0'))", "exit code 0 and no answer"),
        ("sys.exit(print('v20.0.0'))\nos.abort()", "killed by signal 6"),
    ],
)
def test_a_node_that_does_not_answer_is_told(
    code: str, words: str, dist: Path, written: Write, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=words):
        answer(
            script(tmp_path / "node", code), dist, written(dense("n")), CASES["dense"].inputs(), Settings()
        )


def test_a_program_that_cannot_be_run_is_told(dist: Path, written: Write, tmp_path: Path) -> None:
    (tmp_path / "node").write_text("not executable")
    with pytest.raises(RecipeError, match="cannot be run"):
        answer(
            Host("node", str(tmp_path / "node")),
            dist,
            written(dense("n")),
            CASES["dense"].inputs(),
            Settings(),
        )


@pytest.fixture
def other(dist: Path, tmp_path: Path) -> Path:
    """A folder "dist" whose library is the real one behind a door of its own."""
    made = tmp_path / "package" / "dist"
    made.mkdir(parents=True)
    (made.parent / "package.json").write_bytes((dist.parent / "package.json").read_bytes())
    return made


def door(dist: Path, made: Path, code: str) -> None:
    real = (dist / "ort.node.min.mjs").as_uri()
    (made / "ort.node.min.mjs").write_text(
        f'export * from "{real}"; import {{ env, InferenceSession }} from "{real}"; {code}'
    )


def test_threads_that_are_not_there_are_told(node: Host, dist: Path, other: Path, written: Write) -> None:
    door(dist, other, 'Object.defineProperty(env.wasm, "numThreads", { get: () => 1, set: () => {} });')
    inputs = CASES["dense"].inputs()
    assert answer(node, other, written(dense("n")), inputs, Settings()).outputs
    with pytest.raises(RecipeError, match="2 threads were asked for, 1 ran"):
        answer(node, other, written(dense("n")), inputs, Settings(threads=2))


def test_another_version_than_the_packages_is_told(
    node: Host, dist: Path, other: Path, written: Write
) -> None:
    door(dist, other, "")
    (other.parent / "package.json").write_text('{"version": "0.0.1"}')
    with pytest.raises(RecipeError, match=r"the package is version 0\.0\.1, what ran calls itself 1"):
        answer(node, other, written(dense("n")), CASES["dense"].inputs(), Settings())


def test_a_library_that_cannot_be_started_is_told(node: Host, other: Path, written: Write) -> None:
    with pytest.raises(RecipeError, match=r"cannot be started: .*ort\.node\.min\.mjs"):
        answer(node, other, written(dense("n")), CASES["dense"].inputs(), Settings())


def test_is_the_file_that_a_browser_runs(node: Host, dist: Path, other: Path, written: Write) -> None:
    for name in ("ort.node.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (other / name).write_bytes((dist / name).read_bytes())
    (other.parent / "node_modules").symlink_to(dist.parents[1])
    path, inputs = written(dense("n")), CASES["dense"].inputs()
    assert answer(node, other, path, inputs, Settings(threads=2)).outputs
    (other / "ort-wasm-simd-threaded.wasm").unlink()
    with pytest.raises(RecipeError, match=r"ort-wasm-simd-threaded\.wasm"):
        answer(node, other, path, inputs, Settings(threads=2))
