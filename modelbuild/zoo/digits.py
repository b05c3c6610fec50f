"""The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelbuild.errors import RecipeError, did_you_mean

TEST_SHARE = 0.3
BRIGHTEST = 16
PARTS = ("train", "test", "all", "unlabelled")


def load(part: str = "all", seed: int = 0) -> dict[str, NDArray[Any]]:
    """The digits of one part as "image" [n, 1, 8, 8] float32 in 0..1 and "label" [n] int64.

    `seed` fixes the split into 70 % "train" and 30 % "test", each class in equal proportion. "unlabelled" is
    the training images moved by one pixel up, down, left and right, without labels.
    Raises RecipeError for another part, or when scikit-learn is not installed.
    """
    if part not in PARTS:
        fact = f'part "{part}" is not one of {", ".join(PARTS)}'
        raise RecipeError("modelbuild.zoo.digits:load", fact, did_you_mean(part, list(PARTS)))
    images, labels = _all()
    rows = _rows(part, labels, seed)
    if part == "unlabelled":
        return {"image": _moved(images[rows])}
    return {"image": images[rows], "label": labels[rows]}


def _all() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        remedy = "Run: pip install 'modelbuild[digits]'"
        raise RecipeError("modelbuild.zoo.digits:load", "scikit-learn is not installed", remedy) from error
    found = load_digits()
    return (found.images[:, None] / BRIGHTEST).astype(np.float32), found.target.astype(np.int64)


def _rows(part: str, labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    if part == "all":
        return rows
    train, test = train_test_split(rows, test_size=TEST_SHARE, random_state=seed, stratify=labels)
    return np.sort(test if part == "test" else train)


def _moved(images: NDArray[np.float32]) -> NDArray[np.float32]:
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = ((2, 1), (0, 1), (1, 2), (1, 0))
    return np.concatenate([padded[:, :, top : top + 8, left : left + 8] for top, left in corners])
