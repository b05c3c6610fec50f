"""Projects to measure: as many targets as asked for, built without running their recipes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from modelbuild.job import Job
from modelbuild.progress import Sink
from modelbuild.session import Session

REPO = Path(__file__).parents[2]
# Data, onnx, reference, noise, ten platforms of four targets each, one verdict, repro, gate and report.
PER_MODEL = 48

VERDICT = {
    "target": "m",
    "platform": "p0",
    "version": "",
    "backend": "",
    "against": "reference",
    "output": "o",
    "metric": "max_abs",
    "measured": 0.0,
    "limit": 1.0,
    "ok": True,
    "evidence": "executed",
    "detail": "",
    "run": "p0",
    "floor": None,
    "needed": None,
    "low": None,
    "high": None,
    "constant": None,
    "more_is_better": None,
}
CYCLE = {"cycle": 1, "cycles": 3, "steps": 1, "keep": None, "limit": None, "chosen": None, "candidates": []}
# What the gate and the report read, by the recipe that writes it.
FILES: dict[str, dict[str, Any]] = {
    "verdicts": {"verdicts.json": {"ok": True, "verdicts": [VERDICT]}, "matrix.json": {"outputs": {}}},
    "platform": {"run.json": {"evidence": "executed"}},
    "noise": {"noise.json": {"outputs": {}}},
    "steps": {"steps.json": {"run": "", "outputs": {}, "tasks": {}}},
    "localise": {"findings.json": {"findings": []}},
    "search_cycles": {"cycle.json": CYCLE},
}

DODO = """
import shutil
DOIT_CONFIG = {{"verbosity": 2}}
def task_models():
    for model in range({models}):
        for name in range({each}):
            source, copy = f"in/{{name}}.txt", f"out/m{{model}}/{{name}}.txt"
            yield {{
                "basename": f"m{{model}}", "name": str(name), "file_dep": [source], "targets": [copy],
                "actions": [(shutil.copyfile, (source, copy))],
            }}
"""


class TrivialExecutor:
    """Writes a small file where a recipe would have worked."""

    def run(self, job: Job, sink: Sink) -> float:
        module = job.function.partition(":")[0].rpartition(".")[2]
        for name, document in FILES.get(module, {"data.json": {"job": job.function}}).items():
            (Path(job.out) / name).write_text(json.dumps(document))
        return 0.0

    def close(self) -> None:
        pass


def generated(folder: Path, targets: int) -> Path:
    """Write a project of about `targets` targets, all of them built."""
    folder.mkdir(parents=True)
    shutil.copy(REPO / "dodo.py", folder)
    (folder / "manifests").mkdir()
    (folder / "loading.py").write_text("def load():\n    return {}\n")
    (folder / "model.onnx").write_bytes(b"not read by the trivial executor")
    for number in range(max(1, targets // PER_MODEL)):
        manifest = {
            "model": f"m{number}",
            "source": {"onnx": "model.onnx"},
            "data": {"evaluation": {"loader": "loading:load"}},
            "platforms": {f"p{n}": {"runtime": "onnxruntime"} for n in range(10)},
            "gates": {"runtime": {"tolerance": "auto"}},
        }
        (folder / "manifests" / f"m{number}.json").write_text(json.dumps(manifest))
    _build(folder)
    return folder


def _build(folder: Path) -> None:
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    session = Session(folder, TrivialExecutor)
    for name in session.plan.targets:
        session.builder.build(name, lambda *_: None)
    session.close()
    sys.path.remove(str(folder))


def plain(folder: Path, targets: int) -> Path:
    """Write a project of as many trivial doit tasks: each copies one file, and doit itself checks both ends."""
    models, each = (max(1, targets // PER_MODEL), PER_MODEL) if targets >= PER_MODEL * 2 else (1, targets)
    (folder / "in").mkdir(parents=True)
    for name in range(each):
        (folder / "in" / f"{name}.txt").write_text(str(name))
    for model in range(models):
        (folder / "out" / f"m{model}").mkdir(parents=True)
    (folder / "dodo.py").write_text(DODO.format(models=models, each=each))
    return folder


def doit(folder: Path, *args: str) -> None:
    """Run doit there, which must go well; byte code is cached, as on a user's machine."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-m", "doit", *args]
    subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
