"""CPU seconds of running digits in five ONNX Runtimes and in WebAssembly, their environments already there.

    python tests/bench/matrix.py

The project is built once; then, three times, every run and the verdict on them are forgotten and built again. The
figure is the median of the CPU seconds, user and system, of that `doit` and all that it starts.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measure import cpu
from projects import REPO

VERSIONS = ["1.16.3", "1.18.1", "1.20.1", "1.24.4", "1.32.0"]
ROUNDS = 3


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copy(REPO / "dodo.py", root)
        (root / "manifests").mkdir()
        manifest = json.loads((REPO / "manifests" / "digits.json").read_text())
        manifest["platforms"] = {
            "android": {"runtime": "onnxruntime", "versions": VERSIONS},
            "browser": {"runtime": "onnxruntime-web", "hosts": ["node"]},
        }
        (root / "manifests" / "digits.json").write_text(json.dumps(manifest))
        doit(root)
        runs = [f"digits:android.run.{version}" for version in VERSIONS] + ["digits:browser.run.node-wasm"]
        spent = []
        for _ in range(ROUNDS):
            doit(root, "forget", *runs, "digits:verdict.runtime")
            spent.append(cpu(lambda: doit(root)))
        shown = ", ".join(f"{each:.1f}" for each in spent)
        print(f"5 native versions and wasm: {statistics.median(spent):.1f} s of CPU ({shown})")


def doit(root: Path, *args: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", *args], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


if __name__ == "__main__":
    main()
