"""Named recipes, and what a manifest lays over them."""

from __future__ import annotations

import copy
import json

import pytest

from modelbuild import kinds, presets, schema_errors, schemas
from modelbuild.declare import Document
from modelbuild.errors import RecipeError

DISTILBERT = {
    "task": {"weight": 0.25},
    "soft": {"kind": "kl", "weight": 0.625, "temperature": 2},
    "layers": {"kind": "cosine", "weight": 0.125, "map": "last"},
    "initial": {"map": "even"},
}


def test_distilbert_is_the_published_recipe_in_its_proportions() -> None:
    full = presets.expanded({"preset": "distilbert"})
    assert full == DISTILBERT
    weights = [full[name]["weight"] for name in ("soft", "task", "layers")]
    assert [each / weights[-1] for each in weights] == [5, 2, 1] and sum(weights) == 1


def test_without_a_preset_everything_stays_as_it_is() -> None:
    assert presets.expanded({}) == {}
    assert presets.expanded({"task": 0.3, "soft": [{"kind": "l1"}]}) == {
        "task": 0.3,
        "soft": [{"kind": "l1"}],
    }


@pytest.mark.parametrize(
    ("said", "part", "gives"),
    [
        ({"soft": {"temperature": 3}}, "soft", {"kind": "kl", "weight": 0.625, "temperature": 3}),
        ({"soft": {"weight": 0}}, "soft", {"kind": "kl", "weight": 0, "temperature": 2}),
        ({"task": {"kind": "l1"}}, "task", {"kind": "l1", "weight": 0.25}),
        ({"task": 0.5}, "task", 0.5),
        ({"soft": [{"kind": "l1"}]}, "soft", [{"kind": "l1"}]),
        ({"initial": {"student": "encoder.layer"}}, "initial", {"map": "even", "student": "encoder.layer"}),
        ({"initial": {"map": [["a.0", "b.0"]]}}, "initial", {"map": [["a.0", "b.0"]]}),
        ({"layers": {"mask": "mask"}}, "layers", {**DISTILBERT["layers"], "mask": "mask"}),
        ({"teacher_forcing": {"durations": "d"}}, "teacher_forcing", {"durations": "d"}),
    ],
)
def test_what_the_manifest_says_wins_and_the_rest_stays(said: dict, part: str, gives: object) -> None:
    assert presets.expanded({"preset": "distilbert", **said}) == {**DISTILBERT, part: gives}


@pytest.mark.parametrize("kind", ["cosine", "dist", "package.module:loss"])
def test_another_kind_keeps_the_weight_and_none_of_the_options(kind: str) -> None:
    full = presets.expanded({"preset": "distilbert", "soft": {"kind": kind}})
    assert full["soft"] == {"kind": kind, "weight": 0.625}
    layers = presets.expanded({"preset": "distilbert", "layers": {"kind": "l2"}})["layers"]
    assert layers == {"kind": "l2", "weight": 0.125, "map": "last"}


def test_a_preset_is_not_changed_by_what_is_done_with_it() -> None:
    before = copy.deepcopy(presets.PRESETS)
    presets.expanded({"preset": "distilbert"})["soft"]["weight"] = 9
    presets.expanded({"preset": "distilbert", "task": {"kind": "l1"}})["initial"]["map"] = "last"
    assert before == presets.PRESETS


def test_an_unknown_preset_is_told() -> None:
    with pytest.raises(RecipeError, match=r'no preset "distilbrt".*Did you mean "distilbert"'):
        presets.expanded({"preset": "distilbrt"})


@pytest.mark.parametrize("name", list(presets.PRESETS))
def test_a_preset_is_what_a_manifest_could_have_said(name: str) -> None:
    schema = schemas.resolved(schemas.MODEL)["properties"]["student"]
    full = json.loads(json.dumps(presets.expanded({"preset": name})))
    assert not list(schema_errors.problems(schema, Document("", {"module": "a.b:C", "distil": full})))
    assert set(full["soft"]) - {"kind", "weight"} <= set(kinds.SOFT[full["soft"]["kind"]])
    assert name in schema["properties"]["distil"]["properties"]["preset"]["enum"]
