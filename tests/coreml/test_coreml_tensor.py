"""What shapes, slices, paddings and the like refuse, and what the builder of programs cannot write."""

from __future__ import annotations

from itertools import product

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.ops.ordering import _picked, argsort, topk
from modelbuild.runtimes.coreml.evaluator.ops.shaping import expand_dims, reshape, reshape_like
from modelbuild.runtimes.coreml.evaluator.ops.slicing import (
    reverse_sequence,
    slice_by_index,
    slice_by_size,
    slice_update,
    split,
)
from modelbuild.runtimes.coreml.evaluator.ops.tensor import concat, fill, pad, range_1d, tile
from modelbuild.runtimes.coreml.evaluator.program import ListType, Named, TensorType

X = torch.arange(12.0).reshape(3, 4)


def number(value):
    return torch.tensor(value)


def refused(message):
    return pytest.raises(ValueError, match=message)


# -- shapes


@pytest.mark.parametrize("target", ["iOS15", "iOS16"])
def test_a_zero_in_a_shape_of_another_rank_is_refused_up_to_ios16(target):
    inputs = {"x": X.numpy(), "shape": np.array([1, 0, -1, 0], np.int32)}

    def build(x, shape):
        return mb.reshape(x=x, shape=shape)

    with pytest.raises(RecipeError, match="has a 0, and 4 axes where x has 2"):
        mil.evaluate(build, inputs, target)
    assert mil.evaluate(build, inputs, "iOS17")[0].shape == (1, 1, 3, 4)


def test_a_shape_of_other_volume_is_refused():
    with pytest.raises(RuntimeError, match="invalid"):
        reshape(X, (5, 2), opset=7)


def test_a_scalar_is_shaped_too():
    assert reshape(number(2.0), (1, 1), opset=7).shape == (1, 1)
    assert reshape(torch.ones(1), (), opset=7).shape == ()
    assert expand_dims(number(2.0), (0, 1)).shape == (1, 1)


def test_references_must_be_as_many_as_their_ranges():
    with refused("zip"):
        reshape_like(X, (X,), (number(0), number(1)), (number(2),), (number(False),))


# -- slices


def test_slices_that_do_not_fit_are_refused():
    with refused("make no slice"):
        slice_by_index(X, (0,), (1,))
    with refused("make no slice"):
        slice_by_index(X, (0, 0), (1, 1), (1, 0))
    with refused("zip"):
        slice_by_index(X, (0, 0), (1, 1), None, (True,))
    with pytest.raises(IndexError, match="out of bounds"):
        slice_by_index(X, (3, 0), (0, 4), None, None, None, (True, False))
    assert slice_by_index(X, (-9, 0), (9, 4), (-1, 1)).shape == (0, 4)
    with refused(r"the slice is \[2, 4\] and the update \[1, 4\]"):
        slice_update(X, X[:1], (0, 0), (2, 4))


@pytest.mark.parametrize("size", [1, 2, 4])
def test_slices_are_numpys_for_all_bounds_and_strides(size):
    bounds = [*range(-size - 2, size + 3), None]
    for begin, end, stride in product(bounds, bounds, (-3, -2, -1, 1, 2, 3)):
        x = np.arange(size, dtype=np.float32)
        given = (begin or 0,), (end or 0,), (stride,), (begin is None,), (end is None,)
        part = slice_by_index(torch.tensor(x), *given).numpy()
        np.testing.assert_array_equal(part, x[begin:end:stride])
        new = np.arange(-part.size, 0, dtype=np.float32)
        updated = slice_update(torch.tensor(x), torch.tensor(new), *given).numpy()
        x[begin:end:stride] = new
        np.testing.assert_array_equal(updated, x)


@pytest.mark.parametrize(
    ("begin", "size"), [((1, 0), (3, 4)), ((4, 0), (-1, 4)), ((-4, 0), (1, 4)), ((0, 0), (-2, 4))]
)
def test_a_part_that_reaches_outside_is_refused(begin, size):
    with refused("reach outside axis 0, which has 3"):
        slice_by_size(X, begin, size)


def test_the_rest_from_a_negative_begin_on():
    """Whose length coremltools states wrongly, as the length of the axis less the negative begin."""
    assert slice_by_size(X, (-2, -1), (-1, -1)).tolist() == [[7], [11]]


def test_an_update_is_written_over_what_is_owned_and_into_a_copy_of_the_rest():
    x = torch.zeros(3)
    assert slice_update(x, torch.ones(1), (1,), (2,)).tolist() == [0, 1, 0] and not x.any()
    assert slice_update(x, torch.ones(1), (1,), (2,), owned=True) is x


def test_parts_must_add_up():
    with refused("4 values cannot be split into 3 equal parts"):
        split(X, 3, axis=1)
    with refused("4 values cannot be split into None"):
        split(X, axis=1)
    with refused("num_splits is 3"):
        split(X, 3, (2, 2), axis=1)
    with pytest.raises(RuntimeError, match="sum exactly"):
        split(X, None, (2, 1), axis=1)


def test_sequences_that_cannot_be_reversed_are_refused():
    with refused("seq_axis and batch_axis are both 0"):
        reverse_sequence(X, torch.tensor([1, 2, 3]))
    for lengths in ([1, 2, 5], [-1, 2, 3]):
        with refused("are not all from 0 to 4"):
            reverse_sequence(X, torch.tensor(lengths), 1, 0)
    assert torch.equal(reverse_sequence(X[:0], torch.zeros(0), 1, 0), X[:0])


# -- what is made, joined, padded


def test_a_range_needs_a_step_and_may_be_empty():
    with refused("step 0"):
        range_1d(number(3), number(0), number(0))
    for end, start, step in ((0, 3, 1), (3, 3, 1), (3, 0, -1)):
        assert range_1d(number(end), number(start), number(step)).shape == (0,)
        assert range_1d(number(float(end)), number(float(start)), number(float(step))).shape == (0,)


def test_a_range_has_as_many_values_as_its_type_says():
    """0.3 / 0.1 is 3 in float32, where MIL reckons the length, and more than 3 in float64."""
    assert range_1d(number(0.3), number(0.0), number(0.1)).shape == (3,)
    inputs = {
        name: np.array([value], np.float32) for name, value in (("end", 0.3), ("start", 0.0), ("step", 0.1))
    }

    def build(**values):
        return mb.range_1d(**{name: mb.squeeze(x=value) for name, value in values.items()})

    (got,) = mil.evaluate(lambda end, start, step: build(end=end, start=start, step=step), inputs)
    np.testing.assert_allclose(got, [0, 0.1, 0.2], rtol=1e-6)


def test_a_range_is_rounded_once():
    step = number(0.1).half()
    assert (
        range_1d(number(100.0).half(), number(0.5).half(), step)[500]
        == number(0.5 + 500 * step.item()).half()
    )


def test_a_result_that_is_no_tensor_cannot_be_filled():
    tensor = TensorType("float32", (None,))
    with refused("other than a tensor"):
        fill((2,), outputs=(Named("y", ListType(tensor, 1)),))
    assert fill((2,), outputs=(Named("y", tensor),)).tolist() == [0, 0]


def test_values_of_other_shapes_are_not_joined():
    with pytest.raises(RuntimeError, match="must match"):
        concat((X, X[:2]), 1)
    with pytest.raises(RuntimeError, match="equal size"):
        concat((X, X[:2]), 0, interleave=True)
    with pytest.raises(RuntimeError, match="repeat"):
        tile(X, (2,))


def test_paddings_that_do_not_fit_are_refused():
    for padding in ((1,), (1, 1, 1, 1, 1, 1), (0, 0, -1, 0)):
        with refused("does not fit"):
            pad(X, padding)
    for padding in ((4, 0), (0, 4)):
        with refused(r"an axis of 4 values is more than mode reflect allows"):
            pad(X, padding, "reflect")
    for padding in ((5, 0), (0, 5)):
        with refused(r"an axis of 4 values is more than mode replicate allows"):
            pad(X, padding, "replicate")
    with refused('of the unknown mode "wrap"'):
        pad(X, (1, 1), "wrap")


# -- order


def test_all_values_are_asked_for_by_minus_one():
    values, indices = topk(X[:1], -1)
    assert values.tolist() == [[3, 2, 1, 0]]
    assert indices.tolist() == [[3, 2, 1, 0]]


def test_more_values_than_there_are_are_refused():
    for k in (5, -2):
        with refused("values are asked for"):
            topk(X, k)
    with refused('indices cannot be of type "int8"'):
        topk(X, 1, output_indices_dtype="int8")


@pytest.mark.parametrize("count", [1, 40])
@pytest.mark.parametrize("ascending", [False, True])
def test_a_long_axis_is_put_in_the_same_order_as_by_sorting_all(count, ascending):
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(3, 2048, generator=rng)
    for each in (x, (x * 99).round(), torch.where(x < 0.001, torch.nan, x), (x * 999).int(), x.half()):
        values, indices = topk(each, count, ascending=ascending)
        order = argsort(each, ascending=ascending)[:, :count]
        assert torch.equal(indices, order)
        np.testing.assert_array_equal(values.numpy(), each.gather(1, order.long()).numpy())


def test_sorting_all_is_spared_where_the_order_is_plain_and_only_there():
    x = torch.rand(2, 2048, generator=torch.Generator().manual_seed(1))
    for ascending in (False, True):
        picked = _picked(x, 5, 1, ascending)
        assert picked is not None
        assert torch.equal(picked[1], argsort(x, ascending=ascending)[:, :5].long())
    for places in ([5], [3, 900], [7, 8, 2000]):
        tied = x.clone()
        tied[0, places] = 2.0
        assert (_picked(tied, 5, 1, False) is None) == (len(places) > 1)
        assert _picked(torch.where(tied == 2.0, torch.nan, tied), 5, 1, False) is None
    edge = torch.arange(2048.0).clamp(max=2043.0).reshape(1, -1)
    assert _picked(edge, 1, 1, False) is None
