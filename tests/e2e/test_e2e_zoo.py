"""The example models on real weights, by the real `doit`: few samples, few steps, every runtime that runs here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from project_dir import REPOSITORY, ProjectDir


def few(manifest: dict[str, Any]) -> None:
    """Some samples of each data set, some steps, and the runtime gate alone: so short a training passes no other."""
    data = manifest["data"]
    samples = {"train": 24, "evaluation": 8}
    for name, count in samples.items():
        data[f"all-{name}"] = data[name]
        data[name] = {"sample": f"all-{name}", "count": count}
    data.pop("validation", None)
    manifest["student"]["train"] |= {"steps": 3, "batch": 4}
    manifest["gates"] = {"runtime": manifest["gates"]["runtime"]}
    manifest["platforms"]["android"]["versions"] = manifest["platforms"]["android"]["versions"][-1:]
    manifest["platforms"]["browser"] = {"runtime": "onnxruntime-web", "hosts": ["node"]}


@pytest.mark.parametrize("model", ["sentences", "speech"])
def test_a_short_training_comes_out_the_same_on_every_platform(tmp_path: Path, model: str) -> None:
    project = ProjectDir(tmp_path / "project")
    project.write("dodo.py", (REPOSITORY / "dodo.py").read_text())
    shutil.copytree(REPOSITORY / "manifests" / "platforms", project.path("manifests/platforms"))
    shutil.copy(REPOSITORY / "manifests" / f"{model}.json", project.path("manifests"))
    project.manifest(few, model)
    found = project.doit()
    assert found.code == 0, found.text
    report = project.report(model)
    assert report["ok"] is True
    assert {row["platform"] for row in report["verdicts"] if row["platform"]} >= {"ios", "android", "browser"}
    training = json.loads(project.out(f"{model}:student", "training.json").read_text())
    assert training["steps"] == 3
    assert project.doit().of("built") == set()
