"""The golden samples of a platform: which they are, whose limits they have, and that its artefact holds to them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from runtime_conformance import SAMPLES, dense, dense_answer, dense_inputs
from test_recipes_bundle import AUTO, Inputs

from modelbuild import tensors
from modelbuild.equivalence import demand, noise
from modelbuild.equivalence.tolerance import tolerance
from modelbuild.errors import RecipeError
from modelbuild.recipes import golden

HALF = ("float16", "float16-sums")


class Lab:
    """The inputs of the recipe, and what it writes."""

    def __init__(self, root: Path, batch: int | str = "n", count: int = SAMPLES) -> None:
        self.root, self.inputs = root, Inputs(root, batch, count, wide=True).folders
        self.out = root / "phone" / "golden"
        self.out.mkdir(parents=True)

    def io(self, **said: Any) -> None:
        (self.inputs["artifact"] / "io.json").write_text(json.dumps({"inputs": [], "outputs": [], **said}))

    def rounded(self) -> noise.Noise:
        """Noise with two arithmetics below fp32, the second the coarser."""
        x = dense_inputs()["x"]
        truth = dense_answer({"x": x})
        steps = dict(zip(HALF, (1e-3, 4e-3), strict=True))
        low = {kind: {n: a + np.float32(step) for n, a in truth.items()} for kind, step in steps.items()}
        nudged = {n: a + np.float32(1e-6) for n, a in truth.items()}
        found = noise.measure(truth, {noise.NUDGED: nudged}, low)
        noise.write(self.inputs["noise"] / noise.FILE, found)
        return found

    def build(self, gate: Any = AUTO, **more: Any) -> dict[str, Any]:
        params = {"runtime": "onnxruntime", "options": {}, "gate": gate, "place": "platforms/phone", **more}
        golden.golden(self.inputs, params, self.out)
        told: dict[str, Any] = json.loads((self.out / "golden.json").read_text())
        return told

    def limits(self, **more: Any) -> dict[str, float]:
        return {row["name"]: row["limit"] for row in self.build(**more)["outputs"]}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_the_artefact_that_ships_holds_to_its_samples_and_another_does_not(lab: Lab) -> None:
    onnx.save(dense("n"), lab.inputs["artifact"] / "model.onnx")
    told = lab.build()
    assert (told["artefact"], told["runtime"], told["samples"]) == ("model.onnx", "onnxruntime", 8)
    onnx.save(dense("n"), lab.root / "phone" / "model.onnx")
    check = [sys.executable, str(lab.out / "check.py")]
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout[:16]) == (0, "holds: 8 samples"), done.stderr
    other = dense("n")
    weight = other.graph.initializer[0]
    weight.CopyFrom(
        onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.001), weight.name)
    )
    onnx.save(other, lab.root / "phone" / "model.onnx")
    done = subprocess.run(check, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr[:5]) == (1, "RED: ")


@pytest.mark.parametrize("rounds", [None, "", [None], [], "float16", ["float16"], [*HALF], [None, *HALF]])
def test_the_limit_is_that_of_the_coarsest_arithmetic_the_platform_computes_in(lab: Lab, rounds: Any) -> None:
    known = lab.rounded()
    several = [rounds] if rounds is None or isinstance(rounds, str) else rounds
    worst = max(several or [None], key=lambda each: [None, "", *HALF].index(each)) or None
    want = {
        n: tolerance(n, known.of(n), demand.runtime(AUTO), worst).limits["max_abs"]
        for n in ("logits", "hidden")
    }
    assert lab.limits(rounds=rounds) == pytest.approx(want)
    assert (want["logits"] > 1e-3) == (worst is not None)


def test_a_limit_of_the_manifest_is_taken_as_it_is(lab: Lab) -> None:
    lab.rounded()
    assert set(lab.limits(gate={"tolerance": {"max_abs": 0.25}}, rounds=[*HALF]).values()) == {0.25}


def test_a_limit_that_checks_nothing_is_refused_where_it_stands(lab: Lab) -> None:
    with pytest.raises(RecipeError) as caught:
        lab.build(gate={"tolerance": {"max_abs": 1e6}})
    assert caught.value.place == "platforms/phone/tolerance/max_abs"


AXES = {"name": "x", "core_name": "x_1", "dtype": "float32", "core_dtype": "float32", "enumerated": []}


@pytest.mark.parametrize(
    ("port", "samples"),
    [
        ({"axes": [1, 6]}, 1),
        ({"axes": [[1, 64], 6]}, 8),
        ({"axes": [[2, 5], 6]}, 5),
        ({"axes": [[16, 64], 6]}, 16),
        ({"axes": [1, 6], "enumerated": [[1, 6], [4, 6], [32, 6], [8, 7]]}, 4),
    ],
)
def test_one_call_of_a_core_ml_package_takes_the_samples(lab: Lab, port: Any, samples: int) -> None:
    logits = {"name": "logits", "core_name": "var_9", "dtype": "float32", "classes": ["a", "b", "c"]}
    lab.io(inputs=[{**AXES, **port}], outputs=[logits])
    told = lab.build()
    assert told["samples"] == samples
    (x,) = told["inputs"]
    assert (x["core_name"], x["core_dtype"], x["shape"]) == ("x_1", "float32", [samples, 6])
    (row,) = [row for row in told["outputs"] if row["name"] == "logits"]
    assert (row["core_name"], row["classes"]) == ("var_9", ["a", "b", "c"])
    assert "core_name" not in told["outputs"][0]  # hidden


def test_inputs_without_a_common_number_of_samples_are_refused(lab: Lab) -> None:
    lab.io(inputs=[{"name": "x", "shape": [2, 6]}, {"name": "z", "shape": [3, 6]}])
    with pytest.raises(RecipeError, match="no number of samples in common"):
        lab.build()


def test_the_samples_are_the_first_and_plain_bytes(lab: Lab) -> None:
    told = lab.build()
    truth = tensors.load(lab.inputs["reference"] / "outputs.safetensors")
    for row in told["outputs"]:
        stored = np.fromfile(lab.out / row["file"], f"<{np.dtype(row['dtype']).str[1:]}").reshape(
            row["shape"]
        )
        assert np.array_equal(stored, truth[row["name"]][:8])
    assert told["artefact"] is None  # there is no model in this artefact
    assert {p.name for p in lab.out.iterdir()} >= {"check.py", "check.mjs", "compare.mjs"}


def test_the_output_that_holds_the_lengths_is_told(lab: Lab) -> None:
    lab.io(inputs=[{"name": "x", "shape": ["n", 6]}], outputs=[{"name": "hidden", "shape": ["n", 8]}])
    told = lab.build(gate={**AUTO, "outputs": {"hidden": {"lengths": "n"}}})
    assert [row.get("lengths") for row in told["outputs"]] == ["n", None]
