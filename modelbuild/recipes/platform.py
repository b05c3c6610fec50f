"""A platform's artefact, and its run: whatever the runtime of that name makes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import tensors
from modelbuild.errors import RecipeError
from modelbuild.runtimes import base


def convert(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the artefact of `params["runtime"]` from the targets it needs. Raises RecipeError."""
    runtime = base.find(params["runtime"])
    needed = runtime.needs(params["options"])
    missing = [name for name in needed if name not in inputs]
    if missing:
        raise RecipeError(
            runtime.name, f"needs the target {', '.join(missing)}", "Declare it in the manifest"
        )
    runtime.convert({name: inputs[name] for name in needed}, out_dir, params)


def run(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Run `artifact` on the inputs of `evaluation`: outputs.safetensors and run.json. Raises RecipeError."""
    runtime = base.find(params["runtime"])
    reason = runtime.available()
    if reason is not None:
        raise RecipeError(runtime.name, "cannot run here", reason)
    described = json.loads((inputs["evaluation"] / "data.json").read_text())
    arrays = tensors.load(inputs["evaluation"] / "data.safetensors")
    done = runtime.run(inputs["artifact"], {name: arrays[name] for name in described["inputs"]}, params)
    tensors.save(out_dir / "outputs.safetensors", done.outputs)
    record: dict[str, Any] = {
        "runtime": runtime.name,
        "version": done.version,
        "backend": done.backend,
        "evidence": done.evidence,
        "samples": described["samples"],
        "bytes": sum(path.stat().st_size for path in inputs["artifact"].rglob("*") if path.is_file()),
    }
    if done.placement:
        record["placement"] = dict(done.placement)
    (out_dir / "run.json").write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")
