"""Golden samples that travel with an artefact: inputs, the reference's outputs for them, the gate's own limits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild import golden as samples_of
from modelbuild import samples, tensors
from modelbuild.equivalence import demand, noise
from modelbuild.equivalence.noise import OutputNoise
from modelbuild.equivalence.tolerance import auto, tolerance
from modelbuild.errors import RecipeError
from modelbuild.golden import Golden, Limit
from modelbuild.tensors import Arrays

SAMPLES = 8
MODELS = (".onnx", ".ort", ".mlpackage")  # what the checkers can run by themselves
SAID = ("core_name", "core_dtype", "classes")  # of a port of Core ML


def golden(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write golden.json, the arrays and the checkers. Raises RecipeError."""
    found = sorted(path.name for path in inputs["artifact"].iterdir() if path.suffix in MODELS)
    more = {"runtime": params["runtime"], "artefact": found[0] if found else None}
    samples_of.write(out_dir, made(inputs, params), more)


def made(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> Golden:
    """The first samples of the evaluation data, as many as a call of the artefact takes.

    `rounds` of the params: the arithmetics below fp32 in which the platform is run, "" or None for fp32 itself; a
    device may compute in any of them, so that the loosest limit holds. Raises RecipeError.
    """
    described = json.loads((inputs["evaluation"] / "data.json").read_text())
    arrays = tensors.load(inputs["evaluation"] / "data.safetensors")
    truth = tensors.load(inputs["reference"] / "outputs.safetensors")
    known = noise.read(inputs["noise"] / noise.FILE)
    given = {name: arrays[name] for name in described["inputs"]}
    ports = json.loads((inputs["artifact"] / "io.json").read_text())
    size = _size(ports["inputs"], given, described["samples"])
    asked = demand.runtime(params["gate"], params["place"])
    rounds = _rounds(params.get("rounds"))
    limits = {name: _limit(name, known.of(name), asked, rounds) for name in truth}
    said = dict(_said([*ports["inputs"], *ports["outputs"]], asked))
    return Golden(samples.batch(given, 0, size), samples.batch(truth, 0, size), limits, said)


def _rounds(given: str | Sequence[str | None] | None) -> list[str | None]:
    several = [given] if given is None or isinstance(given, str) else [*given]
    return [each or None for each in several] or [None]


def _size(ports: Sequence[Mapping[str, Any]], given: Arrays, there: int) -> int:
    """How many samples one call takes, at most SAMPLES where it takes several numbers of them."""
    wanted, allowed = min(SAMPLES, there), None
    for port in ports:
        found = _sizes(port, given)
        if found is not None:
            allowed = found if allowed is None else allowed & found
    if allowed is None:
        return wanted
    if not allowed:
        raise RecipeError(
            "golden", "the inputs have no number of samples in common", "Build the artefact again"
        )
    return max((each for each in allowed if each <= wanted), default=min(allowed))


def _sizes(port: Mapping[str, Any], given: Arrays) -> set[int] | None:
    """The numbers of samples that a call may have, None for any."""
    if port.get("enumerated"):
        rest = list(given[port["name"]].shape[1:])
        return {shape[0] for shape in port["enumerated"] if shape[1:] == rest}
    axes = port.get("axes", port.get("shape"))
    first = axes[0] if axes else None
    if isinstance(first, list):
        return set(range(first[0], first[1] + 1))
    return {first} if isinstance(first, int) else None


def _limit(name: str, known: OutputNoise, asked: demand.RuntimeDemand, rounds: Sequence[str | None]) -> Limit:
    """What the gate allows, in the loosest arithmetic; where it limits other metrics, what "auto" would."""
    return max((_limit_in(name, known, asked, each) for each in rounds), key=lambda limit: limit.max_abs)


def _limit_in(name: str, known: OutputNoise, asked: demand.RuntimeDemand, rounds: str | None) -> Limit:
    found = tolerance(name, known, asked, rounds)
    if "max_abs" in found.limits:
        return Limit(float(found.limits["max_abs"]), found.source)
    limits, source = auto(name, known, rounds)
    return Limit(float(limits["max_abs"]), f"derived, as the manifest limits other metrics: {source}")


def _said(
    ports: Sequence[Mapping[str, Any]], asked: demand.RuntimeDemand
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of Core ML, and the output that holds the lengths, where there are any."""
    for port in ports:
        told = {key: port[key] for key in SAID if port.get(key)}
        output = asked.outputs.get(port["name"])
        if output is not None and output.lengths is not None:
            told["lengths"] = output.lengths
        yield port["name"], told
