"""Which of the teacher's layers are kept for its students."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from modelbuild import dataset, network
from modelbuild.errors import RecipeError
from modelbuild.recipes import alignment

MODULE = "modelbuild.zoo.bert:Encoder"


def encoder(layers: int, width: int = 4) -> dict[str, Any]:
    args = {"layers": layers, "width": width, "heads": 2, "inner": 4, "vocabulary": 9, "positions": 5}
    return {"module": MODULE, "args": args}


def told(
    folder: Path,
    students: list[dict[str, Any]],
    layers: dict[str, Any] | None,
    initial: dict[str, Any] | None = None,
    teacher: dict[str, Any] | None = None,
    solved: dict[str, Any] | None = None,
) -> bytes:
    inputs = {"teacher": folder / "teacher"}
    for role, net in (("teacher", teacher or encoder(6)), ("network", solved)):
        if net is not None:
            inputs[role] = folder / role
            inputs[role].mkdir(exist_ok=True)
            dataset.write_json(inputs[role] / network.DESCRIPTION, net)
    params = {"students": students, "layers": layers, "initial": initial}
    alignment.teacher_layers(inputs, params, folder)
    return (folder / "layers.json").read_bytes()


def paths(*numbers: int) -> list[str]:
    return [f"encoder.layer.{number}" for number in numbers]


@pytest.mark.parametrize(
    ("students", "layers", "wanted"),
    [
        ([2], {}, paths(2, 5)),
        ([2, 3], {"map": "even"}, paths(1, 2, 3, 5)),
        ([3, 3, 2], {"map": "last"}, paths(5)),
        ([1], {"student": "encoder.layer", "teacher": "encoder.layer"}, paths(5)),
    ],
)
def test_the_layers_are_those_that_any_student_is_held_to(
    tmp_path: Path, students: list[int], layers: dict[str, Any], wanted: list[str]
) -> None:
    written = json.loads(told(tmp_path, [encoder(count) for count in students], layers))
    assert written == {"depth": 6, "layers": wanted, "teacher": paths(*range(6))}


def test_listed_layers_are_kept_and_nothing_is_counted(tmp_path: Path) -> None:
    layers = {"map": [["embeddings", "embeddings"], ["encoder.layer.0", "encoder.layer.4.attention.self"]]}
    written = json.loads(told(tmp_path, [encoder(1)], layers))
    assert written == {"depth": 0, "layers": ["embeddings", "encoder.layer.4.attention.self"], "teacher": []}


def test_the_bytes_depend_on_no_width_and_no_order(tmp_path: Path) -> None:
    first = told(tmp_path, [encoder(2), encoder(3)], {})
    assert first == told(tmp_path, [encoder(3, width=8), encoder(2, width=6), encoder(2)], {})


def test_a_network_that_was_solved_for_is_the_student(tmp_path: Path) -> None:
    written = json.loads(told(tmp_path, [encoder(2)], {}, solved=encoder(1)))
    assert written["layers"] == paths(5)


def test_without_layers_nothing_is_kept(tmp_path: Path) -> None:
    written = json.loads(told(tmp_path, [encoder(2)], None, {"map": "even"}))
    assert written == {"depth": 0, "layers": [], "teacher": []}


def test_a_layer_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'no layer "encoder.layer.6"'):
        told(tmp_path, [encoder(2)], {"map": [["encoder.layer.0", "encoder.layer.6"]]})
    with pytest.raises(RecipeError, match=r'no layer "encoder.layer.2"'):
        told(tmp_path, [encoder(3), encoder(2)], {"map": [["encoder.layer.2", "encoder.layer.0"]]})


def test_the_only_student_must_be_able_to_start_from_the_teacher(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"cannot start as the teacher's"):
        told(tmp_path, [encoder(2, width=8)], {}, {})
    with pytest.raises(RecipeError, match=r"cannot start as the teacher's"):
        told(tmp_path, [encoder(2)], None, {}, solved=encoder(2, width=8))
    told(tmp_path, [encoder(2)], {}, {})


def test_candidates_of_a_search_may_each_say_otherwise(tmp_path: Path) -> None:
    told(tmp_path, [encoder(2, width=8), encoder(2)], {}, {})


ONNX = {"onnx": "model.onnx", "through": None, "args": {}}


def test_values_of_an_onnx_file_are_listed(tmp_path: Path) -> None:
    layers = {"map": [["encoder.layer.0", "/enc/b"], ["encoder.layer.1", "/enc/a"]]}
    written = json.loads(told(tmp_path, [encoder(2)], layers, teacher=ONNX))
    assert written == {"depth": 0, "layers": ["/enc/a", "/enc/b"], "teacher": []}


def test_the_layers_of_an_onnx_file_cannot_be_counted(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r'an ONNX file, whose layers nobody knows. Give "map" as pairs'):
        told(tmp_path, [encoder(2)], {"map": "last"}, teacher=ONNX)


def test_nobody_starts_from_the_weights_of_an_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the teacher is an ONNX file. Leave distil\.initial out"):
        told(tmp_path, [encoder(2)], None, {}, teacher=ONNX)


class Counting(nn.Module):
    """Remembers on which devices it was built; `computes` with numbers as it is built."""

    built: list[str] = []  # noqa: RUF012

    def __init__(self, computes: bool = False) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        if computes:
            self.scale = self.body[0].weight.abs().max().item()
        self.built.append(self.body[0].weight.device.type)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.body(x)
        return found


@pytest.mark.parametrize(("computes", "devices"), [(False, {"meta"}), (True, {"cpu"})])
def test_networks_are_built_without_their_numbers_where_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, computes: bool, devices: set[str]
) -> None:
    monkeypatch.setattr(Counting, "built", [])
    net = {"module": f"{__name__}:Counting", "args": {"computes": computes}}
    written = json.loads(told(tmp_path, [net], {}, {}, teacher=net))
    assert written["layers"] == ["body.0", "body.1"] and set(Counting.built) == devices
    assert torch.get_default_device().type == "cpu"


def test_a_network_that_cannot_be_built_is_told(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="wdth"):
        told(tmp_path, [{"module": MODULE, "args": {"wdth": 3}}], {})


LAZY = {"module": "torch.nn:LazyLinear", "args": {"out_features": 3}}


def test_a_network_whose_sizes_only_a_batch_tells_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(
        RecipeError, match=r'torch\.nn:LazyLinear: the shape of "weight" is not known before a batch'
    ):
        told(tmp_path, [LAZY], None, {})
