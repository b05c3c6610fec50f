"""Core ML itself: what is asked of it and what is made of its answers, with a stand-in where there is no Mac."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import coremltools
import numpy as np
import pytest
from made import Class, Kinds, Made, Scores, make, numbers

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml import options, predict
from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.ports import CORE_DTYPES, Input, Output, Ports, batch_sizes, into, out_of

X = {"x": numbers(5, 6)}
MAC = pytest.mark.skipif(sys.platform != "darwin", reason="Core ML runs on macOS only")


class StandIn:
    """In place of coremltools' MLModel: keeps what it was given, and answers as the evaluator does."""

    def __init__(self, path: str, compute_units: Any) -> None:
        assert isinstance(path, str)
        self.path, self.units = path, compute_units
        self.evaluator = Evaluator(mlpackage.read(Path(path)))
        LOADED.append(self)

    def predict(self, feed: dict[str, Any]) -> dict[str, Any]:
        assert type(feed) is dict
        return self.evaluator(feed)


LOADED: list[StandIn] = []


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    LOADED.clear()
    monkeypatch.setattr("modelbuild.runtimes.coreml.check.sys.platform", "darwin")
    monkeypatch.setattr(predict.platform, "mac_ver", lambda: ("15.5", ("", "", ""), "arm64"))
    monkeypatch.setattr(coremltools.models, "MLModel", StandIn)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("scores"), Scores, X)


def about(units: str = "all") -> Ports:
    return Ports((), (), "torch.export", units)


# -- with a stand-in


@pytest.mark.usefixtures("mac")
def test_on_a_mac_the_package_is_run_by_core_ml(scores: Made) -> None:
    run = scores.run()
    assert (run.version, run.backend, run.evidence) == ("macOS 15.5", "all", "executed")
    (loaded,) = LOADED
    assert loaded.path == str(scores.folder / "model.mlpackage")
    for name, array in scores.want.items():
        np.testing.assert_allclose(run.outputs[name], array, atol=1e-6)


def test_on_a_mac_every_kind_of_output_comes_back(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    made = make(tmp_path, Kinds, {**X, "i": np.arange(30).reshape(5, 6)})
    sorts = make(tmp_path, Class, X, classes={"output": "scores", "labels": ["a", "b", "c"]})
    request.getfixturevalue("mac")
    for each in (made, sorts):
        outputs = each.run().outputs
        for name, array in each.want.items():
            assert outputs[name].dtype == array.dtype
            np.testing.assert_allclose(outputs[name], array, atol=1e-6)
    assert len(LOADED) == 2


@pytest.mark.parametrize("name", options.UNITS)
@pytest.mark.usefixtures("mac")
def test_compute_units_are_those_of_core_ml(scores: Made, name: str) -> None:
    predict.caller(scores.folder / "model.mlpackage", about(name))
    expected = {"all": "ALL", "cpu_only": "CPU_ONLY", "cpu_and_gpu": "CPU_AND_GPU",
                "cpu_and_neural_engine": "CPU_AND_NE"}  # fmt: skip
    assert LOADED[0].units is getattr(coremltools.ComputeUnit, expected[name])


def test_the_compute_units_are_kept_with_the_package(tmp_path: Path) -> None:
    made = make(tmp_path, Scores, X, compute_units="cpu_and_gpu")
    assert Ports.read(made.folder).compute_units == "cpu_and_gpu"


def test_a_package_that_core_ml_does_not_load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(path: str, compute_units: Any) -> Any:
        raise RuntimeError("Error compiling model: missing weight")

    monkeypatch.setattr(coremltools.models, "MLModel", broken)
    with pytest.raises(RecipeError, match=r"Core ML does not load the package: .*missing weight"):
        predict.caller(tmp_path, about())


def test_a_prediction_that_stops(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Broken:
        def predict(self, feed: Any) -> Any:
            raise RuntimeError("input x has the wrong shape")

    monkeypatch.setattr(coremltools.models, "MLModel", lambda path, compute_units: Broken())
    call = predict.caller(tmp_path, about())
    with pytest.raises(RecipeError, match=r"Core ML stopped: .*input x has the wrong shape"):
        call({})


def test_what_core_ml_gives_is_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given, fed = {"y": np.ones(2), "classLabel": "a"}, []

    class Model:
        def predict(self, feed: Any) -> Any:
            fed.append(feed)
            return given

    monkeypatch.setattr(coremltools.models, "MLModel", lambda path, compute_units: Model())
    array = np.zeros((1, 3), np.float32)
    assert predict.caller(tmp_path, about())({"x": array}) is given
    assert fed[0]["x"] is array


# -- on a Mac


@MAC
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_core_ml_gives_what_the_evaluator_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    made = make(tmp_path, Scores, X, precision=precision, compute_units="cpu_only")
    executed = made.run()
    monkeypatch.setattr("modelbuild.runtimes.coreml.check.sys.platform", "linux")
    interpreted = made.run()
    assert (executed.evidence, interpreted.evidence) == ("executed", "interpreted")
    for name, array in interpreted.outputs.items():
        tolerance = 1e-5 if precision == "float32" else 1e-2
        np.testing.assert_allclose(executed.outputs[name], array, atol=tolerance)


@MAC
@pytest.mark.parametrize("labels", [["a", "b", "c"], [7, 3, 5]])
def test_core_ml_names_the_classes(tmp_path: Path, labels: list[Any]) -> None:
    made = make(tmp_path, Class, X, classes={"output": "scores", "labels": labels})
    assert all(error < 1e-4 for error in made.errors().values())


@MAC
def test_core_ml_takes_and_gives_whole_numbers(tmp_path: Path) -> None:
    made = make(tmp_path, Kinds, {**X, "i": np.arange(30).reshape(5, 6)})
    outputs = made.run().outputs
    for name in ("best", "positive", "next"):
        np.testing.assert_array_equal(outputs[name], made.want[name])


# -- io.json, and values on their way in and out


def port(**changed: Any) -> Input:
    return Input(
        **{"name": "x", "core_name": "x", "dtype": "int64", "core_dtype": "int32", "axes": (1, 3), **changed}
    )


def test_ports_are_read_as_they_were_written(tmp_path: Path) -> None:
    inputs = (port(axes=((1, 4), 3)), port(name="y", enumerated=((1, 3), (2, 3))))
    ports = Ports(inputs, (Output("p", "classLabel_probs", "float32", (7, 3)),), "torch.export", "all")
    ports.write(tmp_path)
    assert Ports.read(tmp_path) == ports


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"inputs": [{}], "outputs": []}', '{"inputs": 3, "outputs": []}', "\xff", None]
)
def test_ports_that_cannot_be_read(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "io.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(RecipeError, match=r"cannot read io\.json"):
        Ports.read(tmp_path)


def test_ports_with_a_key_too_many(tmp_path: Path, scores: Made) -> None:
    known = json.loads((scores.folder / "io.json").read_text())
    known["inputs"][0]["unknown"] = 1
    (tmp_path / "io.json").write_text(json.dumps(known))
    with pytest.raises(RecipeError, match="unknown"):
        Ports.read(tmp_path)


def test_whole_numbers_go_in_as_32_bits_or_not_at_all() -> None:
    assert into(port(), np.array([[1, 2, 2**31 - 1]])).dtype == np.int32
    with pytest.raises(RecipeError, match="do not fit int32"):
        into(port(), np.array([[1, 2, 2**31]]))
    assert CORE_DTYPES["int64"] == "int32"


@pytest.mark.parametrize(
    ("stated", "value", "dtype"),
    [
        ("int64", np.array([1, -2], np.int32), "int64"),
        ("bool", np.array([1, 0], np.int32), "bool"),
        ("bool", np.array([1, 0], np.float32), "bool"),
        ("float32", np.array([0.5], np.float32), "float32"),
    ],
)
def test_outputs_come_back_in_their_dtype(stated: str, value: np.ndarray[Any, Any], dtype: str) -> None:
    found = out_of(Output("y", "y", stated), value)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.astype(value.dtype), value)


@pytest.mark.parametrize(
    ("stated", "value"),
    [
        ("int64", np.array([0.5], np.float32)),  # cut off
        ("bool", np.array([2], np.int32)),
        ("float32", np.array([0.5], np.float16)),  # another precision than was asked for
        ("float64", np.array([0.5], np.float32)),
    ],
)
def test_outputs_that_are_something_else_are_refused(stated: str, value: np.ndarray[Any, Any]) -> None:
    with pytest.raises(
        RecipeError, match=f'output "y" comes out as {value.dtype} where the module gives {stated}'
    ):
        out_of(Output("y", "y", stated), value)


@pytest.mark.parametrize("value", [{"a": 1.0}, {"a": 1.0, "b": 0.0, "c": 0.0}, np.zeros((1, 2), np.float32)])
def test_classes_that_are_not_those_asked_for(value: Any) -> None:
    with pytest.raises(RecipeError, match="has not exactly the classes"):
        out_of(Output("y", "y", "float32", ("a", "b")), value)


def test_classes_come_back_in_our_order() -> None:
    found = out_of(Output("y", "y", "float32", ("a", "b")), {"b": 0.25, "a": 0.75})
    np.testing.assert_array_equal(found, [[0.75, 0.25]])


def test_batch_sizes_that_all_inputs_take() -> None:
    inputs = {"x": np.zeros((5, 3)), "y": np.zeros((5, 3))}
    open_, listed = port(axes=((2, 6), 3)), port(name="y", enumerated=((1, 3), (2, 3), (4, 3), (6, 9)))
    assert batch_sizes([open_, listed], inputs) == [4, 2]
    with pytest.raises(RecipeError, match="no number of samples in common"):
        batch_sizes([port(axes=(3, 3)), listed], inputs)
