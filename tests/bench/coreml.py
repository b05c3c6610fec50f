"""Evaluating a Core ML package against PyTorch eager on the same network: the ratio of their CPU times.

Batch 32, one thread, both in turns in one process, medians: python tests/bench/coreml.py [net ...]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from nets import NETS, params, targets

from modelbuild import network
from modelbuild.quiet import quietly

with quietly():
    from modelbuild.runtimes.coreml.converter import convert
    from modelbuild.runtimes.coreml.evaluator import mlpackage
    from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
    from modelbuild.runtimes.coreml.ports import PACKAGE

ROUNDS, BATCH = 9, 32
LEAST = 0.15  # CPU seconds a figure is taken over: some machines count them in steps of several milliseconds
WAYS = (("float32", "float32"), ("float16", "float32"), ("float16", "float16"))


def cpu(call: Callable[[], object], times: int) -> float:
    """CPU seconds of one of `times` calls."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def enough(call: Callable[[], object]) -> int:
    """How many calls it takes for a figure to mean something."""
    times = 1
    while cpu(call, times) * times < LEAST:
        times *= 2
    return times


def evaluator(name: str, precision: str, sums: str, folder: Path) -> Callable[[], object]:
    net = NETS[name]
    module, inputs = net.module(), net.inputs(BATCH)
    given = params(deployment_target="iOS17", precision=precision)
    convert.convert(targets(folder / "in", module, inputs), folder, given)
    evaluate = Evaluator(mlpackage.read(folder / PACKAGE), sums)
    feed = {n: a.astype("int32") if a.dtype == "int64" else a for n, a in inputs.items()}
    return lambda: evaluate(feed)


def eager(name: str) -> Callable[[], object]:
    module, inputs = NETS[name].module(), NETS[name].inputs(BATCH)
    columns = [torch.tensor(array) for array in inputs.values()]

    def call() -> object:
        with torch.inference_mode():
            return network.run(module, columns)

    return call


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    print(f"{'net':10} {'package':24} {'eager':>9} {'evaluated':>10} {'ratio':>6}")
    for name in names or ["convnet", "encoder", "wave", "plain1d"]:
        for precision, sums in WAYS:
            with tempfile.TemporaryDirectory() as folder:
                ours, theirs = evaluator(name, precision, sums, Path(folder)), eager(name)
                counts = enough(ours), enough(theirs)
                times = [(cpu(ours, counts[0]), cpu(theirs, counts[1])) for _ in range(ROUNDS)]
            mine, other = (median(column) for column in zip(*times, strict=True))
            label = f"{precision}, {sums} sums"
            print(f"{name:10} {label:24} {other * 1e3:6.2f} ms {mine * 1e3:7.2f} ms {mine / other:6.2f}")


if __name__ == "__main__":
    main(sys.argv[1:])
