import json

import pytest

from modelbuild import graph, manifest, targets
from modelbuild.errors import ManifestError
from modelbuild.graph import plan
from modelbuild.modules import locate
from modelbuild.runtimes import base

BASE = {
    "model": "tiny",
    "data": {
        "train": {"loader": "nets:load", "args": {"part": "train"}},
        "evaluation": {"loader": "nets:load", "args": {"part": "test"}},
        "calibration": {"sample": "train", "count": 16, "seed": 7},
    },
    "teacher": {"module": "nets:Net", "args": {"width": 4}, "train": {"steps": 3}},
    "student": {"module": "small:Net", "args": {"width": 2}, "train": {"steps": 5}},
    "platforms": {"android": {"runtime": "onnxruntime"}},
    "gates": {"teacher": {"metric": "agreement", "min": 0.9}, "task": {"metric": "accuracy", "min": 0.5}},
}
SOURCE = {"module": "nets:Net", "args": {"width": 4}, "weights": "w.safetensors"}


def without(*keys, **changes):
    return {**{k: v for k, v in BASE.items() if k not in keys}, **changes}


@pytest.fixture
def planned(tmp_path):
    """Write manifests and plan them."""
    for name in ("nets.py", "small.py"):
        (tmp_path / name).write_text("def load(): ...\nclass Net: ...\n")
    (tmp_path / "w.safetensors").write_text("w")
    (tmp_path / "m.onnx").write_text("m")
    (tmp_path / "manifests").mkdir()

    def planned(*models):
        for model in models:
            (tmp_path / "manifests" / f"{model['model']}.json").write_text(json.dumps(model))
        return plan(manifest.load(tmp_path, set()))

    return planned


def names(found, model="tiny"):
    return [target.name.partition(":")[2] for target in found.of(model)]


def test_a_distilled_model_has_every_target(planned):
    assert set(names(planned(BASE))) == {
        "data.train", "data.evaluation", "data.calibration", "teacher", "student",
        "teacher.outputs.train", "teacher.outputs.evaluation", "reference", "noise", "onnx",
        "android", "android.run", "android.golden", "android.steps",
        "verdict.teacher", "verdict.task", "verdict.runtime", "repro",
    }  # fmt: skip


def test_given_weights_take_the_place_of_teacher_and_student(planned):
    found = planned(
        without("teacher", "student", source=SOURCE, gates={"task": {"metric": "accuracy", "min": 0.5}})
    )
    assert not {"teacher", "teacher.outputs.evaluation", "verdict.teacher"} & set(names(found))
    student = found.targets["tiny:student"]
    assert student.files == {"weights": "w.safetensors"}
    assert student.params == {"module": "nets:Net", "args": {"width": 4}}


def test_a_given_onnx_file_takes_the_place_of_every_network(planned):
    found = planned(without("teacher", "student", source={"onnx": "m.onnx"}, gates={}))
    assert not {"teacher", "student"} & set(names(found))
    assert found.targets["tiny:onnx"].files == {"model": "m.onnx"}
    assert found.targets["tiny:reference"].inputs == {
        "onnx": "tiny:onnx",
        "evaluation": "tiny:data.evaluation",
    }


def test_inputs_come_before_what_is_made_from_them(planned):
    seen = set()
    for target in planned(BASE).targets.values():
        assert set(target.inputs.values()) <= seen, target.name
        seen.add(target.name)


def test_data_may_be_declared_in_any_order(planned):
    data = dict(reversed(BASE["data"].items()))
    assert names(planned(without("data", data=data)))[0] != "data.calibration"


def test_two_models_are_two_sets_of_targets(planned):
    found = planned(BASE, {**BASE, "model": "other"})
    assert names(found) == names(found, "other")
    assert len(found.targets) == 2 * len(names(found))
    for target in found.of("tiny"):
        assert all(name.startswith("tiny:") for name in target.inputs.values())


def test_params_are_exactly_what_the_recipe_reads(planned):
    targets = planned(BASE).targets
    assert targets["tiny:data.train"].params == {
        "loader": "nets:load",
        "args": {"part": "train"},
        "files": [],
    }
    assert targets["tiny:data.calibration"].params == {"count": 16, "seed": 7}
    assert set(targets["tiny:teacher"].params) == {"module", "args", "task", "train"}
    assert set(targets["tiny:teacher.outputs.train"].params) == {"hidden", "store"}
    assert set(targets["tiny:student"].params) == {"network", "distil", "train"}
    assert set(targets["tiny:reference"].params) == set()
    assert set(targets["tiny:onnx"].params) == {"export"}
    assert set(targets["tiny:android"].params) == {"runtime", "options"}


def changed(planned, model):
    before, after = planned(BASE).targets, planned(model).targets
    return {name for name in after if before.get(name) != after[name]}


def test_a_value_nobody_reads_changes_no_target(planned):
    assert changed(planned, {**BASE, "description": "other words"}) == set()


def test_a_value_changes_only_the_targets_that_read_it(planned):
    student = {**BASE["student"], "train": {"steps": 6}}
    assert changed(planned, {**BASE, "student": student}) == {"tiny:student"}
    teacher = {**BASE["teacher"], "args": {"width": 5}}
    assert changed(planned, {**BASE, "teacher": teacher}) == {"tiny:teacher"}
    gates = {**BASE["gates"], "task": {"metric": "accuracy", "min": 0.6}}
    assert changed(planned, {**BASE, "gates": gates}) == {"tiny:verdict.task"}


def test_the_code_a_manifest_names_is_part_of_the_targets_that_run_it(planned):
    targets = planned(BASE).targets
    assert targets["tiny:data.train"].modules == ("nets",)
    assert targets["tiny:teacher"].modules == ("nets",)
    for name in ("student", "reference", "onnx"):
        assert targets[f"tiny:{name}"].modules == ("small",)
    assert "modelbuild.runtimes.onnxruntime" in targets["tiny:android"].modules
    assert "onnxruntime" in targets["tiny:android.run"].tools


def test_every_recipe_is_there(planned, tmp_path):
    for value in vars(graph).values():
        if isinstance(value, targets.Recipe):
            module, _, function = value.function.partition(":")
            assert f"def {function}(" in locate(tmp_path, module).read_text(), value.function


class Absent:
    """A runtime this machine does not have."""

    def available(self):
        return "needs a GPU"

    def conversion(self, options):
        return base.Conversion(("onnx",))

    def runs(self, options):
        return {"": base.Way()}


def test_a_runtime_that_is_not_here_has_no_artefact_and_stays_in_the_verdict(planned, monkeypatch):
    monkeypatch.setattr(base, "find", lambda name: Absent())
    found = planned(BASE)
    assert not {"android", "android.run"} & set(names(found))
    verdict = found.targets["tiny:verdict.runtime"]
    assert verdict.params["platforms"]["android"]["unavailable"] == "needs a GPU"
    assert "run.android" not in verdict.inputs


def test_every_platform_is_judged(planned):
    platforms = {"android": {"runtime": "onnxruntime"}, "ios": {"runtime": "onnxruntime", "required": False}}
    found = planned({**BASE, "platforms": platforms})
    verdict = found.targets["tiny:verdict.runtime"]
    assert {role for role in verdict.inputs if role.startswith("run.")} == {"run.android", "run.ios"}
    assert [p["required"] for p in verdict.params["platforms"].values()] == [True, False]
    assert set(found.verdicts("tiny")) == {
        "tiny:verdict.teacher",
        "tiny:verdict.task",
        "tiny:verdict.runtime",
    }


HALF = {"ios": {"runtime": "coreml", "precision": "float16"}, "android": {"runtime": "onnxruntime"}}


def test_a_platform_in_float16_is_run_in_each_arithmetic_and_so_is_the_reference(planned):
    found = planned(without(platforms=HALF))
    added = set(names(found)) - set(names(planned(BASE)))
    ways = {"ios.run", "ios.run.float16-sums", "reference.float16", "reference.float16-sums"}
    assert added == {"ios", "preflight", "ios.golden", "ios.steps", *ways}
    judged = found.targets["tiny:verdict.runtime"]
    assert judged.params["rounds"] == {"ios": "float16", "ios.float16-sums": "float16-sums"}
    assert {role: judged.inputs[role] for role in judged.inputs if "ios" in role} == {
        "run.ios": "tiny:ios.run",
        "run.ios.float16-sums": "tiny:ios.run.float16-sums",
    }
    rounded = {f"rounded.{each}": f"tiny:reference.{each}" for each in ("float16", "float16-sums")}
    assert rounded.items() <= found.targets["tiny:noise"].inputs.items()
    assert rounded.items() <= found.targets["tiny:repro"].inputs.items()
    steps = found.targets["tiny:ios.steps"]
    assert (steps.inputs["run"], steps.inputs["rounded"]) == ("tiny:ios.run", "tiny:reference.float16")
    assert (steps.params["run"], steps.params["rounds"]) == ("ios", "float16")
    assert found.targets["tiny:ios.golden"].params["rounds"] == ["float16", "float16-sums"]
    assert judged.inputs["preflight"] == "tiny:preflight"
    runs = [found.targets[f"tiny:ios.run{way}"].params for way in ("", ".float16-sums")]
    assert [each["options"]["accumulation"] for each in runs] == [["float32"], ["float16"]]


def test_a_platform_in_float32_needs_no_other_reference(planned):
    found = planned(without(platforms={"ios": {"runtime": "coreml"}}))
    assert {"ios", "ios.run"} <= set(names(found))
    assert not {"preflight", "reference.float16", "ios.run.float16-sums"} & set(names(found))


def test_what_is_made_from_the_module_gets_module_weights_and_shapes(planned):
    ios = planned(without(platforms=HALF, export={"opset": 18, "dynamic": {"batch": [1, 8]}})).targets[
        "tiny:ios"
    ]
    inputs = {name: f"tiny:{name}" for name in ("student", "onnx")}
    assert ios.inputs == {**inputs, "evaluation": "tiny:data.evaluation"}
    assert ios.params["export"]["dynamic"] == {"batch": [1, 8]}
    assert "small" in ios.modules


def test_a_given_onnx_file_has_no_module_to_make_a_platform_from(planned):
    onnx = without("teacher", "student", source={"onnx": "m.onnx"}, gates={}, platforms=HALF)
    with pytest.raises(ManifestError) as caught:
        planned(onnx)
    assert caught.value.place == "manifests/tiny.json#/platforms/ios"
    assert "starts from an ONNX file" in caught.value.fact


def test_what_float16_does_is_told_from_the_module_that_ships_and_its_weights(planned):
    targets = planned(without(platforms=HALF)).targets
    inputs = {"student": "tiny:student", "evaluation": "tiny:data.evaluation"}
    for name, params in {
        "preflight": {},
        "reference.float16": {"rounds": "float16"},
        "reference.float16-sums": {"rounds": "float16-sums"},
    }.items():
        target = targets[f"tiny:{name}"]
        assert (target.inputs, target.params, target.modules) == (inputs, params, ("small",))


class Half:
    """A runtime that computes in float16 what it makes from the ONNX file."""

    def available(self):
        return None

    def conversion(self, options):
        return base.Conversion(("onnx",))

    def runs(self, options):
        return {"": base.Way(rounds="float16")}

    def modules(self):
        return ()

    toolchain = modules


def test_without_a_module_nothing_is_known_of_its_arithmetic(planned, monkeypatch):
    monkeypatch.setattr(base, "find", lambda name: Half())
    found = planned(without("teacher", "student", source={"onnx": "m.onnx"}, gates={}))
    verdict = found.targets["tiny:verdict.runtime"]
    assert verdict.params["rounds"] == {}
    assert not [role for role in verdict.inputs if role.startswith(("rounded.", "preflight"))]
    assert set(found.targets["tiny:android"].params) == {"runtime", "options"}
    assert planned(BASE).targets["tiny:verdict.runtime"].params["rounds"] == {"android": "float16"}


class TwoWays(Half):
    """One way of running that this machine has, with a program of it, and one that it lacks."""

    def runs(self, options):
        return {"here": base.Way(machine={"chromium": "/x"}), "there": base.Way(unavailable="none here")}


def test_a_way_that_is_not_here_has_no_run_and_is_told_to_the_gate(planned, monkeypatch):
    monkeypatch.setattr(base, "find", lambda name: TwoWays())
    found = planned(BASE)
    assert found.targets["tiny:android.run.here"].machine == {"chromium": "/x"}
    assert "android.run.there" not in names(found)
    verdict = found.targets["tiny:verdict.runtime"]
    assert verdict.params["platforms"]["android"]["absent"] == {"there": "none here"}
    assert {role for role in verdict.inputs if role.startswith("run.")} == {"run.android.here"}


def test_what_a_platform_demands_is_judged(planned):
    asked = {
        "required": False,
        "evidence": "executed",
        "tolerance": {"max_abs": 0.5},
        "budgets": {"bytes": 9},
    }
    found = planned(without(platforms={"android": {"runtime": "onnxruntime", **asked}}))
    judged = found.targets["tiny:verdict.runtime"].params["platforms"]["android"]
    assert judged == {"runtime": "onnxruntime", "unavailable": None, "absent": {}, **asked}


def test_a_runtime_that_is_not_here_is_run_in_no_way(planned, monkeypatch):
    monkeypatch.setattr(Half, "available", lambda self: "needs a GPU")
    monkeypatch.setattr(base, "find", lambda name: Half())
    found = planned(BASE)
    assert not {"preflight", "reference.float16"} & set(names(found))
    assert found.targets["tiny:verdict.runtime"].params["rounds"] == {}


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"keep_float32": ["softmax"]}, "keep_float32"),
        ({"compression": [{"kind": "palette", "bits": 3}]}, "compression"),
        ({"classes": {"output": "y", "labels": [1, 2]}, "names": {"y": "z"}}, "names/y"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_their_place(planned, tmp_path, options, place):
    with pytest.raises(ManifestError) as caught:
        planned(without(platforms={"ios": {"runtime": "coreml", **options}}))
    assert caught.value.place == f"manifests/tiny.json#/platforms/ios/{place}"
    (tmp_path / "manifests" / "platforms").mkdir()
    (tmp_path / "manifests" / "platforms" / "ios.json").write_text(
        json.dumps({"runtime": "coreml", **options})
    )
    with pytest.raises(ManifestError) as caught:
        planned(without(platforms={"ios": "platforms/ios.json"}))
    assert caught.value.place == f"manifests/platforms/ios.json#/{place}"


def test_programs_that_are_copied_are_part_of_the_key_of_what_carries_them(planned):
    platforms = {"web": {"runtime": "onnxruntime-web", "hosts": ["node"], "threads": [1, 2]}}
    targets = planned(without(platforms=platforms)).targets
    checkers = {"golden-check.py", "golden-check.mjs", "golden-compare.mjs"}
    assert checkers == set(targets["tiny:web.golden"].files)
    assert checkers < set(targets["tiny:web.bundle"].files)
    assert {"repro_coreml.py", "repro_onnxruntime.py", "repro_web.mjs"} < set(targets["tiny:repro"].files)
    for name in ("web.golden", "web.bundle"):  # two ways in one arithmetic have one limit
        assert targets[f"tiny:{name}"].params["rounds"] == [""]
