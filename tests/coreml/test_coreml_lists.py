"""Lists of tensors: filled, read, grown, passed through loops; and what is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.ops.lists import (
    list_gather,
    list_length,
    list_read,
    list_scatter,
    list_write,
    make_list,
)

COVERS = dict.fromkeys(
    ("make_list", "list_length", "list_read", "list_write", "list_gather", "list_scatter"), ("float32",)
)

F = np.float32
A, B = np.array([1, 3], F), np.array([2, 4], F)
PAIR = (torch.tensor(2),)


def same(found, *wanted):
    assert len(found) == len(wanted)
    for have, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(have, want, strict=True)


def test_a_list_starts_with_zeros_and_grows_as_far_as_it_is_written() -> None:
    def build(a, b):
        ls = mb.make_list(init_length=2, elem_shape=(2,))
        first = mb.list_read(ls=ls, index=0)
        ls = mb.list_write(ls=ls, index=0, value=a)
        ls = mb.list_write(ls=ls, index=4, value=b)
        ls = mb.list_scatter(ls=ls, indices=[2, 1], value=np.array([[-1, -2], [-4, -5]], F))
        length = mb.list_length(ls=ls)
        return first, mb.list_read(ls=ls, index=0), mb.list_gather(ls=ls, indices=[4, 2, 3]), length

    found = mil.evaluate(build, {"a": A, "b": B})
    same(found, np.zeros(2, F), A, np.array([[2, 4], [-1, -2], [0, 0]], F), np.int32(5))


def test_writing_leaves_the_list_that_was_written_to_as_it_is() -> None:
    def build(a, b):
        old = mb.list_write(ls=mb.make_list(init_length=1, elem_shape=(2,)), index=0, value=a)
        new = mb.list_write(ls=old, index=0, value=b)
        newest = mb.list_scatter(ls=new, indices=[1], value=np.ones((1, 2), F))
        return (
            mb.list_read(ls=old, index=0),
            mb.list_read(ls=new, index=0),
            mb.list_length(ls=old),
            mb.list_length(ls=newest),
        )

    same(mil.evaluate(build, {"a": A, "b": B}), A, B, np.int32(1), np.int32(2))


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32", "bool"])
@pytest.mark.parametrize("shape", [(), (1,), (2, 0), (2, 3)])
def test_elements_are_of_every_type_and_shape_there_is(dtype, shape) -> None:
    numbers = {"fp32": F, "fp16": np.float16, "int32": np.int32, "bool": np.bool_}[dtype]
    value = np.ones(shape, numbers)
    sizes = tuple(torch.tensor(size) for size in shape)
    ls = list_write(make_list(sizes, 3, dtype=dtype), 1, torch.from_numpy(np.array(value)))
    found = list_gather(ls, torch.tensor([1, 0], dtype=torch.int32)).numpy()
    same([found], np.stack([value, np.zeros(shape, numbers)]))


def test_the_file_says_the_type_of_the_elements() -> None:
    def build(x):
        ls = mb.make_list(init_length=1, elem_shape=(2,), dtype="int32")
        return mb.list_read(ls=mb.list_write(ls=ls, index=0, value=x), index=0)

    same(mil.evaluate(build, {"x": np.array([1, 2], np.int32)}), np.array([1, 2], np.int32))


def test_a_length_and_an_index_may_come_from_outside() -> None:
    def build(x, n, i):
        n, i = mb.squeeze(x=n), mb.squeeze(x=i)
        ls = mb.make_list(init_length=n, dynamic_length=False, elem_shape=(2,))
        ls = mb.list_write(ls=ls, index=i, value=x)
        return mb.list_read(ls=ls, index=i), mb.list_length(ls=ls)

    inputs = {"x": A, "n": np.array([4], np.int32), "i": np.array([3], np.int32)}
    same(mil.evaluate(build, inputs), A, np.int32(4))


def test_an_axis_that_is_named_is_known_from_the_first_element() -> None:
    def build(x):
        ls = mb.make_list(init_length=2, elem_shape=("rows", 2))
        ls = mb.list_write(ls=ls, index=1, value=x)
        return mb.list_gather(ls=ls, indices=[0, 1])

    found = mil.evaluate(build, {"x": np.stack([A, B, A])}, open_axes={"x": (0,)})
    same(found, np.stack([np.zeros((3, 2), F), np.stack([A, B, A])]))


def test_a_list_goes_round_a_loop() -> None:
    def build(update, rounds):
        def more(i, ls):
            return mb.less(x=i, y=rounds)

        def body(i, ls):
            scaled = mb.mul(x=update, y=mb.cast(x=i, dtype="fp32"))
            return mb.add(x=i, y=np.array([1], np.int32)), mb.list_write(
                ls=ls, index=mb.squeeze(x=i), value=scaled
            )

        start = mb.make_list(init_length=1, elem_shape=(2,))
        _, ls = mb.while_loop(_cond=more, _body=body, loop_vars=(np.array([0], np.int32), start))
        return mb.list_gather(ls=ls, indices=mb.range_1d(start=0, end=mb.list_length(ls=ls), step=1))

    for rounds in (3, 1, 0):
        found = mil.evaluate(build, {"update": A, "rounds": np.array([rounds], np.int32)})
        same(found, np.stack([A * i for i in range(max(rounds, 1))]))


def test_a_list_that_is_watched_is_shown_as_arrays() -> None:
    def build(x):
        ls = mb.list_write(ls=mb.make_list(init_length=2, elem_shape=(2,)), index=0, value=x, name="filled")
        return mb.list_read(ls=ls, index=0)

    with tempfile.TemporaryDirectory() as folder:
        evaluator = Evaluator(mil.package(build, {"x": A}, Path(folder)), watch=["filled"])
        evaluator({"x": A})
    same(evaluator.watched["filled"], A, np.zeros(2, F))


@pytest.mark.parametrize("index", [-1, 2])
def test_reading_outside_the_list_is_refused(index) -> None:
    with pytest.raises(ValueError, match=f"index {index} is outside a list of length 2"):
        list_read(make_list(PAIR, 2), index)
    with pytest.raises(ValueError, match=f"index {index} is outside a list of length 2"):
        list_gather(make_list(PAIR, 2), torch.tensor([0, index]))


def test_writing_outside_the_list_is_refused_where_it_cannot_grow() -> None:
    fixed, growing = make_list(PAIR, 2, dynamic_length=False), make_list(PAIR, 2)
    for ls, index, length in (
        (fixed, 2, "the fixed length"),
        (fixed, -1, "the fixed"),
        (growing, -1, "length"),
    ):
        with pytest.raises(ValueError, match=f"index {index} is outside a list of {length}"):
            list_write(ls, index, torch.ones(2))
    with pytest.raises(ValueError, match="index 5 is outside"):
        list_scatter(fixed, torch.tensor([0, 5]), torch.ones(2, 2))
    with pytest.raises(ValueError, match="index 2 is outside a list of the fixed length 2"):
        list_write(list_write(fixed, 1, torch.ones(2)), 2, torch.ones(2))
    assert list_length(list_write(list_write(growing, 2, torch.ones(2)), 3, torch.ones(2))) == 4


def test_a_list_is_of_one_element_that_may_grow_where_nothing_is_said() -> None:
    ls = make_list(PAIR)
    assert list_length(ls) == 1 and list_length(list_write(ls, 1, torch.ones(2))) == 2


@pytest.mark.parametrize("value", [torch.ones(3), torch.ones(1, 2), torch.ones(2).half()])
def test_an_element_of_another_type_is_refused(value) -> None:
    with pytest.raises(ValueError, match=r"is written to a list of float32\[2\]"):
        list_write(make_list(PAIR), 0, value)
    named = list_write(make_list(("rows",)), 0, torch.ones(2))
    with pytest.raises(ValueError, match=r"is written to a list of float32\[2\]"):
        list_write(named, 1, value)


def test_as_many_values_as_indices() -> None:
    with pytest.raises(ValueError, match="3 values for 2 indices"):
        list_scatter(make_list(PAIR), torch.tensor([0, 1]), torch.ones(3, 2))


def test_an_element_of_no_known_shape_is_refused() -> None:
    ls = make_list(("rows",), 2)
    with pytest.raises(ValueError, match="element 1 is read and no element was ever written"):
        list_read(ls, 1)
    with pytest.raises(ValueError, match="no known shape"):
        list_gather(ls, torch.zeros(0, dtype=torch.int32))
    assert list_gather(make_list(PAIR), torch.zeros(0, dtype=torch.int32)).shape == (0, 2)


def test_a_list_of_unknown_type_or_negative_length_is_refused() -> None:
    with pytest.raises(ValueError, match='dtype "fp8" is not one of'):
        make_list(PAIR, dtype="fp8")
    with pytest.raises(ValueError, match="cannot start with -1 elements"):
        make_list(PAIR, -1)


def test_of_two_values_for_one_index_the_later_stays() -> None:
    ls = list_scatter(make_list(PAIR), torch.tensor([0, 0]), torch.tensor([[1.0, 1], [2, 2]]))
    same([list_read(ls, 0).numpy()], np.full(2, 2, F))


def test_the_operation_is_named_when_an_index_is_wrong() -> None:
    def build(x):
        return mb.list_read(
            ls=mb.make_list(init_length=1, elem_shape=(2,)), index=mb.squeeze(x=x), name="fetch"
        )

    with pytest.raises(
        RecipeError, match=r'test.mlpackage: list_read "fetch".*index 7 is outside a list of length 1'
    ):
        mil.evaluate(build, {"x": np.array([7], np.int32)})
