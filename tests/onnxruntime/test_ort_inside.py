"""Values inside the file that ships, in both formats: as the way runs it, under the names of the canonical file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import ort_models
import pytest
from onnx import TensorProto, helper
from runtime_conformance import dense, dense_answer, dense_inputs, installed, write_onnx

from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Inside, Inspectable, Node, Switchable
from modelbuild.runtimes.onnxruntime import RUNTIME, inside, worker

X = {"x": ort_models.weights(4, 6)}
PROJECT = Path(__file__).parents[2]
assert isinstance(RUNTIME, Inspectable)
assert isinstance(RUNTIME, Switchable)


def artefact(folder: Path, model: onnx.ModelProto, **options: Any) -> Path:
    out = folder / "-".join(["artefact", *map(str, options.values())])
    out.mkdir(parents=True)
    RUNTIME.convert({"onnx": write_onnx(folder / "onnx", model)}, out, {"options": options})
    return out


def told(**options: Any) -> dict[str, Any]:
    return {"options": options}


def values(shown: Inside) -> tuple[str, ...]:
    return tuple(value for node in shown.nodes for value in node.gives)


def same(one: Any, other: Any) -> bool:
    return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())


# -- what is inside


def test_of_a_convnet(tmp_path: Path) -> None:
    model, _ = ort_models.exported("convnet")
    shown = RUNTIME.inside(artefact(tmp_path, model))
    assert [node.kind for node in shown.nodes] == [
        *["Conv", "Relu", "MaxPool"] * 2,
        "Conv",
        "Relu",
        "Reshape",
        "Gemm",
    ]
    assert [node.kind for node in shown.nodes if node.layout] == ["Reshape"]
    assert (shown.inputs, shown.outputs, shown.batch) == (("image",), ("logits",), None)
    before = "image"
    for node in shown.nodes:  # weights are not read
        assert node.reads == (before,)
        (before,) = node.gives
    assert shown.identity == {name: name for name in ("image", *values(shown))}


def test_of_a_convnet_whose_operations_were_fused(tmp_path: Path) -> None:
    model, _ = ort_models.exported("convnet")
    shown = RUNTIME.inside(artefact(tmp_path, model, format="ort"))
    assert [node.kind for node in shown.nodes] == [
        *["FusedConv", "MaxPool"] * 2,
        "FusedConv",
        "Reshape",
        "Gemm",
    ]
    whole = RUNTIME.inside(artefact(tmp_path, model))
    left_out = {name for node in whole.nodes if node.kind == "Conv" for name in node.gives}
    assert set(values(shown)) == set(values(whole)) - left_out
    assert shown.outputs == whole.outputs


def test_a_node_with_branches_reads_what_they_capture_and_constants_are_no_nodes(tmp_path: Path) -> None:
    shown = RUNTIME.inside(artefact(tmp_path, ort_models.branches()))
    assert shown.nodes[-1] == Node("y", "If", ("positive", "h"), ("y",))
    shown = RUNTIME.inside(artefact(tmp_path / "2", ort_models.looped()))
    assert shown.nodes[1] == Node("loop", "Loop", ("h", "x"), ("grown",))
    shown = RUNTIME.inside(artefact(tmp_path / "3", ort_models.parts()))
    assert shown.nodes[0] == Node("double", "Mul", ("x",), ("twice",))


def test_what_a_branch_within_a_branch_captures_is_read_too(tmp_path: Path) -> None:
    def body(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        out = helper.make_tensor_value_info(f"{name}-out", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out])

    def both(inner: str) -> list[onnx.NodeProto]:
        inner_bodies = {
            f"{side}_branch": body(
                f"{inner}-{side}", [helper.make_node(kind, ["far"], [f"{inner}-{side}-out"])]
            )
            for side, kind in (("then", "Neg"), ("else", "Abs"))
        }
        return [helper.make_node("If", ["positive"], [f"{inner}-out"], **inner_bodies)]

    nodes = [
        helper.make_node("Relu", ["x"], ["far"]),
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["y"], then_branch=body("a", both("a")), else_branch=body("b", both("b"))
        ),
    ]
    shown = RUNTIME.inside(artefact(tmp_path, ort_models.model(nodes, ["y"], {"zero": np.float32(0)})))
    assert shown.nodes[-1].reads == ("positive", "far")


def test_operators_of_another_domain_are_not_taken_for_layout(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    add = helper.make_node("Add", ["a", "a"], ["b"])
    function = helper.make_function("own", "Identity", ["a"], ["b"], [add], opsets[:1])
    nodes = [
        helper.make_node("Identity", ["x"], ["h"], domain="own"),
        helper.make_node("Identity", ["h"], ["y"]),
    ]
    made = ort_models.model(nodes, ["y"], {})
    made = helper.make_model(made.graph, opset_imports=opsets, ir_version=8, functions=[function])
    assert [node.layout for node in RUNTIME.inside(artefact(tmp_path, made)).nodes] == [False, True]


@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_a_fixed_batch_is_told_and_held_to(tmp_path: Path, form: str) -> None:
    out = artefact(tmp_path, dense(16), format=form)
    assert RUNTIME.inside(out).batch == 16
    inputs = dense_inputs()
    found = RUNTIME.intermediates(out, {"x": inputs["x"][:16]}, ("logits",), told(format=form))
    np.testing.assert_allclose(found["logits"], dense_answer(inputs)["logits"][:16], atol=1e-5)
    with pytest.raises(RecipeError, match="takes 16 samples a call, and 70 were given"):
        RUNTIME.intermediates(out, inputs, ("logits",), told(format=form))


# -- its values


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_an_output_alone_has_the_bits_of_the_run(tmp_path: Path, form: str, level: str) -> None:
    """Shown as nothing more than it is, the model is the one that runs; levels differ in bits here."""
    model, inputs = ort_models.exported("encoder")
    options = {"format": form, "optimisation": level}
    out = artefact(tmp_path, model, **options)
    run = RUNTIME.run(out, inputs, told(**options))
    found = RUNTIME.intermediates(out, inputs, ("logits", "hidden"), told(**options))
    for name in found:
        assert same(found[name], run.outputs[name])
    if level == "all":
        plain = RUNTIME.intermediates(out, inputs, ("hidden",), told(optimisation="disabled"))
        assert same(plain["hidden"], found["hidden"]) == (form == "ort")


@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_outputs_that_are_not_asked_for_stay(tmp_path: Path, form: str) -> None:
    """Without them the model would be another, and rewritten in other ways."""
    file = artefact(tmp_path, dense(), format=form) / f"model.{form}"
    shown = worker.Session(inside.exposing(file, ["product", "hidden", "product", "x"]))
    assert [name for name, _, _ in shown.outputs] == ["logits", "hidden", "product"]
    assert [name for name, _, _ in shown.inputs] == ["x"]


@pytest.mark.parametrize("name", ["convnet", "encoder"])
def test_values_of_one_name_are_equal_in_both_formats(tmp_path: Path, name: str) -> None:
    """What the identity promises, fused or not: to the last bit where nothing was fused, closely where it was."""
    model, inputs = ort_models.exported(name)
    shipped, canonical = artefact(tmp_path, model, format="ort"), artefact(tmp_path, model)
    shown, whole = RUNTIME.inside(shipped), RUNTIME.inside(canonical)
    shared = tuple(value for value in values(shown) if value in set(values(whole)))
    assert len(shared) >= 0.8 * len(values(shown))
    here = RUNTIME.intermediates(shipped, inputs, shared, told(format="ort"))
    there = RUNTIME.intermediates(canonical, inputs, shared, told(optimisation="disabled"))
    for value in shared:
        assert (here[value].dtype, here[value].shape) == (there[value].dtype, there[value].shape)
        np.testing.assert_allclose(here[value], there[value], rtol=0, atol=2e-6, err_msg=value)


@pytest.mark.parametrize("form", ["onnx", "ort"])
@pytest.mark.parametrize(
    "make", [ort_models.branches, ort_models.quantised, ort_models.looped, ort_models.parts]
)
def test_every_value_comes_as_it_is(tmp_path: Path, make: Any, form: str) -> None:
    """Scalars, flags, values whose first axis is not the samples; inputs and outputs too, and one named twice.

    To show a value changes no bit where nothing is optimised any more.
    """
    out, params = artefact(tmp_path, make(), format=form), told(format=form, optimisation="disabled")
    shown = RUNTIME.inside(out)
    names = (*shown.inputs, *values(shown), *shown.outputs)
    found = RUNTIME.intermediates(out, X, names, params)
    assert set(found) == set(names)
    assert same(found["x"], X["x"])
    assert same(found["y"], RUNTIME.run(out, X, params).outputs["y"])
    if make is ort_models.branches:
        assert (found["sum"].shape, found["positive"].dtype) == ((), np.dtype(bool))
        assert same(found["h"], np.maximum(X["x"], 0))
    if make is ort_models.parts:
        assert found["shaped"].shape == (24,)


def test_folded_values_are_there(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["w"], ["folded"]),
        helper.make_node("Identity", ["folded"], ["same"]),
        helper.make_node("MatMul", ["x", "same"], ["y"]),
    ]
    model = ort_models.model(nodes, ["y"], {"w": ort_models.weights(6, 6)})
    out = artefact(tmp_path, model)
    for level in ("disabled", "all"):
        found = RUNTIME.intermediates(out, X, ("folded", "same", "y"), told(optimisation=level))
        assert same(found["folded"], -ort_models.weights(6, 6))
        assert same(found["same"], found["folded"])
    shipped = artefact(tmp_path, model, format="ort")
    assert values(RUNTIME.inside(shipped)) == ("y",)
    with pytest.raises(RecipeError, match='no operation gives "folded"'):
        RUNTIME.intermediates(shipped, X, ("folded",), told(format="ort"))


def test_all_samples_go_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many samples the way takes at once."""
    calls: list[int] = []
    run = worker.Session.run

    def spy(session: Any, feed: Any) -> Any:
        calls.append(len(feed["x"]))
        return run(session, feed)

    monkeypatch.setattr(worker.Session, "run", spy)
    out = artefact(tmp_path, dense())
    found = RUNTIME.intermediates(out, dense_inputs(), ("product",), told(batch=8))
    assert calls == [70]
    assert len(found["product"]) == 70


def test_runs_with_the_level_and_threads_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    settings = worker._settings
    monkeypatch.setattr(worker, "_settings", lambda *given: seen.append(given) or settings(*given))
    out = artefact(tmp_path, dense())
    seen.clear()
    RUNTIME.intermediates(out, dense_inputs(), ("product",), told(optimisation="extended", threads=2))
    assert seen == [("extended", 2)]


@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_runs_in_the_version_of_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.chdir(PROJECT)
    seen: list[str] = []
    (way,) = RUNTIME.runs({"versions": ["1.18.1"], "format": form}).values()
    asked = RUNTIME.conversion({"versions": ["1.18.1"], "format": form})
    out = tmp_path / "out"
    out.mkdir()
    params = {"options": dict(asked.options), **installed(asked.environment)}
    RUNTIME.convert({"onnx": write_onnx(tmp_path / "onnx", ort_models.branches())}, out, params)
    from modelbuild.runtimes.onnxruntime import isolated

    init = isolated.Session.__init__

    def spy(session: Any, *given: Any) -> None:
        init(session, *given)
        seen.append(session.version)

    monkeypatch.setattr(isolated.Session, "__init__", spy)
    names = values(RUNTIME.inside(out))
    found = RUNTIME.intermediates(out, X, names, {"options": dict(way.options), **installed(way.environment)})
    assert seen == ["1.18.1"] != [onnxruntime.__version__]
    here = RUNTIME.intermediates(out, X, names, told(format=form))
    assert (found["sum"].shape, found["positive"].dtype) == ((), np.dtype(bool))
    for name in names:
        np.testing.assert_allclose(found[name], here[name], rtol=0, atol=1e-5)


# -- what is refused


@pytest.mark.parametrize("form", ["onnx", "ort"])
@pytest.mark.parametrize("name", ["w1", "Product", "first", ""])
def test_what_is_no_value_of_an_operation_is_refused(tmp_path: Path, form: str, name: str) -> None:
    out = artefact(tmp_path, dense(), format=form)
    with pytest.raises(RecipeError, match=f'no operation gives "{name}"'):
        RUNTIME.intermediates(out, dense_inputs(), ("logits", name), told(format=form))


@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_a_value_that_is_no_tensor_of_numbers_is_refused_by_its_name(tmp_path: Path, form: str) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["pair"]),
        helper.make_node("SequenceAt", ["pair", "zero"], ["y"]),
    ]
    out = artefact(tmp_path, ort_models.model(nodes, ["y"], {"zero": np.int64(0)}), format=form)
    assert same(RUNTIME.intermediates(out, X, ("y",), told(format=form))["y"], X["x"])
    with pytest.raises(RecipeError, match=r'"pair" is a seq\(tensor\(float\)\)'):
        RUNTIME.intermediates(out, X, ("pair",), told(format=form))


@pytest.mark.parametrize("fault", ["missing", "stray", "dtype"])
def test_inputs_that_do_not_fit_are_refused(tmp_path: Path, fault: str) -> None:
    out, x = artefact(tmp_path, dense()), dense_inputs()["x"]
    given = {"missing": {}, "stray": {"x": x, "stray": x}, "dtype": {"x": x.astype(np.float64)}}[fault]
    with pytest.raises(
        RecipeError, match={"missing": '"x" is missing', "dtype": "float64"}.get(fault, fault)
    ):
        RUNTIME.intermediates(out, given, ("product",), told())


def test_what_stops_on_the_way_says_why(tmp_path: Path) -> None:
    from runtime_conformance import tokens, tokens_inputs

    out, inputs = artefact(tmp_path, tokens()), tokens_inputs()
    with pytest.raises(RecipeError, match="the model stopped"):
        RUNTIME.intermediates(out, {**inputs, "ids": inputs["ids"] + 100}, ("rows",), told())


def test_what_is_said_names_no_file_that_is_gone(tmp_path: Path) -> None:
    """Relu has no such attribute, which reading the file does not tell."""
    model = dense()
    model.graph.node[1].attribute.append(helper.make_attribute("alpha", 1.0))
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(RecipeError, match=r"INVALID_GRAPH : This is an invalid model\. .*alpha"):
        RUNTIME.intermediates(tmp_path, dense_inputs(), ("raw",), told())


def test_a_file_that_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    for name in ("model.onnx", "model.ort"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_bytes(b"no model")
        with pytest.raises(RecipeError, match="cannot be read"):
            RUNTIME.inside(folder)
        with pytest.raises(RecipeError, match="cannot be read"):
            RUNTIME.intermediates(folder, X, ("y",), told())


# -- the canonical file under a way's options


@pytest.mark.parametrize("form", ["onnx", "ort"])
def test_the_canonical_file_runs_plainly_and_then_as_the_way_says(tmp_path: Path, form: str) -> None:
    model, inputs = ort_models.exported("encoder")
    (way,) = RUNTIME.runs({"format": form, "threads": 2, "optimisation": "extended", "batch": 3}).values()
    plain, own = RUNTIME.switches(way.options)
    assert (plain.stage, own.stage) == ("runtime", "optimisation")
    (tmp_path / "out").mkdir()
    RUNTIME.as_artifact(write_onnx(tmp_path / "onnx", model), tmp_path / "out")
    runs = [RUNTIME.run(tmp_path / "out", inputs, {"options": dict(each.options)}) for each in (plain, own)]
    assert [run.backend for run in runs] == [
        "CPUExecutionProvider, optimisation disabled",
        "CPUExecutionProvider, optimisation extended, 2 threads",
    ]
    assert not same(runs[0].outputs["hidden"], runs[1].outputs["hidden"])
    session = worker.Session(str(tmp_path / "onnx" / "model.onnx"), "disabled")
    alone = session.run({name: array[:3] for name, array in inputs.items()})
    assert same(runs[0].outputs["hidden"][:3], alone[1])
