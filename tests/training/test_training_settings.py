"""The "train" part of a manifest."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import modelbuild
from modelbuild.errors import RecipeError
from modelbuild.training.settings import EarlyStopping, Settings

SCHEMA = Path(modelbuild.__file__).parent / "schema" / "model.schema.json"


def test_fields_defaults_and_choices_are_those_of_the_schema() -> None:
    properties = json.loads(SCHEMA.read_text())["$defs"]["train"]["properties"]
    assert set(properties) - {"loss"} == {each.name for each in fields(Settings)}
    for own, told in (
        (Settings(), properties),
        (EarlyStopping(), properties["early_stopping"]["properties"]),
    ):
        for name, spec in told.items():
            if "default" in spec:
                assert getattr(own, name) == spec["default"], name
    for name in ("optimiser", "schedule", "precision", "device"):
        for choice in properties[name]["enum"]:
            assert getattr(Settings.of({name: choice}, "m"), name) == choice


def test_early_stopping_fills_up_its_own_defaults() -> None:
    found = Settings.of({"early_stopping": {"every": 7}}, "m").early_stopping
    assert found == EarlyStopping(7, 5, 0.1)
    assert Settings.of({"early_stopping": None}, "m").early_stopping is None


@pytest.mark.parametrize(
    ("train", "words"),
    [
        ({"stps": 3}, 'm: train has no "stps". Did you mean "steps"?'),
        ({"steps": 0}, "train.steps is 0, not a whole number from 1 up"),
        ({"steps": 2.5}, "train.steps is 2.5, not a whole"),
        ({"steps": True}, "train.steps is True, not a whole"),
        ({"steps": None}, "train.steps is None, not a whole"),
        ({"batch": 0}, "train.batch is 0"),
        ({"lr": 0}, "train.lr is 0, not a positive number"),
        ({"lr": float("nan")}, "train.lr is nan"),
        ({"lr": float("inf")}, "train.lr is inf"),
        ({"lr": "high"}, "train.lr is 'high'"),
        ({"weight_decay": -1}, "train.weight_decay is -1, not a number from 0 up"),
        ({"momentum": 1}, "train.momentum is 1, not a number from 0 to below 1"),
        ({"optimiser": "adam"}, "train.optimiser is 'adam', not one of adamw, sgd"),
        ({"schedule": "linear"}, "train.schedule is 'linear', not one of cosine, one_cycle, constant"),
        ({"precision": "int8"}, "train.precision is 'int8'"),
        ({"device": "tpu"}, "train.device is 'tpu', not one of auto, cpu, cuda, mps"),
        ({"warm_up": 1}, "train.warm_up is 1"),
        ({"clip": 0}, "train.clip is 0"),
        ({"ema": 1}, "train.ema is 1, not a number between 0 and 1"),
        ({"unlabelled_share": 0}, "train.unlabelled_share is 0"),
        ({"checkpoint": 0}, "train.checkpoint is 0"),
        ({"seed": -1}, "train.seed is -1"),
        ({"early_stopping": True}, "train.early_stopping is True, not an object"),
        ({"early_stopping": {"patince": 1}}, 'early_stopping has no "patince". Did you mean "patience"?'),
        ({"early_stopping": {"held_out": 1}}, "train.early_stopping.held_out is 1"),
        ({"early_stopping": {"every": 0}}, "train.early_stopping.every is 0"),
        ({"schedule": "one_cycle", "momentum": 0}, "momentum is 0, and one_cycle moves it by 0.05"),
        ({"schedule": "one_cycle", "momentum": 0.96}, "momentum is 0.96"),
    ],
)
def test_what_cannot_be_is_refused(train: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Settings.of(train, "m")
    assert words in str(caught.value)
