"""A data set is read as it was written, with every truth that it has."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from modelbuild import dataset, tensors
from modelbuild.dataset import DataSet
from modelbuild.errors import RecipeError

X = {"b": np.arange(6.0).reshape(3, 2), "a": np.arange(3)}


@pytest.mark.parametrize(
    "truths",
    [
        {},
        {"label": np.array([2, 0, 1])},
        {"label.mel": np.ones((3, 4)), "label": np.zeros(3), "label.f0": np.ones(3)},
        {"label.mel": np.ones((3, 4))},
    ],
)
def test_there_and_back(tmp_path: Path, truths: tensors.Arrays) -> None:
    dataset.write(tmp_path, DataSet(X, truths))
    found = dataset.read(tmp_path)
    assert (list(found.inputs), list(found.truths)) == (["b", "a"], list(truths))
    assert all((found.truths[name] == each).all() for name, each in truths.items())
    assert (found.label is None) == ("label" not in truths)
    about = json.loads((tmp_path / "data.json").read_text())
    assert about["truths"] == list(truths)
    assert about["label"] == ("label" if "label" in truths else None)


def test_every_truth_is_taken_along() -> None:
    taken = DataSet(X, {"label": np.array([2, 0, 1]), "label.f0": np.array([5, 6, 7])}).take(np.array([2, 0]))
    assert taken.samples == 2
    assert [taken.truths[name].tolist() for name in ("label", "label.f0")] == [[1, 2], [7, 5]]
    assert taken.inputs["b"].tolist() == [[4, 5], [0, 1]]


@pytest.mark.parametrize("label", ["label", None])
def test_a_folder_from_before_there_were_several_truths_is_read(tmp_path: Path, label: str | None) -> None:
    tensors.save(tmp_path / "data.safetensors", {**X, **({label: np.zeros(3)} if label else {})})
    about = {"inputs": ["b", "a"], "label": label, "samples": 3}
    (tmp_path / "data.json").write_text(json.dumps(about))
    assert list(dataset.read(tmp_path).truths) == ([label] if label else [])


def test_a_truth_that_is_not_there_is_no_data_set(tmp_path: Path) -> None:
    dataset.write(tmp_path, DataSet(X, {"label.mel": np.ones(3)}))
    about = json.loads((tmp_path / "data.json").read_text())
    (tmp_path / "data.json").write_text(json.dumps({**about, "truths": ["label.mle"]}))
    with pytest.raises(RecipeError, match="holds no data set"):
        dataset.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "yes"),
    [("label", True), ("label.f0", True), ("labels", False), ("x.label", False), ("x", False)],
)
def test_the_name_tells_truth_from_input(name: str, yes: bool) -> None:
    assert dataset.is_truth(name) is yes
