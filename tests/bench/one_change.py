"""One change: the wall time `doit` takes beyond a no-op and the recipe itself.

    python tests/bench/one_change.py

Every recipe runs in a fresh process. The time is told apart: the job (its process, its imports, the recipe), and what
modelbuild adds around it (deciding, laying out inputs, hashing and storing the result, publishing it).
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from projects import REPO

RUNS = 15
DODO = """
import json
import time
from pathlib import Path
from modelbuild import graph
from modelbuild.doit_tasks import configure, generate

def plan(project):
    name = next(iter(project.models)).name
    params = json.loads(Path("params.json").read_text())
    target = graph.Target(f"{name}:made", graph.Recipe("making:make"), "made", params)
    return graph.Plan({target.name: target}, {name: (target,)})

graph.plan = plan

from modelbuild.execute import LocalExecutor
run = LocalExecutor.run

def timed(self, job, sink):
    began = time.perf_counter()
    try:
        return run(self, job, sink)
    finally:
        Path("job.json").write_text(json.dumps(time.perf_counter() - began))

LocalExecutor.run = timed
DOIT_CONFIG = configure(Path.cwd())

def task_models():
    yield from generate()
"""
RECIPE = """
import time
{needs}

def make(inputs, params, out_dir):
    (out_dir / "made.txt").write_text(str(params["n"]))
"""


def run(folder: Path) -> float:
    """Wall seconds of one doit."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    command = [sys.executable, "-m", "doit", "m:made"]
    subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def job_seconds(folder: Path) -> float:
    """Seconds of the last job: from ordering its process to its end."""
    return json.loads((folder / "job.json").read_text())


def lay_out(folder: Path, needs: str) -> None:
    shutil.copytree(REPO / "manifests", folder / "manifests")
    (folder / "manifests" / "digits.json").unlink()
    wine = folder / "manifests" / "wine.json"
    wine.write_text(wine.read_text().replace('"wine"', '"m"', 1))
    (folder / "dodo.py").write_text(DODO)
    (folder / "making.py").write_text(RECIPE.format(needs=needs))


def measure(title: str, needs: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        folder.mkdir()
        lay_out(folder, needs)
        around, jobs, noop = [], [], []
        for number in range(RUNS + 2):
            (folder / "params.json").write_text(json.dumps({"n": number}))
            wall = run(folder)
            run(folder)
            idle = run(folder)
            if number > 1:
                jobs.append(job_seconds(folder))
                around.append(wall - idle - jobs[-1])
                noop.append(idle)
        figures = [f"{statistics.median(x) * 1e3:.0f} ms" for x in (noop, jobs, around)]
        print("{}: no-op {}, the job {}, around it {}".format(title, *figures))


if __name__ == "__main__":
    measure("a recipe of the standard library", "")
    measure("a recipe that imports numpy     ", "import numpy")
