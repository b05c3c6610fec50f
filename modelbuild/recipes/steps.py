"""The waterfall of one run: what each step from the teacher to the file that ships adds, switched one at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelbuild import dataset, environments, tensors
from modelbuild.equivalence import attribution, demand, noise
from modelbuild.equivalence.attribution import State
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.tolerance import tolerance
from modelbuild.errors import ModelbuildError
from modelbuild.recipes import unoptimised
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Switchable
from modelbuild.tensors import Arrays

FILE, NAMES = "steps.json", "names.json"


def measure(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write steps.json of the run `params["run"]`; see `waterfall` for what it reads."""
    (out_dir / FILE).write_text(json.dumps(waterfall(inputs, params), indent=1, allow_nan=False) + "\n")


def waterfall(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> dict[str, Any]:
    """Run what leads to one run of a platform, and measure each step.

    `inputs` by role: reference, noise, onnx, evaluation, "run" (its outputs as it ships) and, where there are such,
    environment, teacher, rounded. `params`: run, runtime, options (the way's), rounds, gate and place (its demand).
    A step that cannot be run is a note in the result, never an error.
    """
    data, asked = dataset.read(inputs["evaluation"]), demand.runtime(params["gate"], params["place"])
    truth = tensors.load(inputs["reference"] / "outputs.safetensors")
    teacher = inputs.get("teacher")
    found = attribution.waterfall(
        truth,
        [*_states(inputs, params, data.inputs)],
        _limits(inputs, asked, params["rounds"]),
        tensors.load(teacher / "outputs.safetensors") if teacher is not None else None,
        data.label,
        attribution.STUDENT if _exported_here(inputs) else attribution.ONNX,
        asked.outputs,
    )
    return {"run": params["run"], **found}


def of_run(run: str, inputs: Mapping[str, Path], params: Mapping[str, Any]) -> dict[str, Any]:
    """The waterfall of any run, from the roles of a target that has all: run.RUN, environment.RUN, rounded.NAME."""
    told = params["runs"][run]
    own = {
        "run": f"run.{run}",
        "environment": f"environment.{run}",
        "rounded": f"rounded.{told['rounds']}",
        **{role: role for role in ("reference", "noise", "onnx", "evaluation", "teacher")},
    }
    return waterfall(
        {role: inputs[name] for role, name in own.items() if name in inputs}, {**told, "run": run}
    )


def _exported_here(inputs: Mapping[str, Path]) -> bool:
    """Whether the reference is a module in PyTorch; else it is the canonical file itself, which nothing exported."""
    return bool(json.loads((inputs["onnx"] / NAMES).read_text())["origins"])


def _limits(
    inputs: Mapping[str, Path], asked: RuntimeDemand, rounds: str | None
) -> dict[str, Mapping[str, float]]:
    """What the gate allows, by output and metric; none where nothing can be allowed."""
    limits: dict[str, Mapping[str, float]] = {}
    for name, each in noise.read(inputs["noise"] / noise.FILE).outputs.items():
        try:
            limits[name] = tolerance(name, each, asked, rounds).limits
        except ModelbuildError:  # the gate says so, in words of its own
            limits[name] = {}
    return limits


def _states(inputs: Mapping[str, Path], params: Mapping[str, Any], data: Arrays) -> Iterator[State]:
    runtime = base.find(params["runtime"])
    if isinstance(runtime, Switchable) and _exported_here(inputs):
        yield _exported(inputs["onnx"], data)
    if "rounded" in inputs:
        words = f"the same in {params['rounds']} arithmetic"
        yield State("precision", words, tensors.load(inputs["rounded"] / "outputs.safetensors"))
    if isinstance(runtime, Switchable):
        yield from _switched(runtime, inputs, params, data)
    record = json.loads((inputs["run"] / "run.json").read_text())
    words = f"the file that ships, {runtime.name} {record['version']} {record['backend']}"
    yield State("artefact", words, tensors.load(inputs["run"] / "outputs.safetensors"))


def _exported(onnx: Path, data: Arrays) -> State:
    words = "the canonical ONNX file, optimisations off"
    try:
        return State("export", words, unoptimised.runner((onnx / "model.onnx").read_bytes())(data))
    except ModelbuildError as error:
        return State("export", words, None, error.fact)


def _switched(
    runtime: Switchable, inputs: Mapping[str, Path], params: Mapping[str, Any], data: Arrays
) -> Iterator[State]:
    told: dict[str, Any] = {}
    if "environment" in inputs:
        told["environment"] = str(environments.ready(inputs["environment"]))
    with tempfile.TemporaryDirectory() as folder:
        runtime.as_artifact(inputs["onnx"], Path(folder))
        for switch in runtime.switches(params["options"]):
            yield _run(runtime, switch, Path(folder), data, told)


def _run(runtime: Any, switch: base.Switch, artefact: Path, data: Arrays, told: Mapping[str, Any]) -> State:
    try:
        done = runtime.run(artefact, data, {**told, "options": dict(switch.options)})
    except ModelbuildError as error:
        return State(switch.stage, f"the canonical ONNX file in {runtime.name}", None, error.fact)
    silent = switch.stage == "runtime" and "optimisation" not in done.backend
    how = f"{done.version} {done.backend}{', optimisation disabled' if silent else ''}"
    return State(switch.stage, f"the canonical ONNX file, {runtime.name} {how}", done.outputs)
