"""The teacher: supervised training, and its outputs on every data set, computed once for all students."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from modelbuild import dataset, network, tensors
from modelbuild.dataset import LABEL
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.recipes import inference, supervision, training
from modelbuild.recipes.training import Budget, Stream

PARTS = ("train", "evaluation", "unlabelled")


def train(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Train "module" on the ground truth of `train`.

    "train" may name the loss ("cross_entropy", "l1", "l2"); without it class numbers mean cross-entropy and
    real numbers l2. Raises RecipeError when there is no ground truth, and as `training.fit` does.
    """
    data, place = dataset.read(inputs["train"]), params["module"]
    if data.label is None:
        raise RecipeError(place, f'the training data has no "{LABEL}"', "A teacher learns from ground truth.")
    settings = dict(params["train"])
    term = supervision.task_term({"kind": settings.pop("loss", None)}, data.label, place)
    budget = Budget.of(settings, place)
    stream = Stream(
        [torch.tensor(each) for each in data.inputs.values()], {LABEL: supervision.target(data.label)}
    )
    with deterministic(budget.seed):
        module = network.build(params)
        summary = training.fit(module, training.batches(stream, None, budget), [term], budget)
    training.write(out_dir, module, summary)


def outputs(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write what the teacher says on each data set given: PART.safetensors, output name -> [samples, ...]."""
    with deterministic():
        module = network.load(inputs["teacher"] / "weights.safetensors", params)
        for part in (each for each in PARTS if each in inputs):
            arrays = inference.outputs(module, dataset.read(inputs[part]).inputs)
            tensors.save(out_dir / f"{part}.safetensors", arrays)
