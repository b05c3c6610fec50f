"""What quantize and dequantize refuse, and what they do with what has no place among the integers."""

from __future__ import annotations

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.ops.quantisation import dequantize, quantize

X = torch.ones(2, 3)


def test_nan_becomes_zero() -> None:
    x = np.array([np.nan, 1.0], np.float32)
    (found,) = mil.evaluate(
        lambda x: mb.quantize(input=x, scale=np.float32(0.5), output_dtype="int8"), {"x": x}
    )
    np.testing.assert_array_equal(found, np.array([0, 2], np.int8))


def test_a_ratio_of_halves_is_rounded_twice_only_where_every_step_is() -> None:
    x, scale = torch.tensor([51.5]).half(), torch.tensor(0.6094).half()  # 84.5128, and 84.5 in half precision
    assert quantize(x, scale, "int8", Arithmetic("float32")).tolist() == [85]
    assert quantize(x, scale, "int8", Arithmetic("float16")).tolist() == [84]


def test_a_ratio_of_floats_is_not_narrowed() -> None:
    x = torch.tensor([0.500001, 0.499999, 1.4999])
    assert quantize(x, torch.tensor(1.0), "int8", Arithmetic("float32")).tolist() == [1, 0, 1]
    assert dequantize(torch.tensor([3], dtype=torch.int8), torch.tensor(0.1)).tolist() == [
        torch.tensor(0.3).item()
    ]


@pytest.mark.parametrize(
    ("scale", "axis", "message"),
    [
        (torch.ones(3), None, "needs an axis"),
        (torch.ones(3), 2, "axis 2 is none of an input of rank 2"),
        (torch.ones(3), -3, "axis -3 is none of an input of rank 2"),
        (torch.ones(3), 0, "one number for every channel, not .3. for 2 channels"),
        (torch.ones(1), 1, "one number for every channel, not .1. for 3 channels"),
        (torch.ones(1, 3), 1, "one number for every channel"),
    ],
)
def test_a_scale_that_fits_no_axis_is_refused(scale, axis, message) -> None:
    with pytest.raises(ValueError, match=message):
        quantize(X, scale, "int8", Arithmetic(), axis=axis)
    with pytest.raises(ValueError, match=message):
        dequantize(X.to(torch.int8), scale, axis=axis)
    with pytest.raises(ValueError, match=message):
        dequantize(X.to(torch.int8), torch.tensor(1.0), zero_point=scale.to(torch.int8), axis=axis)


def test_a_type_of_more_than_eight_bits_is_refused() -> None:
    with pytest.raises(ValueError, match='output_dtype "int16" is not one of int8, uint8'):
        quantize(X, torch.tensor(1.0), "int16", Arithmetic())
