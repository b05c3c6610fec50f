from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelbuild.equivalence.demand import RuntimeDemand, within
from modelbuild.equivalence.metrics import METRICS, sums
from modelbuild.equivalence.noise import (
    FACTOR,
    FP64,
    NUDGED,
    OPTIMISATION,
    THREADS,
    ULPS,
    OutputNoise,
    Spread,
    describe,
    measure,
)
from modelbuild.equivalence.tolerance import (
    ROUNDING,
    SPREAD,
    UNCOMPRESSED,
    Tolerance,
    constant_score,
    looser,
    refuse_flips,
    tolerance,
)
from modelbuild.errors import RecipeError

Y = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
AUTO = RuntimeDemand()


def moved(by: float, array: Any = Y, dtype: Any = np.float32) -> dict[str, Any]:
    """`array` with one value moved."""
    other = array.astype(dtype)
    other[0, 1] += by
    return {"y": other}


def about(array: Any) -> OutputNoise:
    found = describe(array)
    assert found is not None
    return found


def known(
    wide: float | None,
    nudged: float,
    array: Any = Y,
    rounded: float | None = None,
    runtime: dict[str, float] | None = None,
) -> OutputNoise:
    """Noise of one value each; of the root mean square a runtime moves half as much as of the largest."""
    sources = {NUDGED: moved(nudged, array)}
    if wide is not None:
        sources[FP64] = moved(wide, array, np.float64)
    low = {} if rounded is None else {"float16": moved(rounded, array)}
    within_ort = {kind: {"y": Spread(each, each / 2)} for kind, each in (runtime or {}).items()}
    missing = {FP64: "there is no such form of it"} if wide is None else {}
    return measure({"y": array}, sources, low, within_ort, missing).of("y")


@pytest.mark.parametrize(
    ("wide", "nudged", "floor"), [(1e-3, 2**-12, 1e-3), (1e-4, 2**-9, 2**-9), (None, 2**-9, 2**-9)]
)
def test_auto_is_the_factor_times_the_larger_noise(wide: float | None, nudged: float, floor: float) -> None:
    found = tolerance("y", known(wide, nudged), AUTO)
    assert found.limits["max_abs"] == pytest.approx(FACTOR * floor, rel=1e-9)
    assert found.limits["rmse"] == pytest.approx(FACTOR * floor / 2, rel=1e-9)
    assert found.margin == found.limits["max_abs"]
    assert found.source.startswith(f"{FACTOR} x noise floor")


def test_auto_is_never_below_a_few_ulp_of_the_scale() -> None:
    found = tolerance("y", known(0, 0), AUTO)
    assert found.limits["max_abs"] == ULPS * 2.0**-21  # spacing of 4.0 in fp32
    assert found.limits["rmse"] == ULPS * 2.0**-22  # spacing of the root mean square, 2.3


def test_auto_asks_whole_numbers_to_be_equal() -> None:
    whole = np.array([[1], [7]])
    measured = measure(
        {"y": whole},
        {NUDGED: {"y": whole + 1}},
        {"float16": {"y": whole + 2}},
        {THREADS: {"y": Spread(1, 1)}},
    )
    noise = measured.of("y")
    found = tolerance("y", noise, AUTO, "float16")
    assert found == Tolerance(
        {"max_abs": 0.0, "rmse": 0.0}, 0.0, "whole numbers must be equal", {"max_abs": 0.0, "rmse": 0.0}
    )
    assert THREADS in noise.uncounted and noise.rounding("max_abs") == noise.rounding("rmse") == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [FP64, NUDGED])
def test_a_noise_floor_that_is_no_number(value: float, kind: str) -> None:
    noise = known(*((value, 0.0) if kind == FP64 else (0.0, value)))
    with pytest.raises(RecipeError, match=f'"{kind}" of "y" is not a finite number'):
        tolerance("y", noise, AUTO)
    assert (
        tolerance("y", noise, RuntimeDemand({"max_abs": 0.1})).margin == ULPS * 2.0**-21
    )  # what is left of it


def test_a_model_drowned_in_its_own_noise_cannot_be_gated() -> None:
    with pytest.raises(RecipeError, match="would pass a constant"):
        tolerance("y", known(0.5, 0.0), AUTO)


def test_explicit_limits_stand_as_they_are() -> None:
    found = tolerance("y", known(1e-3, 0), RuntimeDemand({"max_abs": 0.01, "cosine": 0.99}))
    assert found.limits == {"max_abs": 0.01, "cosine": 0.99}


@pytest.mark.parametrize(
    ("metric", "limit"),
    [("max_abs", 6.0), ("max_abs", 3.0), ("rmse", 2.5), ("l1", 1.8), ("cosine", 0.3), ("sqnr_db", 0.5)],
)
def test_a_limit_that_a_constant_meets_is_vacuous(metric: str, limit: float) -> None:
    with pytest.raises(RecipeError, match=f"tolerance/{metric}: .*would pass a constant"):
        tolerance("y", known(1e-3, 0), RuntimeDemand({metric: limit}))


def test_a_cosine_floor_below_that_of_the_offset_is_vacuous() -> None:
    shifted = Y + 1000
    with pytest.raises(RecipeError, match="would pass a constant"):
        tolerance("y", known(0, 0, shifted), RuntimeDemand({"cosine": 0.9999}))


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
    assert constant_score(metric, about(Y)) == pytest.approx(expected, rel=1e-9)


def test_what_a_constant_reaches_relatively_on_one_side_of_zero() -> None:
    assert constant_score("max_rel", about(np.array([[2.0], [4.0]]))) == pytest.approx(1 / 3)
    assert constant_score("max_rel", about(np.array([[-2.0], [-4.0]]))) == pytest.approx(1 / 3)


@given(
    arrays(np.float32, (4, 2), elements=st.floats(-100, 100, width=32)),
    st.floats(-150, 150, width=32),  # in fp64 a square may underflow, of fp32 values it cannot
    st.sampled_from(sorted(METRICS)),
)
def test_no_constant_is_better_than_the_best(array: Any, value: float, metric: str) -> None:
    if np.ptp(array) < 1e-3:
        return
    reached = METRICS[metric](sums(array.astype(np.float64), np.full(array.shape, value)))
    best = constant_score(metric, about(array))
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


def test_the_margin_is_measured_whatever_the_limits() -> None:
    for limits in ({"max_abs": 1.0}, {"max_abs": 1e-9}, {"cosine": 0.99}):
        assert tolerance("y", known(1e-3, 0), RuntimeDemand(limits)).margin == pytest.approx(FACTOR * 1e-3)
    low = tolerance("y", known(1e-3, 0, rounded=0.25), RuntimeDemand({"cosine": 0.99}), "float16")
    assert low.margin == ROUNDING * 0.25


def test_what_computes_in_float16_is_allowed_a_multiple_of_what_that_does() -> None:
    found = tolerance("y", known(1e-3, 2**-12, rounded=0.25), AUTO, "float16")
    assert found.limits == {"max_abs": ROUNDING * 0.25, "rmse": ROUNDING * 0.25 / 2}
    assert found.margin == ROUNDING * 0.25
    assert found.source.startswith(f"{ROUNDING} x float16 arithmetic (0.25); ")


def test_what_computes_in_float32_is_allowed_nothing_for_float16() -> None:
    assert tolerance("y", known(1e-3, 0, rounded=0.25), AUTO) == tolerance("y", known(1e-3, 0), AUTO)


def test_the_noise_floor_holds_where_it_is_more_than_float16() -> None:
    found = tolerance("y", known(1e-3, 0, rounded=2**-20), AUTO, "float16")
    assert found.limits["max_abs"] == pytest.approx(FACTOR * 1e-3)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_an_arithmetic_that_overflows_is_allowed_nothing(value: float) -> None:
    found = tolerance("y", known(1e-3, 0, rounded=value), AUTO, "float16")
    plain = tolerance("y", known(1e-3, 0), AUTO)
    assert (found.limits, found.floor) == (plain.limits, plain.floor)
    assert found.source.startswith("float16 arithmetic overflows: nothing is allowed for it")


def test_an_arithmetic_of_which_nothing_is_known_is_allowed_nothing() -> None:
    found = tolerance("y", known(1e-3, 0, rounded=0.25), AUTO, "float16-sums")
    assert found.limits == tolerance("y", known(1e-3, 0), AUTO).limits
    assert found.source.startswith("nothing is known of float16-sums arithmetic")


def test_where_a_compression_is_unknown_that_is_said() -> None:
    array, name = Y, f"{UNCOMPRESSED}float16"
    noise = measure({"y": array}, {NUDGED: moved(0)}, {name: moved(0.25)}).of("y")
    found = tolerance("y", noise, AUTO, name)
    assert found.limits["max_abs"] == ROUNDING * 0.25
    assert "nothing is allowed for the compressed weights, say a tolerance" in found.source


def test_the_factors_are_those_that_were_measured() -> None:
    assert tolerance("y", known(1e-3, 0), AUTO).limits["max_abs"] == pytest.approx(8e-3)
    assert tolerance("y", known(1e-3, 0, rounded=0.25), AUTO, "float16").limits["max_abs"] == 0.5
    assert tolerance("y", known(0, 0), AUTO).limits["max_abs"] == 4 * 2.0**-21
    runtime = {OPTIMISATION: 7e-3}
    assert tolerance("y", known(1e-3, 0, runtime=runtime), AUTO).limits["max_abs"] == pytest.approx(14e-3)


@pytest.mark.parametrize("kind", [OPTIMISATION, THREADS])
def test_what_a_runtime_moves_by_itself_is_allowed_twice(kind: str) -> None:
    other = THREADS if kind == OPTIMISATION else OPTIMISATION
    found = tolerance("y", known(1e-3, 0, runtime={kind: 6e-3, other: 1e-3}), AUTO)
    assert found.limits == pytest.approx({"max_abs": SPREAD * 6e-3, "rmse": SPREAD * 3e-3})
    assert found.floor == pytest.approx({"max_abs": 6e-3, "rmse": 3e-3})
    assert f"{SPREAD} x the runtime's own (" in found.source and f"{kind} 0.006" in found.source


def test_a_broken_optimiser_widens_nothing() -> None:
    """It moves the output by more than rounding explains: the limit is as if it were not there, and says so."""
    noise = known(1e-3, 0, runtime={OPTIMISATION: 9e-3, THREADS: 7e-3})
    found = tolerance("y", noise, AUTO)
    assert found.limits == pytest.approx({"max_abs": SPREAD * 7e-3, "rmse": SPREAD * 3.5e-3})
    assert found.floor["max_abs"] == pytest.approx(7e-3)
    assert f"{OPTIMISATION} not counted: it moves the output by 0.009" in found.source


def test_a_model_without_a_float64_form_is_measured_by_what_there_is() -> None:
    found = tolerance("y", known(None, 2**-9), AUTO)
    assert found.limits["max_abs"] == FACTOR * 2**-9
    assert f"{FP64} not counted: there is no such form of it" in found.source


@pytest.mark.parametrize("limits", [None, {"max_abs": 0.1}])
def test_the_floor_is_the_largest_movement_that_is_nobodys_fault(limits: Any) -> None:
    asked = RuntimeDemand(limits)
    assert tolerance("y", known(1e-3, 2e-3), asked).floor["max_abs"] == pytest.approx(2e-3, rel=1e-3)
    noise = known(1e-3, 0, rounded=0.25)
    assert tolerance("y", noise, asked).floor == pytest.approx({"max_abs": 1e-3, "rmse": 5e-4})
    assert tolerance("y", noise, asked, "float16").floor == {"max_abs": 0.25, "rmse": 0.125}


def test_of_a_pair_the_larger_floor_counts() -> None:
    one = Tolerance({"max_abs": 1.0}, 1.0, "a", {"max_abs": 0.1, "rmse": 0.3})
    two = Tolerance({"max_abs": 2.0}, 2.0, "b", {"max_abs": 0.2, "rmse": 0.1})
    assert looser(one, two).floor == {"max_abs": 0.2, "rmse": 0.3}


@pytest.mark.parametrize(
    ("place", "source"),
    [("gates/runtime", "from the manifest"), ("--tolerance", "from the command line")],
)
def test_explicit_limits_say_where_they_come_from(place: str, source: str) -> None:
    assert tolerance("y", known(1e-3, 0), RuntimeDemand({"max_abs": 0.01}, place=place)).source == source


def test_without_a_count_of_samples_no_number_of_flips_is_refused() -> None:
    refuse_flips(RuntimeDemand(None, 5), None)


def test_a_constant_reference_is_not_what_makes_a_limit_vacuous() -> None:
    """It is red in itself, and no limit on it could be other than vacuous."""
    assert tolerance("y", known(0, 0, np.ones((2, 2), np.float32)), RuntimeDemand({"max_abs": 1.0})).limits
