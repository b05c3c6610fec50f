"""Runs the artefact that ships on samples, by the host that a way of running names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import nodejs, processor
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.onnxruntime_web import chromium, hosts
from modelbuild.runtimes.onnxruntime_web.exchange import PLACE
from modelbuild.runtimes.onnxruntime_web.hosts import Host, Settings
from modelbuild.tensors import Arrays

DIST = Path("node_modules/onnxruntime-web/dist")
QUANTISED = "quantised.json"


def run(artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
    """Outputs for every sample. Raises RecipeError, also when the host is not there."""
    told = dict(params["options"])
    host = _host(told.pop("host"), told.pop("executable", None))
    dist = Path(params["environment"]) / DIST
    found = hosts.answer(host, dist, artifact / "model.onnx", inputs, Settings(**told))
    facts = dict(found.facts)
    if (artifact / QUANTISED).exists():
        facts["processor"] = processor.describe()
    return Run(found.outputs, found.version, found.backend, "executed", found.placement, facts)


def _host(kind: str, executable: str | None) -> Host:
    if kind == "node":
        node = nodejs.find()
        if node is None:
            raise RecipeError(PLACE, "there is no Node on this machine", nodejs.REMEDY)
        return Host("node", str(node))
    program = chromium.find(executable)
    if program is None:
        raise RecipeError(PLACE, chromium.missing(executable))
    return Host("chromium", program)
