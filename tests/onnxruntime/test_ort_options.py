"""The ways of running that follow from the options, and what of the options decides the artefact."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import pytest

from modelbuild.errors import ManifestError
from modelbuild.runtimes.base import Environment
from modelbuild.runtimes.onnxruntime import RUNTIME

OLD = "1.16.3"
USUAL = {"optimisation": "all", "threads": 1, "format": "onnx"}


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ({}, {"": USUAL}),
        ({"batch": 8}, {"": {**USUAL, "batch": 8}}),
        ({"format": "ort", "shapes": "fixed"}, {"": {**USUAL, "format": "ort"}}),
        ({"optimisation": "basic", "threads": 2}, {"": {**USUAL, "optimisation": "basic", "threads": 2}}),
        ({"threads": [1, 4]}, {"1-thread": USUAL, "4-threads": {**USUAL, "threads": 4}}),
        ({"optimisation": ["all", "disabled"]}, {"all": USUAL, "disabled": {**USUAL, "optimisation": "disabled"}}),
        ({"versions": "1.18.1"}, {"1.18.1": USUAL}),
        ({"versions": ["1.18.1", OLD]}, {"1.18.1": USUAL, OLD: USUAL}),
        (
            {"versions": [OLD, "1.32.0"], "optimisation": ["all", "basic"], "threads": [1, 2]},
            {
                f"{version}-{level}-{'1-thread' if threads == 1 else '2-threads'}": {
                    **USUAL, "optimisation": level, "threads": threads,
                }
                for version in (OLD, "1.32.0") for level in ("all", "basic") for threads in (1, 2)
            },
        ),
    ],
)  # fmt: skip
def test_ways(options: Mapping[str, Any], ways: Mapping[str, Any]) -> None:
    found = RUNTIME.runs(options)
    assert {name: dict(way.options) for name, way in found.items()} == ways
    assert all(way.unavailable is None for way in found.values())


@pytest.mark.parametrize(
    ("version", "numpy"),
    [(OLD, "numpy<2"), ("1.9.0", "numpy<2"), ("1.18.1", "numpy<2"), ("1.19.0", "numpy"), ("1.32.0", "numpy")],
)
def test_a_version_is_run_in_an_environment_of_its_own(version: str, numpy: str) -> None:
    way = RUNTIME.runs({"versions": [version]})[version]
    pins = (f"onnxruntime=={version}", numpy)
    assert way.environment == Environment(f"onnxruntime-{version}", "python", pins)


def test_the_installed_version_needs_none() -> None:
    assert RUNTIME.runs({})[""].environment is None
    assert RUNTIME.conversion({"format": "ort"}).environment is None


def test_without_uv_there_are_no_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install uv" in str(RUNTIME.runs({"versions": [OLD]})[OLD].unavailable)
    assert RUNTIME.runs({})[""].unavailable is None


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"optimization": "all"}, "options/optimization", 'Did you mean "optimisation"'),
        ({"version": OLD}, "options/version", 'Did you mean "versions"'),
        ({"optimisation": "al"}, "options/optimisation", 'Did you mean "all"'),
        ({"optimisation": ["all", "al"]}, "options/optimisation", '"al" is not one of'),
        ({"optimisation": ["all", "all"]}, "options/optimisation", '"all" stands there twice'),
        ({"optimisation": []}, "options/optimisation", "is empty"),
        ({"optimisation": ["all", "basic"], "format": "ort"}, "options/optimisation", "optimised once"),
        ({"threads": 0}, "options/threads", "whole number"),
        ({"threads": True}, "options/threads", "whole number"),
        ({"threads": [1, "2"]}, "options/threads", '"2" is not a whole number'),
        ({"threads": [2, 2]}, "options/threads", "2 stands there twice"),
        ({"threads": []}, "options/threads", "is empty"),
        ({"versions": []}, "options/versions", "is empty"),
        ({"versions": [OLD, OLD]}, "options/versions", "twice"),
        ({"versions": "1.16"}, "options/versions", 'no version such as "1.32.0"'),
        ({"versions": [1.16]}, "options/versions", "1.16 is no version"),
        ({"versions": ["1.16.3\n"]}, "options/versions", "is no version"),
        ({"versions": ["1.16.3; x"]}, "options/versions", "is no version"),
        ({"batch": "8"}, "options/batch", "whole number"),
        ({"batch": 0}, "options/batch", "whole number"),
        ({"precision": "float16"}, "options/precision", "not one of float32"),
        ({"format": "tflite"}, "options/format", "not one of onnx, ort"),
        ({"shapes": "fix"}, "options/shapes", 'Did you mean "fixed"'),
    ],
)
def test_options_are_refused_where_they_stand(options: Mapping[str, Any], place: str, words: str) -> None:
    for asked in (RUNTIME.conversion, RUNTIME.runs):
        with pytest.raises(ManifestError, match=words) as caught:
            asked(options)
        assert caught.value.place == place


SAID = {"batch": 2, "shapes": "fixed"}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"versions": [OLD, "1.32.0"]}),
        ({}, {"threads": [1, 2]}),
        ({}, {"optimisation": ["all", "basic"]}),
        ({"optimisation": "disabled"}, {"optimisation": "basic"}),
        (SAID, {**SAID, "versions": OLD}),
        ({"format": "ort"}, {"format": "ort", "threads": 4}),
        ({"format": "ort", "versions": [OLD]}, {"format": "ort", "versions": ["1.32.0", OLD, "1.18.1"]}),
        ({"format": "ort", "versions": ["1.9.0"]}, {"format": "ort", "versions": [OLD, "1.9.0"]}),
    ],
)
def test_what_only_runs_read_leaves_the_artefact_as_it_is(
    one: Mapping[str, Any], other: Mapping[str, Any]
) -> None:
    assert RUNTIME.conversion(one) == RUNTIME.conversion(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"format": "ort"}),
        ({}, {"shapes": "fixed"}),
        ({}, {"batch": 2}),
        ({"format": "ort"}, {"format": "ort", "optimisation": "basic"}),
        ({"format": "ort"}, {"format": "ort", "versions": ["1.32.0"]}),
        ({"format": "ort", "versions": [OLD]}, {"format": "ort", "versions": ["1.18.1"]}),
        ({"format": "ort", "versions": ["1.18.1"]}, {"format": "ort", "versions": ["1.18.1", OLD]}),
    ],
)
def test_what_decides_the_artefact_is_read(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    assert RUNTIME.conversion(one) != RUNTIME.conversion(other)
