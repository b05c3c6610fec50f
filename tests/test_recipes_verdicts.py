"""From a canonical ONNX file through convert and run to a verdict, with faults planted on the way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from runtime_conformance import SAMPLES, contents, dense, dense_answer, dense_inputs, write_onnx

from modelbuild import dataset, tensors
from modelbuild.dataset import DataSet
from modelbuild.equivalence import noise
from modelbuild.equivalence.verdict import read
from modelbuild.errors import CommandError, ManifestError, RecipeError
from modelbuild.recipes import platform, verdicts

PARAMS = {"runtime": "onnxruntime", "options": {}}
PLATFORMS = {name: {"runtime": "onnxruntime", "required": True, "unavailable": None} for name in ("a", "b")}
GATE = {"tolerance": "auto", "decision_flips": 0}


@dataclass
class Project:
    """The output folders of the targets upstream of the gates."""

    root: Path

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(exist_ok=True)
        return path

    def evaluation(self, label: str | None = "label") -> Path:
        folder = self.folder("evaluation")
        inputs = dense_inputs()
        labels = dense_answer(inputs)["logits"].argmax(axis=1)
        tensors.save(folder / "data.safetensors", {**inputs, "label": labels})
        about = {"inputs": list(inputs), "label": label, "samples": SAMPLES}
        (folder / "data.json").write_text(json.dumps(about))
        return folder

    def reference(self) -> Path:
        folder = self.folder("reference")
        x = dense_inputs()["x"]
        nudged = np.nextafter(x, np.float32(np.inf))
        for name, value in {"outputs": x, "outputs64": x.astype(np.float64), "nudged": nudged}.items():
            tensors.save(folder / f"{name}.safetensors", dense_answer({"x": value}))
        return folder

    def run(self, name: str, model: onnx.ModelProto, **options: Any) -> Path:
        params = {**PARAMS, "options": options}
        targets = {"onnx": write_onnx(self.folder(f"{name}.onnx"), model)}
        platform.convert(targets, params, self.folder(name))
        inputs = {"artifact": self.folder(name), "evaluation": self.evaluation()}
        platform.run(inputs, params, self.folder(f"{name}.run"))
        return self.folder(f"{name}.run")

    def noise(self, rounded: Mapping[str, float] | None = None, wide: bool = True) -> Path:
        """As measured on the reference; an arithmetic in `rounded` moves every value by its number."""
        folder, truth = self.folder("noise"), dense_answer(dense_inputs())
        found = {
            noise.FP64: tensors.load(self.reference() / "outputs64.safetensors"),
            noise.NUDGED: tensors.load(self.reference() / "nudged.safetensors"),
        }
        sources = found if wide else {noise.NUDGED: found[noise.NUDGED]}
        moved = {
            kind: {n: a + np.float32(by) for n, a in truth.items()} for kind, by in (rounded or {}).items()
        }
        noise.write(folder / noise.FILE, noise.measure(truth, sources, moved))
        return folder

    def gate(self, runs: dict[str, Path], gate: Any = GATE, platforms: Any = None) -> dict[str, Any]:
        inputs = {"reference": self.reference(), "noise": self.noise(), "evaluation": self.evaluation()}
        params = {
            "gate": gate,
            "model": "m",
            "platforms": platforms or dict.fromkeys(runs, PLATFORMS["a"]),
        }
        inputs.update({f"run.{name}": path for name, path in runs.items()})
        verdicts.runtime(inputs, params, self.folder("verdict"))
        found: dict[str, Any] = json.loads((self.folder("verdict") / "verdicts.json").read_text())
        return found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def weight(model: onnx.ModelProto, name: str, change: Callable[[Any], Any]) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor).copy()), name))
    return model


def set_first(value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array.flat[0] = value
        return array

    return change


def swapped(model: onnx.ModelProto) -> onnx.ModelProto:
    """The first two columns of the logits change places."""
    order = [1, 0, 2]
    weight(model, "b2", lambda b: b[order])
    return weight(model, "w2", lambda w: np.ascontiguousarray(w[:, order]))


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    for owner in (*model.graph.node, model.graph.output[0]):
        if getattr(owner, "name", "") == "logits":
            owner.name = "logit"
        for index, name in enumerate(getattr(owner, "output", [])):
            if name == "logits":
                owner.output[index] = "logit"
    return model


def test_a_clean_model_is_green_from_file_to_verdict(project: Project) -> None:
    runs = {"a": project.run("a", dense()), "b": project.run("b", dense(), optimisation="disabled", batch=16)}
    found = project.gate(runs)
    assert [v["detail"] for v in found["verdicts"] if not v["ok"]] == []
    assert found["ok"] is True
    told = [v for v in found["verdicts"] if v["metric"] == "tolerance"]
    assert {v["output"] for v in told} == {"hidden", "logits"}
    assert all("fp64" in v["detail"] and "inputs moved 1 ulp" in v["detail"] for v in told)
    assert {(v["platform"], v["against"]) for v in found["verdicts"] if v["run"]} == {
        ("a", "reference"), ("b", "reference"), ("a", "b"),
    }  # fmt: skip
    assert read(project.root / "verdict" / "verdicts.json")


def test_run_tells_who_ran(project: Project) -> None:
    record = json.loads((project.run("a", dense()) / "run.json").read_text())
    assert (record["runtime"], record["evidence"], record["samples"]) == ("onnxruntime", "executed", SAMPLES)
    assert record["version"]
    assert record["backend"] == "CPUExecutionProvider"


def test_bytes_are_the_same_twice(project: Project) -> None:
    runs = {"b": project.run("b", dense()), "a": project.run("a", dense())}
    project.gate(runs)
    before = [contents(project.root / name) for name in ("a", "a.run", "verdict")]
    project.gate({"a": project.run("a", dense()), "b": runs["b"]})
    assert before == [contents(project.root / name) for name in ("a", "a.run", "verdict")]


@pytest.mark.parametrize(
    ("plant", "metric"),
    [
        (lambda m: weight(m, "w2", lambda w: w * np.float32(1.01)), "max_abs"),
        (lambda m: weight(m, "b2", lambda b: b + np.float32(1e-3)), "rmse"),
        (lambda m: weight(m, "w1", set_first(np.nan)), "nan"),
        (lambda m: weight(m, "b2", set_first(np.inf)), "inf"),
        (swapped, "max_abs"),
        (swapped, "decision_flips"),
        (renamed, "missing"),
        (lambda m: weight(m, "w2", lambda w: w * 0), "max_abs"),
    ],
)
def test_a_fault_in_the_artefact_turns_the_gate_red(project: Project, plant: Any, metric: str) -> None:
    found = project.gate({"a": project.run("a", plant(dense())), "b": project.run("b", dense())})
    assert found["ok"] is False
    for against in ({"a", "reference"}, {"a", "b"}):
        bad = [v for v in found["verdicts"] if not v["ok"] and {v["platform"], v["against"]} == against]
        assert metric in {v["metric"] for v in bad}
    assert all(v["ok"] for v in found["verdicts"] if (v["platform"], v["against"]) == ("b", "reference"))


@pytest.mark.parametrize(
    "change",
    [
        lambda o: {"logits": o["hidden"][:, :3].copy(), "hidden": o["hidden"]},
        lambda o: {name: array[:-1] for name, array in o.items()},
        lambda o: {name: array[::-1].copy() for name, array in o.items()},
        lambda o: {**o, "stray": o["logits"]},
    ],
)
def test_a_fault_in_recorded_outputs_turns_the_gate_red(project: Project, change: Any) -> None:
    run = project.run("a", dense())
    tensors.save(run / "outputs.safetensors", change(tensors.load(run / "outputs.safetensors")))
    assert project.gate({"a": run})["ok"] is False


def test_an_unavailable_platform(project: Project) -> None:
    run = project.run("a", dense())
    away = {"runtime": "coreml", "required": True, "unavailable": "needs macOS"}
    assert project.gate({"a": run}, platforms={"a": PLATFORMS["a"], "c": away})["ok"] is False
    optional = project.gate({"a": run}, platforms={"a": PLATFORMS["a"], "c": {**away, "required": False}})
    assert optional["ok"] is True
    assert [v["evidence"] for v in optional["verdicts"] if v["platform"] == "c"] == ["none"]
    assert [v["detail"] for v in optional["verdicts"] if v["platform"] == "c"] == [
        "not evidenced: needs macOS"
    ]
    nothing = project.gate({}, platforms={"c": {**away, "required": False}})
    assert nothing["ok"] is False
    assert any("nothing was checked" in v["detail"] for v in nothing["verdicts"] if not v["ok"])


def test_a_platform_may_have_a_tolerance_of_its_own(project: Project) -> None:
    run = project.run("a", weight(dense(), "b2", lambda b: b + np.float32(1e-3)))
    own = {"a": {**PLATFORMS["a"], "tolerance": {"max_abs": 0.01}}}
    assert project.gate({"a": run})["ok"] is False
    assert project.gate({"a": run}, platforms=own)["ok"] is True
    own["a"]["tolerance"] = {"cosine": 0}
    with pytest.raises(ManifestError, match="platforms/a/tolerance/cosine"):
        project.gate({"a": run}, platforms=own)


def test_without_an_fp64_form_the_nudge_alone_is_the_floor(project: Project) -> None:
    run = project.run("a", dense())
    inputs = {
        "reference": project.reference(),
        "noise": project.noise(wide=False),
        "evaluation": project.evaluation(),
        "run.a": run,
    }
    params = {"gate": GATE, "model": "m", "platforms": {"a": PLATFORMS["a"]}}
    verdicts.runtime(inputs, params, project.folder("verdict"))
    found = read(project.folder("verdict") / "verdicts.json")
    assert all(v.ok for v in found)
    assert not any("fp64" in v.detail for v in found)


def off(project: Project, by: float) -> Path:
    """The run of a platform whose logits are off by `by`."""
    return project.run("a", weight(dense(), "b2", lambda b: b + np.float32(by)))


def judged(project: Project, runs: dict[str, Path], more: dict[str, Path], **params: Any) -> Any:
    """The verdicts on `runs` of platform a, with further inputs and params."""
    inputs = {
        "reference": project.reference(),
        "noise": project.noise(params.pop("moved", None)),
        "evaluation": project.evaluation(),
        **more,
    }
    inputs.update({f"run.{name}": path for name, path in runs.items()})
    platforms = {"a": {**PLATFORMS["a"], **params.pop("platform", {})}}
    given = {"gate": GATE, "model": "m", "platforms": platforms, **params}
    verdicts.runtime(inputs, given, project.folder("verdict"))
    return read(project.folder("verdict") / "verdicts.json")


def test_a_way_of_running_is_held_to_the_arithmetic_that_it_computes_in(project: Project) -> None:
    run, moved = off(project, 1e-3), {"float16": 1e-3}
    for name in ("a", "a.sums"):
        assert all(v.ok for v in judged(project, {name: run}, {}, moved=moved, rounds={name: "float16"}))
        assert not all(v.ok for v in judged(project, {name: run}, {}, moved=moved))
        other = judged(project, {name: run}, {}, moved=moved, rounds={name: "float16-sums"})
        assert not all(v.ok for v in other)


def test_a_way_of_no_platform_is_refused(project: Project) -> None:
    with pytest.raises(RecipeError, match=r"a run of b\.way, which is no platform"):
        judged(project, {"b.way": off(project, 0)}, {})


@pytest.mark.parametrize(("found", "measured"), [([], 3.5), (["overflow"], None)])
def test_what_the_preflight_found_stands_among_the_verdicts(
    project: Project, found: list[str], measured: float | None
) -> None:
    findings = [
        {"kind": kind, "module": "a", "operation": "mul", "value": 1e5, "share": 1.0} for kind in found
    ]
    record = {"tensors": 4, "largest": 3.5, "findings": findings}
    (project.folder("preflight") / "preflight.json").write_text(json.dumps(record))
    rows = judged(project, {"a": off(project, 0)}, {"preflight": project.folder("preflight")})
    (row,) = [row for row in rows if row.metric == "range"]
    assert (row.target, row.measured, row.ok) == ("m:preflight", measured, True)
    assert not [row for row in judged(project, {"a": off(project, 0)}, {}) if row.metric == "range"]


def test_what_a_platform_demands_reaches_the_gate(project: Project) -> None:
    run = off(project, 0)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "evidence": "interpreted"}))
    for evidence, required, ok in (
        ("interpreted", True, True),
        ("executed", True, False),
        ("executed", False, True),
    ):
        platform = {"evidence": evidence, "required": required}
        assert all(v.ok for v in judged(project, {"a": run}, {}, platform=platform)) is ok
    rows = judged(project, {"a": run}, {}, platform={"budgets": {"bytes": 1}})
    assert {row.metric for row in rows if not row.ok} == {"bytes"}


def test_a_run_of_no_platform_is_refused(project: Project) -> None:
    run = project.run("a", dense())
    with pytest.raises(RecipeError, match="a run of a, which is no platform"):
        project.gate({"a": run}, platforms={"b": PLATFORMS["b"]})


def test_made_up_evidence_is_refused(project: Project) -> None:
    run = project.run("a", dense())
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "evidence": "believed"}))
    with pytest.raises(RecipeError, match="no kind of evidence"):
        project.gate({"a": run})


def test_vacuous_gates_are_refused(project: Project) -> None:
    run = project.run("a", dense())
    with pytest.raises(ManifestError, match="gates/runtime/tolerance/cosine"):
        project.gate({"a": run}, {"tolerance": {"cosine": 0}})
    with pytest.raises(RecipeError, match="gates/runtime/tolerance/max_abs"):
        project.gate({"a": run}, {"tolerance": {"max_abs": 1000}})


def test_the_recipes_refuse_what_they_cannot_do(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CommandError, match="there is no such runtime"):
        platform.convert({}, {"runtime": "onnxruntime-wep", "options": {}}, project.root)
    with pytest.raises(RecipeError, match="needs the target onnx"):
        platform.convert({}, PARAMS, project.root)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match="cannot run here"):
        platform.run({}, PARAMS, project.root)


def test_the_teacher_gate(project: Project) -> None:
    taught = project.folder("teacher.outputs")
    tensors.save(taught / "outputs.safetensors", dense_answer(dense_inputs()))
    inputs = {"reference": project.reference(), "outputs": taught}
    gate = {"metric": "agreement", "min": 0.97, "output": "logits"}
    verdicts.teacher(inputs, {"gate": gate, "target": "m:reference"}, project.folder("verdict"))
    (found,) = read(project.folder("verdict") / "verdicts.json")
    assert (found.ok, found.measured, found.against, found.target) == (True, 1.0, "teacher", "m:reference")


def test_the_task_gate(project: Project) -> None:
    inputs = {"reference": project.reference(), "evaluation": project.evaluation()}
    params = {"gate": {"metric": "accuracy", "min": 0.95, "output": "logits"}, "target": "m:reference"}
    verdicts.task(inputs, params, project.folder("verdict"))
    (found,) = read(project.folder("verdict") / "verdicts.json")
    assert (found.ok, found.measured, found.against) == (True, 1.0, "label")
    with pytest.raises(RecipeError, match="has no label"):
        verdicts.task({**inputs, "evaluation": project.evaluation(None)}, params, project.folder("verdict"))


def near(outputs: Mapping[str, Any], truth: Mapping[str, Any], within: float) -> Any:
    (due,) = truth.values()
    return (np.abs(outputs["logits"][:, 0] - due.reshape(len(due), -1)[:, 0]) < within).astype(np.float32)


def test_the_gates_take_lists_and_metrics_of_the_project(project: Project) -> None:
    taught = project.folder("teacher.outputs")
    tensors.save(taught / "outputs.safetensors", {"logits": dense_answer(dense_inputs())["logits"]})
    inputs = {"reference": project.reference(), "outputs": taught, "evaluation": project.folder("evaluation")}
    own = {"metric": f"{__name__}:near", "min": 0.9, "args": {"within": 1e-3}}
    gate = [{"metric": "cosine", "min": 0.99, "output": "logits"}, own]
    verdicts.teacher(inputs, {"gate": gate, "target": "m:reference"}, project.folder("verdict"))
    cosine, found = read(project.folder("verdict") / "verdicts.json")
    assert (cosine.metric, cosine.output, cosine.ok) == ("cosine", "logits", True)
    assert (found.metric, found.output, found.ok) == ("near", "", True)
    assert (found.measured, found.more_is_better) == (1, True)
    truths = {"label.logits": dense_answer(dense_inputs())["logits"]}
    dataset.write(inputs["evaluation"], DataSet(dense_inputs(), truths))
    verdicts.task(inputs, {"gate": [own, *gate[:1]], "target": "m:reference"}, project.folder("verdict"))
    found, cosine = read(project.folder("verdict") / "verdicts.json")
    assert [found.ok, found.against, cosine.ok, cosine.against] == [True, "label", True, "label"]


def test_all_against_all_is_written_beside_the_verdicts(project: Project) -> None:
    bad = weight(dense(), "b2", lambda b: b + np.float32(0.1))
    project.gate({"a": project.run("a", dense()), "b": project.run("b", bad)})
    found = json.loads((project.root / "verdict" / "matrix.json").read_text())["outputs"]
    assert found["logits"]["words"] == "reference = a; b differs"
    assert found["hidden"]["words"] == "reference = a = b"
    assert found["logits"]["runs"] == ["reference", "a", "b"]
    assert found["logits"]["share"][0][2] > 1 > found["logits"]["share"][0][1]
    assert found["logits"]["histograms"].keys() == found["logits"]["margins"].keys() == {"a", "b"}


def test_a_run_can_be_read_whole(project: Project) -> None:
    folder = project.run("a", dense())
    found = verdicts.read_run(folder)
    assert (found.evidence, found.backend) == ("executed", "CPUExecutionProvider")
    assert {n: a.tobytes() for n, a in found.outputs.items()} == {
        n: a.tobytes() for n, a in tensors.load(folder / "outputs.safetensors").items()
    }
    assert found.placement == json.loads((folder / "run.json").read_text())["placement"]


def test_what_the_manifest_says_of_outputs_reaches_the_gates_on_the_model(project: Project) -> None:
    inputs = {"reference": project.reference(), "evaluation": project.evaluation()}
    gate = {"metric": "accuracy", "min": 0.95, "output": "logits"}
    params = {"gate": gate, "target": "m:reference", "outputs": {"logits": {"kind": "regression"}}}
    with pytest.raises(RecipeError, match="accuracy needs"):
        verdicts.task(inputs, params, project.folder("verdict"))
