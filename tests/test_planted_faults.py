"""Faults of several kinds inside artefacts: the gate is red, the operation is named, and the script shows it.

On digits as every platform ships it, and on a third-party ONNX model.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import planted
import pytest
import third_party_onnx
from planted import ONNX_FAULTS, Made, in_core_ml, in_onnx

from modelbuild import nodejs
from modelbuild.recipes import repro, values
from modelbuild.runtimes import base

Plant = Callable[[Path], None]
WEB = {"hosts": ["node"]}
ORT = {"format": "ort"}
HALF = {"precision": "float16"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return planted.digits(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def basic_pitch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Its values in float64 take seconds, and are the same for every fault."""
    kept: dict[bytes, Any] = {}
    real = values.onnx_values

    def once(folder: Path, data: Mapping[str, Any]) -> Any:
        key = b"".join(array.tobytes() for array in data.values())
        if key not in kept:
            kept[key] = real(folder, data)
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "onnx_values", once)
        root = tmp_path_factory.mktemp("nmp")
        yield planted.third_party(root, third_party_onnx.basic_pitch(), third_party_onnx.chords(2))


def check(
    folder: Path, judged: Mapping[str, Any], found: list[dict[str, Any]], name: str, module: str
) -> dict[str, Any]:
    """Red, one finding, the right operation, and a script that shows it in the artefact and not in the model."""
    assert judged["ok"] is False
    (one,) = found
    assert one["op"] is not None, one["reason"]
    assert (one["op"]["name"], one["op"]["module"]) == (name, module), one["words"]
    assert one["others"] == []
    assert one["stage"] == "artefact"
    assert one["confirmed"] >= 1
    assert one["script"] == "reproduce.py", one["reason"]
    script = folder / "repro" / one["folder"] / one["script"]
    assert start(script) == 1
    assert start(script, "reference") == (0 if (script.parent / "reference.onnx").exists() else 2)
    return one


def start(script: Path, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-I", str(script), *arguments], capture_output=True).returncode


# -- digits, ONNX Runtime

# kind, the node, what is named where that is another one, its module
DIGITS = [
    ("scaled_weight", "node_Conv_53", "", "features.2.1"),
    ("swapped_channels", "node_Conv_55", "", "features.4.1"),
    ("wrong_attribute", "node_Conv_51", "", "features.0.1"),
    ("replaced_operator", "node_relu_1", "", "features.2.2"),
    ("half_precision", "node_relu", "node_relu (down)", "features.0.2"),
    ("dropped_bias", "node_linear", "", "head"),
    ("changed_bias", "node_Conv_53", "", "features.2.1"),
]


@pytest.mark.parametrize(("kind", "node", "named", "module"), DIGITS)
def test_in_onnx(kind: str, node: str, named: str, module: str, digits: Made, tmp_path: Path) -> None:
    found = planted.found(digits, tmp_path, "onnxruntime", {}, in_onnx(ONNX_FAULTS[kind], node))
    one = check(tmp_path, *found, named or node, module)
    assert one["confirmed"] == len(one["samples"])


@pytest.mark.parametrize(
    ("runtime", "options", "way"),
    [("onnxruntime", {}, ""), ("onnxruntime", ORT, ""), ("coreml", HALF, "")],
)
def test_what_is_not_spoilt_has_no_findings(
    runtime: str, options: Mapping[str, Any], way: str, digits: Made, tmp_path: Path
) -> None:
    judged, found = planted.found(digits, tmp_path, runtime, options, ways=(way,))
    assert (judged["ok"], found) == (True, [])


@pytest.mark.parametrize(
    ("kind", "node", "named", "module"),
    [  # a convolution is one with what follows it, and so are their modules
        ("scaled_weight", "node_Conv_53", "node_Conv_53", "features.2.1, features.2.2"),
        ("half_precision", "node_max_pool2d", "node_max_pool2d (down)", "features.1"),
    ],
)
def test_in_ort_format(kind: str, node: str, named: str, module: str, digits: Made, tmp_path: Path) -> None:
    found = planted.found(digits, tmp_path, "onnxruntime", ORT, before=in_onnx(ONNX_FAULTS[kind], node))
    check(tmp_path, *found, named, module)


@pytest.mark.parametrize(("kind", "node", "named", "module"), DIGITS[3:4])
def test_in_a_browser(kind: str, node: str, named: str, module: str, digits: Made, tmp_path: Path) -> None:
    if nodejs.find() is None:
        pytest.skip(nodejs.REMEDY)
    plant = in_onnx(ONNX_FAULTS[kind], node)
    found = planted.found(digits, tmp_path, "onnxruntime-web", WEB, plant, ways=("node-wasm",))
    check(tmp_path, *found, named or node, module)


CONVOLUTIONS = [f"_native_batch_norm_legit_no_training{each}_cast_fp16" for each in ("", "_1", "_2")]
CORE_ML = [
    (planted.core_ml_scaled, CONVOLUTIONS[1], "features.2.1"),
    (planted.core_ml_replaced, "relu_1_cast_fp16", "features.2.2"),
    (planted.core_ml_swapped, CONVOLUTIONS[2], "features.4.1"),
    (planted.core_ml_pads, CONVOLUTIONS[0], "features.0.1"),
    (planted.core_ml_dropped_bias, "linear_0_cast_fp16", "head"),
]


@pytest.mark.parametrize(
    ("fault", "value", "module"),
    [CORE_ML[0], *(pytest.param(*each, marks=pytest.mark.full) for each in CORE_ML[1:])],
)
def test_in_core_ml(fault: Any, value: str, module: str, digits: Made, tmp_path: Path) -> None:
    found = planted.found(digits, tmp_path, "coreml", HALF, in_core_ml(fault(value)))
    check(tmp_path, *found, value, module)


# -- a model of others


def nodes_of(made: Made) -> list[onnx.NodeProto]:
    return list(onnx.load(made.inputs["onnx"] / "model.onnx").graph.node)


PITCH = [
    ("scaled_weight", 230),
    ("swapped_channels", 231),
    ("wrong_attribute", 233),
    ("replaced_operator", 232),
    ("changed_bias", 238),
    ("half_precision", 186),
]


@pytest.mark.parametrize(("kind", "number"), PITCH)
def test_in_a_model_of_others(kind: str, number: int, basic_pitch: Made, tmp_path: Path) -> None:
    name = nodes_of(basic_pitch)[number].name
    found = planted.found(basic_pitch, tmp_path, "onnxruntime", {}, in_onnx(ONNX_FAULTS[kind], name))
    check(tmp_path, *found, f"{name} (down)" if kind == "half_precision" else name, "")


# A round trip through float16 before a sigmoid: small errors all over, of which no single one is too large.
@pytest.mark.parametrize("number", [233, 240, 245])
def test_a_fault_that_is_red_on_rmse_alone(
    number: int, basic_pitch: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranked, real = list[str](), repro.ranked
    monkeypatch.setattr(
        repro, "ranked", lambda due, ran, metric="": ranked.append(metric) or real(due, ran, metric)
    )
    name = nodes_of(basic_pitch)[number].name
    plant = in_onnx(ONNX_FAULTS["half_precision"], name)
    judged, found = planted.found(basic_pitch, tmp_path, "onnxruntime", {}, plant)
    one = check(tmp_path, judged, found, f"{name} (down)", "")
    assert (one["metric"], one["inside"]["metric"]) == ("rmse", "rmse")
    assert ranked == ["rmse"]
    assert one["confirmed"] == len(one["samples"])


def test_a_model_of_others_that_is_not_spoilt_has_no_findings(basic_pitch: Made, tmp_path: Path) -> None:
    judged, found = planted.found(basic_pitch, tmp_path, "onnxruntime", {})
    assert (judged["ok"], found) == (True, [])


# -- all there is


def everywhere(nodes: list[onnx.NodeProto]) -> Iterator[tuple[str, onnx.NodeProto]]:
    """Each kind of fault at each node that can have it."""
    for node in nodes:
        weighted = node.op_type in ("Conv", "Gemm")
        if weighted:
            yield from (
                (kind, node) for kind in ("scaled_weight", "swapped_channels", "changed_bias", "dropped_bias")
            )
        if node.op_type == "Conv":
            yield "wrong_attribute", node
        if node.op_type in planted.OTHER_OPERATORS:
            yield "replaced_operator", node
        if node.op_type in ("Conv", "Gemm", "Relu", "MaxPool"):
            yield "half_precision", node


@pytest.mark.full
def test_every_fault_at_every_node_of_digits(digits: Made, tmp_path: Path) -> None:
    wrong = []
    for number, (kind, node) in enumerate(everywhere(nodes_of(digits))):
        folder = tmp_path / str(number)
        judged, found = planted.found(
            digits, folder, "onnxruntime", {}, in_onnx(ONNX_FAULTS[kind], node.name)
        )
        due = f"{node.name} (down)" if kind == "half_precision" else node.name
        named = [one["op"]["name"] if one["op"] else one["reason"] for one in found]
        if judged["ok"] or named != [due] or found[0]["script"] != "reproduce.py":
            wrong.append((kind, node.name, judged["ok"], named, [one["reason"] for one in found]))
    assert wrong == []


@pytest.mark.full
@pytest.mark.parametrize("way", ["1.18.1", "1.24.4"])
def test_in_another_version(way: str, digits: Made, tmp_path: Path) -> None:
    plant = in_onnx(ONNX_FAULTS["scaled_weight"], "node_Conv_53")
    options = {"versions": [way, "1.32.0"]}
    judged, (one,) = planted.found(digits, tmp_path, "onnxruntime", options, plant, ways=(way,))
    assert judged["ok"] is False
    assert (one["op"]["name"], one["script"], one["reason"]) == ("node_Conv_53", "reproduce.py", "")
    assert f"onnxruntime=={way}" in (tmp_path / "repro" / one["folder"] / "README.txt").read_text()


@pytest.mark.full
def test_in_chromium_or_any_other_host(digits: Made, tmp_path: Path) -> None:
    ways = base.find("onnxruntime-web").runs({})
    there = tuple(name for name, way in ways.items() if way.unavailable is None)
    if not there:
        pytest.skip("there is neither Node nor a Chromium")
    plant = in_onnx(ONNX_FAULTS["scaled_weight"], "node_Conv_53")
    _, found = planted.found(digits, tmp_path, "onnxruntime-web", {}, plant, ways=there)
    assert [(one["op"]["name"], one["script"]) for one in found] == [("node_Conv_53", "reproduce.py")] * len(
        there
    )
