"""The first `doit` on digits from nothing: CPU seconds, and where they go.

python tests/bench/cold.py
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from measure import cpu
from projects import REPO


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copy(REPO / "dodo.py", folder)
        shutil.copytree(REPO / "manifests", folder / "manifests")
        env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, "-m", "doit", "digits"]
        total = cpu(
            lambda: subprocess.run(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, check=True)
        )
        report = json.loads((folder / ".cache/out/digits/report.json").read_text())
        print(f"first doit on digits: {total:.1f} s of CPU")
        rows = sorted(report["targets"], key=lambda row: -row["seconds"])
        for row in rows[:6]:
            print(f"  {row['seconds']:6.2f} s  {row['name']}")
        rest = total - sum(row["seconds"] for row in rows)
        print(f"  {rest:6.2f} s  everything else: mostly importing the frameworks, once")


if __name__ == "__main__":
    main()
