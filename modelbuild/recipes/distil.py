"""The student: trained on the ground truth and on what the teacher said, read and never computed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from modelbuild import dataset, network, tensors
from modelbuild.dataset import LABEL, Array, DataSet
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes import losses, supervision, training
from modelbuild.recipes.objective import Term
from modelbuild.recipes.training import Budget, Stream

TASK_WEIGHT = 0.5
SOFT = {"kind": "kl", "weight": 0.5}
TEACHER = "teacher."


def distil(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Train "module" on `task * task loss + soft * soft loss`, by default half of each.

    "distil" may say: "task", a weight or {"weight", "kind", "output"}; "soft", {"kind", "weight", "outputs"}
    and the options of its kind. Unlabelled samples count in the soft loss only. Raises RecipeError when the
    teacher's outputs do not belong to the data or to the student's outputs, and as `training.fit` does.
    """
    place, settings = params["module"], params.get("distil", {})
    budget = Budget.of(params["train"], place)
    labelled, terms = _labelled(inputs, settings, place)
    unlabelled = _unlabelled(inputs, terms, place)
    with deterministic(budget.seed):
        module = network.build(params)
        summary = training.fit(module, training.batches(labelled, unlabelled, budget), terms, budget)
    training.write(out_dir, module, summary)


def _labelled(
    inputs: Mapping[str, Path], settings: Mapping[str, Any], place: str
) -> tuple[Stream, list[Term]]:
    data = dataset.read(inputs["train"])
    teacher = tensors.load(inputs["outputs"] / "train.safetensors")
    task = _task(settings.get("task", TASK_WEIGHT), data, place)
    soft = _soft({**SOFT, **settings.get("soft", {})}, teacher, place)
    terms = [term for term in [*task, *soft] if term.weight]
    if not terms:
        raise RecipeError(place, "both the task and the soft loss have a weight of 0: nothing to learn")
    targets = _targets(data, teacher, terms, place)
    if task:
        targets[LABEL] = supervision.target(_label(data, place))
    return Stream(_columns(data), targets), terms


def _unlabelled(inputs: Mapping[str, Path], terms: list[Term], place: str) -> Stream | None:
    if "unlabelled" not in inputs:
        return None
    data, teacher = (
        dataset.read(inputs["unlabelled"]),
        tensors.load(inputs["outputs"] / "unlabelled.safetensors"),
    )
    targets = _targets(data, teacher, terms, place)
    if not targets:
        raise RecipeError(
            place, "unlabelled data needs a soft loss, and its weight is 0", "Raise distil.soft.weight."
        )
    return Stream(_columns(data), targets)


def _task(task: float | Mapping[str, Any], data: DataSet, place: str) -> list[Term]:
    spec = task if isinstance(task, Mapping) else {"weight": task}
    if not spec.get("weight", TASK_WEIGHT):
        return []
    return [supervision.task_term({"weight": TASK_WEIGHT, **spec}, _label(data, place), place)]


def _label(data: DataSet, place: str) -> Array:
    if data.label is None:
        fact = f'the training data has no "{LABEL}", and the task loss needs it'
        raise RecipeError(place, fact, "Set distil.task to 0 to learn from the teacher alone.")
    return data.label


def _soft(soft: Mapping[str, Any], teacher: tensors.Arrays, place: str) -> list[Term]:
    options = {name: value for name, value in soft.items() if name not in ("kind", "weight", "outputs")}
    loss = losses.named(place, losses.SOFT, soft["kind"], options)
    names = soft.get("outputs") or [name for name, array in teacher.items() if array.dtype.kind == "f"]
    for name in names:
        if name not in teacher:
            raise RecipeError(place, f'the teacher has no output "{name}"', did_you_mean(name, list(teacher)))
    return [Term(name, TEACHER + name, float(soft["weight"]), loss) for name in names]


def _targets(data: DataSet, teacher: tensors.Arrays, terms: list[Term], place: str) -> dict[str, Tensor]:
    names = [term.target.removeprefix(TEACHER) for term in terms if term.target.startswith(TEACHER)]
    for name in names:
        if len(teacher[name]) != data.samples:
            fact = f'the teacher\'s "{name}" has {len(teacher[name])} samples and the data {data.samples}'
            raise RecipeError(place, fact)
    return {TEACHER + name: torch.tensor(teacher[name]) for name in names}


def _columns(data: DataSet) -> list[Tensor]:
    return [torch.tensor(array) for array in data.inputs.values()]
