"""Which layer answers to which."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from modelbuild.errors import RecipeError
from modelbuild.training import layers
from modelbuild.training.layers import Pair
from modelbuild.zoo.bert import Encoder
from modelbuild.zoo.convnet import ConvNet


def encoder(count: int) -> Encoder:
    return Encoder(layers=count, width=4, heads=2, inner=4, vocabulary=5, positions=3)


def net(**parts: nn.Module) -> nn.Module:
    module = nn.Module()
    for name, part in parts.items():
        module.add_module(name, part)
    return module


def plain(count: int) -> list[nn.Module]:
    return [nn.Linear(1, 1) for _ in range(count)]


@pytest.mark.parametrize(
    ("students", "teachers", "numbers"),
    [
        (6, 12, [2, 4, 6, 8, 10, 12]),
        (2, 6, [3, 6]),
        (3, 4, [1, 3, 4]),  # 4/3, 8/3, 4
        (2, 5, [3, 5]),  # 2.5 goes up
        (4, 6, [2, 3, 5, 6]),  # so do 1.5 and 4.5
        (4, 4, [1, 2, 3, 4]),
        (1, 7, [7]),
        (3, 1, [1, 1, 1]),  # 1/3 is not 0
        (5, 3, [1, 1, 2, 2, 3]),  # 0.6, 1.2, 1.8, 2.4, 3
    ],
)
def test_layers_answer_to_the_same_share_of_depth(students: int, teachers: int, numbers: list[int]) -> None:
    assert layers.even(students, teachers) == numbers


def test_layers_are_the_children_of_the_longest_container() -> None:
    assert layers.layers_of(encoder(2), None) == ["encoder.layer.0", "encoder.layer.1"]
    assert layers.layers_of(ConvNet(), None) == [f"features.{index}" for index in range(5)]
    assert layers.layers_of(nn.Sequential(*plain(2)), None) == ["0", "1"]


def test_layers_are_those_of_the_container_that_is_named() -> None:
    assert layers.layers_of(ConvNet(), "features.2") == ["features.2.0", "features.2.1", "features.2.2"]
    named = nn.Sequential()
    named.add_module("early", nn.ReLU())
    named.add_module("late", nn.ReLU())
    assert layers.layers_of(net(body=named), "body") == ["body.early", "body.late"]


def test_a_layer_that_comes_twice_counts_twice() -> None:
    (same,) = plain(1)
    assert layers.layers_of(net(body=nn.ModuleList([same, same])), None) == ["body.0", "body.1"]


@pytest.mark.parametrize(
    ("module", "listed"),
    [
        (net(a=nn.Sequential(*plain(2)), b=nn.ModuleList(plain(2))), '"a" (2), "b" (2)'),
        # the three parts of the only layer are no layers
        (net(body=nn.ModuleList([nn.Sequential(*plain(3))])), '"body" (1), "body.0" (3)'),
        (nn.Sequential(nn.Sequential(*plain(4)), nn.Linear(1, 1)), '"" (2), "0" (4)'),
    ],
)
def test_containers_of_which_none_stands_out_are_listed(module: nn.Module, listed: str) -> None:
    with pytest.raises(RecipeError, match="holds its layers is open") as caught:
        layers.layers_of(module, None, "distil.layers.student")
    assert listed in caught.value.fact and caught.value.remedy == "Name one in distil.layers.student."


def test_parts_of_layers_do_not_count_where_the_layers_are_more() -> None:
    module = net(body=nn.ModuleList(nn.Sequential(*plain(2)) for _ in range(3)))
    assert layers.layers_of(module, None) == ["body.0", "body.1", "body.2"]


def test_a_network_without_containers_has_no_layers_to_count() -> None:
    with pytest.raises(RecipeError, match=r'no Sequential or ModuleList.*List pairs of paths in "map"'):
        layers.layers_of(net(body=nn.Linear(1, 1), none=nn.Sequential()), None)


def test_what_is_named_must_be_a_container_with_layers() -> None:
    with pytest.raises(RecipeError, match=r'distil.layers.student: "head" is Linear.*Known: features,'):
        layers.layers_of(ConvNet(), "head", "distil.layers.student")
    with pytest.raises(RecipeError, match=r'no layer "feature".*Did you mean "features"'):
        layers.layers_of(ConvNet(), "feature")


TEACHER = [f"deep.{index}" for index in range(6)]


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ({}, [("encoder.layer.0", "deep.2"), ("encoder.layer.1", "deep.5")]),
        ({"map": "even"}, [("encoder.layer.0", "deep.2"), ("encoder.layer.1", "deep.5")]),
        ({"map": "last", "student": "encoder.layer"}, [("encoder.layer.1", "deep.5")]),
        ({"map": [["embeddings", "deep.0"]]}, [("embeddings", "deep.0")]),
        (
            {"map": [["encoder", "b"], ["embeddings", "a"], ["encoder", "b"]]},
            [("encoder", "b"), ("embeddings", "a")],
        ),
    ],
)
def test_the_map_says_the_pairs(spec: dict[str, Any], wanted: list[tuple[str, str]]) -> None:
    assert layers.pairs(spec, encoder(2), TEACHER) == [Pair(*each) for each in wanted]


def test_listed_layers_of_the_student_must_be_there() -> None:
    with pytest.raises(RecipeError, match=r'no layer "encoder.layer.2". Did you mean "encoder.layer.'):
        layers.pairs({"map": [["encoder.layer.0", "a"], ["encoder.layer.2", "a"]]}, encoder(2), [])


@pytest.mark.parametrize("name", ["student", "teacher"])
def test_pairs_beside_a_container_contradict(name: str) -> None:
    with pytest.raises(RecipeError, match=rf"Leave distil\.initial\.{name} out"):
        layers.pairs({"map": [["a", "b"]], name: "c"}, encoder(2), [], "distil.initial")


def test_an_unknown_map_is_told() -> None:
    with pytest.raises(RecipeError, match=r'the map "evn" is not known\. Did you mean "even"'):
        layers.pairs({"map": "evn"}, encoder(2), TEACHER)


def test_the_teacher_s_layers_are_counted_only_where_the_map_counts() -> None:
    assert layers.of_teacher({}, encoder(3)) == [f"encoder.layer.{index}" for index in range(3)]
    assert layers.of_teacher({"teacher": "encoder.layer", "map": "last"}, encoder(1)) == ["encoder.layer.0"]
    assert layers.of_teacher({"map": [["x", "encoder.layer.2"]]}, encoder(3)) == []
    with pytest.raises(RecipeError, match=r'no layer "encoder\.layer\.7"'):
        layers.of_teacher({"map": [["x", "encoder.layer.0"], ["x", "encoder.layer.7"]]}, encoder(3))
    with pytest.raises(RecipeError, match=r"Name one in distil\.initial\.teacher"):
        layers.of_teacher({}, net(a=nn.ModuleList(plain(1)), b=nn.ModuleList(plain(1))), "distil.initial")
