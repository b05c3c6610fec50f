"""The runtime gate over large outputs: memory, and bytes judged in a CPU second of one core.

python tests/bench/compare.py [MB of one run's output] [runs]              (default 100, 10)

Every run differs from the reference and from every other run in every value, so that nothing is saved; then runs that
agree bit for bit. "compared" is the bytes of one side of each compared pair (10 runs and the reference are 55 pairs),
"read" the bytes of all files read, both in a CPU second of the one thread. The files are written to a folder for a
while and deleted. Each figure is taken in a process of its own, whose largest resident memory is shown.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from modelbuild import tensors
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.gate import Evaluation, Platform, runtime_gate
from modelbuild.equivalence.noise import Noise, OutputNoise, Spread
from modelbuild.recipes.verdicts import Recorded

SHAPES: dict[str, tuple[int, ...]] = {"1000 classes": (1000,), "10 classes": (10,), "64 x 64 map": (64, 64)}
BLOCK = 1 << 20  # values written at a time
FLOOR = 1e-6
FIRST, LAST = -8.0, 8.0


def written(folder: Path, megabytes: int, sample: tuple[int, ...], runs: int) -> tuple[int, ...]:
    """Write the reference, the runs, and "same", the reference once more; return the shape."""
    width = int(np.prod(sample))
    shape = (megabytes * 1_000_000 // 4 // width, *sample)
    rng = np.random.default_rng(0)
    values = rng.uniform(FIRST, LAST, BLOCK).astype(np.float32)
    values[:2] = FIRST, LAST
    for name in ("reference", *(f"run.{number}" for number in range(runs)), "same"):
        moved = values
        if name.startswith("run."):
            moved = values + rng.uniform(1e-6, 3e-6, BLOCK).astype(np.float32)
        write(folder / name, shape, moved)
    return shape


def write(path: Path, shape: tuple[int, ...], block: Any) -> None:
    """A safetensors file of `block` again and again, in constant memory."""
    size = int(np.prod(shape)) * 4
    header = json.dumps({"output": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}).encode()
    data = block.tobytes()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for start in range(0, size, len(data)):
            file.write(data[: size - start])


def noise(shape: tuple[int, ...]) -> Noise:
    spread = Spread(FLOOR, FLOOR)
    values = int(np.prod(shape))
    about = OutputNoise(
        "float32", shape[0], values, FIRST, LAST, 0.0, 4.6, 4.6, 0.0, 4.0, False, {"fp64": spread}
    )
    return Noise({"output": about})


def judge(folder: Path, shape: tuple[int, ...], names: list[str]) -> dict[str, float]:
    """Judge the runs `names`; CPU seconds and the largest memory of this process in MB."""
    runs = {
        f"p{place}.{name}": Recorded(tensors.opened(folder / name), "1", "cpu", "executed")
        for place, name in enumerate(names)
    }
    began = time.process_time()
    found = runtime_gate(
        "bench",
        tensors.opened(folder / "reference"),
        noise(shape),
        Evaluation(shape[0]),
        {name.partition(".")[0]: Platform() for name in runs},
        runs,
        RuntimeDemand(),
    )
    seconds = time.process_time() - began
    assert all(verdict.ok for verdict in found.verdicts), [v.detail for v in found.verdicts if not v.ok]
    return {"seconds": seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def measured(folder: Path, shape: tuple[int, ...], names: list[str]) -> dict[str, float]:
    """`judge` in a process of its own."""
    given = json.dumps({"folder": str(folder), "shape": shape, "names": names})
    done = subprocess.run(
        [sys.executable, __file__, "--judge", given], capture_output=True, text=True, check=True
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def show(title: str, size: int, runs: int, found: dict[str, float]) -> None:
    pairs = runs * (runs + 1) // 2
    compared, read = (size * count / found["seconds"] / 1e9 for count in (pairs, runs + 1))
    figures = f"{found['seconds']:7.2f} CPU s {compared:7.2f} GB/s compared {read:6.2f} GB/s read"
    print(f"  {title:29} {pairs:3} pairs {figures} {found['memory']:4.0f} MB", flush=True)


def main(megabytes: int, runs: int) -> None:
    print(f"{runs} runs and the reference, {megabytes} MB each, on one core")
    for title, sample in SHAPES.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            shape = written(folder, megabytes, sample, runs)
            size, every = int(np.prod(shape)) * 4, [f"run.{number}" for number in range(runs)]
            print(title)
            ways = {
                "all pairs": every,
                "one run and the reference": every[:1],
                "all pairs, equal bit for bit": ["same"] * runs,
            }
            for what, names in ways.items():
                show(what, size, len(names), measured(folder, shape, names))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--judge"]:
        asked = json.loads(sys.argv[2])
        print(json.dumps(judge(Path(asked["folder"]), tuple(asked["shape"]), asked["names"])))
    else:
        main(*(int(given) for given in sys.argv[1:3] or (100,)), *(() if len(sys.argv) > 2 else (10,)))
