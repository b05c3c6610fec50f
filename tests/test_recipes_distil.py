"""Distillation: what the student learns from, what it refuses, and how good it gets on digits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from modelbuild import dataset, network, tensors
from modelbuild.errors import RecipeError
from modelbuild.recipes import data, distil, teacher, teacher_outputs

torch.set_num_threads(1)
LINEAR = {"module": "torch.nn:Linear", "args": {"in_features": 2, "out_features": 3}}
TRAIN = {"steps": 250, "batch": 32, "lr": 0.05, "weight_decay": 0.0, "seed": 0}
SAID = {"hidden": False, "store": "float32"}


def folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


class Case:
    """Points in a plane; the labels say class 0, the "teacher" says the class of a rule it was never told."""

    def __init__(self, root: Path, *, unlabelled: bool = False, label: bool = True) -> None:
        self.root = root
        rng = np.random.default_rng(0)
        self.rule = rng.normal(size=(2, 3)).astype(np.float32) * 4
        self.inputs: dict[str, Path] = {}
        self.x = rng.normal(size=(64, 2)).astype(np.float32)
        self.part("train", {"x": self.x, **({"label": np.zeros(64, np.int64)} if label else {})})
        if unlabelled:
            self.part("unlabelled", {"x": rng.normal(size=(200, 2)).astype(np.float32) + 3})

    def part(self, name: str, arrays: dict[str, Any]) -> None:
        self.inputs[name], said = folder(self.root / name), folder(self.root / f"said.{name}")
        self.inputs[f"said.{name}"] = said
        dataset.write(self.inputs[name], data.checked(arrays, name))
        tensors.save(said / "outputs.safetensors", {"output": arrays["x"] @ self.rule})

    def student(self, distilling: dict[str, Any], train: dict[str, Any] = TRAIN) -> np.ndarray[Any, Any]:
        """Train, and give the student's logits on the training points."""
        out = folder(self.root / "student")
        distil.distil(self.inputs, {"network": LINEAR, "distil": distilling, "train": train}, out)
        weights = tensors.load(out / "weights.safetensors")
        return self.x @ np.asarray(weights["weight"], np.float32).T + np.asarray(weights["bias"])


def test_with_the_soft_loss_alone_the_student_becomes_its_teacher(tmp_path: Path) -> None:
    case = Case(tmp_path)
    logits = case.student({"task": 0, "soft": {"kind": "kl", "weight": 1.0, "temperature": 3}})
    agreement = (logits.argmax(1) == (case.x @ case.rule).argmax(1)).mean()
    assert agreement > 0.95


def test_with_the_task_loss_alone_it_learns_the_labels(tmp_path: Path) -> None:
    logits = Case(tmp_path).student({"task": 1.0, "soft": {"kind": "kl", "weight": 0}})
    assert (logits.argmax(1) == 0).all()


@pytest.mark.parametrize("kind", ["l1", "l2"])
def test_distances_bring_the_student_to_the_teachers_very_numbers(tmp_path: Path, kind: str) -> None:
    case = Case(tmp_path)
    logits = case.student({"task": 0, "soft": {"kind": kind, "weight": 1.0}})
    assert np.abs(logits - case.x @ case.rule).mean() < 0.2


def test_by_default_it_is_half_of_each_with_kl_at_temperature_4(tmp_path: Path) -> None:
    plain = Case(tmp_path / "a").student({})
    said = {"task": 0.5, "soft": {"kind": "kl", "weight": 0.5, "temperature": 4}}
    assert np.array_equal(plain, Case(tmp_path / "b").student(said))


def test_the_task_may_name_kind_weight_and_output(tmp_path: Path) -> None:
    number = Case(tmp_path / "a").student({"task": 0.5})
    said = {"task": {"kind": "cross_entropy", "output": "output"}}
    assert np.array_equal(number, Case(tmp_path / "b").student(said))


def test_unlabelled_samples_teach_what_the_labelled_ones_do_not_show(tmp_path: Path) -> None:
    soft = {"task": 0, "soft": {"kind": "l2", "weight": 1.0}}
    with_them = Case(tmp_path / "a", unlabelled=True).student(soft)
    assert not np.array_equal(with_them, Case(tmp_path / "b").student(soft))
    # The task loss sees labelled samples alone: with the soft loss tiny, labels win everywhere.
    mixed = Case(tmp_path / "c", unlabelled=True).student({"task": 1.0, "soft": {"weight": 1e-9}})
    assert (mixed.argmax(1) == 0).all()


def test_labels_of_unlabelled_data_are_not_looked_at(tmp_path: Path) -> None:
    plain, labelled = (Case(tmp_path / name, unlabelled=True) for name in "ab")
    given = dataset.read(labelled.inputs["unlabelled"])
    dataset.write(
        labelled.inputs["unlabelled"], dataset.DataSet(given.inputs, {"label": np.ones(200, np.int64)})
    )
    assert np.array_equal(plain.student({}), labelled.student({}))


def test_without_labels_the_teacher_alone_can_teach(tmp_path: Path) -> None:
    case = Case(tmp_path, label=False)
    case.student({"task": 0}, {"steps": 2})
    with pytest.raises(RecipeError, match="the task loss needs it"):
        case.student({"task": 0.5})


def test_what_cannot_be_learned_from_is_refused(tmp_path: Path) -> None:
    case = Case(tmp_path, unlabelled=True)
    for distilling, words in (
        ({"task": 0, "soft": {"weight": 0}}, "nothing to learn"),
        ({"soft": {"weight": 0}}, "unlabelled data is learnt from through the teacher"),
        ({"soft": {"kind": "hinge"}}, 'loss kind "hinge" is not one of'),
        ({"soft": {"outputs": ["logits"]}}, 'the teacher has no output "logits"'),
        ({"task": {"kind": "hinge"}}, 'loss kind "hinge"'),
        ({"teacher_forcing": {"input": "logits"}}, "forward cannot do without it"),
    ):
        with pytest.raises(RecipeError) as caught:
            case.student(distilling)
        assert words in str(caught.value)


def test_teacher_outputs_of_other_samples_or_another_shape_are_refused(tmp_path: Path) -> None:
    case = Case(tmp_path)
    path = case.inputs["said.train"] / "outputs.safetensors"
    tensors.save(path, {"output": np.zeros((63, 3), np.float32)})
    with pytest.raises(RecipeError, match=r'"teacher\.output" has 63 samples and the data 64'):
        case.student({})
    tensors.save(path, {"output": np.zeros((64, 4), np.float32)})
    with pytest.raises(RecipeError, match=r"an output \[32, 3\] with a target \[32, 4\]"):
        case.student({})
    tensors.save(path, {"logits": np.zeros((64, 3), np.float32)})
    with pytest.raises(RecipeError, match='the network has no output "logits"'):
        case.student({})


def test_the_network_that_was_solved_for_is_the_one_that_is_trained(tmp_path: Path) -> None:
    case = Case(tmp_path)
    network.describe(folder(tmp_path / "network"), LINEAR)
    out = folder(tmp_path / "out")
    distil.distil(
        {**case.inputs, "network": tmp_path / "network"}, {"distil": {}, "train": {"steps": 1}}, out
    )
    assert network.described(out) == LINEAR
    assert network.restore(out).weight.shape == (3, 2)


class Forced(torch.nn.Module):
    """Adds what it is forced with, or nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 3)

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        return self.layer(x) + (0 if shift is None else shift)


def test_what_the_teacher_forces_is_given_in_training_and_must_be_there(tmp_path: Path) -> None:
    case, net = Case(tmp_path), {"module": f"{__name__}:Forced", "args": {}}
    soft = {"task": 0, "soft": {"kind": "l2", "weight": 1.0, "outputs": ["output"]}}
    params = {"network": net, "distil": {**soft, "teacher_forcing": {"shift": "output"}}, "train": TRAIN}
    distil.distil(case.inputs, params, folder(tmp_path / "out"))
    weights = tensors.load(tmp_path / "out" / "weights.safetensors")
    assert np.abs(np.asarray(weights["layer.weight"])).max() < 0.05, (
        "the teacher's own answer was given already"
    )
    params["distil"]["teacher_forcing"] = {"shift": "outptu"}
    with pytest.raises(
        RecipeError, match=r'names "outptu", which the teacher does not give\. Did you mean "output"'
    ):
        distil.distil(case.inputs, params, folder(tmp_path / "out"))


def test_a_training_in_two_parts_ends_with_the_bytes_of_one(tmp_path: Path) -> None:
    case = Case(tmp_path, unlabelled=True)
    candidate = {**LINEAR, "distil": {}, "train": {"steps": 9, "batch": 8}}
    whole, half, rest = (folder(tmp_path / name) for name in ("whole", "half", "rest"))
    distil.train_candidate(case.inputs, candidate, whole)
    distil.train_candidate(case.inputs, candidate, half, until=4)
    distil.train_candidate(case.inputs, candidate, rest, until=9, start=half)
    one, other = ((each / "weights.safetensors").read_bytes() for each in (whole, rest))
    assert one == other != (half / "weights.safetensors").read_bytes()
    assert (rest / "state").is_dir() and not (whole / "state").exists()
    (half / "state" / "state.json").unlink()
    with pytest.raises(RecipeError):  # so it was gone on from
        distil.train_candidate(case.inputs, candidate, rest, until=9, start=half)


def test_a_student_of_digits_follows_its_teacher_and_solves_the_task(tmp_path: Path) -> None:
    """The budgets of the example manifest, in full."""
    net = "modelbuild.zoo.convnet:ConvNet"
    wide, narrow = {"module": net, "args": {"width": 32}}, {"module": net, "args": {"width": 8}}
    for name, part in (("train", "train"), ("evaluation", "test")):
        folder(tmp_path / name)
        params = {"loader": "modelbuild.zoo.digits:load", "args": {"part": part}, "files": []}
        data.load({}, params, tmp_path / name)
    given = {"train": tmp_path / "train", "evaluation": tmp_path / "evaluation"}
    budget = {"steps": 300, "batch": 128, "lr": 0.01, "weight_decay": 0.01, "seed": 0}
    teacher.train(given, {**wide, "train": budget}, folder(tmp_path / "teacher"))
    for part in given:
        said = folder(tmp_path / f"said.{part}")
        teacher_outputs.outputs({"teacher": tmp_path / "teacher", "data": given[part]}, SAID, said)
        given = {**given, f"said.{part}": said}
    budget = {"steps": 600, "batch": 64, "lr": 0.01, "weight_decay": 0.01, "seed": 0}
    student = folder(tmp_path / "student")
    distil.distil(given, {"network": narrow, "distil": {}, "train": budget}, student)
    roles = {"teacher": student, "data": given["evaluation"]}
    teacher_outputs.outputs(roles, SAID, folder(tmp_path / "said"))
    label = dataset.read(given["evaluation"]).label
    taught = tensors.load(tmp_path / "said.evaluation" / "outputs.safetensors")["logits"].argmax(1)
    said_by_student = tensors.load(tmp_path / "said" / "outputs.safetensors")["logits"].argmax(1)
    assert (taught == label).mean() > 0.98
    assert (said_by_student == label).mean() > 0.97
    assert (said_by_student == taught).mean() > 0.97
    assert json.loads((student / "training.json").read_text())["parameters"] < 5000
