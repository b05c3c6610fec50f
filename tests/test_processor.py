"""What is told of the processor, from files that stand for those of other machines, and which models ask for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtime_conformance import dense, dense_inputs, write_onnx

from modelbuild import processor
from modelbuild.runtimes import onnxruntime as ours


def described(folder: Path, text: str) -> dict[str, object]:
    (folder / "cpuinfo").write_text(text)
    return processor.describe(folder / "cpuinfo")


@pytest.mark.parametrize(
    ("text", "flags", "saturates"),
    [
        ("flags\t\t: fpu sse2 avx2 bmi2\n", ["avx2"], True),
        ("flags\t\t: avx2 avx512f avx512bw\n", ["avx2", "avx512f", "avx512bw"], True),
        ("flags\t\t: avx2 avx512f avx512_vnni\n", ["avx2", "avx512f", "avx512_vnni"], False),
        ("flags\t\t: avx_vnni avx2\n", ["avx2", "avx_vnni"], False),
        ("flags\t\t: avx2 avx_vnni_int8\n", ["avx2", "avx_vnni_int8"], False),
        ("flags\t\t: avx2 amx_int8\n", ["avx2", "amx_int8"], False),
        ("flags\t\t: sse2\n", [], False),
        ("Features\t: fp asimd asimddp\n", ["asimd", "asimddp"], False),
        ("Features\t: fp asimd\n", ["asimd"], False),
        ("processor\t: 0\nvmx flags\t: avx2\nflags\t\t: sse2\nmodel name\t: a b: avx2\n", [], False),
        ("processor\t: 0\nflags\t\t: avx2\n\nprocessor\t: 1\nflags\t\t: avx2\n", ["avx2"], True),
        ("model name\t: no flags at all\n", [], None),
        ("", [], None),
    ],
)
def test_flags_decide_whether_sums_saturate(
    tmp_path: Path, text: str, flags: list[str], saturates: bool | None
) -> None:
    found = described(tmp_path, text)
    assert found["machine"]
    assert (found["flags"], found["saturates"]) == (flags, saturates)


def test_a_file_that_cannot_be_read_leaves_it_open(tmp_path: Path) -> None:
    found = processor.describe(tmp_path / "none")
    assert (found["flags"], found["saturates"]) == ([], None)


def branch(name: str, kind: str) -> onnx.GraphProto:
    nodes = [helper.make_node(kind, ["x"], [name])]
    return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])


def test_kinds_are_found_inside_branches_loops_and_functions() -> None:
    inner = helper.make_node(
        "If", ["c"], ["z"], then_branch=branch("a", "QLinearMatMul"), else_branch=branch("b", "Relu")
    )
    outer = branch("d", "ConvInteger")
    outer.node.append(inner)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("e", "QuantizeLinear"), else_branch=outer),
        helper.make_node("Custom", ["x"], ["w"], domain="m", graphs=[branch("f", "DynamicQuantizeLinear")]),
    ]
    body = helper.make_node(
        "If", ["c"], ["o"], then_branch=branch("g", "MatMulInteger"), else_branch=branch("h", "Abs")
    )
    opsets = [helper.make_opsetid("", 18)]
    function = helper.make_function("m", "F", ["x", "c"], ["o"], [body], opsets)
    plain = helper.make_function(
        "m", "G", ["x"], ["o"], [helper.make_node("QLinearConv", ["x"], ["o"])], opsets
    )
    model = helper.make_model(helper.make_graph(nodes, "g", [], []), functions=[function, plain])
    assert processor.quantised_kinds(model) == [
        "ConvInteger",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QuantizeLinear",
    ]


def test_a_model_of_real_numbers_has_none() -> None:
    assert processor.quantised_kinds(dense()) == []


def quantised() -> onnx.ModelProto:
    """`dense` with its hidden values rounded to 8 bits, by a QDQ pair."""
    model = dense()
    for value in (numpy_helper.from_array(np.float32(0.05), "s"), numpy_helper.from_array(np.uint8(0), "p")):
        model.graph.initializer.append(value)
    model.graph.node[2].input[0] = "back"
    pair = [
        helper.make_node("QuantizeLinear", ["hidden", "s", "p"], ["rounded"], name="q"),
        helper.make_node("DequantizeLinear", ["rounded", "s", "p"], ["back"], name="dq"),
    ]
    nodes = [*model.graph.node[:2], *pair, *model.graph.node[2:]]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


@pytest.mark.parametrize(
    ("model", "kinds"), [(quantised(), ["DequantizeLinear", "QuantizeLinear"]), (dense(), None)]
)
def test_a_run_of_a_quantised_model_says_on_what_it_ran(
    tmp_path: Path, model: onnx.ModelProto, kinds: list[str] | None
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    ours.RUNTIME.convert({"onnx": write_onnx(tmp_path / "onnx", model)}, out, {"options": {}})
    run = ours.RUNTIME.run(out, dense_inputs(), {"options": {}})
    assert dict(run.facts) == ({} if kinds is None else {"processor": processor.describe()})
    assert (out / "quantised.json").exists() == (kinds is not None)
    if kinds is not None:
        assert json.loads((out / "quantised.json").read_text()) == {"operators": kinds}
