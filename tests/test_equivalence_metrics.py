from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelbuild.equivalence import decisions, metrics
from modelbuild.equivalence.metrics import sums

R = np.array([[1.0, 2.0], [-4.0, 0.5]], np.float32)
X = np.array([[1.5, 2.0], [-3.0, 0.25]], np.float32)
FLOATS = arrays(np.float32, (6, 3), elements=st.floats(-1e6, 1e6, width=32))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("max_abs", 1.0),
        ("max_rel", 0.5),
        ("l1", (0.5 + 0 + 1 + 0.25) / 4),
        ("rmse", math.sqrt((0.25 + 0 + 1 + 0.0625) / 4)),
        ("sqnr_db", 10 * math.log10(21.25 / 1.3125)),
        ("cosine", (1.5 + 4 + 12 + 0.125) / math.sqrt(21.25 * 15.3125)),
    ],
)
def test_by_hand(metric: str, expected: float) -> None:
    assert metrics.METRICS[metric](sums(R, X)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("max_abs", 0), ("max_rel", 0), ("l1", 0), ("rmse", 0), ("sqnr_db", math.inf), ("cosine", 1)],
)
def test_of_equal_arrays(metric: str, expected: float) -> None:
    assert metrics.METRICS[metric](sums(R, R)) == expected


def test_relative_error_at_zero_is_infinite_unless_there_is_none() -> None:
    zero, one = np.array([[0.0], [1.0]]), np.array([[1e-30], [1.0]])
    assert metrics.max_rel(sums(zero, one)) == math.inf
    assert metrics.max_rel(sums(zero, zero)) == 0


def test_a_vector_of_zeros_has_no_cosine_and_no_sqnr() -> None:
    zero = np.zeros((2, 2))
    assert math.isnan(metrics.cosine(sums(R, zero)))
    assert math.isnan(metrics.sqnr_db(sums(zero, zero)))
    assert metrics.sqnr_db(sums(zero, R)) == -math.inf


@pytest.mark.parametrize("metric", metrics.METRICS)
def test_nan_is_never_hidden(metric: str) -> None:
    spoilt = X.copy()
    spoilt[1, 1] = np.nan
    for pair in ((R, spoilt), (spoilt, R)):
        assert math.isnan(metrics.METRICS[metric](sums(*pair)))
        assert math.isnan(metrics.METRICS[metric](sums(R, X) + sums(*pair)))
        assert math.isnan(metrics.METRICS[metric](sums(*pair) + sums(R, X)))


def test_overflow_is_no_pass_and_no_crash() -> None:
    huge = np.array([[1e300, -1e300]])
    assert not metrics.sqnr_db(sums(R.astype(np.float64)[:1], huge)) > 0
    assert not metrics.cosine(sums(huge, -huge)) > 0
    assert metrics.rmse(sums(huge, -huge)) == math.inf


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.int64, 2**53, 2**53 + 1),
        (np.int64, -(2**63), 2**63 - 1),
        (np.uint64, 0, 2**64 - 1),
        (np.int8, -128, 127),
        (np.uint8, 0, 255),
        (np.bool_, False, True),
    ],
)
def test_whole_numbers_are_subtracted_as_such(dtype: Any, low: int, high: int) -> None:
    one, two = np.array([low], dtype), np.array([high], dtype)
    assert metrics.difference(one, two)[0] == metrics.difference(two, one)[0] == float(int(high) - int(low))


def test_the_worst_sample_is_the_first_of_the_largest() -> None:
    assert metrics.worst_sample(R, X) == 1
    assert metrics.worst_sample(R[:, :, None], R[:, :, None] + 1) == 0


@given(FLOATS, FLOATS, st.integers(1, 5))
def test_chunks_add_up(reference: Any, other: Any, cut: int) -> None:
    whole = sums(reference, other)
    parts = sums(reference[:cut], other[:cut]) + sums(reference[cut:], other[cut:])
    for field in ("count", "largest", "largest_relative"):
        assert getattr(whole, field) == getattr(parts, field)
    for field in ("absolute", "squared", "reference", "other", "product"):
        scale = whole.reference + whole.other + whole.absolute
        assert getattr(whole, field) == pytest.approx(getattr(parts, field), rel=1e-9, abs=1e-9 * scale)


@given(FLOATS, FLOATS)
def test_orders_that_always_hold(reference: Any, other: Any) -> None:
    s = sums(reference, other)
    slack = 1 + 1e-9
    assert metrics.l1(s) <= metrics.rmse(s) * slack
    assert metrics.rmse(s) <= metrics.max_abs(s) * slack
    assert metrics.max_abs(s) == metrics.max_abs(sums(other, reference))
    assert not abs(metrics.cosine(s)) > 1


SCORES = np.array([[0.9, 0.1], [0.2, 0.8], [0.5, 0.49], [0.0, 1.0]], np.float32)


def test_agreement_and_accuracy_by_hand() -> None:
    other = SCORES[:, ::-1].copy()
    other[0] = SCORES[0]
    assert decisions.agreement(SCORES, other) == 0.25
    assert decisions.accuracy(SCORES, np.array([0, 1, 1, 1])) == 0.75
    assert decisions.drift(0.75, 1.0) == -0.25


def test_margins_by_hand() -> None:
    three = np.array([[1.0, 5.0, 3.0], [2.0, 2.0, 0.0]], np.float32)
    assert decisions.margins(three).tolist() == [2.0, 0.0]


def test_flips_are_counted_where_the_reference_is_sure() -> None:
    other = SCORES[:, ::-1]
    found = decisions.flips(SCORES, SCORES, other, limit=0.05)
    assert (found.count, found.decided, found.near_ties, found.first) == (3, 3, 1, 0)
    assert decisions.flips(SCORES, SCORES, SCORES, 0.05).first is None


def test_a_margin_equal_to_the_limit_is_a_tie() -> None:
    exact = np.array([[1.0, 0.5]], np.float32)
    assert decisions.flips(exact, exact, exact[:, ::-1], 0.5).count == 0
    assert decisions.flips(exact, exact, exact[:, ::-1], 0.4999).count == 1


def test_what_decides() -> None:
    assert decisions.decides(SCORES)
    assert not decisions.decides(SCORES[:, :1])
    assert not decisions.decides(SCORES[None])
    assert not decisions.decides(SCORES.astype(np.int64))


def test_constant_share() -> None:
    assert decisions.constant_share(np.array([0, 1, 1, 5])) == 0.5
