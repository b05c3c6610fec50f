"""The artefact: the canonical ONNX file as it is or with fixed shapes, or the same in ORT format for a device."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from modelbuild import processor, samples
from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import isolated, ports, sessions, worker
from modelbuild.runtimes.onnxruntime.options import MOBILE_BATCH, NAME, Options, parse

ONNX, ORT = "model.onnx", "model.ort"
OPERATORS, MOBILE = "required_operators.config", "mobile.json"
QUANTISED = "quantised.json"


def convert(model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
    """Write the model, io.json, and what is said of it: quantised.json, and of an ORT file the operators it needs.

    The copy is opened, not the original: weights left behind are missed here, not on the device. Raises RecipeError.
    """
    options, environment = parse(params.get("options", {})), params.get("environment")
    target = out / ONNX
    _place(model["onnx"] / ONNX, target, options)
    # In ORT format another version writes the file, so that is the one to say whether it can.
    with sessions.opened(target, Options(), environment) as session:
        inputs, outputs = ports.of(session.inputs), ports.of(session.outputs)
    samples.batch_of(NAME, inputs, options.batch)
    ports.write(out, inputs, outputs)
    kinds = processor.quantised_kinds(onnx.load(target, load_external_data=False))
    if kinds:
        _write_json(out / QUANTISED, {"operators": kinds})
    if options.format == "ort":
        _to_ort(target, out / ORT, options, environment)
        target.unlink()


def as_it_is(onnx_folder: Path, out: Path) -> None:
    """The canonical file with its ports and nothing converted. Raises RecipeError where it does not load."""
    shutil.copyfile(onnx_folder / ONNX, out / ONNX)
    with sessions.opened(out / ONNX, Options(), None) as session:
        ports.write(out, ports.of(session.inputs), ports.of(session.outputs))


def model_file(artifact: Path) -> Path:
    """The file that ships, of the two that it may be."""
    return artifact / ORT if (artifact / ORT).exists() else artifact / ONNX


def _place(source: Path, target: Path, options: Options) -> None:
    """Copy, or write with fixed shapes."""
    if options.shapes == "free":
        shutil.copyfile(source, target)
        return
    from modelbuild.runtimes.onnxruntime import fixed

    with sessions.readable(source):
        given = onnx.load(source)
    settled = fixed.with_fixed_shapes(given, options.batch or MOBILE_BATCH)
    target.write_bytes(settled.SerializeToString(deterministic=True))


def _to_ort(source: Path, target: Path, options: Options, environment: str | None) -> None:
    """Write `target` and what a device needs to know of it; the usability check reads ONNX."""
    from modelbuild.runtimes.onnxruntime import mobile, ort_format

    asked = {"model": str(source), "out": str(target), "optimisation": options.optimisation[0]}
    try:
        if environment is None:
            worker.save(**asked)
        else:
            with isolated.started(Path(environment)) as process:
                process.ask({"save": asked})
    except RecipeError:
        raise
    except Exception as error:
        version = str(getattr(error, "version", worker.VERSION))
        raise sessions.does_not_load(source, version, error) from error
    target.write_bytes(ort_format.canonical(target.read_bytes()))
    (target.parent / OPERATORS).write_text(mobile.required_operators(target))
    found = mobile.usability(source)
    _write_json(target.parent / MOBILE, {"accelerators": found, "sentences": mobile.sentences(found)})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")
