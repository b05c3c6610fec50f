"""The example data and networks."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import modelbuild
from modelbuild import network
from modelbuild.errors import RecipeError
from modelbuild.recipes import signature
from modelbuild.zoo import digits, wine
from modelbuild.zoo.convnet import ConvNet

torch.set_num_threads(1)
COMMITTED = Path(modelbuild.__file__).parents[1] / "manifests" / "models" / "wine.onnx"


def test_digits_are_images_in_0_to_1_with_their_labels() -> None:
    loaded = digits.load("all")
    assert loaded["image"].shape == (1797, 1, 8, 8) and loaded["image"].dtype == np.float32
    assert (loaded["image"].min(), loaded["image"].max()) == (0, 1)
    assert loaded["label"].dtype == np.int64 and set(loaded["label"].tolist()) == set(range(10))


@pytest.mark.parametrize(("module", "share"), [(digits, 0.3), (wine, 0.4)])
def test_parts_are_disjoint_complete_and_stratified(module: object, share: float) -> None:
    load = getattr(module, "load")  # noqa: B009
    train, test, everything = (load(part) for part in ("train", "test", "all"))
    name = next(iter(everything))
    rows = [each.tobytes() for part in (train, test) for each in part[name]]
    assert sorted(rows) == sorted(each.tobytes() for each in everything[name])
    assert len(test["label"]) / len(everything["label"]) == pytest.approx(share, abs=0.01)
    shares = [np.bincount(part["label"]) / len(part["label"]) for part in (train, test)]
    assert np.allclose(shares[0], shares[1], atol=0.02)
    assert np.array_equal(load("test", seed=0)[name], test[name])
    assert not np.array_equal(load("test", seed=1)[name], test[name])


def test_unlabelled_digits_are_the_training_images_moved_by_one_pixel() -> None:
    train, moved = digits.load("train")["image"], digits.load("unlabelled")
    assert list(moved) == ["image"]
    up, down, left, right = np.split(moved["image"], 4)
    assert up.shape == train.shape
    assert np.array_equal(down[:, :, 1:], train[:, :, :-1]) and not down[:, :, 0].any()
    assert np.array_equal(up[:, :, :-1], train[:, :, 1:]) and not up[:, :, -1].any()
    assert np.array_equal(right[..., 1:], train[..., :-1]) and np.array_equal(left[..., :-1], train[..., 1:])


@pytest.mark.parametrize("module", [digits, wine])
def test_another_part_is_refused(module: object) -> None:
    with pytest.raises(RecipeError, match='part "tset" is not one of'):
        getattr(module, "load")("tset")  # noqa: B009


@pytest.mark.parametrize("module", [digits, wine])
def test_without_scikit_learn_the_remedy_is_named(module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(RecipeError, match="pip install"):
        getattr(module, "load")("test")  # noqa: B009


def test_the_width_scales_the_network() -> None:
    sizes = [network.parameters(ConvNet(width)) for width in (4, 8, 32)]
    assert sizes == [1270, 4258, 58474]
    assert list(network.run(ConvNet(2, classes=5), [torch.zeros(3, 1, 8, 8)])) == ["logits"]
    assert ConvNet(2, classes=5)(torch.zeros(3, 1, 8, 8)).shape == (3, 5)


def test_the_wine_model_is_small_and_knows_its_wines() -> None:
    assert COMMITTED.stat().st_size < 4096
    session = onnxruntime.InferenceSession(COMMITTED, providers=["CPUExecutionProvider"])
    wines = wine.load("test")
    (logits,) = session.run(["logits"], {"features": wines["features"]})
    assert (logits.argmax(1) == wines["label"]).mean() >= 0.95


def test_the_wine_model_can_be_made_again(tmp_path: Path) -> None:
    """Byte for byte by the same processor and torch; elsewhere to what rounding leaves of the same training."""
    wine.main(tmp_path / "first.onnx")
    wine.main(tmp_path / "second.onnx")
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
    made, committed = onnx.load(tmp_path / "first.onnx"), onnx.load(COMMITTED)
    assert signature.describe(made) == signature.describe(committed)
    features = wine.load("test")["features"]
    logits = [
        onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"features": features})[0]
        for model in (made, committed)
    ]
    assert (logits[0].argmax(1) == logits[1].argmax(1)).mean() >= 0.98
