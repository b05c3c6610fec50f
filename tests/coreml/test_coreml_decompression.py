"""Packages that coremltools itself compressed, and compressed weights that are not what they should be."""

from __future__ import annotations

import warnings
from functools import cache

import mil
import numpy as np
import pytest
import torch

from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.ops.decompression import (
    constexpr_affine_dequantize,
    constexpr_blockwise_shift_scale,
    constexpr_cast,
    constexpr_lut_to_dense,
    constexpr_lut_to_sparse,
    constexpr_sparse_blockwise_shift_scale,
    constexpr_sparse_to_dense,
)
from modelbuild.runtimes.coreml.evaluator.program import operations

ct = mil.ct
X = np.random.default_rng(7).standard_normal((1, 4, 4, 4))
LINEAR, TABLE, SPARSE = "linear_quantize_weights", "palettize_weights", "prune_weights"
CONFIGS = {LINEAR: "OpLinearQuantizerConfig", TABLE: "OpPalettizerConfig", SPARSE: "OpMagnitudePrunerConfig"}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(4, 16, 3, padding=1)
        self.inner, self.outer = torch.nn.Linear(64, 32), torch.nn.Linear(32, 8)

    def forward(self, x):
        x = torch.relu(self.conv(x)).mean(-1).flatten(1)
        return self.outer(torch.tanh(self.inner(x)))


@cache
def converted(target, precision):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = Net().eval()
        return ct.convert(
            torch.jit.trace(net, torch.zeros(X.shape)),
            inputs=[ct.TensorType("x", shape=X.shape)],
            minimum_deployment_target=getattr(ct.target, target),
            compute_precision=ct.precision(precision),
            skip_model_load=True,
        )


def compressed(model, *steps):
    """`model` after each of `steps`, a function of coremltools.optimize and its options."""
    from coremltools.optimize import coreml as optimize

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, (function, options) in enumerate(steps):
            config = getattr(optimize, CONFIGS[function])(weight_threshold=0, **options)
            joint = {"joint_compression": True} if number else {}
            model = getattr(optimize, function)(
                model, optimize.OptimizationConfig(global_config=config), **joint
            )
        return model, optimize.decompress_weights(model)


def evaluated(model, path):
    """The result for `X`, and which operations decompress the weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.save(str(path))
    evaluator = Evaluator(mlpackage.read(path))
    (port,) = evaluator.function.inputs
    (result,) = evaluator({"x": X.astype(port.type.dtype)}).values()
    names = {each.type for each in operations(evaluator.function.body)}
    return result, {name for name in names if name.startswith("constexpr_")}


def quantise(**more):
    return LINEAR, {"mode": "linear", **more}


def palettise(bits, **more):
    return TABLE, {"mode": "uniform", "nbits": bits, **more}


PRUNE = (SPARSE, {"target_sparsity": 0.5})
AFFINE, SHIFT = "constexpr_affine_dequantize", "constexpr_blockwise_shift_scale"
LUT, ZEROS = "constexpr_lut_to_dense", "constexpr_sparse_to_dense"
RECIPES = [
    *[
        (target, *recipe)
        for target in ("iOS16", "iOS18")
        for recipe in (
            ({AFFINE} if target == "iOS16" else {SHIFT}, quantise()),
            ({AFFINE} if target == "iOS16" else {SHIFT}, quantise(mode="linear_symmetric", dtype="uint8")),
            ({LUT}, palettise(1)),
            ({LUT}, palettise(4)),
            ({LUT}, palettise(6)),
            ({LUT}, palettise(8)),
            ({ZEROS}, PRUNE),
        )
    ],
    ("iOS18", {SHIFT}, quantise(dtype="int4")),
    ("iOS18", {SHIFT}, quantise(dtype="uint4", granularity="per_block", block_size=4)),
    ("iOS18", {SHIFT}, quantise(granularity="per_tensor")),
    ("iOS18", {LUT}, palettise(3)),
    ("iOS18", {LUT}, palettise(4, granularity="per_grouped_channel", group_size=4)),
    ("iOS18", {LUT}, palettise(2, mode="kmeans", cluster_dim=4)),
    ("iOS18", {LUT, SHIFT}, palettise(4, enable_per_channel_scale=True)),
    ("iOS18", {ZEROS, "constexpr_sparse_blockwise_shift_scale"}, PRUNE, quantise(mode="linear_symmetric")),
    ("iOS18", {ZEROS, "constexpr_lut_to_sparse"}, PRUNE, palettise(4)),
    ("iOS18", {LUT, SHIFT}, palettise(4), quantise(granularity="per_tensor")),
]


def title(recipe) -> str:
    steps = (
        f"{function.split('_')[0]}-{'-'.join(map(str, options.values()))}" for function, options in recipe[2:]
    )
    return "-".join((recipe[0], *steps))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("recipe", RECIPES, ids=title)
def test_a_compressed_package_is_what_coremltools_decompresses_it_to(recipe, precision, tmp_path) -> None:
    target, used, *steps = recipe
    small, whole = compressed(converted(target, precision), *steps)
    found, names = evaluated(small, tmp_path / "small.mlpackage")
    wanted, none = evaluated(whole, tmp_path / "whole.mlpackage")
    assert names == used and not none
    np.testing.assert_array_equal(found, wanted)
    original = Net().eval()(torch.tensor(X, dtype=torch.float32)).detach().numpy()
    assert np.abs(found - original).max() > 1e-4  # the weights are not simply the original ones


# -- what is refused

BYTE = torch.uint8


def test_packed_numbers_must_fill_their_bytes() -> None:
    lut, shape = torch.arange(4.0), (5,)
    whole = torch.tensor([0b01101100, 0b11], dtype=BYTE)
    assert constexpr_lut_to_dense(whole, lut, shape).tolist() == [0, 3, 2, 1, 3]
    for data in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match=f"{len(data)} bytes for 5 numbers of 2 bits"):
            constexpr_lut_to_dense(torch.tensor(data, dtype=BYTE), lut, shape)
    with pytest.raises(ValueError, match="2 bytes for 5 numbers of 1 bits"):
        constexpr_sparse_to_dense(lut, torch.tensor([15, 0], dtype=BYTE), shape)


@pytest.mark.parametrize("entries", [1, 3, 8, 32, 128, 512])
def test_a_packed_table_has_a_size_that_bits_can_tell(entries) -> None:
    with pytest.raises(ValueError, match=f"a table of {entries} entries"):
        constexpr_lut_to_dense(torch.zeros(1, dtype=BYTE), torch.zeros(entries), (1,))


def test_a_table_must_fit_its_indices() -> None:
    indices = torch.tensor([[0, 3]], dtype=BYTE)
    with pytest.raises(ValueError, match="a table of rank 3 for indices of rank 2"):
        constexpr_lut_to_dense(indices, torch.zeros(1, 4, 1))
    with pytest.raises(ValueError, match="a table of vectors needs a vector_axis"):
        constexpr_lut_to_dense(indices, torch.zeros(1, 1, 4, 2))
    with pytest.raises(ValueError, match="index 3 is outside a table of 2 entries"):
        constexpr_lut_to_dense(indices, torch.zeros(1, 1, 2, 1))
    with pytest.raises(ValueError, match="axis 1 of length 2 is not whole blocks, 3 of them"):
        constexpr_lut_to_dense(indices, torch.zeros(1, 3, 4, 1))
    with pytest.raises(ValueError, match="a table of vectors needs a vector_axis"):
        constexpr_lut_to_sparse(indices != 3, torch.zeros(1, dtype=BYTE), torch.zeros(1, 1, 4, 2))


def test_as_many_values_as_a_mask_lets_through() -> None:
    mask = torch.tensor([[1, 0], [1, 1]], dtype=BYTE)
    for values in (torch.ones(2), torch.ones(4), torch.ones(1, 3)):
        with pytest.raises(ValueError, match="values for a mask with 3 places"):
            constexpr_sparse_to_dense(values, mask)
        with pytest.raises(ValueError, match="values for a mask with 3 places"):
            constexpr_sparse_blockwise_shift_scale(mask, values, torch.ones(1, 1))


def test_blocks_must_divide_the_data() -> None:
    data = torch.ones(4, 6)
    not_whole = "axis 0 of length 4 is not whole blocks"
    for scale, message in ((torch.ones(3, 1), not_whole), (torch.ones(6), "blocks of rank 1")):
        with pytest.raises(ValueError, match=message):
            constexpr_blockwise_shift_scale(data, scale)
        with pytest.raises(ValueError, match=message):
            constexpr_blockwise_shift_scale(data, torch.ones(1, 1), scale)


def test_one_scale_for_every_channel() -> None:
    data = torch.ones(2, 3, dtype=BYTE)
    for scale, zero_point in ((torch.ones(2), torch.tensor(0.0)), (torch.tensor(1.0), torch.zeros(2))):
        with pytest.raises(ValueError, match="one number for every channel"):
            constexpr_affine_dequantize(data, zero_point, scale, 1)


def test_a_cast_to_anything_but_single_precision_is_refused() -> None:
    with pytest.raises(ValueError, match='output_dtype "fp16" is not fp32'):
        constexpr_cast(torch.ones(1).half(), "fp16")
