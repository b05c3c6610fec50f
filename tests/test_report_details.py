"""What the gate leaves on disk is read whole or refused with its place, and comes back from the report's JSON."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_example
from hypothesis import given
from hypothesis import strategies as st
from test_report import deep

from modelbuild.equivalence import noise as noises
from modelbuild.equivalence.attribution import State, waterfall
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.gate import Evaluation, Platform, runtime_gate
from modelbuild.errors import RecipeError
from modelbuild.recipes.repro_finding import UNKNOWN
from modelbuild.report import details
from modelbuild.report.details import Details, Quality
from modelbuild.runtimes.base import Run

FILES = ("verdict.runtime/matrix.json", "android.steps/steps.json", "noise/noise.json", "repro/findings.json")


def read(folder: Path) -> Details:
    return details.read(
        folder / "verdict.runtime", [folder / "android.steps"], folder / "noise", folder / "repro"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    report_example.write(tmp_path)
    return tmp_path


def test_all_of_it_is_read(folder: Path) -> None:
    known = read(folder)
    assert known.matrices["logits"].runs == ("reference", *report_example.RUNS)
    assert known.matrices["logits"].histograms["ios"].limit == 0.0297
    assert known.matrices["embedding"].margins == {}
    assert [step.stage for step in known.waterfalls[0].outputs["logits"]][:2] == ["distillation", "export"]
    assert known.waterfalls[0].outputs["logits"][1].after == "the canonical ONNX file, optimisations off"
    assert known.waterfalls[0].tasks["logits"][0] == Quality("teacher", 0.9944)
    assert known.noise["logits"].sources["fp64"].max_abs == 4.44e-6
    found = known.diagnoses[0]
    assert found.op is not None and found.inside is not None
    assert (found.op.module, found.samples[0], found.inside.limit) == ("features.2.1", 17, 2.1e-5)


def test_it_comes_back_from_json(folder: Path) -> None:
    for known in (read(folder), Details(), deep()):
        assert details.from_json(json.loads(json.dumps(details.to_json(known), allow_nan=False))) == known


def test_what_the_gate_and_its_helpers_write_is_read(tmp_path: Path) -> None:
    truth = {"logits": np.random.default_rng(1).standard_normal((20, 4)).astype(np.float32)}
    moved = {"logits": truth["logits"].astype(np.float64) + 1e-6}
    spread = noises.measure(truth, {"fp64": moved, "inputs moved 1 ulp": moved}, {"float16": moved})
    bad = {"logits": truth["logits"] + np.float32(0.1)}
    runs = {
        name: Run(given, "1.0", "cpu", "executed") for name, given in (("ios", truth), ("android.1", bad))
    }
    platforms = {"ios": Platform(), "android": Platform()}
    labels = truth["logits"].argmax(1)
    judged = runtime_gate("m", truth, spread, Evaluation(20, labels), platforms, runs, RuntimeDemand())
    states = [
        State("export", "ONNX", truth),
        State("runtime", "own", None, "none here"),
        State("artefact", "ships", bad),
    ]
    steps = {"run": "android.1", **waterfall(truth, states, {"logits": {"max_abs": 1e-5}}, bad, labels)}
    (red, *_) = [row for row in judged.verdicts if not row.ok and row.against == "reference"]
    told = {name: getattr(red, name) for name in ("run", "output", "metric", "measured", "limit")}
    finding = {**told, "stage": "artefact", **UNKNOWN, "reason": "none", "steps": {}, "words": "none"}
    folders = [tmp_path / name for name in ("verdict", "android.steps", "noise", "repro")]
    for folder in folders:
        folder.mkdir()
    judged.matrix.write(folders[0] / details.MATRIX)
    (folders[1] / details.STEPS).write_text(json.dumps(steps))
    noises.write(folders[2] / details.NOISE, spread)
    (folders[3] / details.FINDINGS).write_text(json.dumps({"findings": [finding]}))
    known = details.read(folders[0], folders[1:2], folders[2], folders[3])
    assert known.matrices["logits"].ok[0] == (True, False, True)
    assert known.matrices["logits"].margins["android.1"].zero + sum(
        map(sum, known.matrices["logits"].margins["android.1"].counts)
    ) == len(labels)
    assert [step.ok for step in known.waterfalls[0].outputs["logits"]] == [None, True, None, False]
    assert known.noise["logits"].values == 80
    assert known.diagnoses[0].run == "android.1"


def test_a_number_that_json_has_not_is_none() -> None:
    known = Details(
        noise={"x": dataclasses.replace(deep("x").noise["x"], least=float("-inf"), most=float("nan"))}
    )
    document = json.loads(json.dumps(details.to_json(known), allow_nan=False))
    found = details.from_json(document).noise["x"]
    assert (found.least, found.most, found.samples) == (None, None, 2)


def test_what_was_not_built_says_nothing(tmp_path: Path) -> None:
    assert details.read() == Details()
    assert read(tmp_path) == Details()


def test_a_finding_without_steps_is_read(folder: Path) -> None:
    change(folder / FILES[3], ["findings", 0, "steps"], {})
    assert read(folder).diagnoses[0].steps.outputs == {}


@pytest.mark.parametrize("path", FILES)
def test_a_folder_that_lacks_its_file_is_an_error(folder: Path, path: str) -> None:
    (folder / path).unlink()
    with pytest.raises(RecipeError, match=f"{path}: cannot be read"):
        read(folder)


@pytest.mark.parametrize("path", FILES)
@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"outputs": 3, "findings": 3, "run": 3}', "\xff", "[" * 9999]
)
def test_what_is_not_the_record_is_an_error_with_its_place(folder: Path, path: str, text: str) -> None:
    (folder / path).write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError) as caught:
        read(folder)
    assert caught.value.place.startswith(path)


def change(path: Path, steps: list[Any], value: Any) -> None:
    document = json.loads(path.read_text())
    inner = document
    for step in steps[:-1]:
        inner = inner[step]
    if value is KeyError:
        del inner[steps[-1]]
    else:
        inner[steps[-1]] = value
    path.write_text(json.dumps(document))


LOGITS = ["outputs", "logits"]
HISTOGRAM = [*LOGITS, "histograms", "ios"]
MANY = {"least_exponent": 0, "per_decade": 100, "counts": [1] * 2001, "zero": 0, "floor": None, "limit": None}


@pytest.mark.parametrize(
    ("path", "steps", "value", "said"),
    [
        (0, [*LOGITS, "runs"], KeyError, 'matrix.json/outputs/logits: the field "runs" is missing'),
        (0, [*LOGITS, "runs"], "reference", "logits/runs: it is not a list"),
        (0, [*LOGITS, "runs", 1], 3, "logits/runs/1: it is not text"),
        (0, [*LOGITS, "share", 1, 2], "0.5", "share/1/2: it is not a finite number"),
        (0, [*LOGITS, "share", 1, 2], True, "share/1/2: it is not a finite number"),
        (0, [*LOGITS, "share", 1, 2], float("nan"), "is not JSON: NaN is no number"),
        (0, [*LOGITS, "share", 1, 2], 10**400, "share/1/2: it is not a finite number"),
        (0, [*LOGITS, "ok", 1, 2], 1, "ok/1/2: it is not true or false"),
        (0, [*LOGITS, "share", 1], [], "logits: a table is not 12 x 12"),
        (0, [*LOGITS, "ok"], [], "logits: a table is not 12 x 12"),
        (0, [*LOGITS, "max_abs", 0], [0.0] * 13, "logits: a table is not 12 x 12"),
        (0, [*HISTOGRAM, "counts", 0], 1.5, "counts/0: it is not a whole number"),
        (0, [*HISTOGRAM, "counts", 0], -1, "its bins count nothing that can be"),
        (0, [*HISTOGRAM, "per_decade"], 0, "its bins count nothing that can be"),
        (0, [*HISTOGRAM, "least_exponent"], 400, "its bins count nothing that can be"),
        (0, [*HISTOGRAM, "least_exponent"], -400, "its bins count nothing that can be"),
        (0, HISTOGRAM, MANY, "its bins count nothing that can be"),
        (0, [*LOGITS, "margins", "ios", "per_decade"], -2, "its bins count nothing that can be"),
        (1, ["outputs", "logits", 0, "from"], KeyError, 'logits/0: the field "from" is missing'),
        (2, [*LOGITS, "sources", "fp64", "rmse"], KeyError, 'fp64: the field "rmse" is missing'),
        (3, ["findings", 0, "op", "kind"], None, "op/kind: it is not text"),
        (3, ["findings", 0, "samples", 0], True, "samples/0: it is not a whole number"),
    ],
)
def test_what_does_not_fit_is_refused(
    folder: Path, path: int, steps: list[Any], value: Any, said: str
) -> None:
    change(folder / FILES[path], steps, value)
    with pytest.raises(RecipeError) as caught:
        read(folder)
    assert said in str(caught.value)


def test_a_field_that_the_report_does_not_show_is_passed_over(folder: Path) -> None:
    before = read(folder)
    change(folder / FILES[2], [*LOGITS, "deviation"], 3.0)
    assert read(folder) == before


def test_a_place_in_an_error_is_one_plain_line(folder: Path) -> None:
    change(folder / FILES[0], ["outputs", "a\x1b[31m\nb"], 3)
    with pytest.raises(RecipeError) as caught:
        read(folder)
    assert str(caught.value).isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*Details.__slots__, "runs"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_no_json_at_all_is_a_traceback(document: Any) -> None:
    try:
        assert isinstance(details.from_json(document), Details)
    except RecipeError as error:
        assert error.place.startswith("details")
