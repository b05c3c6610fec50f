"""The main job on real input: handwritten digits, from a manifest to gated artefacts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from project_dir import REPOSITORY, ProjectDir
from safetensors.numpy import load_file

from modelbuild.runtimes.onnxruntime_web import chromium

TARGETS = [
    "data.train", "data.unlabelled", "data.evaluation", "teacher", "teacher.outputs.train",
    "teacher.outputs.unlabelled", "teacher.outputs.evaluation", "student", "reference", "onnx", "preflight",
    "reference.float16", "reference.float16-sums", "noise", "environment.onnxruntime-1.18.1",
    "environment.onnxruntime-1.24.4", "environment.onnxruntime-1.32.0", "environment.onnxruntime-web-1.30.0",
    "ios", "ios.run", "ios.run.float16-sums", "ios.golden", "ios.steps",
    "android", "android.run.1.18.1", "android.run.1.24.4", "android.run.1.32.0", "android.golden", "android.steps",
    "browser", "browser.run.node-wasm", "browser.run.node-wasm-2-threads", "browser.run.chromium-wasm",
    "browser.run.chromium-wasm-2-threads", "browser.run.chromium-webgpu",
    "browser.golden", "browser.bundle", "browser.steps",
    "verdict.teacher", "verdict.task", "verdict.runtime", "repro",
]  # fmt: skip


def shipped(root: Path, *models: str) -> ProjectDir:
    """The dodo.py and these manifests of the repository and nothing else: no figures accepted of longer training."""
    root.mkdir()
    shutil.copy(REPOSITORY / "dodo.py", root)
    others = [path.name for path in (REPOSITORY / "manifests").glob("*.json") if path.stem not in models]
    shutil.copytree(REPOSITORY / "manifests", root / "manifests", ignore=shutil.ignore_patterns(*others))
    return ProjectDir(root)


def short(root: Path) -> ProjectDir:
    """The same with a few training steps, and gates that so little training passes."""
    project = shipped(root, "digits")
    manifest = json.loads((root / "manifests" / "digits.json").read_text())
    for trained in ("teacher", "student"):
        manifest[trained]["train"] |= {"steps": 40}
    manifest["gates"] |= {
        "teacher": {"metric": "agreement", "min": 0.6},
        "task": {"metric": "accuracy", "min": 0.6},
    }
    (root / "manifests" / "digits.json").write_text(json.dumps(manifest))
    return project


def ways(platform: str) -> list[str]:
    """The names of a platform's runs as verdicts have them: `ios`, `ios.float16-sums`."""
    runs = [name for name in TARGETS if f"{name}.".startswith(f"{platform}.run.")]
    there = [name for name in runs if chromium.find() or "chromium" not in name]
    return [name.replace(".run", "", 1) for name in there]


def report(project: ProjectDir, model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((project.root / f".cache/out/{model}/report.json").read_text())
    return found


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> ProjectDir:
    project = short(tmp_path_factory.mktemp("digits") / "project")
    result = project.doit()
    assert result.code == 0, result.text
    return project


def test_every_target_of_digits_is_built_and_every_gate_judged(digits):
    found = report(digits, "digits")
    assert found["ok"] is True
    names = [name for name in TARGETS if chromium.find() or "chromium" not in name]
    assert [row["name"] for row in found["targets"]] == [f"digits:{name}" for name in names]
    runs = {run for platform in ("ios", "android", "browser") for run in ways(platform)}
    against = {row["against"] for row in found["verdicts"]} - {""}
    assert against == {"teacher", "label", "reference", "float16's range", *runs} - {"android.1.18.1"}
    pairs = {(row["platform"], row["backend"], row["version"], row["against"]) for row in found["verdicts"]}
    assert len(pairs) > len(runs) * (len(runs) - 1) / 2
    held = [row for row in found["verdicts"] if row["limit"] is not None]
    assert len(held) >= 4
    assert all(row["ok"] for row in held)
    ios = [row for row in held if row["platform"] == "ios" or row["against"].startswith("ios")]
    assert {row["evidence"] for row in ios} == {"interpreted"}
    assert {row["evidence"] for row in held if row not in ios} == {"executed"}


def test_the_artefact_that_ships_answers_as_the_reference_does(digits):
    out = digits.root / ".cache" / "out" / "digits"
    session = onnxruntime.InferenceSession(out / "android" / "model.ort", providers=["CPUExecutionProvider"])
    images = load_file(out / "data.evaluation" / "data.safetensors")["image"]
    (logits,) = session.run(["logits"], {"image": images})
    reference = load_file(out / "reference" / "outputs.safetensors")["logits"]
    assert np.abs(logits - reference).max() < 1e-4
    assert np.ptp(reference) > 1


def test_what_is_delivered_for_the_browser_is_its_bundle(digits, tmp_path):
    result = digits.doit("deliver", "--to", str(tmp_path / "to"))
    assert result.code == 0, result.text
    delivered = tmp_path / "to" / "digits"
    found = {path.relative_to(delivered / "browser").as_posix() for path in delivered.rglob("browser/**/*")}
    assert found >= {"index.html", "check.mjs", "model.onnx", "golden/golden.json", "ort/ort.wasm.min.mjs"}
    golden = json.loads((delivered / "browser" / "golden" / "golden.json").read_text())
    (output,) = golden["outputs"]
    stored = np.fromfile(delivered / "browser" / "golden" / output["file"], "<f4").reshape(output["shape"])
    reference = load_file(digits.root / ".cache/out/digits/reference/outputs.safetensors")["logits"]
    assert np.array_equal(stored, reference[: golden["samples"]])
    limits = {
        row["limit"]
        for row in report(digits, "digits")["verdicts"]
        if (row["platform"], row["against"], row["metric"]) == ("browser", "reference", "max_abs")
    }
    assert limits == {output["limit"]}
    assert {path.name for path in (delivered / "android").iterdir()} >= {"model.ort", "mobile.json"}


def test_the_same_manifest_gives_the_same_bytes_in_another_place(digits, tmp_path):
    other = short(tmp_path / "elsewhere")
    assert other.doit("-n", "2").code == 0
    digests = [
        {row["name"]: row["digests"] for row in report(p, "digits")["targets"]} for p in (digits, other)
    ]
    assert digests[0] == digests[1]


def test_a_student_with_another_temperature_is_trained_without_the_teacher(digits, tmp_path):
    project = ProjectDir(tmp_path / "project")
    shutil.copytree(digits.root, project.root)
    place = project.root / "manifests" / "digits.json"
    manifest = json.loads(place.read_text())
    manifest["student"]["distil"]["soft"]["temperature"] = 2
    place.write_text(json.dumps(manifest))
    result = project.doit("digits:student")
    assert result.of("built") == {"digits:student"}
    assert "/distil/soft/temperature: 4 -> 2" in result.reasons["digits:student"]


def test_a_model_may_start_from_a_module_and_its_weights(digits, tmp_path):
    project = ProjectDir(tmp_path / "project")
    shutil.copytree(digits.root, project.root)
    student = project.root / ".cache" / "out" / "digits" / "student" / "weights.safetensors"
    shutil.copy(student, project.root / "given.safetensors")
    digits_manifest = json.loads((project.root / "manifests" / "digits.json").read_text())
    given = {name: digits_manifest["student"][name] for name in ("module", "args")}
    manifest = {
        "model": "given",
        "source": {**given, "weights": "given.safetensors"},
        "data": {"evaluation": digits_manifest["data"]["evaluation"]},
        "platforms": digits_manifest["platforms"],
        "gates": {"task": {"metric": "accuracy", "min": 0.6}, "runtime": {"tolerance": "auto"}},
    }
    (project.root / "manifests" / "given.json").write_text(json.dumps(manifest))
    result = project.doit("given")
    assert result.code == 0, result.text
    assert "given:student" in result.of("built")
    onnx = [
        next(
            row["digests"][""] for row in report(project, model)["targets"] if row["name"] == f"{model}:onnx"
        )
        for model in ("digits", "given")
    ]
    assert onnx[0] == onnx[1]


@pytest.mark.full
def test_what_is_shipped_holds_its_gates_in_full(tmp_path):
    project = shipped(tmp_path / "project", "digits", "digits-search", "wine")
    result = project.doit("-n", "2")
    assert result.code == 0, result.text
    for model in ("digits", "digits-search", "wine"):
        assert report(project, model)["ok"] is True
    measured = {row["metric"]: row["measured"] for row in report(project, "digits")["verdicts"]}
    assert measured["agreement"] >= 0.97
    assert measured["accuracy"] >= 0.97
    again = project.doit()
    assert again.code == 0
    assert set(again.states.values()) == {"up to date"}
