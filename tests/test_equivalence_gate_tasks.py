"""The runtime gate on what outputs mean: sequences, lengths, regressions with labels, and rates of flips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from modelbuild.equivalence import demand, noise
from modelbuild.equivalence.gate import Evaluation, Platform, runtime_gate
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError
from modelbuild.runtimes.base import Run

SAMPLES, LONGEST = 60, 8
GENERATOR = np.random.default_rng(0)
LENGTHS = GENERATOR.integers(2, LONGEST + 1, SAMPLES)
INSIDE = np.arange(LONGEST) < LENGTHS[:, None]
TEXT = np.where(INSIDE, GENERATOR.integers(1, 30, (SAMPLES, LONGEST)), 0)
MEL = GENERATOR.normal(size=(SAMPLES, LONGEST, 3)).astype(np.float32)
LOGITS = GENERATOR.normal(size=(SAMPLES, 5)).astype(np.float32)
REFERENCE: dict[str, Any] = {"text": TEXT, "n": LENGTHS, "mel": MEL, "logits": LOGITS}
OUTPUTS = {"text": {"kind": "sequence", "lengths": "n", "padding": 0}, "mel": {"lengths": "n"}}


def judged(
    runs: dict[str, Any], labels: Any = None, outputs: Any = OUTPUTS, **gate: Any
) -> tuple[Verdict, ...]:
    moved = {name: array + 1e-6 if array.dtype.kind == "f" else array for name, array in REFERENCE.items()}
    asked = demand.runtime({"outputs": outputs, **gate})
    made = {name: Run({**REFERENCE, **run}, "1", "cpu", "executed", {}) for name, run in runs.items()}
    platforms = {name: Platform() for name in runs}
    floor = noise.measure(REFERENCE, {"fp64": moved}, {})
    return runtime_gate("m", REFERENCE, floor, Evaluation(SAMPLES, labels), platforms, made, asked).verdicts


def changed(name: str, where: Any, value: Any) -> dict[str, Any]:
    array = REFERENCE[name].copy()
    array[where] = value
    return {name: array}


def of(verdicts: tuple[Verdict, ...], output: str, metric: str) -> Verdict:
    (found,) = [v for v in verdicts if (v.output, v.metric) == (output, metric) and v.run]
    return found


def red(verdicts: tuple[Verdict, ...]) -> set[tuple[str, str]]:
    return {(verdict.output, verdict.metric) for verdict in verdicts if not verdict.ok}


def test_what_agrees_is_green() -> None:
    verdicts = judged({"ios": {}}, TEXT)
    assert red(verdicts) == set()
    assert of(verdicts, "mel", "length").limit == of(verdicts, "text", "length").measured == 0


def test_past_the_end_anything_may_stand() -> None:
    mel = np.where(INSIDE[:, :, None], MEL, np.float32(np.nan))
    text = np.where(INSIDE, TEXT, 7)
    assert red(judged({"ios": {"mel": mel, "text": text}})) == set()
    assert ("mel", "nan") in red(judged({"ios": {"mel": mel}}, outputs={"n": {"kind": "regression"}}))


@pytest.mark.parametrize("by", [-1, 1])
def test_another_length_is_red_by_itself(by: int) -> None:
    sample = int(np.flatnonzero((LENGTHS > 2) & (LENGTHS < LONGEST))[0])
    verdicts = judged({"ios": changed("n", sample, LENGTHS[sample] + by)})
    assert {("mel", "length"), ("text", "length")} <= red(verdicts)
    assert red(verdicts) <= {("mel", "length"), ("text", "length"), ("n", "max_abs"), ("n", "rmse")}
    said = of(verdicts, "mel", "length")
    assert said.measured == 1
    words = f"first at sample {sample}: {LENGTHS[sample] + by}, the reference has {LENGTHS[sample]}"
    assert words in said.detail


def test_two_runs_of_other_lengths_are_red_as_a_pair() -> None:
    verdicts = judged({"ios": changed("n", 4, 1), "web": {}})
    pair = [
        v
        for v in verdicts
        if (v.run, v.against, v.metric) in {("ios", "web", "length"), ("web", "ios", "length")}
    ]
    assert {verdict.output for verdict in pair} == {"mel", "text"}
    assert not any(verdict.ok for verdict in pair)


def test_inside_its_length_every_value_counts() -> None:
    assert ("mel", "max_abs") in red(judged({"ios": changed("mel", (3, LENGTHS[3] - 1), 9)}))
    assert ("text", "max_abs") in red(judged({"ios": changed("text", (3, LENGTHS[3] - 1), 29.0)}))


def test_a_sequence_is_scored_by_its_tokens() -> None:
    verdicts = judged({"ios": changed("text", (3, 0), 0)}, TEXT)
    rate, moved = of(verdicts, "text", "token_error_rate"), of(verdicts, "text", "token_error_rate_drift")
    assert rate.measured == moved.measured == pytest.approx(1 / LENGTHS.sum())
    assert rate.low is not None
    assert rate.low <= 1 / LENGTHS.sum() < (rate.high or 0)
    assert moved.low is not None


def test_a_regression_is_scored_by_its_distance_from_the_labels() -> None:
    labels = np.where(INSIDE[:, :, None], MEL, 0) + np.float32(0.5)
    verdicts = judged({"ios": {"mel": MEL * np.float32(0.5)}}, labels)
    for metric in ("l1", "rmse"):
        moved = of(verdicts, "mel", f"{metric}_drift")
        assert moved.low is not None
        assert moved.measured is not None
        assert moved.high is not None
        assert moved.low < moved.measured < moved.high


def test_what_is_called_a_regression_has_no_decisions() -> None:
    assert of(judged({"ios": {}}), "logits", "decision_flips").ok
    verdicts = judged({"ios": {}}, outputs={"logits": {"kind": "regression"}})
    assert "decision_flips" not in {verdict.metric for verdict in verdicts if verdict.output == "logits"}


def test_a_rate_of_flips_needs_enough_samples() -> None:
    few = of(judged({"ios": {}}, flip_rate=0.01), "logits", "flip_rate")
    assert (few.measured, few.limit, few.ok) == (0, 0.01, False)
    assert "That is too few samples: 381 decided ones without a flip would do" in few.detail
    assert few.high == few.needed == pytest.approx(3.8415 / (60 + 3.8415), abs=1e-4)
    enough = of(judged({"ios": {}}, flip_rate=0.07), "logits", "flip_rate")
    assert enough.ok
    assert "flip_rate" not in {verdict.metric for verdict in judged({"ios": {}})}


def test_an_output_that_is_not_there_is_refused() -> None:
    with pytest.raises(RecipeError, match=r'gates/runtime/outputs/logit: there is no output "logit"'):
        judged({"ios": {}}, outputs={"logit": {"kind": "scores"}})
