"""Fixed shapes: every value has a size, or it is said which has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from runtime_conformance import dense, dense_inputs, tokens

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime.fixed import with_fixed_shapes


def sizes(value: onnx.ValueInfoProto) -> list[Any]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def model(
    nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], constants: Any = ()
) -> onnx.ModelProto:
    def values(named: dict[str, Any]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in named.items()]

    graph = helper.make_graph(nodes, "graph", values(inputs), values(outputs), list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def twice(**inputs: Any) -> onnx.ModelProto:
    """x and x again, under each other."""
    return model([helper.make_node("Concat", ["x", "x"], ["y"], axis=0)], inputs, {"y": ["2*batch", 3]})


@pytest.mark.parametrize("made", [dense, tokens])
def test_every_value_has_a_size(made: Any) -> None:
    fixed = with_fixed_shapes(made(), 2)
    values = [*fixed.graph.input, *fixed.graph.output, *fixed.graph.value_info]
    assert all(isinstance(size, int) for value in values for size in sizes(value))
    known = {value.name for value in values}
    assert {name for node in fixed.graph.node for name in node.output} <= known
    assert {sizes(value)[0] for value in (*fixed.graph.input, *fixed.graph.output)} == {2}


def test_the_model_is_left_alone_and_the_bytes_repeat() -> None:
    given = dense()
    before = given.SerializeToString(deterministic=True)
    one, other = (with_fixed_shapes(given, 3).SerializeToString(deterministic=True) for _ in range(2))
    assert one == other
    assert given.SerializeToString(deterministic=True) == before


def test_it_answers_as_before() -> None:
    feed = {name: array[:2] for name, array in dense_inputs().items()}
    found = []
    for each in (dense(), with_fixed_shapes(dense(), 2)):
        session = onnxruntime.InferenceSession(each.SerializeToString(), providers=["CPUExecutionProvider"])
        found.append([value.tobytes() for value in session.run(None, feed)])
    assert found[0] == found[1]


def test_a_size_that_follows_from_the_batch_is_inferred() -> None:
    assert sizes(with_fixed_shapes(twice(x=["batch", 3]), 4).graph.output[0]) == [8, 3]


def test_a_batch_without_a_name_is_fixed() -> None:
    assert sizes(with_fixed_shapes(twice(x=[None, 3]), 4).graph.input[0]) == [4, 3]


def test_the_same_batch_again_changes_nothing() -> None:
    once = with_fixed_shapes(dense(), 2)
    assert with_fixed_shapes(once, 2) == once


def test_initialisers_among_the_inputs_keep_their_shape() -> None:
    w = numpy_helper.from_array(np.ones((5, 3), np.float32), "w")
    given = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": ["b", 5], "w": [5, 3]}, {"y": ["b", 3]}, [w]
    )
    assert sizes(with_fixed_shapes(given, 2).graph.input[1]) == [5, 3]


@pytest.mark.parametrize(
    ("shape", "fact"),
    [
        (["batch", "length"], 'axis 1 ("length") of the input "x" stays open'),
        (["batch", None], 'axis 1 of the input "x" stays open'),
        ([5, 3], 'the input "x" is fixed to 5 samples, and 2 were asked for'),
        ([], 'the input "x" has no axes'),
    ],
)
def test_what_cannot_be_fixed_is_named(shape: list[Any], fact: str) -> None:
    with pytest.raises(RecipeError) as caught:
        with_fixed_shapes(twice(x=shape), 2)
    assert fact in caught.value.fact
    assert caught.value.remedy


def test_an_output_whose_size_is_computed_is_refused() -> None:
    nodes = [helper.make_node("Compress", ["x", "flags"], ["y"], axis=0)]
    flags = numpy_helper.from_array(np.array([True, False]), "flags")
    given = model(nodes, {"x": ["batch", 3]}, {"y": ["some", 3]}, [flags])
    with pytest.raises(RecipeError, match=r'axis 0 .*of the output "y" stays open'):
        with_fixed_shapes(given, 2)


def test_an_output_without_a_shape_is_refused() -> None:
    shape = [helper.make_node("NonZero", ["x"], ["n"]), helper.make_node("Reshape", ["n", "flat"], ["f"])]
    flat = numpy_helper.from_array(np.array([-1]), "flat")
    reshape = helper.make_node("Reshape", ["x", "f"], ["y"])
    given = model([*shape, reshape], {"x": ["batch", 3]}, {"y": None}, [flat])
    with pytest.raises(RecipeError, match='the output "y" has no shape'):
        with_fixed_shapes(given, 2)


def test_what_is_called_like_the_batch_is_fixed_where_nothing_can_be_inferred() -> None:
    nodes = [helper.make_node("Cast", ["s"], ["t"], to=TensorProto.INT64)]
    nodes += [helper.make_node("Reshape", ["x", "t"], ["y"])]
    given = model(nodes, {"x": ["batch", 3], "s": ["two"]}, {"y": ["batch", 3]})
    assert sizes(with_fixed_shapes(given, 2).graph.output[0]) == [2, 3]


def test_a_contradiction_is_refused() -> None:
    given = model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["batch", 3]}, {"y": [7, 3]})
    with pytest.raises(RecipeError, match="does not fit its own shapes"):
        with_fixed_shapes(given, 2)
