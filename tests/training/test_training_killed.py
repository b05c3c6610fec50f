"""A training that is killed, with SIGKILL and at any moment, ends with the bytes of one that was left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import files

HERE = Path(__file__).parent


@pytest.mark.parametrize("seed", [0, 1])
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(seed: int, tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "killed.py"), str(tmp_path), str(seed)]
    path = os.pathsep.join((str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")))
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lives = json.loads(done.stdout)
    assert files(tmp_path / "killed") == files(tmp_path / "undisturbed")
    assert set(files(tmp_path / "killed")) == {"network.json", "training.json", "weights.safetensors"}
    assert (
        len(lives) >= 5 and any(life["event"] for life in lives) and not all(life["event"] for life in lives)
    )
    assert max(life["from"] for life in lives) > 0  # checkpoints were gone on from, not the start
