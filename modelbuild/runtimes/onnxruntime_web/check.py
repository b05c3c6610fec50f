"""Runs the artefact that ships on samples, by the host that a way of running names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import nodejs, processor
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Run
from modelbuild.runtimes.onnxruntime import inside
from modelbuild.runtimes.onnxruntime_web import chromium, hosts
from modelbuild.runtimes.onnxruntime_web.exchange import PLACE, Ports
from modelbuild.runtimes.onnxruntime_web.hosts import Host, Settings
from modelbuild.tensors import Arrays

DIST = Path("node_modules/onnxruntime-web/dist")
MODEL, PORTS = "model.onnx", "io.json"
QUANTISED = "quantised.json"


def run(artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
    """Outputs for every sample. Raises RecipeError, also when the host is not there."""
    host, dist, settings = _way(params)
    found = hosts.answer(host, dist, artifact / MODEL, inputs, settings)
    facts = dict(found.facts)
    if (artifact / QUANTISED).exists():
        facts["processor"] = processor.describe()
    return Run(found.outputs, found.version, found.backend, "executed", found.placement, facts)


def intermediates(
    artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
) -> Arrays:
    """The values called `names` as one call on all of `inputs` leaves them, on the way's host and backend.

    Raises RecipeError as that of ONNX Runtime does, and when the host is not there.
    """
    host, dist, settings = _way(params)
    takes, altered = Ports.read(artifact / PORTS).inputs, inside.exposing(artifact / MODEL, names)
    values = hosts.values(host, dist, altered, takes, names, inputs, settings)
    return {name: inputs[name] if name in inputs else values[name] for name in names}


def _way(params: Mapping[str, Any]) -> tuple[Host, Path, Settings]:
    """Who runs it, with which files, and how."""
    told = dict(params["options"])
    host = _host(told.pop("host"), told.pop("executable", None))
    return host, Path(params["environment"]) / DIST, Settings(**told)


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
