"""Values inside the model as a browser's ONNX Runtime leaves them: in Node, in Chromium, and on WebGPU."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nets
import numpy as np
import onnx
import pytest
import web_models
from onnx import TensorProto, helper, numpy_helper
from runtime_conformance import dense, dense_answer, dense_inputs, write_onnx

from modelbuild import dataset
from modelbuild.errors import RecipeError
from modelbuild.recipes import export
from modelbuild.runtimes import onnxruntime
from modelbuild.runtimes.base import Inside, Inspectable, Switchable
from modelbuild.runtimes.onnxruntime_web import RUNTIME, hosts
from modelbuild.runtimes.onnxruntime_web.hosts import Host

assert isinstance(RUNTIME, Inspectable)
assert isinstance(RUNTIME, Switchable)
NATIVE: Any = onnxruntime.RUNTIME


def artefact(folder: Path, model: onnx.ModelProto) -> Path:
    out = folder / "artefact"
    out.mkdir()
    RUNTIME.as_artifact(write_onnx(folder / "onnx", model), out)
    return out


def told(dist: Path, host: Host, **options: Any) -> dict[str, Any]:
    kind = {"executable": host.program} if host.kind == "chromium" else {}
    return {"options": {"host": host.kind, **kind, **options}, "environment": str(dist.parents[2])}


def values(inside: Inside) -> tuple[str, ...]:
    return tuple(value for node in inside.nodes for value in node.gives)


def exported(name: str) -> tuple[onnx.ModelProto, dict[str, Any]]:
    net = nets.NETS[name]
    data = dataset.DataSet(dict(net.inputs()), {})
    return export.to_onnx(net.module(), data, export.Settings(18, 1, 64), name), net.inputs()


def all_kinds() -> onnx.ModelProto:
    """x [n, 4]: a scalar, flags, whole numbers, no values at all, and a branch that captures."""

    def body(name: str, kind: str) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}-out", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(kind, ["h"], [f"{name}-out"])], name, [], [out])

    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["h", "zero"], ["flags"]),
        helper.make_node("Cast", ["h"], ["halves"], to=TensorProto.FLOAT16),
        helper.make_node("NonZero", ["flags"], ["places"]),
        helper.make_node("Slice", ["h", "none", "none", "one"], ["empty"]),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node("If", ["positive"], ["y"], then_branch=body("a", "Neg"), else_branch=body("b", "Abs")),
    ]  # fmt: skip
    made = web_models.model(nodes, [web_models.port("x", ["n", 4])], [web_models.port("y", ["n", 4])])
    constants = {"zero": np.float32(0), "none": np.array([0]), "one": np.array([1])}
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return made


X = {"x": np.random.default_rng(0).standard_normal((3, 4), dtype=np.float32)}


def check_kinds(found: Mapping[str, Any]) -> None:
    h = np.maximum(X["x"], 0)
    expected = {
        "x": X["x"], "h": h, "sum": h.sum(), "flags": h > 0, "halves": h.astype(np.float16),
        "places": np.array(np.nonzero(h)), "empty": h[:, :0], "positive": np.array(True), "y": -h,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_allclose(found[name], array, rtol=1e-6, err_msg=name)


def test_values_of_every_kind_come_as_they_are(node: Host, dist: Path, tmp_path: Path) -> None:
    out = artefact(tmp_path, all_kinds())
    names = ("x", *values(RUNTIME.inside(out)), "y")
    check_kinds(RUNTIME.intermediates(out, X, names, told(dist, node, backend="wasm")))


def test_chromium_gives_the_bits_of_node(node: Host, chromium: Host, dist: Path, tmp_path: Path) -> None:
    out = artefact(tmp_path, all_kinds())
    names = ("x", *values(RUNTIME.inside(out)))
    found = RUNTIME.intermediates(out, X, names, told(dist, chromium, backend="wasm", threads=2))
    check_kinds(found)
    other = RUNTIME.intermediates(out, X, names, told(dist, node, backend="wasm"))
    assert all(found[name].tobytes() == other[name].tobytes() for name in names)


def test_webgpu_shows_its_own_values(chromium: Host, dist: Path, tmp_path: Path) -> None:
    out, inputs = artefact(tmp_path, web_models.in_two_places()), web_models.squares()
    found = RUNTIME.intermediates(out, inputs, ("positive", "det"), told(dist, chromium, backend="webgpu"))
    np.testing.assert_array_equal(found["positive"], np.maximum(inputs["x"], 0))
    np.testing.assert_allclose(found["det"], np.linalg.det(inputs["x"]), atol=1e-5)


def test_webgpu_on_which_nothing_ran_shows_nothing(chromium: Host, dist: Path, tmp_path: Path) -> None:
    out = artefact(tmp_path, web_models.determinant())
    with pytest.raises(RecipeError, match="nothing ran on WebGPU"):
        RUNTIME.intermediates(out, web_models.squares(), ("det",), told(dist, chromium, backend="webgpu"))


@pytest.mark.parametrize("name", ["convnet", "encoder"])
def test_every_value_of_a_network_is_that_of_the_native_runtime(
    name: str, node: Host, dist: Path, tmp_path: Path
) -> None:
    model, inputs = exported(name)
    out = artefact(tmp_path, model)
    inside = RUNTIME.inside(out)
    assert inside == NATIVE.inside(out)
    found = RUNTIME.intermediates(out, inputs, values(inside), told(dist, node, optimisation="disabled"))
    native = NATIVE.intermediates(out, inputs, values(inside), {"options": {"optimisation": "disabled"}})
    for value in values(inside):
        assert (found[value].dtype, found[value].shape) == (native[value].dtype, native[value].shape)
        np.testing.assert_allclose(found[value], native[value], rtol=0, atol=2e-6, err_msg=value)


def test_an_output_alone_has_the_bits_of_the_run(node: Host, dist: Path, tmp_path: Path) -> None:
    model, inputs = exported("encoder")
    out, params = artefact(tmp_path, model), told(dist, node)
    run = RUNTIME.run(out, inputs, params)
    found = RUNTIME.intermediates(out, inputs, ("hidden",), params)
    assert found["hidden"].tobytes() == run.outputs["hidden"].tobytes()


def test_all_samples_go_in_one_call_and_the_way_is_kept_to(
    node: Host, dist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Any] = []
    asked = hosts._asked

    def spy(host: Host, folder: Path, files: Any, settings: Any) -> Any:
        jobs.append((host, json.loads(files["job.json"])))
        return asked(host, folder, files, settings)

    monkeypatch.setattr(hosts, "_asked", spy)
    out = artefact(tmp_path, dense())
    params = told(dist, node, batch=8, threads=2, optimisation="basic")
    found = RUNTIME.intermediates(out, dense_inputs(), ("raw", "x", "raw"), params)
    ((host, job),) = jobs
    assert host == node
    assert (job["batches"], job["outputs"]) == ([70], ["raw"])
    assert (job["backend"], job["threads"], job["optimisation"]) == ("wasm", 2, "basic")
    assert found.keys() == {"raw", "x"}
    assert found["raw"].shape == (70, 3)


def test_an_input_alone_is_what_was_given(node: Host, dist: Path, tmp_path: Path) -> None:
    out = artefact(tmp_path, dense())
    found = RUNTIME.intermediates(out, dense_inputs(), ("x",), told(dist, node))
    assert found["x"].tobytes() == dense_inputs()["x"].tobytes()
    with pytest.raises(RecipeError, match="float64"):
        RUNTIME.intermediates(out, {"x": dense_inputs()["x"].astype(np.float64)}, ("x",), told(dist, node))


def test_a_fixed_batch_is_held_to(node: Host, dist: Path, tmp_path: Path) -> None:
    out = artefact(tmp_path, dense(16))
    assert RUNTIME.inside(out).batch == 16
    with pytest.raises(RecipeError, match="takes 16 samples a call, and 70 were given"):
        RUNTIME.intermediates(out, dense_inputs(), ("raw",), told(dist, node))
    found = RUNTIME.intermediates(out, {"x": dense_inputs()["x"][:16]}, ("logits",), told(dist, node))
    np.testing.assert_allclose(found["logits"], dense_answer(dense_inputs())["logits"][:16], atol=1e-5)


def test_a_name_that_no_operation_gives_is_refused(node: Host, dist: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match='no operation gives "raws"'):
        RUNTIME.intermediates(artefact(tmp_path, dense()), dense_inputs(), ("raws",), told(dist, node))


@pytest.mark.parametrize("name", ["words", "pair"])
def test_what_is_no_tensor_of_numbers_is_refused(name: str, node: Host, dist: Path, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["words"], to=TensorProto.STRING),
        helper.make_node("SequenceConstruct", ["x", "x"], ["pair"]),
        helper.make_node("SequenceAt", ["pair", "zero"], ["y"]),
    ]
    made = web_models.model(nodes, [web_models.port("x", ["n", 4])], [web_models.port("y", ["n", 4])])
    made.graph.initializer.append(numpy_helper.from_array(np.int64(0), "zero"))
    out = artefact(tmp_path, made)
    assert RUNTIME.intermediates(out, X, ("y",), told(dist, node))["y"].tobytes() == X["x"].tobytes()
    with pytest.raises(RecipeError, match=r'"words" is a string tensor|the model stopped'):
        RUNTIME.intermediates(out, X, (name,), told(dist, node))


def test_the_canonical_file_runs_plainly_and_then_as_the_way_says(
    node: Host, dist: Path, tmp_path: Path
) -> None:
    out = artefact(tmp_path, dense())
    plain, own = RUNTIME.switches(told(dist, node, backend="wasm", threads=2, batch=35)["options"])
    assert (plain.stage, own.stage) == ("runtime", "optimisation")
    runs = [
        RUNTIME.run(out, dense_inputs(), {**told(dist, node), "options": dict(each.options)})
        for each in (plain, own)
    ]
    assert [run.facts["threads"] for run in runs] == [1, 2]
    assert [list(run.placement) for run in runs] == [["all 4 nodes"], ["all 3 nodes"]]
