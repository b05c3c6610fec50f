"""A bundle: an artefact with all that its device needs to run it, and golden samples to check it there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import environments, samples, tensors
from modelbuild.equivalence import demand
from modelbuild.equivalence.tolerance import Reference, auto, tolerance
from modelbuild.errors import RecipeError
from modelbuild.golden import Golden, Limit
from modelbuild.recipes.verdicts import reference
from modelbuild.runtimes import base

SAMPLES = 8


def bundle(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write what `params["runtime"]` makes a bundle of. Raises RecipeError."""
    runtime = base.find(params["runtime"])
    if not isinstance(runtime, base.Bundling):
        raise RecipeError(runtime.name, "makes no bundles", "")
    told = {**params, "environment": str(environments.ready(inputs["environment"]))}
    runtime.bundle(inputs["artifact"], out_dir, _golden(inputs, params), told)


def _golden(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> Golden:
    """The first samples of the evaluation data, as many as a call of the model takes, and the gate's limits."""
    described = json.loads((inputs["evaluation"] / "data.json").read_text())
    arrays = tensors.load(inputs["evaluation"] / "data.safetensors")
    truth = reference(inputs)
    given = {name: arrays[name] for name in described["inputs"]}
    size = _size(inputs["artifact"], described["samples"])
    asked = demand.runtime(params["gate"], params["place"])
    limits = {name: _limit(name, truth, asked) for name in truth.outputs}
    return Golden(samples.batch(given, 0, size), samples.batch(truth.outputs, 0, size), limits)


def _size(artifact: Path, there: int) -> int:
    ports = json.loads((artifact / "io.json").read_text())["inputs"]
    fixed = [port["shape"][0] for port in ports if port["shape"] and isinstance(port["shape"][0], int)]
    return int(fixed[0]) if fixed else min(SAMPLES, there)


def _limit(name: str, truth: Reference, asked: demand.RuntimeDemand) -> Limit:
    """What the gate allows; where it limits other metrics, what "auto" would."""
    found = tolerance(name, truth, asked)
    if "max_abs" in found.limits:
        return Limit(float(found.limits["max_abs"]), found.source)
    limits, source = auto(name, truth)
    return Limit(limits["max_abs"], f"derived, as the manifest limits other metrics: {source}")
