"""What convolutions and pooling refuse, and that they keep no memory of one size in the next."""

from __future__ import annotations

import mil
import numpy as np
import pytest
import torch
from mil import mb

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.arithmetic import Arithmetic
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.ops import KERNELS

X, W = torch.ones(1, 1, 4), torch.ones(1, 1, 3)


@pytest.mark.parametrize("name", ["conv", "conv_transpose"])
def test_an_unknown_pad_type_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match='pad_type "full" is'):
        KERNELS[name].function(X, W, pad_type="full", arithmetic=Arithmetic())


def test_a_transposed_convolution_has_no_same_lower() -> None:
    with pytest.raises(ValueError, match="not one that a transposed convolution has"):
        KERNELS["conv_transpose"].function(X, W, pad_type="same_lower", arithmetic=Arithmetic())


@pytest.mark.parametrize(
    ("settings", "fact"),
    [({"quantization_type": "lut"}, '"lut" has no definition'), ({"nbits": 3}, "do not fit in 3 bits")],
)
def test_quantized_weights_without_a_definition_are_refused(settings: dict, fact: str) -> None:
    given = {
        "quantization_type": "linear",
        "quant_scale": np.float32(1),
        "quant_bias": np.float32(0),
        **settings,
    }

    def build(x):
        return mb.conv_quantized(x=x, weight=np.full((1, 1, 2), 8, np.uint8), **given)

    with pytest.raises(RecipeError, match=f"conv_quantized .*{fact}"):
        mil.evaluate(build, {"x": np.ones((1, 1, 4), np.float32)}, "iOS15")


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "l2_pool"])
@pytest.mark.parametrize(
    "settings",
    [
        {"kernel_sizes": [2], "pad_type": "custom", "pad": [2, 0]},
        {"kernel_sizes": [2], "pad_type": "custom", "pad": [0, 2]},
        {"kernel_sizes": [1], "strides": [3], "pad_type": "valid", "ceil_mode": True},
    ],
)
def test_a_window_that_meets_no_value_is_refused(kind: str, settings: dict) -> None:
    with pytest.raises(RecipeError, match=f"{kind} .*lies in the padding altogether"):
        mil.evaluate(lambda x: getattr(mb, kind)(x=x, **settings), {"x": np.ones((1, 1, 3), np.float32)})


def test_each_size_of_an_open_axis_gets_its_own_padding(tmp_path) -> None:
    """ "same" pads by the size, which may differ from call to call."""

    def build(x):
        arguments = {"strides": [2], "pad_type": "same"}
        return (
            mb.conv(x=x, weight=np.ones((1, 1, 3), np.float32), **arguments),
            mb.avg_pool(x=x, kernel_sizes=[3], **arguments),
            mb.resize_bilinear(
                x=x, target_size_height=1, target_size_width=2, sampling_mode="OFFSET_CORNERS"
            ),
        )

    evaluator = Evaluator(
        mil.package(build, {"x": np.zeros((1, 1, 4), np.float32)}, tmp_path, open_axes={"x": (2,)})
    )
    names = evaluator.function.body.outputs
    for values, sums, points in [
        ([1, 2, 3, 4], [6, 7], [1.75, 3.25]),
        ([1, 2, 3, 4, 5], [3, 9, 9], [2, 4]),
        ([1, 2, 3, 4], [6, 7], [1.75, 3.25]),
    ]:
        found = evaluator({"x": np.array([[values]], np.float32)})
        np.testing.assert_array_equal(found[names[0]], [[sums]])
        np.testing.assert_allclose(found[names[1]], np.array([[sums]]) / 3, rtol=1e-6)
        np.testing.assert_allclose(found[names[2]], [[points]])
