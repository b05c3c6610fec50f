"""One change: the wall time `doit` takes beyond a no-op and the recipe itself.

    python tests/bench/one_change.py

Twice: with a recipe that needs no package (its job is forked in place), and with one that imports numpy (its job
comes from the zygote, which must be started and import numpy first; that is the recipe's own need, and shown apart).
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
from pathlib import Path
from modelbuild import graph
from modelbuild.doit_tasks import configure, generate

def plan(project):
    name = next(iter(project.models)).name
    params = json.loads(Path("params.json").read_text())
    target = graph.Target(f"{name}:made", graph.Recipe("making:make"), "made", params)
    return graph.Plan({target.name: target}, {name: (target,)})

graph.plan = plan
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


def recipe_seconds(folder: Path) -> float:
    """Seconds of the newest record's recipe."""
    newest = max(folder.glob(".cache/records/*/*.json"), key=lambda p: p.stat().st_mtime_ns)
    return json.loads(newest.read_text().split("\n", 1)[1])["seconds"]


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
        extra, noop = [], []
        for number in range(RUNS + 2):
            (folder / "params.json").write_text(json.dumps({"n": number}))
            wall = run(folder)
            run(folder)
            idle = run(folder)
            if number > 1:
                extra.append(wall - idle - recipe_seconds(folder))
                noop.append(idle)
        print(
            f"{title}: no-op {statistics.median(noop) * 1e3:.0f} ms, "
            f"one change {statistics.median(extra) * 1e3:.0f} ms more than that and the recipe"
        )


if __name__ == "__main__":
    measure("no package", "")
    measure("numpy     ", "import numpy")
