"""What is read in pieces comes to what plain NumPy says of the whole, however it is cut."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelbuild.equivalence import compare, decisions, metrics
from modelbuild.equivalence.compare import Contents
from modelbuild.equivalence.decisions import Decisions
from modelbuild.equivalence.errors import LEAN, Errors
from modelbuild.equivalence.streams import Piece, Together
from modelbuild.tensors import Held

WHOLE = 1 << 30
CHUNKS = [1, 7, WHOLE]
RNG = np.random.default_rng(5)
TRUTH = RNG.standard_normal((20, 6)).astype(np.float32)


def sides(dtype: Any = np.float32) -> list[Any]:
    """The reference, one like it, one with a sample spoilt, one off everywhere, and that one again."""
    truth = (TRUTH * 8).astype(dtype)
    spoilt = truth.copy()
    spoilt[13] = spoilt[13][::-1]
    off = truth ^ truth.dtype.type(1) if np.dtype(dtype).kind in "iub" else truth + truth.dtype.type(0.25)
    return [truth, truth.copy(), spoilt, off, off.copy()]


def passed(
    given: list[Any], *observers: Any, chunk: int = WHOLE, whole: bool = False, ends: Any = None
) -> None:
    for piece in Together([Held(each) for each in given], whole, ends, chunk):
        for each in observers:
            each.add(piece)


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize(
    "dtype", [np.float16, np.float32, np.float64, np.int8, np.int64, np.uint64, np.bool_]
)
def test_errors_of_all_pairs_are_what_the_definitions_say(dtype: Any, chunk: int) -> None:
    given = sides(dtype)
    errors = Errors(len(given), every=True)
    passed(given, errors, chunk=chunk)
    for base, one in enumerate(given):
        for other, two in enumerate(given):
            plain = metrics.sums(one, two)
            found = errors.metrics(base, other)
            assert found.keys() == metrics.METRICS.keys()
            assert found["max_abs"] == metrics.max_abs(plain)
            assert found["max_rel"] == metrics.max_rel(plain)
            for metric, value in found.items():
                expected = metrics.METRICS[metric](plain)
                assert value == pytest.approx(expected, rel=1e-12, nan_ok=True), metric
            if metrics.max_abs(plain) > 0:
                assert errors.worst(base, other) == metrics.worst_sample(one, two)


def test_of_two_runs_only_the_lean_metrics_are_known_unless_asked_for() -> None:
    errors = Errors(5)
    passed(sides(), errors, chunk=7)
    assert errors.metrics(0, 3).keys() == metrics.METRICS.keys()
    assert errors.metrics(2, 3) == {
        name: pytest.approx(metrics.METRICS[name](metrics.sums(sides()[2], sides()[3]))) for name in LEAN
    }


FLOATS = arrays(np.float32, (5, 3), elements=st.floats(-1e6, 1e6, width=32))


@settings(deadline=None)
@given(FLOATS, FLOATS, FLOATS, st.integers(1, 16))
def test_any_numbers_in_any_pieces(truth: Any, one: Any, two: Any, chunk: int) -> None:
    given_, errors = [truth, one, two], Errors(3)
    passed(given_, errors, chunk=chunk)
    for base, other in ((0, 1), (0, 2), (1, 2)):
        plain = metrics.sums(given_[base], given_[other])
        for metric, value in errors.metrics(base, other).items():
            near = pytest.approx(metrics.METRICS[metric](plain), rel=1e-9, abs=1e-9, nan_ok=True)
            assert value == near
        if plain.largest > 0:
            assert errors.worst(base, other) == metrics.worst_sample(given_[base], given_[other])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_same_bits_of_no_number_are_no_agreement(value: float) -> None:
    spoilt = TRUTH.copy()
    spoilt[2, 1] = value
    errors = Errors(3)
    passed([TRUTH, spoilt, spoilt.copy()], errors, chunk=7)
    assert math.isnan(errors.metrics(1, 2)["max_abs"])
    assert math.isnan(errors.metrics(1, 2)["rmse"])
    assert not errors.metrics(0, 1)["max_abs"] < np.inf
    assert not errors.metrics(0, 1)["max_rel"] < np.inf


def test_numbers_whose_squares_overflow_still_agree() -> None:
    huge = np.full((2, 3), 1e200)
    errors = Errors(2)
    passed([huge, huge.copy()], errors)
    assert errors.metrics(0, 1)["max_abs"] == 0


@pytest.mark.parametrize("chunk", CHUNKS)
def test_pieces_equal_bit_for_bit_are_one(chunk: int) -> None:
    seen: list[Piece] = []

    class Look:
        def add(self, piece: Piece) -> None:
            seen.append(Piece(*(getattr(piece, name) for name in Piece.__slots__)))

    given = sides()
    passed(given, Look(), chunk=chunk)
    for piece in seen:
        place = slice(piece.start, piece.start + piece.size)
        bits = [each.reshape(-1)[place].tobytes() for each in given]
        assert [bits.index(each) for each in bits] == [bits.index(bits[k]) for k in range(5)]
        assert len(piece.raw) == len({*bits})
        assert [piece.which[k] == piece.which[j] for k in range(5) for j in range(5)] == [
            bits[k] == bits[j] for k in range(5) for j in range(5)
        ]


def test_pieces_that_differ_past_their_beginning_are_two() -> None:
    late = TRUTH.copy()
    late[-1, -1] += 1
    errors = Errors(2)
    passed([TRUTH, late], errors)
    assert errors.metrics(0, 1)["max_abs"] == pytest.approx(1)
    zero = np.zeros((2, 2), np.float32)
    minus = -zero
    passed([zero, minus], errors := Errors(2))
    assert errors.metrics(0, 1)["max_abs"] == 0


def test_a_source_that_gives_too_little_is_refused() -> None:
    class Short(Held):
        def read(self, start: int, stop: int) -> Any:
            return super().read(start, stop)[:-1]

    with pytest.raises(ValueError, match="120 values were asked for, 119 came"):
        list(Together([Short(TRUTH)]))


@pytest.mark.parametrize("chunk", CHUNKS)
def test_what_an_output_holds_is_found_wherever_it_is_cut(chunk: int) -> None:
    bad = TRUTH.copy()
    bad[4, :] = np.nan
    bad[9, 2] = bad[9, 5] = np.nan
    bad[9, 3] = bad[17, 0] = -np.inf
    same = np.full_like(TRUTH, 0.5)
    contents = Contents([Held(each) for each in (TRUTH, bad, same)])
    passed([TRUTH, bad, same], contents, chunk=chunk)
    assert contents.of(0) == compare.header(Held(TRUTH))
    assert contents.of(1).nan == (4, 2)
    assert contents.of(1).inf == (9, 2)
    assert (contents.of(1).constant, contents.of(2).constant) == (None, 0.5)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_what_is_the_same_up_to_where_samples_end_is_constant(chunk: int) -> None:
    same, ends = np.full((6, 4, 2), 3.0, np.float32), np.array([0, 4, 2, 1, 3, 2])
    other = same.copy()
    other[4, 2, 1] = 4.0  # the last position that counts of its sample
    past = same.copy()
    past[3, 1:] = 5.0  # beyond the end
    sides = [Held(each) for each in (same, other, past)]
    contents = Contents(sides)
    for piece in Together(sides, lengths=[ends] * 3, chunk=chunk):
        contents.add(piece)
    assert [contents.of(side).constant for side in range(3)] == [3.0, None, 3.0]


def test_an_output_that_is_constant_but_for_its_last_value_is_not_constant() -> None:
    nearly = np.full((6, 2), 3.0, np.float32)
    nearly[-1, -1] = 4
    contents = Contents([Held(nearly)])
    passed([nearly], contents, chunk=5)
    assert contents.of(0).constant is None


@pytest.mark.parametrize("chunk", CHUNKS)
def test_flips_of_all_pairs_are_those_of_whole_arrays(chunk: int) -> None:
    truth, others = TRUTH, [TRUTH + RNG.normal(0, 0.4, TRUTH.shape).astype(np.float32) for _ in range(3)]
    given = [truth, *others, truth.copy()]
    margins = np.add.outer(np.arange(5), np.arange(5)) / 8.0
    found = Decisions(margins)
    passed(given, found, chunk=chunk, whole=True)
    for one in range(5):
        for two in range(5):
            expected = decisions.flips(truth, given[one], given[two], margins[one, two])
            assert found.flips(one, two) == expected
    assert found.flips(0, 1).count > 0 and found.flips(0, 1).near_ties + found.flips(1, 2).near_ties > 0


@pytest.mark.parametrize("chunk", CHUNKS)
def test_errors_are_counted_by_the_order_of_magnitude(chunk: int) -> None:
    error = np.array([0, 0, 1.5e-7, 2e-7, 4e-3, 12.0], np.float64)
    errors = Errors(3)
    passed([np.zeros(6), error, np.zeros(6)], errors, chunk=chunk)
    shown = errors.histograms[1].to_json(1e-6, None)
    assert (shown["least_exponent"], shown["per_decade"], shown["zero"]) == (-7, 4, 2)
    assert (shown["floor"], shown["limit"]) == (1e-6, None)
    places = np.floor((np.log10(error[2:]) + 7) * 4).astype(int)
    assert shown["counts"] == np.bincount(places).tolist()
    passed([np.zeros(2), np.array([0, 2e-7])], small := Errors(2))
    assert small.histograms[1].to_json(None, None)["counts"] == [0, 1]
    equal = errors.histograms[2].to_json(0.0, 0.0)
    assert (equal["counts"], equal["zero"], equal["least_exponent"]) == ([], 6, 0)


def test_no_error_is_lost_from_the_histogram() -> None:
    error = 10.0 ** RNG.uniform(-300, 300, 5000)
    errors = Errors(2)
    passed([np.zeros(5000), error], errors, chunk=100)
    shown = errors.histograms[1].to_json(None, None)
    assert sum(shown["counts"]) + shown["zero"] == 5000
    edges = 10.0 ** (shown["least_exponent"] + np.arange(len(shown["counts"]) + 1) / 4)
    exact = np.histogram(error, edges)[0]
    exponents = np.log10(edges)
    near = np.array([np.count_nonzero(np.abs(np.log10(error) - each) < 0.0022) for each in exponents])
    assert (np.abs(exact - shown["counts"]) <= near[:-1] + near[1:]).all()


def test_whose_lead_moves_and_by_how_much() -> None:
    truth = np.array([[5.0, 4.0, 0.0], [0.0, 3.0, 2.9], [1.0, 1.0, 0.0], [9.0, 0.0, 8.0]])
    other = truth.copy()
    other[0, 0] += 0.5  # a lead of 1 moves by 0.5
    other[1, 2] += 0.02  # a lead of 0.1 moves by 0.02
    other[2, 1] += 2e-4  # a tie moves by 0.0002
    other[3, 1] += 1  # neither of the two best classes
    found = Decisions(np.full((2, 2), 0.3))
    passed([truth, other], found, chunk=3, whole=True)
    shown = found.leads[1].to_json(0.3)
    assert (shown["zero"], shown["per_decade"], shown["margin"]) == (1, 2, 0.3)
    counts = np.array(shown["counts"])
    assert counts.sum() == 3
    least = shown["least_exponent"]
    assert {(a / 2 + least, b / 2 + least) for a, b in np.argwhere(counts)} == {
        (0.0, -0.5), (-1.0, -2.0), (-4.0, -4.0),
    }  # fmt: skip
    passed([truth[2:3], other[2:3]], ties := Decisions(np.full((2, 2), 0.3)), whole=True)
    assert ties.leads[1].to_json(0.3)["counts"] == [[1]]
    none = found.leads[0].to_json(0.3)
    assert (none["counts"], none["zero"], none["least_exponent"]) == ([], 4, 0)


def test_past_its_end_a_sample_is_not_read() -> None:
    truth = RNG.standard_normal((4, 5, 2)).astype(np.float32)
    other = truth + np.float32(0.5)
    ends = np.array([5, 3, 0, 2])
    for sample, end in enumerate(ends):
        other[sample, end:] = np.nan
    other[1, 1, 1] += 1
    for chunk in (1, 25, WHOLE):
        errors, contents = Errors(2), Contents([Held(truth), Held(other)])
        passed([truth, other], errors, contents, chunk=chunk, ends=[ends, ends])
        assert contents.of(1).nan is None
        assert errors.metrics(0, 1)["max_abs"] == pytest.approx(1.5)
        assert errors.worst(0, 1) == 1
        assert errors.metrics(0, 1)["l1"] == pytest.approx((10 * 2 * 0.5 + 1) / 40)


def test_of_two_lengths_the_shorter_is_compared() -> None:
    truth = RNG.standard_normal((3, 4)).astype(np.float32)
    longer, shorter = np.array([4, 4, 4]), np.array([4, 2, 4])
    errors = Errors(3)
    passed([truth, truth + 1, truth.copy()], errors, ends=[longer, shorter, shorter])
    assert errors.metrics(0, 1)["max_abs"] == pytest.approx(1)
    assert errors.metrics(0, 1)["l1"] == pytest.approx(10 / 12)
    assert errors.metrics(0, 2)["max_abs"] == 0


def test_the_same_bits_of_other_lengths_are_not_one() -> None:
    ends_in_zeros = RNG.standard_normal((3, 4)).astype(np.float32)
    ends_in_zeros[1, 2:] = 0
    longer, shorter = np.array([4, 4, 4]), np.array([4, 2, 4])
    errors = Errors(3)
    passed([ends_in_zeros + 1, ends_in_zeros, ends_in_zeros.copy()], errors, ends=[longer, longer, shorter])
    assert errors.metrics(0, 1)["l1"] == pytest.approx(1)
    assert errors.metrics(0, 2)["l1"] == pytest.approx(10 / 12)
