"""A widened program holds nothing narrow, wherever it may stand, and leaves the one that it was made from alone."""

from __future__ import annotations

import mil
import numpy as np
import pytest
from mil import mb

from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package
from modelbuild.runtimes.coreml.evaluator.widen import holds_half, widened

F, H = np.float32, np.float16
X = np.array([1 / 3, -2.7, 30], F)
WEIGHT = np.random.default_rng(0).standard_normal((40, 3))


def looping(dtype):
    """A loop, a list and weights in a file."""

    def build(x):
        first = mb.cast(x=x, dtype="fp16" if dtype is H else "fp32")
        held = mb.list_write(
            ls=mb.make_list(init_length=1, elem_shape=(3,), dtype=name(dtype)), index=0, value=first
        )
        start = mb.list_read(ls=held, index=0)
        _, total = mb.while_loop(
            _cond=lambda i, total: mb.less(x=i, y=np.int32(3)),
            _body=lambda i, total: (mb.add(x=i, y=np.int32(1)), mb.mul(x=total, y=dtype(1.1))),
            loop_vars=(np.int32(0), start),
        )
        return mb.linear(x=mb.expand_dims(x=total, axes=[0]), weight=WEIGHT.astype(dtype))

    return build


def name(dtype):
    return "fp16" if dtype is H else "fp32"


@pytest.mark.parametrize("dtype", [H, F])
def test_nothing_narrow_is_left_in_any_block(dtype, tmp_path) -> None:
    package = mil.package(looping(dtype), {"x": X}, tmp_path)
    before = package.spec.SerializeToString(deterministic=True)
    assert "FLOAT32" in str(package.spec.mlProgram)
    found = widened(package)
    assert package.spec.SerializeToString(deterministic=True) == before
    text = str(found.spec.mlProgram)
    for narrow in ("FLOAT16", "FLOAT32", "fp16", "fp32", "BLOBFILE"):
        assert narrow not in text.replace('"mode"', ""), narrow
    (got,) = Evaluator(found)({"x": X.astype(np.float64)}).values()
    total = X.astype(np.float64) * np.float64(dtype(1.1)) ** 3
    np.testing.assert_allclose(got[0], WEIGHT.astype(dtype).astype(np.float64) @ total, rtol=1e-13)


def test_state_and_lists_hold_wide_numbers_too(tmp_path) -> None:
    package = mil.package(lambda x: mb.exp(x=x), {"x": X}, tmp_path)
    function = package.spec.mlProgram.functions["main"]
    kept, held = function.inputs.add(name="kept"), function.inputs.add(name="held")
    kept.type.stateType.wrappedType.CopyFrom(function.inputs[0].type)
    held.type.listType.type.CopyFrom(function.inputs[0].type)
    types = [each.type for each in widened(package).spec.mlProgram.functions["main"].inputs]
    assert [each.WhichOneof("type") for each in types] == ["tensorType", "stateType", "listType"]
    assert "FLOAT32" not in str(types) and str(types).count("FLOAT64") == 3


def test_an_operation_without_results_is_widened(tmp_path) -> None:
    package = mil.package(lambda x: mb.add(x=x, y=F(1)), {"x": X}, tmp_path)
    (function,) = package.spec.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    added = next(each for each in block.operations if each.type == "add")
    del added.outputs[:]
    assert "FLOAT32" not in str(widened(package).spec.mlProgram)


def test_half_precision_is_found_in_inner_blocks_and_in_every_function(tmp_path) -> None:
    def build(x):
        big = mb.less(x=mb.reduce_max(x=x), y=F(9))
        return mb.cond(
            pred=big,
            _true_fn=lambda: mb.cast(x=mb.cast(x=x, dtype="fp16"), dtype="fp32"),
            _false_fn=lambda: mb.exp(x=x),
        )

    inner = mil.package(build, {"x": X}, tmp_path / "inner")
    assert holds_half(inner)
    single = mil.package(looping(F), {"x": X}, tmp_path / "single")
    assert not holds_half(single)
    for first, second in (("main", "other"), ("other", "main")):
        both = type(single.spec)()
        both.mlProgram.functions[first].CopyFrom(single.spec.mlProgram.functions["main"])
        both.mlProgram.functions[second].CopyFrom(inner.spec.mlProgram.functions["main"])
        assert holds_half(Package(single.path, both, single.folder))


def test_a_number_that_is_written_where_it_is_used_is_widened_too(tmp_path) -> None:
    package = mil.package(lambda x: mb.mul(x=x, y=F(0.1)), {"x": X}, tmp_path)
    (function,) = package.spec.mlProgram.functions.values()
    block = function.block_specializations[function.opset]
    known = {
        each.outputs[0].name: each.attributes["val"] for each in block.operations if each.type == "const"
    }
    (product,) = [each for each in block.operations if each.type == "mul"]
    binding = product.inputs["y"].arguments[0]
    binding.value.CopyFrom(known[binding.name])
    wide = widened(package)
    assert "FLOAT32" not in str(wide.spec.mlProgram)
    (found,) = Evaluator(wide)({"x": X.astype(np.float64)}).values()
    np.testing.assert_array_equal(found, X.astype(np.float64) * np.float64(F(0.1)))
