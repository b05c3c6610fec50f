"""A candidate of a search, trained on from where the cycle before left it; one that is out is not trained at all.

Nothing of another candidate is read here, nor how good this one was: what is decided elsewhere trains nothing anew.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import dataset
from modelbuild.errors import RecipeError
from modelbuild.recipes import distil
from modelbuild.training.curve import CURE

CANDIDATE, GO, TRAINING = "candidate.json", "go.json", "training.json"


def train(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Train `candidate` up to step "until" of "steps", from the state in `before` where there is one.

    Where `go` says no, or the candidate is over its capacity, training.json says "stopped" and nothing else is
    written; with "failed", and why, where the loss is no number. Other roles as `distil.train_candidate`, which this
    raises RecipeError like.
    """
    candidate = _read(inputs["candidate"], CANDIDATE)
    if candidate["over"] is not None or ("go" in inputs and not _read(inputs["go"], GO)["go"]):
        dataset.write_json(out_dir / TRAINING, {"stopped": True})
        return
    student = {**candidate, "train": {**candidate["train"], "steps": params["steps"]}}
    try:
        distil.train_candidate(inputs, student, out_dir, params["until"], inputs.get("before"))
    except RecipeError as error:
        if error.remedy != CURE:
            raise
        # A training that runs away says something of this candidate, and nothing against the others.
        dataset.write_json(out_dir / TRAINING, {"stopped": True, "failed": error.fact})


def _read(folder: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return found
