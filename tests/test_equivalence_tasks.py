from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelbuild.equivalence import demand, tasks
from modelbuild.equivalence.demand import OutputDemand
from modelbuild.equivalence.intervals import Table, paired_shares
from modelbuild.equivalence.metrics import METRICS, sums
from modelbuild.equivalence.tasks import Pairs, drift, figure, scores
from modelbuild.errors import RecipeError

SEQUENCE = OutputDemand("sequence", padding=0)


def of(metric: str, found: Any) -> float:
    return float(figure(metric)(found.sum(axis=0)))


@pytest.mark.parametrize(
    ("shape", "dtype", "expected"),
    [
        ((5, 3), "f4", "scores"), ((5, 2), "f2", "scores"), ((5, 1), "f4", "regression"), ((5,), "f4", "regression"),
        ((5, 3, 2), "f4", "regression"), ((5, 3), "i8", "sequence"), ((5, 3), "u1", "sequence"),
        ((5,), "i8", "regression"), ((5, 3), "?", "regression"), ((5, 3, 2), "i4", "regression"),
    ],
)  # fmt: skip
def test_what_an_output_is(shape: tuple[int, ...], dtype: str, expected: str) -> None:
    assert tasks.kind(np.zeros(shape, dtype)) == expected
    assert tasks.kind(np.zeros(shape, dtype), OutputDemand(padding=None, lengths="n")) == expected
    assert tasks.kind(np.zeros(shape, dtype), OutputDemand("regression")) == "regression"
    assert set(tasks.METRICS) == set(demand.KINDS)


def test_an_output_of_the_manifest_has_to_be_there_and_to_be_one() -> None:
    outputs = {"logits": np.zeros((4, 3), "f4"), "n": np.zeros(4, "i8"), "text": np.zeros((4, 7), "i4")}
    fine = {"logits": {"kind": "scores"}, "text": {"kind": "sequence", "lengths": "n", "padding": 0}}
    tasks.refuse_unknown(outputs, demand.outputs({**fine, "n": {"kind": "regression"}}))
    for asked, place, words in (
        ({"logit": {"kind": "scores"}}, "logit", 'no output "logit". Did you mean "logits"'),
        ({"text": {"lengths": "m"}}, "text/lengths", 'no output "m"'),
        ({"n": {"lengths": "logits"}}, "n/lengths", "a sample is one number and has no length"),
        ({"logits": {"kind": "sequence"}}, "logits/kind", '"logits" is float32 (4, 3), and sequence are'),
        ({"text": {"kind": "scores"}}, "text/kind", '"text" is int32 (4, 7), and scores are'),
    ):
        with pytest.raises(RecipeError) as caught:
            tasks.refuse_unknown(outputs, demand.outputs(asked))
        assert caught.value.place == f"gates/runtime/outputs/{place}"
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("output", "labels", "expected"),
    [
        (np.zeros((2, 3)), np.array([0, 2]), ("accuracy",)),
        (np.zeros((2, 3)), np.array([0, 3]), ()),
        (np.zeros((2, 3)), np.array([-1, 2]), ()),
        (np.zeros((2, 3)), np.array([0, 2, 1]), ()),
        (np.zeros((2, 3)), np.array([0.0, 2.0]), ()),
        (np.zeros((2, 3)), np.zeros((2, 3)), ()),
        (np.zeros((2, 3), int), np.array([[1], [0]]), ("token_error_rate",)),
        (np.zeros((2, 3), int), np.array([1, 0]), ()),
        (np.zeros((2, 3, 1)), np.zeros((2, 3, 1)), ("rmse", "l1", "max_abs")),
        (np.zeros((2, 3, 1)), np.zeros((2, 3)), ()),
        (np.zeros(2), np.zeros(2, int), ("rmse", "l1", "max_abs")),
        (np.zeros((0, 3)), np.zeros(0, int), ()),
    ],
)
def test_the_metrics_that_fit_both_output_and_labels(
    output: Any, labels: Any, expected: tuple[str, ...]
) -> None:
    assert tasks.metrics(output, labels) == expected


def test_labels_of_padding_alone_have_no_error_rate() -> None:
    output = np.ones((2, 3), int)
    assert tasks.metrics(output, np.zeros((2, 3), int), SEQUENCE) == ()
    assert tasks.metrics(output, np.zeros((2, 3), int)) == ("token_error_rate",)


def test_the_scores_of_classes() -> None:
    found = scores("accuracy", np.array([[1, 2, 0], [3, 3, 1], [0, 0, 9]]), np.array([1, 1, 2]))
    assert found.tolist() == [[1, 1], [0, 1], [1, 1]]  # of equal scores the first class is the answer
    assert of("accuracy", found) == pytest.approx(2 / 3)


def test_the_scores_of_sequences() -> None:
    output = np.array([[1, 2, 3, 0], [0, 0, 0, 0], [4, 0, 4, 0]])
    labels = np.array([[1, 3, 0, 0], [7, 0, 0, 0], [4, 4, 0, 0]])
    found = scores("token_error_rate", output, labels, SEQUENCE)
    assert found.tolist() == [[1, 2], [1, 1], [1, 2]]
    assert of("token_error_rate", found) == pytest.approx(3 / 5)
    classes = np.eye(8, dtype=np.float32)[output]
    assert np.array_equal(scores("token_error_rate", classes, labels, SEQUENCE), found)
    assert scores("token_error_rate", output, labels)[:, 1].tolist() == [4, 4, 4]


def test_lengths_end_a_sequence_where_padding_does_not() -> None:
    output, labels = np.array([[1, 2, 9, 9], [3, 0, 9, 9]]), np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
    asked = OutputDemand("sequence", "n", 0)
    assert scores("token_error_rate", output, labels, asked, np.array([2, 1])).tolist() == [[0, 2], [0, 1]]
    assert scores("token_error_rate", output, labels, asked, np.array([-1, 99])).tolist() == [[2, 2], [3, 1]]


@pytest.mark.parametrize("metric", ["rmse", "l1", "max_abs"])
@pytest.mark.parametrize("shape", [(6,), (6, 5), (6, 5, 2)])
def test_the_scores_of_a_regression_add_up_to_the_metric_of_the_same_name(metric: str, shape: Any) -> None:
    generator = np.random.default_rng(1)
    output, labels = generator.normal(size=shape).astype(np.float32), generator.normal(size=shape)
    found = scores(metric, output, labels)
    assert found.shape == (6, 2)
    measured = drift(metric, found, found).measured
    assert measured == pytest.approx(METRICS[metric](sums(labels, output)))


def test_a_regression_that_ends_early_is_charged_for_what_it_left_out() -> None:
    labels = np.array([[1.0, 1.0, 0.0]])
    output = np.array([[1.0, 1.0, np.nan]])
    assert of("l1", scores("l1", output, labels, lengths=np.array([2]))) == 0
    assert of("l1", scores("l1", output, labels, lengths=np.array([1]))) == pytest.approx(1 / 3)


def test_the_drift_of_an_accuracy() -> None:
    run, reference = np.ones((10, 2)), np.ones((10, 2))
    run[:3, 0], reference[2:4, 0] = 0, 0
    found = drift("accuracy", run, reference)
    assert (found.measured, found.reference, found.samples, found.changed) == (0.7, 0.8, 10, 3)
    assert found.drift == pytest.approx(-0.1)
    assert (found.low, found.high) == paired_shares(Table(1, 2, 10))
    assert found.own == pytest.approx((0.3968, 0.8922), abs=1e-4)


def test_no_change_among_few_samples_is_no_proof() -> None:
    same = np.ones((10, 2))
    found = drift("accuracy", same, same)
    assert (found.drift, found.changed) == (0, 0)
    assert (found.low, found.high) == pytest.approx((-0.2775, 0.2775), abs=1e-4)
    for metric in ("accuracy", "token_error_rate"):
        assert (
            "no sample of 10 changed, so at most 27.75% of all would"
            in tasks.drift_rows(metric, drift(metric, same, same))[1].detail
        )


def test_the_drift_of_an_error_is_paired() -> None:
    """Each run is known to a tenth, what one gained on the other to a thousandth."""
    error = np.random.default_rng(2).exponential(size=(300, 1))
    weights = np.ones((300, 1))
    reference = np.hstack([error, weights])
    run = np.hstack([error + 0.01 + 0.001 * np.random.default_rng(3).normal(size=(300, 1)), weights])
    found = drift("l1", run, reference)
    assert found.low is not None
    assert found.high is not None
    assert found.own is not None
    assert found.low <= found.drift <= found.high
    assert (found.low, found.high) == pytest.approx((0.01, 0.01), abs=3e-4)
    assert found.own.high - found.own.low > 0.1


def test_the_drift_of_a_root_mean_square_and_of_a_rate() -> None:
    run, reference = np.array([[4.0, 1], [0, 1]]), np.array([[2.0, 1], [0, 1]])
    assert drift("rmse", run, reference).drift == pytest.approx(2**0.5 - 1)
    run, reference = np.array([[1.0, 2], [0, 6]]), np.array([[0.0, 2], [0, 6]])
    assert drift("token_error_rate", run, reference).measured == 1 / 8


def test_a_largest_error_has_no_interval() -> None:
    run, reference = np.array([[4.0, 1], [0, 1]]), np.array([[2.0, 1], [0, 1]])
    found = drift("max_abs", run, reference)
    assert (found.measured, found.reference, found.drift) == (4, 2, 2)
    assert (found.low, found.high, found.own) == (None, None, None)
    assert [row.low for row in tasks.drift_rows("max_abs", found)] == [None, None]


@pytest.mark.parametrize("metric", ["accuracy", "token_error_rate", "rmse", "l1", "max_abs"])
def test_a_drift_in_chunks_is_that_of_the_whole(metric: str) -> None:
    generator = np.random.default_rng(4)
    run, reference = (np.hstack([generator.integers(0, 2, (9000, 1)), np.ones((9000, 1))]) for _ in range(2))
    pairs = Pairs(metric)
    for start in range(0, 9000, 1234):
        pairs.add(run[start : start + 1234], reference[start : start + 1234])
    assert pairs.drift() == drift(metric, run, reference)
    assert pairs.drift().samples == 9000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_has_no_interval(bad: float) -> None:
    run, reference = np.array([[bad, 1], [0, 1]]), np.array([[2.0, 1], [0, 1]])
    found = drift("l1", run, reference)
    assert not np.isfinite(found.measured)
    assert (found.low, found.high, found.own) == (None, None, None)


def test_a_drift_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match="of no sample at all"):
        drift("l1", np.zeros((0, 2)), np.zeros((0, 2)))


def test_the_rows_of_a_drift() -> None:
    run, reference = np.ones((10, 2)), np.ones((10, 2))
    run[:2, 0] = 0
    own, moved = tasks.drift_rows("accuracy", drift("accuracy", run, reference))
    assert (own.metric, own.measured, own.limit, own.ok) == ("accuracy", 0.8, None, True)
    assert (own.low, own.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert own.detail == (
        "accuracy 0.8000 (95 %: 0.4902 to 0.9433), the reference has 1.0000, for information: no limit is set"
    )
    assert (moved.metric, moved.measured) == ("accuracy_drift", pytest.approx(-0.2))
    assert moved.low is not None
    assert moved.low < -0.2 < (moved.high or 0)
    assert "accuracy 0.8000, the reference has 1.0000: -0.2000 (95 %: -0." in moved.detail
    assert "changed" not in moved.detail


@pytest.mark.parametrize(
    ("flips", "decided", "ok", "words"),
    [
        (0, 381, True, "0 of 381 decisions flip: up to 0.009982 of all would (95 %), limit 0.01"),
        (0, 380, False, "That is too few samples: 381 decided ones without a flip would do"),
        (0, 0, False, "That is too few samples: 381 decided ones without a flip would do"),
        (1, 200, False, "That is too few samples: 1522 decided ones at this rate would do"),
        (5, 100, False, "The share itself is 0.05: more samples would not help"),
        (1, 100, False, "The share itself is 0.01: more samples would not help"),
        (1, 1000, True, "1 of 1000 decisions flip: up to 0.005643 of all would"),
    ],
)
def test_a_flip_rate_needs_enough_samples(flips: int, decided: int, ok: bool, words: str) -> None:
    row = tasks.flip_rate(flips, decided, 0.01)
    assert (row.metric, row.limit, row.ok) == ("flip_rate", 0.01, ok)
    assert words in row.detail
    assert row.measured == (flips / decided if decided else 0)
    assert row.needed == row.high
    assert row.needed is not None
    assert tasks.flip_rate(flips, decided, row.needed).ok
    assert not tasks.flip_rate(flips, decided, row.needed - 1e-9).ok


def test_lengths_that_differ_are_a_verdict_of_their_own() -> None:
    row = tasks.length_row(np.array([3, 4, 5, 6]), np.array([3, 5, 5, 7]))
    assert (row.metric, row.measured, row.limit, row.ok) == ("length", 2, 0, False)
    assert row.detail == ("2 of 4 samples have another length; first at sample 1: 4, the reference has 5")
    same = tasks.length_row(np.array([3, 4]), np.array([3, 4]), "ios")
    assert (same.measured, same.ok, same.needed) == (0, True, 0)
    assert "ios has 4" in tasks.length_row(np.array([3, 5]), np.array([3, 4]), "ios").detail
