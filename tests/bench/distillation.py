"""What distillation is worth: students from labels alone and distilled, three seeds each, judged as the gates do.

    python tests/bench/distillation.py digits sentences speech [--seeds 0 1 2] [--steps N]

Run in the project's folder. Data, teacher and teacher's outputs are built first, by doit; the trainings run in this
process on what was built, and their CPU seconds are its own. "Labels alone" is the same student and training with
the task loss only, from random weights. No test runs this, and nothing it prints is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from modelbuild import dataset, distillation, graph, manifest, network, tensors
from modelbuild.declare import Model
from modelbuild.equivalence import demand
from modelbuild.equivalence.quality import task_gate, teacher_gate
from modelbuild.paths import Workspace
from modelbuild.recipes import distil, inference
from modelbuild.targets import Plan

VOICING = {
    "kind": "modelbuild.zoo.speech_losses:voicing_loss"
}  # the one truth that speech has besides its teacher


def alone(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What is learnt from labels alone: the same task loss, and nothing of the teacher."""
    task = asked.get("task", 0.5) or VOICING
    task = {**task, "weight": 1.0} if isinstance(task, Mapping) else 1.0
    return {"task": task, "soft": {"weight": 0}}


def figures(model: Model, at: Workspace, student: Path) -> Iterator[tuple[str, float]]:
    """Every demand of gates 1 and 2, measured on the evaluation data."""
    data = dataset.read(at.out(f"{model.name}:data.evaluation"))
    said = inference.outputs(network.restore(student), data.inputs)
    asked = demand.outputs(model.gates.runtime.get("outputs", {}))
    taught = tensors.load(at.out(distillation.said(model.name, "evaluation")) / "outputs.safetensors")
    if model.gates.teacher is not None:
        demands = demand.qualities(model.gates.teacher, "teacher")
        for row in teacher_gate("student", said, taught, demands, asked):
            yield f"{row.metric} to the teacher", row.measured
    if model.gates.task is not None:
        for row in task_gate("student", said, data.truths, demand.qualities(model.gates.task, "task"), asked):
            yield f"{row.metric} to the truth", row.measured


def trained(
    model: Model, plan: Plan, at: Workspace, asked: Mapping[str, Any], seed: int, steps: int | None
) -> Any:
    """CPU seconds of one training, the parameters and the figures."""
    target = plan.targets[f"{model.name}:student"]
    inputs = {role: at.out(name) for role, name in target.inputs.items()}
    if asked.get("soft") == {"weight": 0}:
        inputs.pop("unlabelled", None)
    train = {**target.params["train"], "seed": seed, **({"steps": steps} if steps else {})}
    with tempfile.TemporaryDirectory() as folder:
        began = time.process_time()
        distil.distil(inputs, {**target.params, "distil": asked, "train": train}, Path(folder))
        spent = time.process_time() - began
        parameters = network.parameters(network.restore(Path(folder)))
        return spent, parameters, dict(figures(model, at, Path(folder)))


def table(model: Model, plan: Plan, at: Workspace, seeds: list[int], steps: int | None) -> None:
    target = plan.targets[f"{model.name}:student"]
    wanted = [*target.inputs.values(), distillation.said(model.name, "evaluation")]
    subprocess.run([sys.executable, "-m", "doit", *wanted], check=True, stdout=subprocess.DEVNULL)
    ways = {"labels alone": alone(target.params["distil"]), "distilled": target.params["distil"]}
    for way, asked in ways.items():
        runs = [trained(model, plan, at, asked, seed, steps) for seed in seeds]
        print(
            f"{model.name}, {way}: {runs[0][1]:,} parameters, {statistics.median(r[0] for r in runs):.0f} CPU s"
        )
        for metric in runs[0][2]:
            values = [run[2][metric] for run in runs]
            spread = statistics.stdev(values) if len(values) > 1 else 0.0
            each = ", ".join(f"{value:.4f}" for value in values)
            print(f"  {metric}: {statistics.mean(values):.4f} +- {spread:.4f}  ({each})")


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("models", nargs="+")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments.add_argument("--steps", type=int)
    asked = arguments.parse_args()
    torch.set_num_threads(1)
    at, project = Workspace(Path.cwd()), manifest.load(Path.cwd(), set())
    plan = graph.plan(project)
    for model in (each for each in project.models if each.name in asked.models):
        table(model, plan, at, asked.seeds, asked.steps)


if __name__ == "__main__":
    main()
