"""A transformer encoder and a 1-D audio net in every version, host and backend: all within the float32 tolerance."""

from __future__ import annotations

import json
import shutil
import sys
from itertools import combinations
from pathlib import Path

import pytest
from project_dir import REPOSITORY, ProjectDir

from modelbuild import network
from modelbuild.runtimes.onnxruntime_web import chromium

VERSIONS = ["1.16.3", "1.18.1", "1.20.1", "1.24.4", "1.32.0"]
LOADERS = """\
import nets


def encoder():
    return nets.encoder_inputs(32)


def plain1d():
    return nets.wave_inputs(16)
"""
OUTPUTS = {"encoder": ["hidden", "logits"], "plain1d": ["wave"]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> ProjectDir:
    """Both models, from modules with seeded weights."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import nets

    project = ProjectDir(tmp_path_factory.mktemp("matrix") / "project")
    project.write("dodo.py", (REPOSITORY / "dodo.py").read_text())
    project.write("loaders.py", LOADERS)
    shutil.copy(REPOSITORY / "tests" / "nets.py", project.root)
    for name in OUTPUTS:
        kind = nets.NETS[name].kind
        network.save(project.root, nets.NETS[name].module(), nets.described(kind))
        (project.root / network.WEIGHTS).rename(project.root / f"{name}.safetensors")
        manifest = {
            "model": name,
            "source": {"module": f"nets:{kind.__name__}", "weights": f"{name}.safetensors"},
            "data": {"evaluation": {"loader": f"loaders:{name}"}},
            "export": {"dynamic": {"batch": [1, 64]}},
            "platforms": {
                "android": {"runtime": "onnxruntime", "versions": VERSIONS},
                "phone": {"runtime": "onnxruntime", "format": "ort", "optimisation": "extended"},
                "levels": {
                    "runtime": "onnxruntime",
                    "optimisation": ["disabled", "basic", "extended", "all"],
                    "threads": [1, 2],
                },
                "browser": {"runtime": "onnxruntime-web", "backends": ["wasm", "webgpu"], "threads": [1, 2]},
            },
            "gates": {"runtime": {"tolerance": "auto"}},
        }
        project.write(f"manifests/{name}.json", json.dumps(manifest))
    result = project.doit()
    assert result.code == 0, result.text
    return project


def runs(folder: Path) -> list[str]:
    """The names of a model's runs: `android.1.18.1`."""
    found = [path.name for path in folder.iterdir() if ".run." in f"{path.name}."]
    return sorted(name.replace(".run", "", 1) for name in found)


@pytest.mark.parametrize("model", OUTPUTS)
def test_every_run_and_every_pair_is_within_the_derived_tolerance(built: ProjectDir, model: str) -> None:
    names = runs(built.out(model))
    assert len(names) == 5 + 1 + 8 + (5 if chromium.find() else 2)
    held = [row for row in built.report(model)["verdicts"] if row["limit"] is not None]
    assert all(row["ok"] for row in held)
    for output in OUTPUTS[model]:
        rows = [r for r in held if (r["output"], r["metric"]) == (output, "max_abs")]
        assert len(rows) == len(names) + len(list(combinations(names, 2)))
        assert {r["against"] for r in rows} == {"reference", *names[1:]}
        assert {r["evidence"] for r in rows} == {"executed"}
        assert all(0 < r["limit"] < 1e-3 for r in rows)


def test_what_differs_between_runs_is_said_of_them(built: ProjectDir) -> None:
    rows = [r for r in built.report("encoder")["verdicts"] if r["against"] == "reference"]
    said = {(r["version"], r["backend"]) for r in rows if r["platform"] in ("android", "levels")}
    assert {version for version, _ in said} >= set(VERSIONS)
    backends = {backend for _, backend in said}
    assert "CPUExecutionProvider, optimisation disabled, 2 threads" in backends
    assert len(backends) == 8


def test_the_report_says_where_nodes_ran_and_how_phones_fare(built: ProjectDir) -> None:
    rows = built.report("encoder")["verdicts"]
    told = {(r["platform"], r["metric"]): r["detail"] for r in rows if r["metric"] in ("placement", "mobile")}
    assert told["phone", "mobile"]
    if chromium.find():
        assert "WebGpuExecutionProvider" in told["browser", "placement"]
        assert "CPUExecutionProvider" in told["browser", "placement"]  # some of it fell back
    page = built.out("encoder", "report.html").read_text()
    assert "NNAPI" in page
