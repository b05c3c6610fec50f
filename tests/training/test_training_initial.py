"""A student that starts from its teacher's weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.training import initial
from modelbuild.zoo.bert import Encoder


def encoder(layers: int, seed: int, width: int = 4, **more: Any) -> Encoder:
    torch.manual_seed(seed)
    return Encoder(layers=layers, width=width, heads=2, inner=6, vocabulary=9, positions=5, **more)


def state(module: nn.Module, path: str = "") -> dict[str, Tensor]:
    found = module.get_submodule(path).state_dict()
    return {name: each.clone() for name, each in found.items()}


def same(a: nn.Module, b: nn.Module, path: str, other: str | None = None) -> bool:
    one, two = state(a, path), state(b, other or path)
    return bool(one) and one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_layers_are_taken_evenly_spaced_and_the_rest_by_name() -> None:
    student, teacher = encoder(2, 0), encoder(6, 1)
    told = initial.from_teacher(student, teacher, {})
    assert told["layers"] == {"encoder.layer.0": "encoder.layer.2", "encoder.layer.1": "encoder.layer.5"}
    for own, other in told["layers"].items():
        assert same(student, teacher, own, other)
    assert same(student, teacher, "embeddings")
    assert told["copied"] == len(student.state_dict()) and told["kept"] == []


def test_listed_layers_are_taken_and_those_beside_them_are_not() -> None:
    student, teacher = encoder(3, 0), encoder(6, 1)
    before = state(student, "encoder.layer.2")
    spec = {"map": [["encoder.layer.0", "encoder.layer.5"], ["encoder.layer.1", "encoder.layer.0"]]}
    told = initial.from_teacher(student, teacher, spec)
    assert same(student, teacher, "encoder.layer.0", "encoder.layer.5")
    assert same(student, teacher, "encoder.layer.1", "encoder.layer.0")
    # the teacher has a layer of that name, which is not the one that answers to it
    assert all(torch.equal(before[name], each) for name, each in state(student, "encoder.layer.2").items())
    assert told["kept"] == [f"encoder.layer.2.{name}" for name in before]
    assert told["copied"] == len(student.state_dict()) - len(before)


def test_the_last_layer_alone_can_be_taken() -> None:
    student, teacher = encoder(2, 0), encoder(3, 1)
    told = initial.from_teacher(student, teacher, {"map": "last"})
    assert told["layers"] == {"encoder.layer.1": "encoder.layer.2"}
    assert all(name.startswith("encoder.layer.0.") for name in told["kept"]) and told["kept"]


class Headed(nn.Module):
    """Blocks, one of them on its own, and a head."""

    def __init__(self, blocks: int, classes: int = 3, own: str = "blocks", early: int = 2) -> None:
        super().__init__()
        self.add_module(own, nn.Sequential(*(nn.Linear(2, 2) for _ in range(blocks))))
        self.early, self.norm, self.head = nn.Linear(2, early), nn.BatchNorm1d(2), nn.Linear(2, classes)


def test_what_is_shaped_otherwise_stays_and_is_listed() -> None:
    student, teacher = Headed(1, classes=3), Headed(2, classes=5)
    teacher.norm.running_mean += 7
    told = initial.from_teacher(student, teacher, {})
    assert told["kept"] == ["head.weight", "head.bias"]
    assert same(student, teacher, "norm") and student.norm.running_mean.eq(7).all()
    assert told["copied"] == 2 + 2 + 5  # a block, early, norm


def test_layers_may_be_called_otherwise_than_the_teacher_s() -> None:
    student, teacher = Headed(1, own="stack"), Headed(2)
    assert initial.from_teacher(student, teacher, {})["layers"] == {"stack.0": "blocks.1"}
    assert same(student, teacher, "stack.0", "blocks.1")


def test_a_layer_in_no_container_is_taken_by_itself() -> None:
    student, teacher = Headed(2), Headed(2)
    told = initial.from_teacher(student, teacher, {"map": [["early", "blocks.1"]]})
    assert same(student, teacher, "early", "blocks.1") and same(student, teacher, "head")
    # what the teacher has in its container are layers, which only the map gives away
    assert told["kept"] == [f"blocks.{index}.{name}" for index in (0, 1) for name in ("weight", "bias")]


def test_the_teacher_is_copied_and_not_shared() -> None:
    student, teacher = encoder(2, 0), encoder(2, 1)
    before = state(teacher)
    initial.from_teacher(student, teacher, {})
    with torch.no_grad():
        for each in student.parameters():
            each.add_(1)
    assert all(torch.equal(before[name], each) for name, each in teacher.state_dict().items())


def test_what_is_frozen_is_taken_too_and_stays_frozen() -> None:
    student, teacher = encoder(2, 0, freeze_embeddings=True), encoder(4, 1)
    initial.from_teacher(student, teacher, {})
    assert same(student, teacher, "embeddings")
    assert not any(each.requires_grad for each in student.embeddings.parameters())


def test_a_layer_of_another_width_is_refused_and_nothing_is_copied() -> None:
    student, teacher = encoder(2, 0, width=8), encoder(6, 1)
    before = state(student)
    told = r'layer "encoder.layer.0" cannot start as the teacher\'s "encoder.layer.2": .* is \[8, 8\], the teacher\'s'
    with pytest.raises(
        RecipeError, match=told + r" \[4, 4\]. Give it the teacher's width, or leave out distil.initial"
    ):
        initial.from_teacher(student, teacher, {})
    assert all(torch.equal(before[name], each) for name, each in student.state_dict().items())


@pytest.mark.parametrize("bare", ["student", "teacher"])
def test_a_layer_that_is_built_otherwise_is_refused(bare: str) -> None:
    student, teacher = Headed(1), Headed(1)
    (student if bare == "student" else teacher).blocks[0] = nn.Linear(2, 2, bias=False)
    with pytest.raises(
        RecipeError, match=r'its "bias" is (missing, the teacher\'s \[2\]|\[2\], the teacher\'s missing)'
    ):
        initial.from_teacher(student, teacher, {})


def test_a_student_that_takes_nothing_is_refused() -> None:
    def bare(width: int) -> nn.Module:
        module = nn.Module()
        module.body, module.head = nn.Sequential(nn.ReLU(), nn.ReLU()), nn.Linear(width, 1, bias=False)
        return module

    with pytest.raises(
        RecipeError, match=r"nothing that is called and shaped as in the teacher.*leave out distil\.initial"
    ):
        initial.from_teacher(bare(2), bare(3), {})
    assert initial.from_teacher(bare(2), bare(2), {})["copied"] == 1


def test_layers_are_found_as_the_manifest_says() -> None:
    with pytest.raises(RecipeError, match=r"distil\.initial\.student"):
        initial.from_teacher(encoder(2, 0), encoder(2, 1), {"student": "embeddings"})
    with pytest.raises(RecipeError, match=r"distil\.initial\.teacher"):
        initial.from_teacher(encoder(2, 0), encoder(2, 1), {"teacher": "embeddings"})


def test_a_plan_looks_at_no_number() -> None:
    with torch.device("meta"):
        student, teacher = encoder(2, 0), encoder(6, 0)
    planned = initial.plan(student, teacher, {})
    assert len(planned.pairs) == 2 and len(planned.names) == len(student.state_dict())
