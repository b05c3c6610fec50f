"""The student: trained on the ground truth and on what the teacher said, which is read and never computed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelbuild import dataset, network
from modelbuild.deterministic import deterministic
from modelbuild.errors import RecipeError
from modelbuild.recipes import alignment, lessons
from modelbuild.recipes.lessons import Lesson
from modelbuild.training import features, initial, loop, objective
from modelbuild.training.features import Alignment
from modelbuild.training.learner import Learner
from modelbuild.training.objective import WEIGHT, Term
from modelbuild.training.settings import Settings

TRAINING, STATE = "training.json", "state"
SEEN = 8  # samples on which the layers of student and teacher are looked at before any training


def distil(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Train the student and write network.json, weights.safetensors and training.json.

    `params`: "distil", "train" and, unless the role network says it, "network" with "module" and "args". Roles: train
    and said.train, unlabelled and said.unlabelled (what the teacher says of each), teacher (to start from), layers.
    """
    net = network.described(inputs["network"]) if "network" in inputs else params["network"]
    train_candidate(inputs, {**net, "distil": params["distil"], "train": params["train"]}, out_dir)


def train_candidate(
    inputs: Mapping[str, Path],
    candidate: Mapping[str, Any],
    out_dir: Path,
    until: int | None = None,
    start: Path | None = None,
) -> None:
    """Train `candidate`, a "module" with "args", "distil" and "train", up to step `until` of its training.

    `start` is the folder of the same candidate trained so far. Where `until` is given, the state to go on from is
    written too. Raises RecipeError when the teacher's outputs do not belong to the data or to the student's outputs,
    and as `loop.fit` does.
    """
    place, asked = candidate["module"], candidate["distil"]
    settings, forced = Settings.of(candidate["train"], place), asked.get("teacher_forcing", {})
    labelled = lessons.read(inputs, "train")
    more = lessons.read(inputs, "unlabelled") if "unlabelled" in inputs else None
    with deterministic(settings.seed):
        student = network.build(candidate)
        begun = _begun(student, asked, inputs)
        held = _held(student, asked, labelled, inputs, settings)
        terms = _terms(asked, labelled, held, place)
        learner = Learner(student, held.hooked, held.projections, forced)
        summary = loop.fit(
            learner,
            lessons.stream(labelled, terms, place, [*forced.values()]),
            None if more is None else lessons.unlabelled(more, terms, place, [*forced.values()]),
            terms,
            settings,
            until=until,
            start=None if start is None else start / STATE,
            state=None if until is None else out_dir / STATE,
        )
        learner.close()
    network.save(out_dir, learner.student, candidate)
    dataset.write_json(out_dir / TRAINING, {**summary, **begun})


def _begun(student: nn.Module, asked: Mapping[str, Any], inputs: Mapping[str, Path]) -> dict[str, Any]:
    """Start from the teacher's weights where that is asked for."""
    if "initial" not in asked:
        return {}
    return {"initial": initial.from_teacher(student, network.restore(inputs["teacher"]), asked["initial"])}


def _held(
    student: nn.Module,
    asked: Mapping[str, Any],
    lesson: Lesson,
    inputs: Mapping[str, Path],
    settings: Settings,
) -> Alignment:
    """What holds the student's layers to the teacher's, where that is asked for."""
    if "layers" not in asked:
        return Alignment((), nn.ModuleList(), [])
    teacher = json.loads((inputs["layers"] / alignment.FILE).read_text(encoding="utf-8"))["teacher"]
    generator = torch.Generator().manual_seed(settings.seed)
    head, forced = lessons.head(lesson, SEEN), asked.get("teacher_forcing", {})
    return features.alignment(asked["layers"], student, teacher, head, generator, forced)


def _terms(asked: Mapping[str, Any], lesson: Lesson, held: Alignment, place: str) -> list[Term]:
    """The losses on the ground truth, on the teacher's outputs and on its layers."""
    real = {name: array.dtype.kind == "f" for name, array in lesson.outputs.items()}
    task = objective.task_terms(asked.get("task", WEIGHT), lesson.data.truths, place, weight=WEIGHT)
    terms = [*task, *objective.soft_terms(asked.get("soft", {}), real, place), *held.terms]
    if not terms:
        fact = "every loss has a weight of 0: nothing to learn"
        raise RecipeError(place, fact, "Give one of them a weight.")
    return terms
