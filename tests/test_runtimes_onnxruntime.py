from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from runtime_conformance import RuntimeConformance, dense, dense_answer, dense_inputs, write_onnx

from modelbuild.errors import CommandError, ManifestError, RecipeError
from modelbuild.runtimes import base
from modelbuild.runtimes import onnxruntime as ours
from modelbuild.runtimes.onnxruntime import check


class TestOnnxRuntime(RuntimeConformance):
    name = "onnxruntime"


class TestOtherVersions(RuntimeConformance):
    """Levels, threads and an isolated version at once."""

    name = "onnxruntime"
    options = {"versions": ["1.18.1"], "optimisation": ["basic", "all"], "threads": [1, 2]}  # noqa: RUF012


class TestOrtFormat(RuntimeConformance):
    name = "onnxruntime"
    options = {"format": "ort", "versions": ["1.18.1"]}  # noqa: RUF012


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    """A runtime found in one test, behind an entry point that was put there, is not there for the next."""
    forget()
    yield
    forget()


def forget() -> None:
    for remembers in (base.find, base.builtin):
        getattr(remembers, "cache_clear", lambda: None)()


def artifact(folder: Path, model: onnx.ModelProto, **options: Any) -> Path:
    out = folder / "artifact"
    out.mkdir()
    ours.RUNTIME.convert({"onnx": write_onnx(folder / "onnx", model)}, out, {"options": options})
    return out


def run(folder: Path, model: onnx.ModelProto, **options: Any) -> base.Run:
    return ours.RUNTIME.run(artifact(folder, model, **options), dense_inputs(), {"options": options})


def test_the_artefact_is_the_same_file_with_its_ports(tmp_path: Path) -> None:
    out = artifact(tmp_path, dense())
    assert (out / "model.onnx").read_bytes() == (tmp_path / "onnx" / "model.onnx").read_bytes()
    assert json.loads((out / "io.json").read_text()) == {
        "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 6]}],
        "outputs": [
            {"name": "logits", "dtype": "float32", "shape": ["batch", 3]},
            {"name": "hidden", "dtype": "float32", "shape": ["batch", 8]},
        ],
    }


def test_run_says_what_ran_it(tmp_path: Path) -> None:
    found = run(tmp_path, dense(), optimisation="disabled")
    assert found.version == onnxruntime.__version__
    assert found.backend == "CPUExecutionProvider, optimisation disabled"
    assert found.evidence == "executed"
    if hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"):
        assert found.placement == dict.fromkeys(("first", "relu", "second", "bias"), "CPUExecutionProvider")


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
def test_every_level_gives_the_answer(tmp_path: Path, level: str) -> None:
    found = run(tmp_path, dense(), optimisation=level, threads=2)
    np.testing.assert_allclose(found.outputs["logits"], dense_answer(dense_inputs())["logits"], atol=1e-5)


@pytest.mark.parametrize(("batch", "calls"), [(None, [64, 6]), (32, [32, 32, 6]), (70, [70]), (100, [70])])
def test_batches_of_a_free_axis(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int | None, calls: list[int]
) -> None:
    assert _sizes(monkeypatch, tmp_path, "batch", batch) == calls


def test_batches_of_a_fixed_axis_are_filled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _sizes(monkeypatch, tmp_path, 16, None) == [16, 16, 16, 16, 16]


def _sizes(monkeypatch: pytest.MonkeyPatch, folder: Path, axis: int | str, batch: int | None) -> list[int]:
    seen, call = [], check._call

    def spy(session: Any, feed: Any) -> Any:
        seen.append(len(feed["x"]))
        return call(session, feed)

    monkeypatch.setattr(check, "_call", spy)
    found = run(folder, dense(axis), **({} if batch is None else {"batch": batch}))
    expected = dense_answer(dense_inputs())
    for name, array in expected.items():
        np.testing.assert_allclose(found.outputs[name], array, atol=1e-5)
    return seen


def test_a_batch_that_the_model_does_not_take(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="batches of"):
        artifact(tmp_path, dense(16), batch=8)


@pytest.mark.parametrize("shape", [(70, 5), (70, 6, 1), (70,)])
def test_another_shape_is_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    out = artifact(tmp_path, dense())
    with pytest.raises(RecipeError, match=re.escape(f'input "x" has shape {shape}')):
        ours.RUNTIME.run(out, {"x": np.zeros(shape, np.float32)}, {"options": {}})


def test_a_name_that_is_not_asked_for_is_answered_with_a_near_one(tmp_path: Path) -> None:
    out = artifact(tmp_path, dense())
    with pytest.raises(RecipeError, match='the model has no input "X"'):
        ours.RUNTIME.run(out, {"X": dense_inputs()["x"]}, {"options": {}})


def test_inputs_of_different_lengths(tmp_path: Path) -> None:
    from runtime_conformance import tokens, tokens_inputs

    out = artifact(tmp_path, tokens())
    inputs = tokens_inputs()
    with pytest.raises(RecipeError, match="numbers of samples"):
        ours.RUNTIME.run(out, {**inputs, "scale": inputs["scale"][:-1]}, {"options": {}})


def test_an_output_without_the_sample_axis(tmp_path: Path) -> None:
    model = dense()
    model.graph.node.append(helper.make_node("ReduceMax", ["logits"], ["top"], keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("top", TensorProto.FLOAT, []))
    with pytest.raises(RecipeError, match='output "top" has shape'):
        run(tmp_path, model)


def test_weights_left_behind_are_found_when_converting(tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()
    onnx.save(dense(), folder / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    (tmp_path / "out").mkdir()
    with pytest.raises(RecipeError, match="does not load"):
        ours.RUNTIME.convert({"onnx": folder}, tmp_path / "out", {"options": {}})


def test_text_inputs_are_refused(tmp_path: Path) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.STRING, ["batch"]) for n in "xy"]
    graph = helper.make_graph([node], "g", ports[:1], ports[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    with pytest.raises(RecipeError, match=r"tensor\(string\)"):
        artifact(tmp_path, model)


def test_a_model_that_stops_says_why(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from runtime_conformance import tokens, tokens_inputs

    out = artifact(tmp_path, tokens())
    inputs = tokens_inputs()
    with pytest.raises(RecipeError, match="the model stopped"):
        ours.RUNTIME.run(out, {**inputs, "ids": inputs["ids"] + 100}, {"options": {}})
    assert capfd.readouterr() == ("", "")  # not in the log as well


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"optimization": "all"}, "options/optimization", 'Did you mean "optimisation"'),
        ({"optimisation": "al"}, "options/optimisation", 'Did you mean "all"'),
        ({"precision": "float16"}, "options/precision", "not one of float32"),
        ({"format": "orx"}, "options/format", 'Did you mean "ort"'),
        ({"versions": ["1.18"]}, "options/versions", "no version"),
        ({"versions": ["1.18.1", "1.18.1"]}, "options/versions", "stands there twice"),
        ({"versions": []}, "options/versions", "is empty"),
        ({"shapes": "fxed"}, "options/shapes", 'Did you mean "fixed"'),
        ({"format": "ort", "optimisation": ["basic", "all"]}, "options/optimisation", "optimised once"),
        ({"threads": 0}, "options/threads", "whole number"),
        ({"threads": True}, "options/threads", "whole number"),
        ({"batch": "8"}, "options/batch", "whole number"),
    ],
)
def test_options_are_refused_before_anything_is_built(
    options: dict[str, Any], place: str, words: str
) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        ours.RUNTIME.conversion(options)
    assert caught.value.place == place


def test_absence_is_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install onnxruntime" in str(ours.RUNTIME.available())


def test_known_lists_runtimes_and_not_the_interface() -> None:
    assert "onnxruntime" in base.known()
    assert "base" not in base.known()


@pytest.mark.parametrize("name", ["onnxruntim", "onnx.runtime", "../onnxruntime"])
def test_an_unknown_name_is_answered_with_a_near_one(name: str) -> None:
    with pytest.raises(CommandError, match='Did you mean "onnxruntime"'):
        base.find(name)


def test_the_interface_is_not_a_runtime() -> None:
    with pytest.raises(CommandError, match="no such runtime"):
        base.find("base")


def test_another_distribution_brings_a_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("theirs", "modelbuild.runtimes.onnxruntime:RUNTIME", base.GROUP)
    monkeypatch.setattr(base, "_entry_points", lambda: (entry,))
    assert base.find("theirs") is ours.RUNTIME
    assert "theirs" in base.known()


def test_an_entry_point_that_is_no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("theirs", "json:JSONDecoder", base.GROUP)
    monkeypatch.setattr(base, "_entry_points", lambda: (entry,))
    with pytest.raises(CommandError, match="is not a runtime: it has no name, toolchain"):
        base.find("theirs")


def test_entry_points_are_not_searched_for_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "_entry_points", lambda: pytest.fail("searched"))
    assert base.find("onnxruntime") is ours.RUNTIME
