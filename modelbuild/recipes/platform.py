"""A platform's artefact, and its run: whatever the runtime of that name makes of them, in its environment."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import environments, tensors
from modelbuild.errors import RecipeError
from modelbuild.runtimes import base


def convert(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the artefact of `params["runtime"]` from the targets it needs. Raises RecipeError."""
    runtime = base.find(params["runtime"])
    needed = runtime.conversion(params["options"]).needs
    missing = [name for name in needed if name not in inputs]
    if missing:
        raise RecipeError(
            runtime.name, f"needs the target {', '.join(missing)}", "Declare it in the manifest"
        )
    runtime.convert({name: inputs[name] for name in needed}, out_dir, _with_environment(inputs, params))


def run(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Run `artifact` on the inputs of `evaluation`: outputs.safetensors and run.json. Raises RecipeError."""
    runtime = base.find(params["runtime"])
    reason = runtime.available()
    if reason is not None:
        raise RecipeError(runtime.name, "cannot run here", reason)
    described = json.loads((inputs["evaluation"] / "data.json").read_text())
    arrays = tensors.load(inputs["evaluation"] / "data.safetensors")
    told = _with_environment(inputs, params)
    done = runtime.run(inputs["artifact"], {name: arrays[name] for name in described["inputs"]}, told)
    tensors.save(out_dir / "outputs.safetensors", done.outputs)
    record: dict[str, Any] = {
        "runtime": runtime.name,
        "version": done.version,
        "backend": done.backend,
        "evidence": done.evidence,
        "samples": described["samples"],
        "bytes": sum(path.stat().st_size for path in inputs["artifact"].rglob("*") if path.is_file()),
    }
    for name in ("placement", "facts"):
        if getattr(done, name):
            record[name] = dict(getattr(done, name))
    (out_dir / "run.json").write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")


def _with_environment(inputs: Mapping[str, Path], params: Mapping[str, Any]) -> dict[str, Any]:
    """`params` and, where there is a locked environment among the inputs, the folder it is installed in."""
    if "environment" not in inputs:
        return dict(params)
    return {**params, "environment": str(environments.ready(inputs["environment"]))}
