"""One change: what `doit` takes beyond a no-op and the recipe itself.

    python tests/bench/one_change.py
"""

from __future__ import annotations

import json
import os
import re
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


def run(folder: Path) -> tuple[float, float]:
    """Run doit; return its wall seconds and those of the recipes, which the records tell."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "doit", "m:data.evaluation"], cwd=folder, env=env, capture_output=True, text=True)
    wall = time.perf_counter() - began
    assert done.returncode == 0, done.stdout + done.stderr
    built = len(re.findall(r"  built  ", done.stdout))
    report = [json.loads(p.read_text().split("\n", 1)[1]) for p in folder.glob(".cache/records/*/*.json")]
    newest = max((p.stat().st_mtime, r["seconds"]) for p, r in zip(folder.glob(".cache/records/*/*.json"), report, strict=True))
    return wall, newest[1] if built else 0.0


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(REPO / "dodo.py", folder)
        (folder / "manifests").mkdir()
        (folder / "model.onnx").write_bytes(b"none")
        (folder / "loading.py").write_text(
            "from array import array\n\ndef load(n):\n    return {'x': array('f', [n])}\n"
        )
        # No array library: the recipe is as small as one can be, so that what is left is modelbuild's own.
        (folder / "manifests" / "m.json").write_text("")
        extra, noop = [], []
        for number in range(RUNS + 1):
            manifest = {
                "model": "m",
                "source": {"onnx": "model.onnx"},
                "data": {"evaluation": {"loader": "loading:load", "args": {"n": number}}},
                "platforms": {"p": {"runtime": "onnxruntime"}},
                "gates": {"runtime": {"tolerance": "auto"}},
            }
            (folder / "manifests" / "m.json").write_text(json.dumps(manifest))
            wall, recipe = run(folder)
            run(folder)
            idle, _ = run(folder)
            if number:
                extra.append(wall - idle - recipe)
                noop.append(idle)
        print(f"no-op {statistics.median(noop) * 1e3:.0f} ms; a change takes {statistics.median(extra) * 1e3:.0f} ms more than that and the recipe")


if __name__ == "__main__":
    main()
