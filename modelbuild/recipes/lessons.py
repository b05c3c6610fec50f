"""What is learnt from: a data set, its ground truth, and what the teacher says of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor

from modelbuild import dataset, tensors
from modelbuild.dataset import HIDDEN_STATES, LABEL, OUTPUTS, Array, DataSet
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.training import objective
from modelbuild.training.batch import HIDDEN, TEACHER, Batch
from modelbuild.training.objective import Term
from modelbuild.training.streams import Stream

NONE: Mapping[str, Array] = MappingProxyType({})


class Lesson(NamedTuple):
    """A data set with the teacher's outputs and hidden states on it, each [samples, ...] by name."""

    data: DataSet
    outputs: Mapping[str, Array] = NONE
    hidden: Mapping[str, Array] = NONE


def read(inputs: Mapping[str, Path], part: str) -> Lesson:
    """The data set in role `part` with what the teacher says of it in role `said.PART`."""
    said = inputs[f"said.{part}"]
    hidden = tensors.load(said / HIDDEN_STATES) if (said / HIDDEN_STATES).exists() else NONE
    return Lesson(dataset.read(inputs[part]), tensors.load(said / OUTPUTS), hidden)


def stream(lesson: Lesson, terms: Sequence[Term], place: str, forced: Sequence[str] = ()) -> Stream:
    """The samples with those targets that the `terms` read, and the outputs of the teacher in `forced`.

    Raises RecipeError where the teacher says nothing of what is forced, or of another number of samples.
    """
    known = {**_said(lesson), **lesson.data.truths}
    for name in forced:
        if name not in lesson.outputs:
            fact = f'distil.teacher_forcing names "{name}", which the teacher does not give'
            raise RecipeError(place, fact, did_you_mean(name, list(lesson.outputs)))
    wanted = dict.fromkeys([*objective.read_by(terms, known), *(TEACHER + name for name in forced)])
    for name in wanted:
        if len(known[name]) != lesson.data.samples:
            fact = f'"{name}" has {len(known[name])} samples and the data {lesson.data.samples}'
            raise RecipeError(place, fact, "Build the teacher's outputs again.")
    inputs = {name: torch.tensor(array) for name, array in lesson.data.inputs.items()}
    return Stream(inputs, {name: _target(name, known[name]) for name in wanted})


def head(lesson: Lesson, count: int) -> Batch:
    """The first `count` samples, or as many as there are, with all that the teacher says of them."""
    inputs = {name: torch.tensor(array[:count]) for name, array in lesson.data.inputs.items()}
    return Batch(inputs, {name: torch.tensor(array[:count]) for name, array in _said(lesson).items()})


def unlabelled(lesson: Lesson, terms: Sequence[Term], place: str, forced: Sequence[str] = ()) -> Stream:
    """The same of data whose ground truth, if it has any, is not looked at; RecipeError where nothing is left."""
    found = stream(
        Lesson(DataSet(lesson.data.inputs, {}), lesson.outputs, lesson.hidden), terms, place, forced
    )
    if not objective.read_by(terms, found.targets):
        fact = "unlabelled data is learnt from through the teacher, and no loss is on what it says"
        raise RecipeError(place, fact, "Raise distil.soft.weight, or leave the unlabelled data out.")
    return found


def _said(lesson: Lesson) -> dict[str, Array]:
    """What the teacher says, by the names of targets."""
    hidden = {HIDDEN + path: array for path, array in lesson.hidden.items()}
    return {**{TEACHER + name: array for name, array in lesson.outputs.items()}, **hidden}


def _target(name: str, array: Array) -> Tensor:
    return objective.truth(array) if name.partition(".")[0] == LABEL else torch.tensor(array)
