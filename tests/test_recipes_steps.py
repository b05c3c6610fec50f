"""The waterfall of real runs, with a fault at one stage after the other: that stage is blamed, and no other."""

import json
from pathlib import Path

import numpy as np
import onnx
import planted
import pytest
from onnx import numpy_helper
from planted import ONNX_FAULTS, in_onnx

from modelbuild import dataset, tensors
from modelbuild.dataset import DataSet
from modelbuild.equivalence import demand
from modelbuild.equivalence import noise as noises
from modelbuild.equivalence.attribution import blamed
from modelbuild.equivalence.tolerance import tolerance
from modelbuild.errors import RecipeError
from modelbuild.recipes import noise, platform, steps
from modelbuild.runtimes import base
from modelbuild.runtimes.onnxruntime import OnnxRuntime

HALF = {"precision": "float16"}
GATE = {"gate": {"tolerance": "auto"}, "place": "gates/runtime"}
BROKEN = in_onnx(ONNX_FAULTS["scaled_weight"], "node_Conv_53")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    made = planted.digits(tmp_path_factory.mktemp("digits"), 24)
    made.inputs["rounded.float16"] = made.rounded("float16")
    noise.measure(made.inputs, {}, made.inputs["noise"])
    return made


def waterfall(made, folder, runtime="onnxruntime", options=None, plant=None, said=None, **inputs):
    """Convert, spoil, run and measure; `inputs` take the place of the model's own folders, `said` is of outputs."""
    options, roles = options or {}, {**made.inputs, **inputs}
    artifact = folder / "artifact"
    artifact.mkdir()
    planted._convert(made, folder, artifact, runtime, options, None)
    if plant is not None:
        plant(artifact)
    way = next(iter(base.find(runtime).runs(options).values()))
    told = {"runtime": runtime, "options": dict(way.options)}
    (folder / "run").mkdir()
    platform.run({"artifact": artifact, "evaluation": roles["evaluation"]}, told, folder / "run")
    roles |= {"run": folder / "run", **({"rounded": roles["rounded.float16"]} if way.rounds else {})}
    out = folder / "out"
    out.mkdir()
    asked = {"gate": {**GATE["gate"], **({"outputs": said} if said else {})}}
    steps.measure(roles, {**told, **GATE, **asked, "run": "p", "rounds": way.rounds}, out)
    found = json.loads((out / steps.FILE).read_text())
    assert found["run"] == "p"
    return found


def stages(found, output="logits"):
    return [step["stage"] for step in found["outputs"][output]]


def test_an_honest_run_has_every_stage_and_none_is_blamed(digits, tmp_path):
    found = waterfall(digits, tmp_path)
    assert stages(found) == ["export", "runtime", "optimisation", "artefact"]
    logits = found["outputs"]["logits"]
    assert blamed(logits) == "" and all(step["ok"] for step in logits)
    assert logits[-1]["max_abs"] == 0, "the file that ships is the canonical one"
    assert "onnxruntime" in logits[1]["to"] and "optimisation disabled" in logits[1]["to"]
    assert [each["stage"] for each in found["tasks"]["logits"]] == ["student", *stages(found)]
    assert {each["metric"] for each in found["tasks"]["logits"]} == {"accuracy"}


def test_what_the_manifest_says_of_an_output_decides_its_task(digits, tmp_path):
    found = waterfall(digits, tmp_path, said={"logits": {"kind": "regression"}})
    assert found["tasks"] == {}, "its labels are class numbers"


def test_a_fault_in_the_artefact_is_the_artefacts(digits, tmp_path):
    assert blamed(waterfall(digits, tmp_path, plant=BROKEN)["outputs"]["logits"]) == "artefact"


def test_a_fault_in_the_export_is_the_exports(digits, tmp_path):
    spoilt = tmp_path / "onnx"
    spoilt.mkdir()
    for file in digits.inputs["onnx"].iterdir():
        (spoilt / file.name).write_bytes(file.read_bytes())
    BROKEN(spoilt)
    assert blamed(waterfall(digits, tmp_path, onnx=spoilt)["outputs"]["logits"]) == "export"


@pytest.mark.parametrize("stage", ["runtime", "optimisation"])
def test_a_fault_of_the_runtime_or_of_its_optimiser_is_theirs(stage, digits, tmp_path, monkeypatch):
    real = OnnxRuntime.run

    def broken(self, artifact, inputs, params):
        done = real(self, artifact, inputs, params)
        plain = params["options"].get("optimisation") in ("disabled", ["disabled"])
        if plain and stage == "optimisation":
            return done
        return done._replace(outputs={n: a * np.float32(1.01) for n, a in done.outputs.items()})

    monkeypatch.setattr(OnnxRuntime, "run", broken)
    assert blamed(waterfall(digits, tmp_path)["outputs"]["logits"]) == stage


def test_core_ml_has_precision_and_artefact(digits, tmp_path):
    found = waterfall(digits, tmp_path, "coreml", HALF)
    assert stages(found) == ["precision", "artefact"] and blamed(found["outputs"]["logits"]) == ""
    precision, artefact = found["outputs"]["logits"]
    assert precision["to"] == "the same in float16 arithmetic" and precision["max_abs"] > 100 * 1e-6
    assert "coreml" in artefact["to"]


def test_the_teacher_is_the_first_step(digits, tmp_path):
    teacher = tmp_path / "teacher"
    teacher.mkdir()
    truth = tensors.load(digits.inputs["reference"] / "outputs.safetensors")
    tensors.save(teacher / "outputs.safetensors", {"logits": truth["logits"] + np.float32(0.5)})
    found = waterfall(digits, tmp_path, teacher=teacher)
    first = found["outputs"]["logits"][0]
    assert (first["stage"], round(first["max_abs"], 4)) == ("distillation", 0.5)


def test_a_version_that_cannot_run_the_canonical_file_is_a_note_and_no_error(digits, tmp_path, monkeypatch):
    real = OnnxRuntime.run

    def old(self, artifact, inputs, params):
        if "artifact" not in Path(artifact).name:
            raise RecipeError("onnxruntime", "does not know opset 99", "")
        return real(self, artifact, inputs, params)

    monkeypatch.setattr(OnnxRuntime, "run", old)
    _, runtime, optimisation, artefact = waterfall(digits, tmp_path)["outputs"]["logits"]
    assert runtime["note"] == optimisation["note"] == "does not know opset 99" and runtime["ok"] is None
    assert artefact["ok"] is True and artefact["from"] == "the canonical ONNX file, optimisations off"


def test_of_a_given_onnx_file_nothing_was_exported(digits, tmp_path):
    given = planted.third_party(tmp_path / "given", digits.inputs["onnx"] / "model.onnx", _data(digits))
    noise.measure(given.inputs, {}, given.inputs["noise"])
    labels = tensors.load(digits.inputs["evaluation"] / "data.safetensors")["label"]
    dataset.write(given.inputs["evaluation"], DataSet(_data(digits), {"label": labels}))
    found = waterfall(given, tmp_path)
    assert stages(found) == ["runtime", "optimisation", "artefact"]
    assert found["outputs"]["logits"][0]["from"] == "the ONNX file, optimisations off"
    assert [each["stage"] for each in found["tasks"]["logits"]] == ["onnx", *stages(found)]


def test_a_fault_that_is_red_on_rmse_alone_is_the_artefacts_too(digits, tmp_path):
    """Moved by a little everywhere: the limit on rmse is the lower one."""
    measured = noises.read(digits.inputs["noise"] / noises.FILE)
    limits = tolerance("logits", measured.of("logits"), demand.RuntimeDemand()).limits
    by = (limits["max_abs"] + limits["rmse"]) / 2

    def plant(folder):
        model = onnx.load(folder / "model.onnx")
        bias = next(each for each in model.graph.initializer if each.name == "head.bias")
        array = numpy_helper.to_array(bias)
        bias.CopyFrom(numpy_helper.from_array((array + np.float32(by)).astype(np.float32), bias.name))
        onnx.save(model, folder / "model.onnx")

    logits = waterfall(digits, tmp_path, plant=plant)["outputs"]["logits"]
    assert blamed(logits) == "artefact" and logits[-1]["total"] < logits[-1]["limit"]
    assert logits[-1]["note"].startswith("in all rmse ")


def _data(made):
    return {"image": tensors.load(made.inputs["evaluation"] / "data.safetensors")["image"]}


def test_any_run_of_a_target_that_has_all_of_them(digits, tmp_path):
    waterfall(digits, tmp_path)
    roles = {**digits.inputs, "run.p.way": tmp_path / "run"}
    told = {"runs": {"p.way": {"runtime": "onnxruntime", "options": {}, "rounds": None, **GATE}}}
    found = steps.of_run("p.way", roles, told)
    assert found["run"] == "p.way" and stages(found) == ["export", "runtime", "optimisation", "artefact"]
