"""The augmentations that come along."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelbuild import augment, callables, dataset
from modelbuild.declare import AUGMENTATIONS
from modelbuild.errors import RecipeError
from modelbuild.recipes import data

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def images(n: int = 50, size: int = 5, channels: int = 2) -> Array:
    """No pixel is 0: zeros are what came in."""
    return rng(9).uniform(0.5, 1, (n, channels, size, size)).astype(np.float32)


def arrays() -> Arrays:
    n = 8
    return {
        "image": images(n),
        "sound": rng(1).normal(size=(n, 7, 4)).astype(np.float32),
        "ids": np.arange(n * 3).reshape(n, 3),
        "label": np.arange(n),
        "label.real": np.linspace(0, 1, n),
    }


SETTINGS: dict[str, dict[str, Any]] = {"mask": {"time": 3}}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_one_that_a_manifest_may_name_is_deterministic_and_keeps_the_inputs(name: str) -> None:
    function = callables.resolve(AUGMENTATIONS[name])
    given = arrays()
    if name == "mixup":
        del given["ids"]
    kept = {key: array.copy() for key, array in given.items()}
    first, again, other = (function(given, rng(seed), **SETTINGS.get(name, {})) for seed in (3, 3, 4))
    inputs = [key for key in given if not dataset.is_truth(key)]
    for key in inputs:
        assert (first[key].dtype, first[key].shape) == (given[key].dtype, given[key].shape)
        assert np.array_equal(first[key], again[key])
    assert any(not np.array_equal(first[key], other[key]) for key in inputs)
    assert any(not np.array_equal(first[key], given[key]) for key in inputs)
    assert all(np.array_equal(given[key], kept[key]) for key in given)  # not changed in place
    if name != "mixup":
        assert np.array_equal(first["ids"], given["ids"]) and np.array_equal(first["label"], given["label"])
        assert np.array_equal(first["label.real"], given["label.real"])


def test_shift_moves_whole_images_by_whole_pixels_in_every_direction() -> None:
    given = images(200)
    moved = augment.shift({"image": given}, rng(), pixels=1)["image"]
    padded = np.pad(given, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = [(r, c) for r in range(3) for c in range(3)]
    found = []
    for before, after in zip(padded, moved, strict=True):
        matching = [(r, c) for r, c in places if np.array_equal(before[:, r : r + 5, c : c + 5], after)]
        assert len(matching) == 1
        found += matching
    assert set(found) == set(places)


def test_shift_moves_two_images_of_a_sample_alike() -> None:
    given = images(100)
    moved = augment.shift({"a": given, "b": given * 2}, rng(), pixels=2)
    assert np.array_equal(moved["a"] * 2, moved["b"]) and not np.array_equal(moved["a"], given)


def test_noise_has_the_standard_deviation_asked_for() -> None:
    given = np.full((4000, 3), 2, np.float32)
    added = augment.noise({"x": given}, rng(), sd=0.5)["x"] - 2
    assert added.std() == pytest.approx(0.5, rel=0.05) and added.mean() == pytest.approx(0, abs=0.05)
    assert len(np.unique(added)) > 11000  # every number its own


def test_scale_is_one_factor_a_sample_in_the_range() -> None:
    given = images(500)
    factors = augment.scale({"image": given, "y": given}, rng(), low=0.5, high=1.5)
    ratio = (factors["image"] / given).reshape(500, -1)
    assert np.ptp(ratio, axis=1).max() < 1e-6
    assert 0.5 <= ratio.min() < 0.55 and 1.45 < ratio.max() <= 1.5
    assert np.array_equal(factors["image"], factors["y"])


@pytest.mark.parametrize("time_axis", [1, 2])
def test_mask_clears_one_stretch_of_time_and_one_of_features(time_axis: int) -> None:
    given = np.ones((300, 9, 6) if time_axis == 1 else (300, 6, 9), np.float32)
    masked = augment.mask({"sound": given}, rng(), time=4, features=2, time_axis=time_axis)["sound"]
    masked = masked if time_axis == 1 else masked.swapaxes(1, 2)
    lengths: dict[str, set[int]] = {"time": set(), "features": set()}
    alone: dict[str, set[int]] = {"time": set(), "features": set()}
    for sample in masked:
        for name, gone in (("time", ~sample.any(1)), ("features", ~sample.any(0))):
            where = np.flatnonzero(gone)
            assert len(where) == 0 or np.ptp(where) == len(where) - 1
            lengths[name].add(len(where))
            alone[name] |= {*where.tolist()} if len(where) == 1 else set()
        assert sample.sum() == (~(~sample.any(1))).sum() * (~(~sample.any(0))).sum()
    assert lengths == {"time": {0, 1, 2, 3, 4}, "features": {0, 1, 2}}
    assert alone == {"time": {*range(9)}, "features": {*range(6)}}  # every place is reached, the ends too


def test_mask_of_one_axis_leaves_the_other_alone() -> None:
    given = {"sound": np.ones((50, 9, 6), np.float32)}
    time, features = (
        augment.mask(given, rng(), time=3)["sound"],
        augment.mask(given, rng(), features=3)["sound"],
    )
    assert np.ptp(time, axis=2).max() == 0 == np.ptp(features, axis=1).max()
    assert not time.all() and not features.all()


def test_mixup_is_a_mean_of_two_samples_and_drops_the_labels() -> None:
    n = 400
    given = {
        "x": np.eye(n, dtype=np.float32),
        "y": np.arange(n, dtype=np.float32),
        "label": np.arange(n),
        "label.a": np.ones(n),
    }
    mixed = augment.mixup(given, rng(), alpha=1.0)
    assert list(mixed) == ["x", "y"]
    weights = np.diag(mixed["x"])
    assert np.allclose(mixed["x"].sum(1), 1) and ((mixed["x"] > 0).sum(1) <= 2).all()
    assert 0 < weights.min() < 0.1 and np.histogram(weights, 4, (0, 1))[0].min() > 60  # Beta(1, 1) is uniform
    # Both inputs of a sample are mixed with those of the same other one, by the same weight.
    assert np.allclose(mixed["x"] @ np.arange(n), mixed["y"], atol=1e-3)


def test_mixup_with_a_small_alpha_mostly_keeps_one_of_the_two() -> None:
    mixed = augment.mixup({"x": np.eye(400, dtype=np.float32)}, rng(), alpha=0.1)["x"]
    assert (mixed.max(1) > 0.9).mean() > 0.7


def test_inputs_by_name_are_changed_alone() -> None:
    given = {"a": images(), "b": images()}
    moved = augment.shift(given, rng(), inputs=["b"])
    assert np.array_equal(moved["a"], given["a"]) and not np.array_equal(moved["b"], given["b"])


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("shift", {"pixels": 0}, 'shift: "pixels" is 0. It must be between 1 and 4.'),
        ("shift", {"pixels": 5}, '"pixels" is 5'),
        ("noise", {"sd": 0}, '"sd" is 0. It must be above 0.'),
        ("scale", {"low": 1.2}, '"low" is 1.2. It must be below high, 1.2.'),
        ("mask", {}, '"time" is 0. It must be 0 or more, nor both of them 0.'),
        ("mask", {"time": -1, "features": 2}, '"time" is -1'),
        ("mask", {"features": -1, "time": 2}, "must be 0 or more"),
        ("mask", {"time": 8}, '"time" is 8. It must be at most 7.'),
        ("mask", {"features": 5}, '"features" is 5. It must be at most 4.'),
        ("mask", {"time": 5, "time_axis": 2}, '"time" is 5. It must be at most 4.'),
        ("mask", {"time": 1, "time_axis": 0}, '"time_axis" is 0. It must be 1 or 2.'),
        ("mixup", {"alpha": 0}, '"alpha" is 0'),
        ("mixup", {}, 'input "ids" is int64: there is no mean of two of its values'),
        ("shift", {"inputs": ["imag"]}, 'there is no input "imag". Did you mean "image"?'),
        ("shift", {"inputs": ["sound"]}, '"sound" is float32 [8, 7, 4], not images [n, c, h, w]'),
        ("noise", {"inputs": ["ids"]}, '"ids" is int64 [8, 3], not real numbers'),
        ("noise", {"inputs": ["label.real"]}, '"label.real" is float64 [8], not real numbers'),
    ],
)
def test_what_cannot_be_done_is_said(name: str, args: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        callables.resolve(AUGMENTATIONS[name])(arrays(), rng(), **args)
    assert words in str(caught.value)


def test_data_without_a_fitting_input_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'there are no images \[n, c, h, w\] among "ids" int64 \[8, 3\]'):
        augment.shift({"ids": arrays()["ids"]}, rng())


def test_the_recipe_takes_them(tmp_path: Any) -> None:
    dataset.write(tmp_path, data.checked(arrays(), "here"))
    params = {"by": AUGMENTATIONS["shift"], "args": {"pixels": 2}, "copies": 2, "seed": 1}
    data.augment({"data": tmp_path}, params, tmp_path)
    assert dataset.read(tmp_path).samples == 16
