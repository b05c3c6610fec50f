"""Models written down node by node, and exported ones, that ONNX Runtime rewrites in its own ways."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import nets
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelbuild import dataset
from modelbuild.recipes import export

Feed = dict[str, np.ndarray[Any, Any]]


def weights(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape, dtype=np.float32)


def exported(name: str) -> tuple[onnx.ModelProto, Feed]:
    """A copy of the model, and its inputs."""
    model, net = onnx.ModelProto(), nets.NETS[name]
    model.CopyFrom(_exported(name))
    return model, net.inputs()


@cache
def _exported(name: str) -> onnx.ModelProto:
    net = nets.NETS[name]
    data = dataset.DataSet(dict(net.inputs()), {})
    return export.to_onnx(net.module(), data, export.Settings(18, 1, 64), name)


def model(nodes: list[Any], outputs: list[str], constants: Mapping[str, Any]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 6]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def branch(name: str, *used: str) -> onnx.GraphProto:
    """A subgraph that multiplies by values from outside, and adds a constant of its own."""
    nodes, before = [], "h"
    for each in used:
        nodes.append(helper.make_node("MatMul", [before, each], [f"{name}-{each}"]))
        before = f"{name}-{each}"
    nodes.append(helper.make_node("Add", [before, f"{name}-own"], [f"{name}-out"]))
    out = helper.make_tensor_value_info(f"{name}-out", TensorProto.FLOAT, None)
    return helper.make_graph(nodes, name, [], [out], [numpy_helper.from_array(weights(6), f"{name}-own")])


def branches() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("ReduceSum", ["h"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "zero"], ["positive"]),
        helper.make_node(
            "If", ["positive"], ["y"],
            then_branch=branch("yes", "a", "b"), else_branch=branch("no", "c", "a"),
        ),
    ]  # fmt: skip
    return model(nodes, ["y"], {n: weights(6, 6) for n in "abc"} | {"zero": np.float32(0)})


def quantised() -> onnx.ModelProto:
    def both(name: str) -> list[onnx.NodeProto]:
        quantise = helper.make_node("QuantizeLinear", [name, "scale", "point"], [f"{name}-q"])
        return [
            quantise,
            helper.make_node("DequantizeLinear", [f"{name}-q", "scale", "point"], [f"{name}-d"]),
        ]

    nodes = [
        *both("x"),
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["w-d"]),
        helper.make_node("MatMul", ["x-d", "w-d"], ["m"]),
        *both("m"),
        helper.make_node("Relu", ["m-d"], ["y"]),
    ]
    w = (weights(6, 6) * 30).astype(np.int8)
    constants = {"w": w, "scale": np.float32(0.05), "point": np.uint8(128), "zero": np.int8(0)}
    return model(nodes, ["y"], constants)


def looped() -> onnx.ModelProto:
    """x [batch, 6] -> h = relu(x), grown = h + x + x + x in a loop, whose shape is not inferred, y = -grown."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "x"], ["after"]),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, None),
        ],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="relu"),
        helper.make_node("Loop", ["three", "", "h"], ["grown"], name="loop", body=body),
        helper.make_node("Neg", ["grown"], ["y"], name="negate"),
    ]
    return model(nodes, ["y"], {"three": np.int64(3)})


def parts() -> onnx.ModelProto:
    """x [batch, 6] -> y: halves of x, of which one goes on to where the other is made anew, and a constant node."""
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.float32(2)), name="two"),
        helper.make_node("Mul", ["x", "two"], ["twice"], name="double"),
        helper.make_node("Split", ["twice"], ["left", "right"], axis=1, num_outputs=2, name="halves"),
        helper.make_node("Neg", ["left"], ["minus"], name="negate"),
        helper.make_node("Concat", ["minus", "right"], ["both"], axis=1, name="join"),
        helper.make_node("Reshape", ["both", "flat"], ["shaped"], name="shape"),
        helper.make_node("Reshape", ["shaped", "square"], ["y"], name="back"),
    ]
    return model(nodes, ["y"], {"flat": np.array([-1]), "square": np.array([-1, 6])})


def called() -> onnx.ModelProto:
    """x [batch, 6] -> y = doubled(x w), with "doubled" a function of the model that calls another."""
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    add = helper.make_node("Add", ["a", "a"], ["b"])
    plus = helper.make_function("own", "Plus", ["a"], ["b"], [add], opsets[:1])
    call = helper.make_node("Plus", ["a"], ["b"], domain="own")
    doubled = helper.make_function("own", "Doubled", ["a"], ["b"], [call], opsets)
    unused = helper.make_function("own", "Unused", ["a"], ["b"], [add], opsets[:1])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], name="product"),
        helper.make_node("Doubled", ["product"], ["sum"], domain="own", name="doubled"),
        helper.make_node("Relu", ["sum"], ["y"], name="relu"),
    ]
    made = model(nodes, ["y"], {"w": weights(6, 6)})
    return helper.make_model(
        made.graph, opset_imports=opsets, ir_version=8, functions=[plus, doubled, unused]
    )


def every_attribute() -> onnx.ModelProto:
    """x [batch, 6] -> y, with attributes of every type that operators have, and an optional input left out."""
    activations = ["LeakyRelu", "Tanh", "Tanh"]
    nodes = [
        helper.make_node("Clip", ["x", "", "most"], ["clipped"], name="clip"),
        helper.make_node("Selu", ["clipped"], ["selu"], alpha=1.5, gamma=0.0, name="selu"),
        helper.make_node("Unsqueeze", ["selu", "zero"], ["line"], name="line"),
        helper.make_node("AveragePool", ["line"], ["pool"], kernel_shape=[3], auto_pad="SAME_UPPER", name="pool"),
        helper.make_node(
            "LSTM", ["pool", "w", "r"], ["", "last"], hidden_size=6, direction="forward",
            activations=activations, activation_alpha=[0.25], name="lstm",
        ),
        helper.make_node("Squeeze", ["last", "zero"], ["flat"], name="flat"),
        helper.make_node("Shape", ["flat"], ["sizes"], name="sizes"),
        helper.make_node(
            "ConstantOfShape", ["sizes"], ["tens"], value=numpy_helper.from_array(np.float32([10])), name="fill"
        ),
        helper.make_node("Add", ["flat", "tens"], ["y"], name="add"),
    ]  # fmt: skip
    constants = {"most": np.float32(3), "zero": np.array([0])}
    return model(nodes, ["y"], {**constants, "w": weights(1, 24, 6), "r": weights(1, 24, 6)})
