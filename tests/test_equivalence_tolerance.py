from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelbuild.equivalence.demand import RuntimeDemand, within
from modelbuild.equivalence.metrics import METRICS, sums
from modelbuild.equivalence.tolerance import (
    FACTOR,
    ROUNDING,
    ULPS,
    Reference,
    Tolerance,
    constant_score,
    looser,
    refuse_flips,
    tolerance,
)
from modelbuild.errors import RecipeError

Y = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
AUTO = RuntimeDemand()


def reference(wide: float | None, nudged: float, array: Any = Y) -> Reference:
    """Noise of one value each."""
    double, single = array.astype(np.float64), array.copy()
    double[0, 1] += wide or 0.0
    single[0, 1] += nudged
    return Reference({"y": array}, None if wide is None else {"y": double}, {"y": single})


@pytest.mark.parametrize(
    ("wide", "nudged", "floor"), [(1e-3, 2**-12, 1e-3), (1e-4, 2**-9, 2**-9), (None, 2**-9, 2**-9)]
)
def test_auto_is_the_factor_times_the_larger_noise(wide: float | None, nudged: float, floor: float) -> None:
    found = tolerance("y", reference(wide, nudged), AUTO)
    assert found.limits["max_abs"] == pytest.approx(FACTOR * floor, rel=1e-9)
    assert found.limits["rmse"] == pytest.approx(FACTOR * floor / 2, rel=1e-9)
    assert found.margin == found.limits["max_abs"]
    assert found.source.startswith(f"{FACTOR} x noise floor")


def test_auto_is_never_below_a_few_ulp_of_the_scale() -> None:
    found = tolerance("y", reference(0, 0), AUTO)
    assert found.limits["max_abs"] == ULPS * 2.0**-21  # spacing of 4.0 in fp32
    assert found.limits["rmse"] == ULPS * 2.0**-22  # spacing of the root mean square, 2.3


def test_auto_asks_whole_numbers_to_be_equal() -> None:
    whole = np.array([[1], [7]])
    found = tolerance("y", Reference({"y": whole}, None, {"y": whole + 1}), AUTO)
    assert found.limits == {"max_abs": 0.0, "rmse": 0.0}


@pytest.mark.parametrize("fault", ["no array", "another shape"])
def test_a_noise_floor_that_is_not_there(fault: str) -> None:
    nudged = {} if fault == "no array" else {"y": Y[:1]}
    with pytest.raises(RecipeError, match='no "y" of the same shape'):
        tolerance("y", Reference({"y": Y}, None, nudged), AUTO)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_noise_floor_that_is_no_number(value: float) -> None:
    with pytest.raises(RecipeError, match="not a finite number"):
        tolerance("y", reference(value, 0.0), AUTO)


def test_a_model_drowned_in_its_own_noise_cannot_be_gated() -> None:
    with pytest.raises(RecipeError, match="would pass a constant"):
        tolerance("y", reference(0.5, 0.0), AUTO)


def test_explicit_limits_stand_as_they_are() -> None:
    found = tolerance("y", reference(1e-3, 0), RuntimeDemand({"max_abs": 0.01, "cosine": 0.99}))
    assert found.limits == {"max_abs": 0.01, "cosine": 0.99}
    assert found.margin == 0.01


def test_without_a_limit_on_max_abs_ties_are_told_by_the_noise() -> None:
    found = tolerance("y", reference(1e-3, 0), RuntimeDemand({"cosine": 0.99}))
    assert found.margin == pytest.approx(FACTOR * 1e-3)


@pytest.mark.parametrize(
    ("metric", "limit"),
    [("max_abs", 6.0), ("max_abs", 3.0), ("rmse", 2.5), ("l1", 1.8), ("cosine", 0.3), ("sqnr_db", 0.5)],
)
def test_a_limit_that_a_constant_meets_is_vacuous(metric: str, limit: float) -> None:
    with pytest.raises(RecipeError, match=f"tolerance/{metric}: .*would pass a constant"):
        tolerance("y", reference(1e-3, 0), RuntimeDemand({metric: limit}))


def test_a_cosine_floor_below_that_of_the_offset_is_vacuous() -> None:
    shifted = Y + 1000
    with pytest.raises(RecipeError, match="would pass a constant"):
        tolerance("y", reference(0, 0, shifted), RuntimeDemand({"cosine": 0.9999}))


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("max_abs", 3.0),
        ("max_rel", 1.0),
        ("l1", (0.25 + 2.75 + 0.25 + 3.25) / 4),
        ("rmse", np.std(Y.astype(np.float64))),
        ("cosine", 3.5 / 2 / np.sqrt(21.25)),
        ("sqnr_db", 10 * np.log10(21.25 / (4 * np.var(Y.astype(np.float64))))),
    ],
)
def test_what_a_constant_reaches(metric: str, expected: float) -> None:
    assert constant_score(metric, Y) == pytest.approx(expected, rel=1e-9)


def test_what_a_constant_reaches_relatively_on_one_side_of_zero() -> None:
    assert constant_score("max_rel", np.array([[2.0], [4.0]])) == pytest.approx(1 / 3)
    assert constant_score("max_rel", np.array([[-2.0], [-4.0]])) == pytest.approx(1 / 3)


@given(
    arrays(np.float32, (4, 2), elements=st.floats(-100, 100, width=32)),
    st.floats(-150, 150, width=32),  # in fp64 a square may underflow, of fp32 values it cannot
    st.sampled_from(sorted(METRICS)),
)
def test_no_constant_is_better_than_the_best(array: Any, value: float, metric: str) -> None:
    if np.ptp(array) < 1e-3:
        return
    reached = METRICS[metric](sums(array.astype(np.float64), np.full(array.shape, value)))
    best = constant_score(metric, array)
    slack = 1e-9 * (1 + abs(best))
    assert not within(
        metric, reached - slack if metric in ("cosine", "sqnr_db") else reached + slack, best
    ) or (reached == pytest.approx(best, abs=1e-6))


@pytest.mark.parametrize("flips", [4, 5])
def test_as_many_flips_as_samples_are_refused(flips: int) -> None:
    with pytest.raises(RecipeError, match="every decision may change"):
        refuse_flips(RuntimeDemand(None, flips), 4)
    refuse_flips(RuntimeDemand(None, 3), 4)


def test_a_pair_is_held_to_the_looser_limit() -> None:
    one = Tolerance({"max_abs": 1.0, "cosine": 0.9}, 1.0, "a")
    two = Tolerance({"max_abs": 2.0, "cosine": 0.8, "rmse": 1.0}, 2.0, "b")
    assert looser(one, two) == Tolerance({"max_abs": 2.0, "cosine": 0.8}, 2.0, "the looser of: a; b")
    assert looser(one, one) == one
    apart = looser(Tolerance({"max_abs": 1.0}, 1.0, "a"), Tolerance({"cosine": 0.9}, 2.0, "b"))
    assert apart.limits == {"max_abs": 1.0, "cosine": 0.9}


def rounded(error: float) -> Reference:
    """Noise of 1e-3, and what "float16" arithmetic does: `error` in one value of four."""
    known = reference(1e-3, 2**-12)
    moved = Y.copy()
    moved[1, 0] += np.float32(error)
    return Reference(known.outputs, known.wide, known.nudged, {"float16": {"y": moved}})


def test_what_computes_in_float16_is_allowed_a_multiple_of_what_that_does() -> None:
    found = tolerance("y", rounded(0.25), AUTO, "float16")
    assert found.limits == {"max_abs": ROUNDING * 0.25, "rmse": ROUNDING * 0.25 / 2}
    assert found.margin == ROUNDING * 0.25
    assert f"{ROUNDING} x float16 arithmetic (0.25)" in found.source


def test_what_computes_in_float32_is_allowed_nothing_for_float16() -> None:
    assert tolerance("y", rounded(0.25), AUTO) == tolerance("y", reference(1e-3, 2**-12), AUTO)


def test_the_noise_floor_holds_where_it_is_more_than_float16() -> None:
    assert tolerance("y", rounded(2**-20), AUTO, "float16").limits["max_abs"] == pytest.approx(FACTOR * 1e-3)


def test_an_arithmetic_that_overflows_is_allowed_nothing() -> None:
    found = tolerance("y", rounded(np.inf), AUTO, "float16")
    assert found.limits == tolerance("y", rounded(0.25), AUTO).limits
    assert "float16 arithmetic overflows" in found.source


def test_an_arithmetic_of_another_shape_is_refused() -> None:
    known = reference(1e-3, 2**-12)
    broken = Reference(known.outputs, known.wide, known.nudged, {"float16": {"y": Y[:1]}})
    with pytest.raises(RecipeError, match='noise floor "float16"'):
        tolerance("y", broken, AUTO, "float16")


def test_the_factors_are_those_that_were_measured() -> None:
    assert tolerance("y", reference(1e-3, 0), AUTO).limits["max_abs"] == pytest.approx(8e-3)
    assert tolerance("y", rounded(0.25), AUTO, "float16").limits["max_abs"] == 0.5
    assert tolerance("y", reference(0, 0), AUTO).limits["max_abs"] == 4 * 2.0**-21


def test_ties_are_told_by_what_float16_does_where_no_limit_on_max_abs_is_set() -> None:
    found = tolerance("y", rounded(0.25), RuntimeDemand({"cosine": 0.99}), "float16")
    assert found.margin == ROUNDING * 0.25


def test_an_arithmetic_of_which_nothing_is_known_is_allowed_nothing() -> None:
    assert tolerance("y", rounded(0.25), AUTO, "float16-sums") == tolerance("y", rounded(0.25), AUTO)


def test_an_arithmetic_without_the_output_is_refused() -> None:
    known = reference(1e-3, 2**-12)
    broken = Reference(known.outputs, known.wide, known.nudged, {"float16": {}})
    with pytest.raises(RecipeError, match='no "y" of the same shape for the noise floor "float16"'):
        tolerance("y", broken, AUTO, "float16")


@pytest.mark.parametrize(
    ("place", "source"),
    [("gates/runtime", "from the manifest"), ("--tolerance", "from the command line")],
)
def test_explicit_limits_say_where_they_come_from(place: str, source: str) -> None:
    assert tolerance("y", reference(1e-3, 0), RuntimeDemand({"max_abs": 0.01}, place=place)).source == source


def test_without_a_count_of_samples_no_number_of_flips_is_refused() -> None:
    refuse_flips(RuntimeDemand(None, 5), None)
