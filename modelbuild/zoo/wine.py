"""The 178 wines of scikit-learn and a tiny network; `python -m modelbuild.zoo.wine OUT.onnx` trains it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn, tensor

from modelbuild.errors import RecipeError, did_you_mean

PARTS = ("train", "test", "all")
TEST_SHARE = 0.4
HIDDEN, CLASSES, STEPS = 16, 3, 300


def load(part: str = "test", seed: int = 0) -> dict[str, NDArray[Any]]:
    """The wines of one part as "features" [n, 13] float32 in their own units and "label" [n] int64.

    `seed` fixes the split into 60 % "train" and 40 % "test", each class in equal proportion.
    Raises RecipeError for another part, or when scikit-learn is not installed.
    """
    if part not in PARTS:
        fact = f'part "{part}" is not one of {", ".join(PARTS)}'
        raise RecipeError("modelbuild.zoo.wine:load", fact, did_you_mean(part, list(PARTS)))
    try:
        from sklearn.datasets import load_wine
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        remedy = "Run: pip install 'modelbuild[digits]'"
        raise RecipeError("modelbuild.zoo.wine:load", "scikit-learn is not installed", remedy) from error
    found = load_wine()
    rows = np.arange(len(found.target))
    train, test = train_test_split(rows, test_size=TEST_SHARE, random_state=seed, stratify=found.target)
    chosen = np.sort({"train": train, "test": test, "all": rows}[part])
    return {"features": found.data[chosen].astype(np.float32), "label": found.target[chosen].astype(np.int64)}


class WineNet(nn.Module):
    """Standardisation, one hidden layer, three classes; input [n, 13] float32, output "logits" [n, 3].

    `mean` and `deviation` have shape [13]: the standardisation is part of the model, so that a caller passes
    the features as they were measured.
    """

    output_names = ("logits",)
    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: NDArray[np.float32], deviation: NDArray[np.float32]) -> None:
        super().__init__()
        self.register_buffer("mean", tensor(mean))
        self.register_buffer("deviation", tensor(deviation))
        self.layers = nn.Sequential(nn.Linear(len(mean), HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, CLASSES))

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layers((features - self.mean) / self.deviation)
        return logits


def main(out: Path) -> None:
    """Train the network on the train part and write it to `out` as an ONNX file."""
    from modelbuild.deterministic import deterministic
    from modelbuild.recipes import canonical, data, export, lessons
    from modelbuild.training import loop, objective
    from modelbuild.training.learner import Learner
    from modelbuild.training.settings import Settings

    wines = data.checked(load("train"), "wine")
    features = wines.inputs["features"]
    settings = Settings(STEPS, batch=32, lr=0.01)
    terms = objective.task_terms({}, wines.truths, "wine")
    with deterministic(settings.seed):
        learner = Learner(WineNet(features.mean(0), features.std(0)))
        loop.fit(learner, lessons.stream(lessons.Lesson(wines), terms, "wine"), None, terms, settings)
        shape = export.Settings(export.OPSET, 1, 64)
        canonical.write(out, export.to_onnx(learner.student.eval(), wines, shape, "wine"))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(prog="python -m modelbuild.zoo.wine", description=main.__doc__)
    arguments.add_argument("out", type=Path, help="the ONNX file to write")
    main(arguments.parse_args().out)
