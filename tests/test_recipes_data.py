"""Data sets: what a loader may return, what it may not, and samples of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelbuild import callables, dataset
from modelbuild.errors import ManifestError, RecipeError
from modelbuild.recipes import data


def two_inputs(n: int = 6) -> dict[str, Any]:
    mask = np.arange(n * 2).reshape(n, 2)
    return {"tokens": mask * 10, "label": list(range(n)), "mask": mask.astype(">i4")}


def failing() -> None:
    raise KeyError("no such file")


def well_worded() -> None:
    raise ManifestError("place", "fact")


def load(tmp_path: Path, name: str, **args: Any) -> dataset.DataSet:
    data.load({}, {"loader": f"{__name__}:{name}", "args": args}, tmp_path)
    return dataset.read(tmp_path)


def test_load_keeps_the_loaders_order_of_inputs_and_takes_label_as_ground_truth(tmp_path: Path) -> None:
    loaded = load(tmp_path, "two_inputs", n=4)
    assert list(loaded.inputs) == ["tokens", "mask"]
    assert loaded.label is not None and loaded.label.tolist() == [0, 1, 2, 3]
    about = json.loads((tmp_path / "data.json").read_text())
    assert about == {"inputs": ["tokens", "mask"], "label": "label", "samples": 4}


def test_numbers_are_brought_to_the_byte_order_of_the_machine(tmp_path: Path) -> None:
    for found in (data.checked(two_inputs(), "here"), load(tmp_path, "two_inputs")):
        mask = found.inputs["mask"]
        assert mask.dtype.isnative and mask.dtype == np.int32 and mask[1].tolist() == [2, 3]


def test_a_data_set_without_labels_says_so(tmp_path: Path) -> None:
    dataset.write(tmp_path, data.checked({"x": np.ones((2, 3))}, "here"))
    assert dataset.read(tmp_path).label is None
    assert json.loads((tmp_path / "data.json").read_text())["label"] is None


BAD: list[tuple[object, str]] = [
    ([1, 2], "returned list, not a dict"),
    ({1: np.ones(3)}, "not a dict of names"),
    ({"label": np.ones(3)}, "no input array"),
    ({"x": np.ones((0, 4))}, "no samples"),
    ({"x": np.ones((3, 0))}, '"x" is empty: shape [3, 0]'),
    ({"x": np.ones(3), "y": np.ones(4)}, "x 3, y 4"),
    ({"x": np.ones(3), "label": np.ones(2)}, "x 3, label 2"),
    ({"x": np.array([{}, {}], dtype=object)}, "dtype object"),
    ({"x": np.array(["a", "b"])}, "holds no numbers"),
    ({"x": np.float32(3)}, "single number"),
    ({"x": np.array([[1.0], [np.nan], [np.nan]])}, "in 2 samples, first in sample 1"),
    ({"x": np.array([1.0, np.inf])}, "NaN or infinity"),
    ({"x": np.ones(2), "label": np.array([np.nan, 1])}, '"label" has NaN'),
]


@pytest.mark.parametrize(("arrays", "words"), BAD)
def test_what_is_no_data_set_is_refused_in_words(arrays: object, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        data.checked(arrays, "my.loader:f")
    assert words in str(caught.value) and str(caught.value).startswith("my.loader:f: ")


def test_sample_draws_without_replacement_in_order_and_by_seed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    load(source, "two_inputs", n=50)
    drawn = []
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / name).mkdir()
        data.sample({"data": source}, {"count": 20, "seed": seed}, tmp_path / name)
        drawn.append(dataset.read(tmp_path / name))
    first, again, other = (list(each.label) for each in drawn if each.label is not None)
    assert first == again and first != other
    assert first == sorted(set(first)) and len(first) == 20
    assert drawn[0].inputs["tokens"][:, 0].tolist() == [20 * row for row in first]


@pytest.mark.parametrize("count", [0, -1, 7])
def test_sample_refuses_a_count_that_cannot_be_drawn(tmp_path: Path, count: int) -> None:
    load(tmp_path, "two_inputs", n=6)
    with pytest.raises(RecipeError, match="has 6 samples"):
        data.sample({"data": tmp_path}, {"count": count, "seed": 0}, tmp_path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no_such_package:f", "No module named"),
        (f"{__name__}:two_input", 'Did you mean "two_inputs"?'),
        ("plain", 'not of the form "package.module:name"'),
        (f"{__name__}:failing", "failed when called with (): KeyError: 'no such file'"),
    ],
)
def test_a_callable_that_cannot_be_called_is_named_with_the_reason(path: str, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        callables.call(path, {})
    assert words in str(caught.value) and caught.value.place == path


def test_an_error_that_speaks_for_itself_is_left_alone() -> None:
    with pytest.raises(ManifestError, match="place: fact"):
        callables.call(f"{__name__}:well_worded", {})


def test_wrong_arguments_are_shown() -> None:
    with pytest.raises(RecipeError, match=r"called with \(rows=3\): TypeError"):
        callables.call(f"{__name__}:two_inputs", {"rows": 3})


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("data.json", b""),
        ("data.json", b"[]"),
        ("data.json", b'{"inputs": ["y"], "label": null}'),
        ("data.json", None),
        ("data.safetensors", b"no arrays"),
        ("data.safetensors", None),
    ],
)
def test_a_folder_that_holds_no_data_set(tmp_path: Path, file: str, content: bytes | None) -> None:
    dataset.write(tmp_path, dataset.DataSet({"x": np.ones((2, 3))}, None))
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(RecipeError, match="holds no data set"):
        dataset.read(tmp_path)
