from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelbuild.equivalence import sequences
from modelbuild.equivalence.demand import OutputDemand
from modelbuild.errors import RecipeError


def row(word: str, width: int = 12) -> tuple[Any, int]:
    return np.array([ord(c) for c in word.ljust(width, "_")]), len(word)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("kitten", "sitting", 3),
        ("saturday", "sunday", 3),
        ("flaw", "lawn", 2),
        ("", "abc", 3),
        ("abc", "", 3),
        ("", "", 0),
        ("same", "same", 0),
        ("ab", "ba", 2),
        ("abcdef", "bcdefg", 2),
    ],
)
def test_edit_distances_by_hand(one: str, other: str, expected: int) -> None:
    (a, a_end), (b, b_end) = row(one), row(other)
    found = sequences.edit_distances(a[None], np.array([a_end]), b[None], np.array([b_end]))
    assert found.tolist() == [expected]


def naive(one: list[int], other: list[int]) -> int:
    table = list(range(len(other) + 1))
    for i, x in enumerate(one, 1):
        diagonal, table[0] = table[0], i
        for j, y in enumerate(other, 1):
            diagonal, table[j] = table[j], min(table[j] + 1, table[j - 1] + 1, diagonal + (x != y))
    return table[-1]


def test_many_rows_at_once_are_each_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    one, other = generator.integers(0, 4, (60, 9)), generator.integers(0, 4, (60, 7))
    ends, other_ends = generator.integers(0, 10, 60), generator.integers(0, 8, 60)
    expected = [
        naive(a[:m].tolist(), b[:n].tolist()) for a, m, b, n in zip(one, ends, other, other_ends, strict=True)
    ]
    assert sequences.edit_distances(one, ends, other, other_ends).tolist() == expected
    monkeypatch.setattr(sequences, "_CELLS", 50)
    assert sequences.edit_distances(one, ends, other, other_ends).tolist() == expected
    assert len(sequences.edit_distances(one[:0], ends[:0], other[:0], other_ends[:0])) == 0


def test_padding_ends_a_row_and_inside_it_is_a_token() -> None:
    rows = np.array([[0, 5, 0, 0], [0, 0, 0, 0], [1, 2, 3, 4]])
    assert sequences.ends(rows, 0).tolist() == [2, 0, 4]
    assert sequences.ends(rows, None).tolist() == [4, 4, 4]


def test_what_lies_past_the_end_is_blank() -> None:
    values = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2)
    values[0, 2] = np.nan
    found = sequences.blank(values, np.array([2, 9]))
    assert found.tolist() == [[[1, 2], [3, 4], [0, 0]], [[7, 8], [9, 10], [11, 12]]]
    assert found.dtype == np.float32
    assert np.isnan(values[0, 2]).all()
    assert sequences.mask(np.array([0, 2, -1]), 3).tolist() == [[False] * 3, [True, True, False], [False] * 3]


def test_lengths_are_one_whole_number_a_sample() -> None:
    for values in (np.array([3, 1]), np.array([[3], [1]], dtype=np.uint8)):
        assert sequences.lengths("n", values).tolist() == [3, 1]
    for values in (np.array([3.0, 1.0]), np.array([[3, 1], [1, 2]]), np.array([[[3]], [[1]]])):
        with pytest.raises(RecipeError, match='"n" gives lengths, and is '):
            sequences.lengths("n", values)


def test_all_outputs_are_cut_to_their_lengths() -> None:
    values, n = np.ones((2, 3)), np.array([1, 2])
    asked = {"y": OutputDemand(lengths="n"), "z": OutputDemand("regression")}
    found = sequences.cut({"y": values, "z": values, "n": n}, asked)
    assert found["y"].tolist() == [[1, 0, 0], [1, 1, 0]]
    assert found["z"] is values
    assert found["n"] is n


@pytest.mark.parametrize("outputs", [{"y": np.ones((2, 3))}, {"y": np.ones(2), "n": np.ones(2, int)},
                                     {"y": np.ones((2, 3)), "n": np.ones(1, int)}])  # fmt: skip
def test_what_no_length_fits_is_left_for_the_comparison_to_find(outputs: Any) -> None:
    assert sequences.cut(outputs, {"y": OutputDemand(lengths="n")})["y"] is outputs["y"]


def test_tokens_are_the_best_class_at_each_position() -> None:
    scores = np.eye(4)[[[3, 1], [0, 2]]]
    assert sequences.tokens(scores).tolist() == [[3, 1], [0, 2]]
    assert sequences.tokens(np.array([[3, 1]])).tolist() == [[3, 1]]
