"""Writes an .mlpackage whose bytes depend on the model alone.

coremltools stamps a package with the day of the conversion and with identifiers drawn at random. Here the day is
left out, an identifier is derived from the name of what it identifies, and protobuf maps are written in order.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

ROOT = "com.apple.CoreML"
MODEL, WEIGHTS = f"{ROOT}/model.mlmodel", f"{ROOT}/weights"
DATE = "com.github.apple.coremltools.conversion_date"


def write(spec: Any, weights: Path | None, to: Path) -> None:
    """Write the Model protobuf `spec` and the weight files in folder `weights` as the package `to`."""
    (to / "Data" / ROOT).mkdir(parents=True)
    clean = type(spec)()
    clean.CopyFrom(spec)
    clean.description.metadata.userDefined.pop(DATE, None)
    (to / "Data" / MODEL).write_bytes(clean.SerializeToString(deterministic=True))
    items = [_item(MODEL, "CoreML Model Specification")]
    if weights is not None and weights.is_dir():
        shutil.copytree(weights, to / "Data" / WEIGHTS)
        items.append(_item(WEIGHTS, "CoreML Model Weights"))
    manifest = {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": {_identifier(item["path"]): item for item in items},
        "rootModelIdentifier": _identifier(MODEL),
    }
    (to / "Manifest.json").write_text(json.dumps(manifest, indent=4, sort_keys=True) + "\n", encoding="utf-8")


def _identifier(path: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, path)).upper()


def _item(path: str, description: str) -> dict[str, str]:
    return {"author": ROOT, "description": description, "name": Path(path).name, "path": path}
