"""Indices that are out of bounds, and updates that do not fit, are refused; so is what has no meaning."""

from __future__ import annotations

from functools import partial

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.ops.gathering import gather
from modelbuild.runtimes.coreml.evaluator.ops.scattering import scatter, scatter_along_axis, scatter_nd

SCATTER, ALONG, TUPLES = (
    partial(write, opset=7, arithmetic=Arithmetic()) for write in (scatter, scatter_along_axis, scatter_nd)
)
X = np.arange(12, dtype=np.float32).reshape(3, 4)
GATHERS = {
    "gather": lambda x, i: mb.gather(x=x, indices=i),
    "gather-last-axis": lambda x, i: mb.gather(x=x, indices=i, axis=-1),
    "gather-matrix": lambda x, i: mb.gather(x=x, indices=mb.expand_dims(x=i, axes=[0])),
    "gather_along_axis": lambda x, i: mb.gather_along_axis(
        x=x, indices=mb.tile(x=mb.expand_dims(x=i, axes=[1]), reps=[1, 4])
    ),
    "gather_nd": lambda x, i: mb.gather_nd(x=x, indices=mb.expand_dims(x=i, axes=[1])),
}
SCATTERS = {
    "scatter": lambda x, i: mb.scatter(data=x, indices=i, updates=mb.gather(x=x, indices=[0])),
    "scatter-update": lambda x, i: mb.scatter(
        data=x, indices=i, updates=mb.gather(x=x, indices=[0]), mode="update"
    ),
    "scatter_along_axis": lambda x, i: mb.scatter_along_axis(
        data=x,
        indices=mb.tile(x=mb.expand_dims(x=i, axes=[1]), reps=[1, 4]),
        updates=mb.gather(x=x, indices=[0]),
    ),
    "scatter_nd": lambda x, i: mb.scatter_nd(
        data=x, indices=mb.expand_dims(x=i, axes=[1]), updates=mb.gather(x=x, indices=[0])
    ),
}


def batched(x, i):
    indices = mb.tile(x=mb.expand_dims(x=i, axes=[0]), reps=[3, 1])
    return mb.gather(x=x, indices=indices, axis=1, batch_dims=1)


def evaluated(build, index, target):
    return mil.evaluate(build, {"x": X, "i": np.array([index], np.int32)}, target)


@pytest.mark.parametrize("name", [*GATHERS, *SCATTERS])
@pytest.mark.parametrize("target", mil.TARGETS)
def test_an_index_beyond_the_axis_is_refused(name, target):
    with pytest.raises(RecipeError, match=r"index 4 is out of bounds for an axis of [34] values"):
        evaluated((GATHERS | SCATTERS)[name], 4, target)
    with pytest.raises(RecipeError, match=r"index -5 is out of bounds for an axis of [34] values"):
        evaluated((GATHERS | SCATTERS)[name], -5, target)


@pytest.mark.parametrize("name", [*GATHERS, *SCATTERS])
def test_a_negative_index_counts_from_the_end_up_to_ios16_and_is_refused_from_ios17_on(name):
    build = (GATHERS | SCATTERS)[name]
    size = 4 if name == "gather-last-axis" else 3
    for target in ("iOS15", "iOS16"):
        (got,), (want,) = evaluated(build, -1, target), evaluated(build, size - 1, target)
        np.testing.assert_array_equal(got, want)
    for target in ("iOS17", "iOS18"):
        with pytest.raises(RecipeError, match="index -1 is out of bounds"):
            evaluated(build, -1, target)


def test_an_index_within_a_batch_is_refused_too():
    np.testing.assert_array_equal(evaluated(batched, 3, "iOS17")[0], X[:, 3:])
    for index, target in ((4, "iOS16"), (-5, "iOS16"), (-1, "iOS17")):
        with pytest.raises(RecipeError, match=f"index {index} is out of bounds for an axis of 4 values"):
            evaluated(batched, index, target)


def test_no_index_at_all_picks_and_writes_nothing():
    x, none = torch.tensor(X), torch.zeros(0, dtype=torch.int32)
    assert gather(x, none, opset=7).shape == (0, 4)
    assert torch.equal(SCATTER(x, none, torch.zeros(0, 4)), x)
    assert torch.equal(TUPLES(x, none.reshape(0, 2), torch.zeros(0)), x)


@pytest.mark.parametrize(
    "write",
    [
        lambda x: SCATTER(x, torch.tensor([1]), torch.zeros(2, 4)),
        lambda x: SCATTER(x, torch.tensor([1]), torch.zeros(1, 1)),
        lambda x: TUPLES(x, torch.tensor([[1]]), torch.zeros(4)),
        lambda x: ALONG(x, torch.ones(1, 4), torch.zeros(2, 4)),
        lambda x: ALONG(x, torch.ones(1, 3), torch.zeros(1, 3)),
    ],
)
def test_updates_of_another_shape_are_refused(write):
    with pytest.raises(ValueError, match="updates or indices are"):
        write(torch.tensor(X))


def test_modes_that_have_no_meaning_are_refused():
    x, at = torch.ones(3), torch.tensor([1])
    with pytest.raises(ValueError, match='mode "mean" is not defined for float32'):
        SCATTER(x, at, x[:1], mode="mean")
    for write in (SCATTER, ALONG):
        with pytest.raises(ValueError, match='mode "div" is not defined for int32'):
            write(x.int(), at, x[:1].int(), mode="div")


def test_indices_may_have_any_shape_and_none():
    x = torch.zeros(3, 2)
    assert SCATTER(x, torch.tensor(1), torch.ones(2)).tolist() == [[0, 0], [1, 1], [0, 0]]
    twice = SCATTER(x, torch.tensor([[1, 2], [2, 2]]), torch.ones(2, 2, 2))
    assert twice.tolist() == [[0, 0], [1, 1], [3, 3]]


def test_half_precision_adds_up_as_the_arithmetic_says():
    one, small = torch.ones(1, dtype=torch.float16), torch.full((4,), 2.0**-12, dtype=torch.float16)
    at = torch.zeros(4, dtype=torch.int64)
    for write in (
        SCATTER,
        ALONG,
        lambda *given, **more: TUPLES(given[0], given[1][:, None], given[2], **more),
    ):
        assert write(one, at, small, arithmetic=Arithmetic("float16")).item() == 1
        assert write(one, at, small, arithmetic=Arithmetic("float32")).item() == 1 + 2.0**-10
        assert write(one, at, -small, mode="sub", arithmetic=Arithmetic("float32")).item() == 1 + 2.0**-10
        assert write(one, at[:1], small[:1], arithmetic=Arithmetic("float32")).item() == 1


def test_what_is_written_into_a_copy_leaves_the_argument_alone():
    x, at = torch.zeros(3, 2), torch.tensor([1])
    SCATTER(x, at, torch.ones(1, 2))
    TUPLES(x, at.reshape(1, 1), torch.ones(1, 2))
    ALONG(x, torch.ones(1, 2), torch.ones(1, 2))
    assert not x.any()
    turned = torch.zeros(2, 3).T  # which cannot be seen as one row of numbers
    assert TUPLES(turned, torch.tensor([[2, 1]]), torch.ones(1), owned=True).tolist() == [
        [0, 0],
        [0, 0],
        [0, 1],
    ]
    assert SCATTER(x, at, torch.ones(1, 2), owned=True) is x
    assert x.tolist() == [[0, 0], [1, 1], [0, 0]]
