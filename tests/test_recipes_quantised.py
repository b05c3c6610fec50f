"""Weights in 8 bits: as coremltools stores them, in the right direction, and held to by a package that has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coremltools.optimize import _utils as compression
from nets import NETS, params, targets
from torch import Tensor, nn
from torch.nn import functional

from modelbuild.equivalence import noise
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.metrics import METRICS, sums
from modelbuild.equivalence.noise import FP64, NUDGED
from modelbuild.equivalence.tolerance import Tolerance, tolerance
from modelbuild.recipes import inference, quantised, rounded
from modelbuild.recipes.quantised import Weights
from modelbuild.runtimes.coreml import RUNTIME

torch.set_num_threads(1)
RNG = np.random.default_rng(0)


def values(*shape: int) -> Any:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_eight_bits_keep_what_coremltools_keeps(dtype: Any, symmetric: bool, axis: int) -> None:
    weight = (values(6, 5, 3) + np.arange(-2, 4)[:, None, None]).astype(
        dtype
    )  # some of one sign, some of both
    blocks = [int(each == axis) for each in range(3)]
    mode = "LINEAR_SYMMETRIC" if symmetric else "LINEAR"
    data, scale, zero = compression.compute_qparams(weight, 8, True, mode, np.int8, blocks)
    expected = compression.dequantize_by_scale_and_zp(data, scale, zero)
    found = quantised.through(torch.tensor(weight), axis, symmetric)
    assert found.dtype == torch.tensor(weight).dtype
    np.testing.assert_array_equal(found.numpy(), expected)
    assert 0 < np.abs(found.numpy() - weight).max() <= 0.55 * scale.max()


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_channel_of_zeros_stays(symmetric: bool) -> None:
    weight = torch.tensor([[0.0, 0.0], [1.0, -0.25]])
    found = quantised.through(weight, 0, symmetric)
    assert found[0].tolist() == [0, 0] and found.isfinite().all()


class Kinds(nn.Module):
    """A weight of every kind that is read in a direction of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, padding=1)
        self.up = nn.ConvTranspose1d(6, 4, 3, padding=1)
        self.linear = nn.Linear(8, 7)
        self.product = nn.Parameter(torch.tensor(values(7, 9)))
        self.table = nn.Embedding(5, 9)
        self.vector = nn.Parameter(torch.tensor(values(45)))
        self.register_buffer("fixed", torch.tensor(values(9, 3)))
        self.register_buffer("counts", torch.arange(40).reshape(8, 5))

    def forward(self, x: Tensor, ids: Tensor) -> Tensor:
        y = self.linear(self.up(functional.relu(self.conv(x)))) @ self.product
        result: Tensor = (y + self.table(ids)[:, None]) @ self.get_buffer("fixed")
        return result


def kinds() -> tuple[nn.Module, dict[str, Any]]:
    return Kinds().eval(), {"x": values(3, 4, 8), "ids": np.array([0, 3, 4])}


def test_scales_run_along_the_output_channels_and_small_weights_are_left_alone() -> None:
    module, data = kinds()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    quantised.quantise(module, data, Weights(True, 26), torch.float32)
    along = {
        "conv.weight": 0,
        "up.weight": 1,
        "linear.weight": 0,
        "product": 1,
        "table.weight": 0,
        "fixed": 1,
    }
    for name, value in module.state_dict().items():
        kept = name not in along
        expected = before[name] if kept else quantised.through(before[name], along[name], True)
        assert torch.equal(value, expected), name
        assert torch.equal(value, before[name]) is kept, name


def test_weights_of_no_more_numbers_than_the_threshold_are_left_alone() -> None:
    module, data = kinds()
    before = module.get_buffer("fixed").clone()
    for threshold, kept in ((before.numel(), True), (before.numel() - 1, False)):
        quantised.quantise(module, data, Weights(True, threshold), torch.float32)
        assert torch.equal(module.get_buffer("fixed"), before) is kept


@pytest.mark.parametrize(
    ("name", "weights", "computed"),
    [
        ("int8-symmetric-2048-float16", Weights(True, 2048), "float16"),
        ("int8-affine-1-float16-sums", Weights(False, 1), "float16-sums"),
        ("int8-affine-1-float32", Weights(False, 1), "float32"),
        ("float16-sums", None, "float16-sums"),
        ("uncompressed-float16", None, "float16"),
        ("uncompressed-float32", None, "float32"),
    ],
)
def test_an_arithmetic_says_what_is_stored_and_what_is_computed(
    name: str, weights: Weights | None, computed: str
) -> None:
    assert quantised.split(name) == (weights, computed)
    assert rounded.known(name)


@pytest.mark.parametrize(
    "name", ["float32", "int4-symmetric-1-float16", "int8-symmetric-float16", "uncompressed-", "bfloat16"]
)
def test_others_are_unknown(name: str) -> None:
    assert not rounded.known(name)


def test_each_arithmetic_is_what_it_says() -> None:
    module, data = kinds()
    plain = inference.outputs(module, data)["output"]
    state = {name: value.clone() for name, value in module.state_dict().items()}

    def given(arithmetic: str) -> Any:
        module.load_state_dict(state)
        return rounded.rounded(module, data, arithmetic)["output"]

    np.testing.assert_array_equal(given("uncompressed-float32"), plain)
    np.testing.assert_array_equal(given("uncompressed-float16"), given("float16"))
    bits = given("int8-symmetric-26-float32")
    module.load_state_dict(state)
    quantised.quantise(module, data, Weights(True, 26), torch.float32)
    np.testing.assert_array_equal(bits, inference.outputs(module, data)["output"])
    for computed in ("float16", "float16-sums"):
        found = given(f"int8-symmetric-26-{computed}")
        for dtype, same in (
            (torch.float16, True),
            (torch.float32, False),
        ):  # the file holds scales in float16
            module.load_state_dict(state)
            quantised.quantise(module, data, Weights(True, 26), dtype)
            assert np.array_equal(found, rounded.rounded(module, data, computed)["output"]) is same
        assert not np.array_equal(found, given(computed))


# -- the names that Core ML gives to its runs


LINEAR = {"kind": "linear", "symmetric": True, "min_elements": 100}
AFFINE = {**LINEAR, "symmetric": False}
PALETTE = {"kind": "palette", "bits": 4, "mode": "kmeans", "min_elements": 100}


def rounds(precision: str, compression: list[Mapping[str, Any]], **options: Any) -> list[str | None]:
    told = {"precision": precision, "compression": compression, "deployment_target": "iOS18", **options}
    return [way.rounds for way in RUNTIME.runs(told).values()]


def test_a_compressed_package_is_held_to_what_its_weights_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    assert rounds("float32", []) == [None]
    assert rounds("float32", [LINEAR]) == ["int8-symmetric-100-float32"]
    assert rounds("float16", [AFFINE]) == ["int8-affine-100-float16", "int8-affine-100-float16-sums"]
    assert rounds("float32", [PALETTE]) == ["uncompressed-float32"]
    assert rounds("float16", [PALETTE, LINEAR]) == ["uncompressed-float16", "uncompressed-float16-sums"]
    monkeypatch.setattr("sys.platform", "darwin")
    assert rounds("float16", [LINEAR]) == ["int8-symmetric-100-float16-sums"]
    assert all(
        rounded.known(each) for each in [*rounds("float32", [LINEAR]), *rounds("float32", [PALETTE])] if each
    )


# -- a real package


Shares = dict[tuple[str | None, str], float]


def limits(name: str, inputs: Mapping[str, Any], rounds: str) -> dict[str, Tolerance]:
    module = NETS[name].module()
    truth = inference.outputs(module, inputs)
    low = rounded.rounded(NETS[name].module(), inputs, rounds)
    double = {n: a.astype(np.float64) if a.dtype == np.float32 else a for n, a in inputs.items()}
    wide = inference.outputs(module.double(), double)
    known = noise.measure(truth, {FP64: wide, NUDGED: truth}, {rounds: low})
    return {each: tolerance(each, known.of(each), RuntimeDemand(), rounds) for each in truth}


def measured(root: Path, name: str, inputs: Mapping[str, Any], options: Mapping[str, Any]) -> Shares:
    """By way of running and output, each metric of the real package in its limit."""
    net = NETS[name]
    given, module = targets(root, net.module(), inputs), net.module()
    (root / "package").mkdir()
    RUNTIME.convert(given, root / "package", {**params(), "options": dict(options)})
    truth, found = inference.outputs(module, inputs), Shares()
    for way in RUNTIME.runs(options).values():
        ran = RUNTIME.run(root / "package", inputs, {"options": way.options}).outputs
        for output, held in limits(name, inputs, str(way.rounds)).items():
            s = sums(truth[output], ran[output])
            found[way.rounds, output] = max(METRICS[m](s) / limit for m, limit in held.limits.items())
    return found


@pytest.mark.parametrize("name", ["convnet", "plain1d", "encoder"])
@pytest.mark.parametrize("step", [LINEAR, AFFINE], ids=["symmetric", "affine"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_compressed_package_holds_under_auto(
    tmp_path: Path, name: str, step: Mapping[str, Any], precision: str
) -> None:
    inputs = NETS[name].inputs(6)
    found = measured(tmp_path, name, inputs, {"precision": precision, "compression": [step]})
    assert all(re.match(r"int8-", str(rounds)) for rounds, _ in found)
    assert all(0.3 < share <= 1 for share in found.values()), (
        found
    )  # and the limit is not far from what there is


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_wrong_scale_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str) -> None:
    """The package is the real one, but for scales that are too large by a twentieth."""
    honest = compression.quantize_weight_by_dtype

    def wrong(*args: Any) -> Any:
        data, scale, zero = honest(*args)
        return data, (scale * 1.05).astype(scale.dtype), zero

    monkeypatch.setattr(compression, "quantize_weight_by_dtype", wrong)
    inputs = NETS["convnet"].inputs(6)
    found = measured(tmp_path, "convnet", inputs, {"precision": precision, "compression": [LINEAR]})
    assert all(share > 1 for share in found.values()), found


def test_a_palette_is_allowed_nothing(tmp_path: Path) -> None:
    inputs = NETS["convnet"].inputs(6)
    found = measured(tmp_path, "convnet", inputs, {"precision": "float16", "compression": [PALETTE]})
    assert all(share > 1 for share in found.values()), found
    held = limits("convnet", inputs, "uncompressed-float16")["logits"]
    assert "nothing is allowed for the compressed weights, say a tolerance" in held.source
