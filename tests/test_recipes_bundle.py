"""The recipe of a bundle: which samples are golden, and the limits that they are held to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from runtime_conformance import SAMPLES, dense_answer, dense_inputs

from modelbuild import environments, tensors
from modelbuild.equivalence import noise
from modelbuild.equivalence.noise import FP64, NUDGED, Noise
from modelbuild.equivalence.tolerance import auto
from modelbuild.errors import RecipeError
from modelbuild.golden import Golden
from modelbuild.recipes import bundle
from modelbuild.runtimes import base

AUTO = {"tolerance": "auto", "decision_flips": 0}


class Keeps:
    """A runtime that keeps what it is asked to bundle."""

    name = "keeps"
    golden: Golden
    params: Mapping[str, Any]

    def bundling(self, options: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def bundle(self, artifact: Path, out: Path, golden: Golden, params: Mapping[str, Any]) -> None:
        self.golden, self.params = golden, params


class Inputs:
    """The folders of the targets that a bundle is made from."""

    def __init__(self, root: Path, batch: int | str, count: int, wide: bool) -> None:
        roles = ("artifact", "evaluation", "reference", "noise", "environment")
        self.folders = {role: root / role for role in roles}
        for folder in self.folders.values():
            folder.mkdir()
        port = {"name": "x", "dtype": "float32", "shape": [batch, 6]}
        (self.folders["artifact"] / "io.json").write_text(json.dumps({"inputs": [port], "outputs": []}))
        x = dense_inputs()["x"][:count]
        label = np.zeros(count, np.int64)
        tensors.save(self.folders["evaluation"] / "data.safetensors", {"x": x, "label": label})
        about = {"inputs": ["x"], "label": "label", "samples": count}
        (self.folders["evaluation"] / "data.json").write_text(json.dumps(about))
        truth = dense_answer({"x": x})
        tensors.save(self.folders["reference"] / "outputs.safetensors", truth)
        nudged, double = dense_answer({"x": np.nextafter(x, np.float32(np.inf))}), x.astype(np.float64)
        wider = {n: array if wide else array * np.nan for n, array in dense_answer({"x": double}).items()}
        noise.write(
            self.folders["noise"] / noise.FILE, noise.measure(truth, {NUDGED: nudged, FP64: wider}, {})
        )


def measured(root: Path) -> Noise:
    return noise.read(root / "noise" / noise.FILE)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(gate: Any = AUTO, batch: int | str = "n", count: int = SAMPLES, wide: bool = True) -> Keeps:
        runtime, inputs = Keeps(), Inputs(tmp_path, batch, count, wide).folders
        monkeypatch.setattr(base, "find", lambda name: runtime)
        monkeypatch.setattr(environments, "ready", lambda locked: Path("installed") / locked.name)
        params = {"runtime": "keeps", "options": {"a": 1}, "gate": gate, "place": "platforms/web"}
        bundle.bundle(inputs, params, tmp_path / "out")
        return runtime

    return make


@pytest.mark.parametrize(
    ("batch", "count", "golden"), [("n", SAMPLES, 8), ("n", 3, 3), (2, SAMPLES, 2), (16, 3, 16)]
)
def test_golden_are_the_first_samples_as_many_as_a_call_takes(kept, batch, count, golden):
    found = kept(batch=batch, count=count).golden
    assert found.samples == golden
    rows = np.minimum(np.arange(golden), count - 1)  # a batch that is not full is filled with its last sample
    x = dense_inputs()["x"][rows]
    assert set(found.inputs) == {"x"}  # the label is not fed
    assert np.array_equal(found.inputs["x"], x)
    assert {name: len(array) for name, array in found.outputs.items()} == {"logits": golden, "hidden": golden}
    assert np.array_equal(
        found.outputs["logits"], dense_answer({"x": dense_inputs()["x"][:count]})["logits"][rows]
    )


def test_the_limit_is_the_gates_over_all_samples(kept, tmp_path):
    found = kept().golden.limits
    known = measured(tmp_path)
    assert {name: limit.max_abs for name, limit in found.items()} == {
        name: auto(name, known.of(name))[0]["max_abs"] for name in ("logits", "hidden")
    }
    assert "noise floor" in found["logits"].source


def test_a_limit_of_the_manifest_is_taken_as_it_is_and_asks_for_no_noise_floor(kept):
    found = kept({"tolerance": {"max_abs": 0.25}}, wide=False).golden.limits["logits"]
    assert found == (0.25, "from the manifest")


def test_where_other_metrics_are_limited_the_derived_limit_says_so(kept, tmp_path):
    found = kept({"tolerance": {"rmse": 0.01}}).golden.limits["logits"]
    assert found.max_abs == auto("logits", measured(tmp_path).of("logits"))[0]["max_abs"]
    assert found.source.startswith("derived, as the manifest limits other metrics: ")


def test_a_limit_that_checks_nothing_is_refused_where_it_stands(kept):
    with pytest.raises(RecipeError, match="would pass a constant") as error:
        kept({"tolerance": {"max_abs": 1e6}})
    assert error.value.place == "platforms/web/tolerance/max_abs"


def test_the_runtime_is_given_its_options_and_what_is_installed(kept):
    params = kept().params
    assert params["options"] == {"a": 1}
    assert params["environment"] == str(Path("installed") / "environment")


def test_a_runtime_that_makes_none_says_so(tmp_path):
    with pytest.raises(RecipeError, match="makes no bundles"):
        bundle.bundle({}, {"runtime": "onnxruntime"}, tmp_path)
