"""Data sets: what a loader may return, what it may not, samples of them and augmented versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelbuild import callables, dataset, progress
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
    assert about == {"inputs": ["tokens", "mask"], "label": "label", "samples": 4, "truths": ["label"]}


def test_the_truth_of_an_output_goes_by_its_name(tmp_path: Path) -> None:
    given = {"label.score": np.ones(3), "x": np.ones((3, 2)), "label": [0, 1, 2], "labels": np.zeros(3)}
    dataset.write(tmp_path, data.checked(given, "here"))
    found = dataset.read(tmp_path)
    assert list(found.inputs) == ["x", "labels"] and sorted(found.truths) == ["label", "label.score"]


def counted(text: Path, table: Path | None = None, scale: int = 1) -> dict[str, Any]:
    assert table is None or table.name == "t.tsv"
    return {"x": np.array([[scale * len(line)] for line in text.read_text().splitlines()])}


def test_a_loader_gets_its_files_by_their_roles(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("a\nbcd\n")
    params = {"loader": f"{__name__}:counted", "args": {"scale": 2}, "files": ["table", "text"]}
    inputs = {"text": tmp_path / "words.txt", "table": tmp_path / "t.tsv", "other": tmp_path}
    data.load(inputs, params, tmp_path)
    assert dataset.read(tmp_path).inputs["x"].tolist() == [[2], [6]]


def test_an_argument_and_a_file_of_one_name_are_refused(tmp_path: Path) -> None:
    params = {"loader": f"{__name__}:counted", "args": {"text": "words"}, "files": ["text"]}
    with pytest.raises(RecipeError, match='"text" is in "args" and in "files"'):
        data.load({"text": tmp_path / "words.txt"}, params, tmp_path)


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
    (
        {"x": np.ones(2), "label.a": np.array([0, np.inf])},
        '"label.a" has NaN or infinity in 1 samples, first in sample 1',
    ),
    ({"x": np.ones(3), "label.a": np.ones(2)}, "x 3, label.a 2"),
    ({"label.a": np.ones(3), "label": np.ones(3)}, "no input array"),
    ({"x": np.ones(3), "label.": np.ones(3)}, '"label." names no output'),
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


# -- augmentation


def source_of(folder: Path, n: int = 6) -> dict[str, Path]:
    folder.mkdir()
    x = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
    truths = {"label": np.arange(n), "label.size": x.sum(1)}
    dataset.write(folder, dataset.DataSet({"x": x, "ids": np.arange(n)}, truths))
    return {"data": folder}


def jittered(arrays: dict[str, Any], rng: np.random.Generator, sd: float = 1) -> dict[str, Any]:
    """In place, and handed back in another order."""
    arrays["x"] += rng.normal(0, sd, arrays["x"].shape).astype(np.float32)
    arrays["label"] += 10
    return dict(reversed(arrays.items()))


def augmented(tmp_path: Path, by: str, name: str = "out", **params: Any) -> dataset.DataSet:
    out = tmp_path / name
    out.mkdir()
    inputs = (
        {"data": tmp_path / "source"} if (tmp_path / "source").exists() else source_of(tmp_path / "source")
    )
    data.augment(inputs, {"by": f"{__name__}:{by}", "args": {}, "copies": 2, "seed": 0, **params}, out)
    return dataset.read(out)


def test_versions_follow_each_other_with_their_labels_and_each_is_of_the_source(tmp_path: Path) -> None:
    found = augmented(tmp_path, "jittered", copies=3, args={"sd": 0.001})
    assert list(found.inputs) == ["x", "ids"] and found.samples == 18
    source = np.tile(np.arange(12, dtype=np.float32).reshape(6, 2), (3, 1))
    # Had the first version's changes been kept, the third would be three times as far away, its label 30 higher.
    assert np.abs(found.inputs["x"] - source).max() < 0.005
    assert found.truths["label"].tolist() == [10 + i for i in range(6)] * 3
    assert np.array_equal(found.inputs["ids"], [*range(6)] * 3)


def test_versions_differ_and_repeat_by_seed_and_number(tmp_path: Path) -> None:
    def made(name: str, seed: int, copies: int) -> np.ndarray[Any, Any]:
        return augmented(tmp_path, "jittered", name, seed=seed, copies=copies).inputs["x"]

    first, again, longer, other = made("a", 3, 2), made("b", 3, 2), made("c", 3, 4), made("d", 4, 2)
    assert np.array_equal(first, again) and np.array_equal(longer[:12], first)
    rows = [*longer.reshape(4, -1), *other.reshape(2, -1)]
    assert all(not np.array_equal(a, b) for i, a in enumerate(rows) for b in rows[:i])


def unlabelled(arrays: dict[str, Any], rng: object) -> dict[str, Any]:
    return {name: array for name, array in arrays.items() if name != "label"}


def changed(arrays: dict[str, Any], rng: object, name: str = "x", to: str = "float64") -> dict[str, Any]:
    array = arrays.pop(name)
    changes = {
        "float64": lambda: array.astype(np.float64),
        "wider": lambda: np.concatenate([array, array], 1),
        "nan": lambda: array * np.float32(np.nan),
    }
    return {**arrays, **({} if to == "gone" else {name: changes[to]()})}


def fewer(arrays: dict[str, Any], rng: object) -> dict[str, Any]:
    return {name: array[1:] for name, array in arrays.items()}


def moody(arrays: dict[str, Any], rng: np.random.Generator, to: str = "gone") -> dict[str, Any]:
    """The second of two versions with seed 0 is another."""
    first = rng.random() == np.random.default_rng((0, 0)).random()
    return arrays if first else changed(arrays, rng, "label", to)


def test_a_label_may_be_left_out(tmp_path: Path) -> None:
    assert list(augmented(tmp_path, "unlabelled").truths) == ["label.size"]


@pytest.mark.parametrize(
    ("by", "args", "words"),
    [
        (
            "changed",
            {"to": "float64"},
            'returned "x" as float64 [6, 2], and in the data set it is float32 [6, 2]',
        ),
        ("changed", {"to": "wider"}, 'returned "x" as float32 [6, 4]'),
        ("changed", {"to": "nan"}, '"x" has NaN'),
        ("changed", {"to": "gone"}, "returned ids, and the data set has x, ids"),
        ("fewer", {}, 'returned "x" as float32 [5, 2]'),
        ("moody", {}, "returned label.size, and the first version has label, label.size"),
        (
            "moody",
            {"to": "float64"},
            'returned "label" as float64 [6], and in the first version it is int64 [6]',
        ),
        ("jittered", {"sd": "much"}, "failed when called with (sd='much'): "),
        ("jittered", {"how": 1}, "unexpected keyword argument 'how'"),
    ],
)
def test_what_is_no_version_of_the_data_is_refused(tmp_path: Path, by: str, args: Any, words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        augmented(tmp_path, by, args=args)
    assert words in str(caught.value) and caught.value.place == f"{__name__}:{by}"


def test_an_augmentation_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, int]] = []
    monkeypatch.setattr(progress, "_sink", lambda done, total, values: steps.append((done, total)))
    augmented(tmp_path, "jittered")
    assert steps == [(1, 2), (2, 2)]


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
    dataset.write(tmp_path, dataset.DataSet({"x": np.ones((2, 3))}, {}))
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_bytes(content)
    with pytest.raises(RecipeError, match="holds no data set"):
        dataset.read(tmp_path)
