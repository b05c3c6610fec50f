"""Products that the builder cannot write, what is refused, and how sums of half-precision products are rounded."""

from __future__ import annotations

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.ops import KERNELS

HALF = np.float16
LARGE_FIRST = np.array([2048, 1, 1, 1, 1, 1, 1, 1], HALF)
ONES = np.ones(8, HALF)


def total(build, x: np.ndarray, accumulation: str) -> float:
    """The largest value of the result."""
    (found,) = mil.evaluate(build, {"x": x}, "iOS18", accumulation)
    return float(np.asarray(found).max())


# 2048 + 1 is 2048 in half precision, seven times over; added up in float32, they make 2055, which is 2056 in half.
SUMS = {
    "linear": (LARGE_FIRST[None], lambda x: mb.linear(x=x, weight=ONES[None])),
    "linear of rank 1": (LARGE_FIRST, lambda x: mb.linear(x=x, weight=ONES[None])),
    "matmul": (LARGE_FIRST[None], lambda x: mb.matmul(x=x, y=ONES[:, None])),
    "matmul, transposed": (LARGE_FIRST[:, None], lambda x: mb.matmul(x=x, y=ONES[:, None], transpose_x=True)),
    "matmul of rank 1": (LARGE_FIRST, lambda x: mb.matmul(x=x, y=ONES[:, None])),
    "matmul of two types": (LARGE_FIRST[None], lambda x: mb.matmul(x=x, y=np.ones((8, 1), np.float32))),
    "einsum": (
        LARGE_FIRST.reshape(1, 1, 8),
        lambda x: mb.einsum(values=(x, ONES.reshape(8, 1, 1)), equation="chw,whr->chr"),
    ),
    "conv over channels": (
        LARGE_FIRST.reshape(1, 8, 1),
        lambda x: mb.conv(x=x, weight=ONES.reshape(1, 8, 1)),
    ),
    "conv over positions": (
        LARGE_FIRST.reshape(1, 1, 2, 4),
        lambda x: mb.conv(x=x, weight=ONES.reshape(1, 1, 2, 4)),
    ),
    "conv_transpose over channels": (
        LARGE_FIRST.reshape(1, 8, 1),
        lambda x: mb.conv_transpose(x=x, weight=ONES.reshape(8, 1, 1)),
    ),
    "conv_transpose over positions": (
        LARGE_FIRST[::-1].copy().reshape(1, 1, 8),
        lambda x: mb.conv_transpose(x=x, weight=ONES.reshape(1, 1, 8)),
    ),
    "avg_pool": (
        LARGE_FIRST.reshape(1, 1, 8),
        lambda x: mb.mul(x=mb.avg_pool(x=x, kernel_sizes=[8], pad_type="valid"), y=HALF(8)),
    ),
    "l2_pool": (
        np.array([64, *[1] * 7], HALF).reshape(1, 1, 8),
        lambda x: mb.mul(x=mb.l2_pool(x=x, kernel_sizes=[8], pad_type="valid"), y=HALF(32)),
    ),
}


@pytest.mark.parametrize("name", SUMS)
def test_float16_accumulation_rounds_at_every_step_and_float32_once(name: str) -> None:
    x, build = SUMS[name]
    assert total(build, x, "float16") == 2048
    assert total(build, x, "float32") > 2048


def test_scores_of_attention_are_rounded_at_every_step_too() -> None:
    """Two keys with the same numbers, the large one first or last: the same score, unless each sum is rounded."""
    keys = np.stack([LARGE_FIRST, LARGE_FIRST[::-1]])[None]
    values = np.array([[[0.0], [1.0]]], HALF)

    def build(x):
        return mb.scaled_dot_product_attention(query=x, key=keys, value=values)

    assert total(build, ONES.reshape(1, 1, 8), "float32") == 0.5
    assert total(build, ONES.reshape(1, 1, 8), "float16") > 0.75


@pytest.mark.parametrize("accumulation", ["float32", "float16"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [((4,), (2, 4, 3), (2, 3)), ((2, 3, 4), (4,), (2, 3)), ((4,), (4,), ()), ((5, 1, 3, 4), (4,), (5, 1, 3))],
)
def test_matmul_takes_one_axis_on_either_side(x, y, expected, dtype, accumulation) -> None:
    """coremltools states a wrong shape for the first of these and fails on the others: no program of its has them."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-8, 9, x).astype(float), rng.integers(-8, 9, y).astype(float)
    arguments = {"arithmetic": Arithmetic(accumulation), "outputs": ()}
    found = KERNELS["matmul"].function(
        torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype), **arguments
    )
    assert found.shape == expected
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.float().numpy(), np.matmul(a, b))


def test_transposing_one_axis_alone_changes_nothing() -> None:
    x = torch.tensor([1.0, 2.0])
    found = KERNELS["matmul"].function(x, x, True, True, arithmetic=Arithmetic(), outputs=())
    assert float(found) == 5


def test_a_product_of_whole_and_other_numbers_is_refused() -> None:
    x = np.ones((2, 3), np.int32)
    weight = np.full((4, 3), 0.5, np.float32)
    with pytest.raises(Exception, match=r"linear .*mixes int32 and float32, and no definition says"):
        mil.evaluate(lambda x: mb.linear(x=x, weight=weight), {"x": x}, "iOS17")
    with pytest.raises(Exception, match=r"matmul .*mixes int32 and float32, and no definition says"):
        mil.evaluate(lambda x: mb.matmul(x=x, y=weight.T), {"x": x}, "iOS17")


@pytest.mark.parametrize("equation", ["nchw,nwhu->ncuh", "chw,whr->crh", "ij,jk->ik"])
def test_other_equations_of_einsum_are_refused(equation: str) -> None:
    values = (torch.ones(2, 2, 2), torch.ones(2, 2, 2))
    with pytest.raises(ValueError, match="is none of the two"):
        KERNELS["einsum"].function(values, equation, arithmetic=Arithmetic())
