"""What ONNX Runtime's own tools say of a model for a phone, and that it is said for everyone alike."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.tools.mobile_helpers import usability_checker

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import mobile, worker


def write(folder: Path, operators: tuple[str, ...], batch: int | str) -> Path:
    """A chain of operators of one input."""
    folder.mkdir(exist_ok=True)
    names = ["x", *(f"v{index}" for index in range(len(operators)))]
    nodes = [helper.make_node(kind, [names[i]], [names[i + 1]]) for i, kind in enumerate(operators)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3]) for name in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:])
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def ort(source: Path) -> Path:
    out = source.with_suffix(".ort")
    worker.save(str(source), str(out), "basic")
    return out


MIXED = ("Relu", "Erf", "Sigmoid", "Erf", "Relu", "Tanh")


def test_counts_what_each_accelerator_takes(tmp_path: Path) -> None:
    found = mobile.usability(write(tmp_path, MIXED, 2))["accelerators"]
    assert sorted(found) == ["CoreML MLProgram", "CoreML NeuralNetwork", "NNAPI"]
    as_is = {"nodes": 4, "of": 6, "partitions": 3, "unsupported": ["ai.onnx:Erf"], "well": "NO"}
    assert found["NNAPI"] == {"as_is": as_is, "fixed": None}


def test_an_open_batch_is_told_from_what_fixed_shapes_would_give(tmp_path: Path) -> None:
    found = mobile.usability(write(tmp_path, ("Relu", "Sigmoid"), "batch"))["accelerators"]["NNAPI"]
    assert found["as_is"] == {"nodes": 0, "of": 2, "partitions": 0, "unsupported": [], "well": "NO"}
    assert found["fixed"] == {"nodes": 2, "of": 2, "partitions": 1, "unsupported": [], "well": "YES"}


def test_sentences_say_the_same(tmp_path: Path) -> None:
    mixed = mobile.sentences(mobile.usability(write(tmp_path, MIXED, 2)))
    assert (
        mixed[2]
        == "NNAPI: 4 of 6 nodes in 3 partitions (better on the processor) as it is; not supported: ai.onnx:Erf"
    )
    good = mobile.sentences(mobile.usability(write(tmp_path, ("Relu", "Sigmoid"), "batch")))
    assert good[2] == 'NNAPI: no node as it is, 2 of 2 nodes in 1 partition with "shapes": "fixed"'


def test_the_record_is_plain_and_names_no_folder(tmp_path: Path) -> None:
    records = [mobile.usability(write(tmp_path / name, MIXED, "batch")) for name in ("one", "other")]
    assert records[0] == records[1] == json.loads(json.dumps(records[0]))
    assert str(tmp_path) not in json.dumps(records[0])


def saying(*lines: str) -> Callable[..., bool]:
    """A checker that says something else."""

    def analyze_model(path: Path, skip_optimize: bool = False, logger: logging.Logger | None = None) -> bool:
        assert logger is not None
        for line in lines:
            logger.info(line)
        return True

    return analyze_model


COUNTS = "1 partitions with a total of 2/2 nodes can be handled by the NNAPI EP."


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ("Looking at the model", COUNTS),
        ("Checking NNAPI", COUNTS),
        ("Checking NNAPI", "Model should perform well with NNAPI as is: YES"),
        ("Checking NNAPI", COUNTS, "Model should perform well with NNAPI as is: PERHAPS"),
        ("Checking NNAPI", "2 of 2 nodes go to NNAPI", "Model should perform well with NNAPI as is: YES"),
        (
            "Checking NNAPI", COUNTS, "Model should perform well with NNAPI as is: NO",
            "Model should perform well with NNAPI if modified to have fixed input shapes: YES",
        ),
    ],
)  # fmt: skip
def test_other_words_are_an_error_and_no_empty_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: tuple[str, ...]
) -> None:
    monkeypatch.setattr(usability_checker, "analyze_model", saying(*lines))
    with pytest.raises(RecipeError, match="mobile usability check"):
        mobile.usability(tmp_path / "model.onnx")


def test_the_same_checker_with_the_known_words_is_understood(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = saying("Checking NNAPI", COUNTS, "Model should perform well with NNAPI as is: YES")
    monkeypatch.setattr(usability_checker, "analyze_model", known)
    as_is = {"nodes": 2, "of": 2, "partitions": 1, "unsupported": [], "well": "YES"}
    assert mobile.usability(tmp_path / "m.onnx") == {
        "accelerators": {"NNAPI": {"as_is": as_is, "fixed": None}}
    }


def test_a_model_that_the_checker_cannot_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(RecipeError, match="mobile usability check failed"):
        mobile.usability(path)


def test_operators_with_the_types_they_are_used_with(tmp_path: Path) -> None:
    lines = mobile.required_operators(ort(write(tmp_path, MIXED, 2))).splitlines()
    assert lines == [
        'ai.onnx;13;Erf,Sigmoid{"inputs": {"0": ["float"]}},Tanh{"inputs": {"0": ["float"]}}',
        'ai.onnx;14;Relu{"inputs": {"0": ["float"]}}',
    ]


def test_the_operators_do_not_tell_where_the_file_was(tmp_path: Path) -> None:
    one, other = (mobile.required_operators(ort(write(tmp_path / name, MIXED, 2))) for name in ("a", "b"))
    assert one == other
    assert str(tmp_path) not in one
    assert "#" not in one


def test_a_file_that_is_no_ort_file_has_no_operators(tmp_path: Path) -> None:
    path = tmp_path / "model.ort"
    path.write_bytes(b"no model at all")
    with pytest.raises(RecipeError, match=r"the operators of model\.ort cannot be listed"):
        mobile.required_operators(path)


ASK = """
import logging, sys
from pathlib import Path
from modelbuild.runtimes.onnxruntime import mobile
mobile.required_operators(Path(sys.argv[1]))
mobile.usability(Path(sys.argv[2]))
assert not logging.root.handlers
"""


def test_nothing_is_printed_and_logging_is_left_as_it_was(tmp_path: Path) -> None:
    source = write(tmp_path, MIXED, 2)
    asked: Any = [sys.executable, "-c", ASK, str(ort(source)), str(source)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
