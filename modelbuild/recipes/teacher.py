"""The teacher trained here: supervised, on the ground truth of the training data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import dataset, network
from modelbuild.deterministic import deterministic
from modelbuild.recipes import lessons
from modelbuild.recipes.lessons import Lesson
from modelbuild.training import loop, objective
from modelbuild.training.learner import Learner
from modelbuild.training.settings import Settings


def train(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Train "module" on the ground truth of `train` and write network.json, weights.safetensors and training.json.

    "task" may say which loss (see `objective.task_terms`). Raises RecipeError when there is no ground truth, and as
    `loop.fit` does.
    """
    data, place = dataset.read(inputs["train"]), params["module"]
    settings = Settings.of(params["train"], place)
    terms = objective.task_terms({"weight": 1.0, **params.get("task", {})}, data.truths, place)
    with deterministic(settings.seed):
        learner = Learner(network.build(params))
        summary = loop.fit(learner, lessons.stream(Lesson(data), terms, place), None, terms, settings)
    network.save(out_dir, learner.student, params)
    dataset.write_json(out_dir / "training.json", summary)
