"""What goes to a host and what comes back: the calls, the bytes, where nodes ran; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime_web import exchange, placement
from modelbuild.runtimes.onnxruntime_web.exchange import Call, Port, Ports

OPEN = Ports((Port("x", "float32", ("n", 2)),), (Port("y", "float32", ("n",)),))
FIXED = Ports((Port("x", "float32", (4, 2)),), (Port("y", "float32", (4,)),))
X = {"x": np.arange(14, dtype=np.float32).reshape(7, 2)}


def told(name: str = "y", dtype: str = "float32", shape: tuple[int, ...] = (7,)) -> list[list[Any]]:
    return [[{"name": name, "dtype": dtype, "shape": list(shape)}]]


@pytest.mark.parametrize(
    ("ports", "batch", "expected"),
    [
        (OPEN, None, [Call(0, 7, 7)]),
        (OPEN, 3, [Call(0, 3, 3), Call(3, 3, 3), Call(6, 1, 1)]),
        (FIXED, None, [Call(0, 4, 4), Call(4, 4, 3)]),
        (FIXED, 4, [Call(0, 4, 4), Call(4, 4, 3)]),
    ],
)
def test_a_fixed_batch_is_always_full(ports: Ports, batch: int | None, expected: list[Call]) -> None:
    assert list(exchange.calls(ports, X, batch)) == expected


def test_a_batch_that_the_model_does_not_take_is_refused() -> None:
    with pytest.raises(RecipeError, match="takes batches of 4, the platform says 3"):
        exchange.calls(FIXED, X, 3)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, '"x" is missing'),
        ({**X, "z": X["x"]}, 'no input "z"'),
        ({"x": X["x"].astype(np.float64)}, "float64"),
        ({"x": X["x"].astype(">f4")}, ">f4"),
        ({"x": X["x"][:, :1]}, "shape"),
        ({"x": X["x"][:0]}, "samples"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        exchange.calls(OPEN, inputs, None)


def test_a_job_holds_the_samples_of_all_calls_one_behind_the_other() -> None:
    runs = exchange.calls(FIXED, X, None)
    files = exchange.files(FIXED.inputs, ["a", "b"], X, runs, {"backend": "wasm"})
    assert files["input-0"] == np.concatenate([X["x"], X["x"][-1:]]).astype("<f4").tobytes()
    assert json.loads(files["job.json"]) == {
        "backend": "wasm",
        "batches": [4, 4],
        "inputs": [{"name": "x", "dtype": "float32", "row": [2], "file": "input-0"}],
        "outputs": ["a", "b"],
    }


def test_outputs_are_joined_without_what_filled_the_batch() -> None:
    data = np.arange(8, dtype="<f4").tobytes()
    calls = told(shape=(4,)) * 2
    found = exchange.outputs(FIXED, exchange.calls(FIXED, X, None), calls, data)
    np.testing.assert_array_equal(found["y"], np.arange(7, dtype=np.float32))


@pytest.mark.parametrize(
    ("calls", "size", "words"),
    [
        (told(), 27, "27 bytes where its shapes say 28"),
        (told(), 0, "0 bytes"),
        (told(name="z"), 28, '"y" came as "z"'),
        (told(dtype="int32"), 28, "int32 where the model gives float32"),
        (told(shape=(1, 7)), 28, "first axis is not the samples"),
    ],
)
def test_an_answer_that_is_not_what_the_model_gives_is_refused(calls: Any, size: int, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        exchange.outputs(OPEN, exchange.calls(OPEN, X, None), calls, bytes(size))


def test_values_come_as_they_are_in_the_order_of_their_names() -> None:
    told = [
        {"name": "scalar", "dtype": "float16", "shape": []},
        {"name": "none", "dtype": "int64", "shape": [0, 3]},
        {"name": "y", "dtype": "bool", "shape": [1, 2]},
    ]
    found = exchange.values(["y", "none", "scalar"], told, b"\x00\x3c\x01\x00")
    assert list(found) == ["y", "none", "scalar"]
    assert (found["scalar"].shape, found["none"].shape) == ((), (0, 3))
    assert (found["scalar"], found["y"].tolist()) == (1, [[True, False]])


def test_a_value_that_is_no_tensor_of_numbers_is_refused() -> None:
    with pytest.raises(RecipeError, match='"y" is a string tensor'):
        exchange.values(["y"], told(dtype="string")[0], b"")


@pytest.mark.parametrize("dtype", ["bfloat16", "string", "complex64", "object"])
def test_a_dtype_without_a_javascript_array_is_refused(dtype: str, tmp_path: Path) -> None:
    port = {"name": "x", "dtype": dtype, "shape": ["n"]}
    (tmp_path / "io.json").write_text(json.dumps({"inputs": [port], "outputs": []}))
    with pytest.raises(RecipeError, match=f'"x" is a {dtype} tensor'):
        Ports.read(tmp_path / "io.json")


def line(said: str) -> str:
    return f"2026-01-01 [V:onnxruntime:, session_state.cc:1 VerifyEachNodeIsAssignedToAnEp] {said}"


def test_placement_of_one_provider_is_one_entry() -> None:
    log = ["x", line("Node placements"), line(" All nodes placed on [GpuProvider]. Number of nodes: 12"), "y"]
    assert placement.read(log) == {"all 12 nodes": "GpuProvider"}


def test_placement_of_several_names_each_node() -> None:
    log = [
        line("Node placements"),
        line(" Node(s) placed on [GpuProvider]. Number of nodes: 4"),
        line("  Conv (a (b))"),
        line("  Relu ()"),
        line("  Relu ()"),
        "another line",
        line("  MatMul (same)"),
        line(" Node(s) placed on [CPUExecutionProvider]. Number of nodes: 1"),
        line("  Mul (same)"),
        line("Some nodes were not assigned to the preferred execution providers (slow)"),
    ]
    gpu = {"a (b)": "GpuProvider", "Relu": "GpuProvider", "Relu (2)": "GpuProvider", "same": "GpuProvider"}
    assert placement.read(log) == {**gpu, "same (2)": "CPUExecutionProvider"}


def test_a_log_that_does_not_say_gives_nothing() -> None:
    assert placement.read(["Conv (a)", line("  Conv (a)")]) == {}
