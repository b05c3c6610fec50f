from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from modelbuild import tensors
from modelbuild.equivalence.demand import OutputDemand, RuntimeDemand
from modelbuild.equivalence.gate import Evaluation, Judged, Platform, runtime_gate
from modelbuild.equivalence.intervals import wilson
from modelbuild.equivalence.noise import Noise, Spread, measure
from modelbuild.equivalence.verdict import Verdict, passed
from modelbuild.errors import RecipeError
from modelbuild.recipes.verdicts import Recorded
from modelbuild.runtimes.base import Evidence, Run

N = 20
RNG = np.random.default_rng(3)
LOGITS = RNG.standard_normal((N, 4)).astype(np.float32)
BOXES = RNG.standard_normal((N, 2, 3)).astype(np.float32)
TRUTH = {"logits": LOGITS, "boxes": BOXES}
NOISE = 1e-6


class Reference(NamedTuple):
    """What the runs are held to: outputs, and their noise."""

    outputs: Mapping[str, Any]
    noise: Noise


def reference_of(
    outputs: Mapping[str, Any], moved: float = NOISE, rounded: Mapping[str, float] | None = None
) -> Reference:
    """With noise that moves every value of every output by `moved`, an arithmetic by its own."""

    def by(size: float) -> dict[str, Any]:
        return {name: array.astype(np.float64) + size for name, array in outputs.items()}

    sources = {"fp64": by(moved), "inputs moved 1 ulp": by(moved)}
    return Reference(outputs, measure(outputs, sources, {n: by(size) for n, size in (rounded or {}).items()}))


REFERENCE = reference_of(TRUTH)
LABELS = LOGITS.argmax(axis=1)
Outputs = Mapping[str, Any]


def run(outputs: Outputs = TRUTH, evidence: Evidence = "executed") -> Run:
    return Run(outputs, "1.0", "cpu", evidence)


def gate(
    runs: Mapping[str, Run],
    demand: RuntimeDemand | None = None,
    platforms: Mapping[str, Platform] | None = None,
    evaluation: Evaluation | None = None,
    reference: Reference = REFERENCE,
    rounds: Mapping[str, str] | None = None,
) -> tuple[Verdict, ...]:
    """The verdicts, without the rows that only tell how limits were derived."""
    found = judged(runs, demand, platforms, evaluation, reference, rounds).verdicts
    return tuple(
        verdict for verdict in found if verdict.metric not in ("tolerance", "noise") or not verdict.ok
    )


def judged(
    runs: Mapping[str, Run],
    demand: RuntimeDemand | None = None,
    platforms: Mapping[str, Platform] | None = None,
    evaluation: Evaluation | None = None,
    reference: Reference = REFERENCE,
    rounds: Mapping[str, str] | None = None,
) -> Judged:
    return runtime_gate(
        "m",
        reference.outputs,
        reference.noise,
        evaluation or Evaluation(N, LABELS),
        platforms or {name.partition(".")[0]: Platform() for name in runs},
        runs,
        demand or RuntimeDemand(),
        rounds or {},
    )


def red(verdicts: tuple[Verdict, ...]) -> list[Verdict]:
    return [verdict for verdict in verdicts if not verdict.ok]


def changed(name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    return {**TRUTH, name: change(TRUTH[name].copy())}


def poke(sample: int, value: float) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[sample, 0] = value
        return array

    return change


def test_equal_runs_are_green_and_every_pair_output_and_metric_has_its_verdict() -> None:
    verdicts = gate({"ios": run(), "android": run(), "browser": run()})
    assert passed(verdicts)
    compared = {(v.platform, v.against) for v in verdicts}
    assert compared == {
        ("android", "reference"), ("browser", "reference"), ("ios", "reference"),
        ("android", "browser"), ("android", "ios"), ("browser", "ios"),
    }  # fmt: skip
    errors = {"max_abs", "max_rel", "l1", "rmse", "sqnr_db", "cosine"}
    for platform, against in compared:
        mine = [v for v in verdicts if (v.platform, v.against) == (platform, against)]
        task = {"accuracy", "accuracy_drift"} if against == "reference" else set()
        known = errors if against == "reference" else {"max_abs", "rmse"}
        assert {v.metric for v in mine if v.output == "logits"} == known | {"decision_flips"} | task
        assert {v.metric for v in mine if v.output == "boxes"} == known


def test_noise_within_the_floor_is_green() -> None:
    noisy = {name: array + np.float32(3 * NOISE) for name, array in TRUTH.items()}
    assert passed(gate({"ios": run(noisy), "android": run()}))


def test_a_red_verdict_says_pair_output_sample_and_figures() -> None:
    spoilt = changed("boxes", lambda a: np.concatenate([a[:7], a[7:8] + np.float32(1e-3), a[8:]]))
    verdict = next(v for v in red(gate({"ios": run(spoilt)})) if v.metric == "max_abs")
    assert (verdict.target, verdict.platform, verdict.against) == ("m:ios", "ios", "reference")
    assert (verdict.version, verdict.backend, verdict.evidence) == ("1.0", "cpu", "executed")
    assert verdict.output == "boxes"
    assert verdict.measured == pytest.approx(1e-3, rel=1e-3)
    assert verdict.limit == pytest.approx(8 * NOISE, rel=0.1)
    assert "worst at sample 7" in verdict.detail
    assert "8 x the floor 1e-06" in verdict.detail


@pytest.mark.parametrize(
    ("outputs", "metric"),
    [
        (changed("logits", poke(3, np.nan)), "nan"),
        (changed("logits", poke(3, np.inf)), "inf"),
        (changed("logits", lambda a: a * np.float32(1.01)), "max_abs"),
        (changed("logits", lambda a: a * np.float32(1.01)), "rmse"),
        (changed("logits", lambda a: a[::-1].copy()), "max_abs"),
        (changed("logits", lambda a: a[::-1].copy()), "decision_flips"),
        (changed("logits", lambda a: a[:-1]), "samples"),
        (changed("logits", lambda a: np.concatenate([a, a[:1]])), "samples"),
        (changed("logits", lambda a: a[:, :3]), "length"),
        (changed("logits", lambda a: a.astype(np.float16)), "dtype"),
        (changed("logits", lambda a: a[:0]), "empty"),
        (changed("logits", lambda a: a * 0), "max_abs"),
        ({"boxes": BOXES}, "missing"),
        ({**TRUTH, "more": BOXES}, "extra"),
        ({"logit": LOGITS, "boxes": BOXES}, "missing"),
        ({"logits": BOXES, "boxes": LOGITS}, "shape"),
        ({}, "missing"),
    ],
)
def test_planted_faults_are_red(outputs: Outputs, metric: str) -> None:
    verdicts = gate({"ios": run(outputs), "android": run()})
    for against in ("reference", "android"):
        mine = [v for v in red(verdicts) if {v.platform, v.against} == {"ios", against}]
        expected = {"missing": {"missing", "extra"}, "extra": {"missing", "extra"}}.get(metric, {metric})
        assert {v.metric for v in mine} & expected, against
    assert not any(v for v in red(verdicts) if (v.platform, v.against) == ("android", "reference"))


def test_two_runs_wrong_alike_are_red_and_so_are_two_apart() -> None:
    bad = changed("logits", lambda a: a + 1)
    assert red(gate({"ios": run(bad), "android": run(bad)}))
    short = run({name: array[:-1] for name, array in TRUTH.items()})
    assert {v.metric for v in red(gate({"ios": short, "android": short}))} == {"samples"}
    up = {name: array + np.float32(6 * NOISE) for name, array in TRUTH.items()}
    down = {name: array - np.float32(6 * NOISE) for name, array in TRUTH.items()}
    found = red(gate({"up": run(up), "down": run(down)}))
    assert {(v.platform, v.against) for v in found} == {("down", "up")}


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.zeros((N, 4), np.float32), "zero"),
        (np.ones((N, 4), np.float32), "constant"),
        (np.full((N, 4), np.nan, np.float32), "nan"),
        (LOGITS[:-1], "samples"),
    ],
)
def test_an_unfit_reference_is_red_though_all_agree(array: Any, kind: str) -> None:
    outputs = {"logits": array, "boxes": BOXES}
    reference = reference_of(outputs, 0)
    verdicts = gate({"ios": run(outputs)}, reference=reference)
    assert kind in {v.metric for v in red(verdicts)}
    assert any(v.ok and v.output == "boxes" for v in verdicts)


def test_a_required_platform_that_cannot_run_is_red_with_the_reason() -> None:
    platforms = {"ios": Platform(), "mac": Platform(True, "Core ML needs macOS")}
    (verdict,) = red(gate({"ios": run()}, platforms=platforms))
    assert (verdict.platform, verdict.metric, verdict.evidence) == ("mac", "evidence", "none")
    assert "Core ML needs macOS" in verdict.detail
    assert '"required": false' in verdict.detail


def test_an_optional_platform_that_cannot_run_is_listed_as_not_evidenced() -> None:
    platforms = {"ios": Platform(), "mac": Platform(False, "Core ML needs macOS")}
    verdicts = gate({"ios": run()}, platforms=platforms)
    assert passed(verdicts)
    (verdict,) = [v for v in verdicts if v.metric == "evidence"]
    assert (verdict.ok, verdict.evidence) == (True, "none")
    assert verdict.detail == "not evidenced: Core ML needs macOS"


def test_a_way_of_running_that_is_not_here_is_a_row_and_no_pass() -> None:
    platforms = {"web": Platform(absent={"chromium-wasm": "there is no Chromium"})}
    verdicts = gate({"web.node-wasm": run()}, platforms=platforms)
    (verdict,) = [v for v in verdicts if v.metric == "evidence"]
    assert (verdict.ok, verdict.evidence, verdict.backend) == (True, "none", "chromium-wasm")
    assert verdict.detail == "not evidenced: there is no Chromium"
    (red_one,) = [v for v in red(gate({}, platforms=platforms)) if v.platform == "web"]
    assert "there is no Chromium" in red_one.detail


def test_a_run_without_evidence_is_no_run() -> None:
    verdicts = gate({"ios": run(evidence="none"), "android": run()})
    assert [v.platform for v in red(verdicts)] == ["ios"]
    assert {(v.platform, v.against) for v in verdicts} == {("ios", "reference"), ("android", "reference")}
    assert [v.metric for v in verdicts if v.platform == "ios"] == ["evidence"]
    alone = gate({"ios": run(evidence="none")})
    assert "nothing was checked: no platform was run" in {v.detail for v in red(alone)}


@pytest.mark.parametrize("required", [True, False])
def test_nothing_run_at_all_is_red(required: bool) -> None:
    verdicts = gate({}, platforms={"ios": Platform(required, "no Mac")})
    assert "nothing was checked: no platform was run" in {v.detail for v in red(verdicts)}
    assert not passed(gate({}, platforms={}))


def test_a_pair_is_no_better_evidenced_than_its_weaker_side() -> None:
    verdicts = gate({"ios": run(evidence="interpreted"), "android": run()})
    assert {v.evidence for v in verdicts if v.against == "ios"} == {"interpreted"}
    assert {v.evidence for v in verdicts if v.against == "reference" and v.platform == "android"} == {
        "executed"
    }


def flipping(count: int, margin: float) -> tuple[dict[str, Any], Reference]:
    """A reference that decides class 0 by `margin`, and outputs where `count` samples decide class 1."""
    logits = np.tile(np.array([[margin, 0.0, -5.0]], np.float32), (N, 1))
    other = logits.copy()
    other[:count, 1] = margin + 1e-3
    outputs = {"logits": logits}
    return {"logits": other}, reference_of(outputs, 0.4 / 8)


@pytest.mark.parametrize(
    ("count", "allowed", "ok"), [(1, 0, False), (1, 1, True), (2, 1, False), (0, 0, True)]
)
def test_flips_are_limited(count: int, allowed: int, ok: bool) -> None:
    other, reference = flipping(count, 0.5)
    demand = RuntimeDemand({"max_abs": 0.4}, allowed)
    verdicts = gate({"ios": run(other)}, demand, reference=reference)
    (verdict,) = [v for v in verdicts if v.metric == "decision_flips"]
    assert (verdict.measured, verdict.limit, verdict.ok) == (count, allowed, ok)
    assert ("first at sample 0" in verdict.detail) is (count > 0)


def test_ties_of_the_reference_are_told_but_not_counted() -> None:
    other, reference = flipping(3, 0.3)
    verdicts = gate({"ios": run(other)}, RuntimeDemand({"max_abs": 0.4}), reference=reference)
    (verdict,) = [v for v in verdicts if v.metric == "decision_flips"]
    assert verdict.ok
    assert "3 more are ties within 0.4" in verdict.detail


def test_flips_between_two_runs_use_the_margin_of_the_reference() -> None:
    other, reference = flipping(2, 0.5)
    verdicts = gate(
        {"ios": run(other), "mac": run(reference.outputs)},
        RuntimeDemand({"max_abs": 0.4}),
        reference=reference,
    )
    (verdict,) = [v for v in verdicts if v.metric == "decision_flips" and v.against == "mac"]
    assert (verdict.measured, verdict.ok) == (2, False)


def test_a_pair_that_both_wavers_and_flips_is_told_by_the_reference() -> None:
    _, reference = flipping(0, 0.5)
    near, beyond = (reference.outputs["logits"].copy() for _ in range(2))
    near[0, 1], beyond[0, 1] = 0.49, 0.51
    runs = {"ios": run({"logits": beyond}), "mac": run({"logits": near})}
    for each in (runs, {"ios": runs["mac"], "mac": runs["ios"]}):
        verdicts = gate(each, RuntimeDemand({"max_abs": 0.4}), reference=reference)
        (verdict,) = [v for v in verdicts if v.metric == "decision_flips" and v.against == "mac"]
        assert verdict.measured == 1


def test_the_task_metric_and_its_drift_are_told() -> None:
    wrong = changed("logits", lambda a: np.concatenate([-a[:5], a[5:]]))
    verdicts = {v.metric: v for v in gate({"ios": run(wrong)}) if v.output == "logits"}
    assert verdicts["accuracy"].measured == 0.75
    assert verdicts["accuracy_drift"].measured == -0.25
    assert verdicts["accuracy_drift"].limit is None


@pytest.mark.parametrize("labels", [None, LABELS + 4, LABELS - 9, LABELS.astype(np.float32), LABELS[:-1]])
def test_labels_that_are_no_classes_give_no_task_metric(labels: Any) -> None:
    verdicts = gate({"ios": run()}, evaluation=Evaluation(N, labels))
    assert passed(verdicts)
    assert not any(v.metric.startswith("accuracy") for v in verdicts)


def test_without_a_limit_a_metric_is_information() -> None:
    verdicts = gate(
        {"ios": run(changed("logits", lambda a: a * np.float32(1.01)))}, RuntimeDemand({"cosine": 0.99})
    )
    assert passed(verdicts)
    assert {v.metric for v in verdicts if v.limit is not None} == {"cosine", "decision_flips"}
    assert all("no limit is set" in v.detail for v in verdicts if v.limit is None)


def test_an_infinite_figure_is_left_to_the_words() -> None:
    verdict = next(v for v in gate({"ios": run()}) if v.metric == "sqnr_db")
    assert (verdict.measured, verdict.ok) == (None, True)
    assert "inf" in verdict.detail


def test_a_figure_that_is_no_number_is_red_though_nothing_is_demanded_of_it() -> None:
    zeros = {
        v.metric: v for v in gate({"ios": run(changed("boxes", lambda a: a * 0))}) if v.output == "boxes"
    }
    assert (zeros["cosine"].ok, zeros["cosine"].limit, zeros["cosine"].measured) == (False, None, None)


def test_a_platform_with_a_demand_of_its_own() -> None:
    coarse = changed("logits", lambda a: a + np.float32(1e-3))
    own = Platform(demand=RuntimeDemand({"max_abs": 1e-2}, place="platforms/ios"))
    platforms = {"ios": own, "android": Platform(), "web": Platform()}
    assert passed(gate({"ios": run(coarse), "android": run(), "web": run()}, platforms=platforms))
    assert red(gate({"ios": run(), "android": run(coarse)}, platforms=platforms))


def test_vacuous_limits_are_refused() -> None:
    with pytest.raises(RecipeError, match="would pass a constant"):
        gate({"ios": run()}, RuntimeDemand({"max_abs": 50.0}))
    with pytest.raises(RecipeError, match="every decision may change"):
        gate({"ios": run()}, RuntimeDemand(None, N))


def test_the_order_of_the_manifest_does_not_matter() -> None:
    runs = {"ios": run(), "android": run()}
    assert gate(runs) == gate(dict(reversed(runs.items())))


HALF = reference_of(TRUTH, rounded={"float16": 1e-3, "float16-sums": 1e-2})


def test_a_platform_may_be_run_in_several_ways_each_held_to_its_own_arithmetic() -> None:
    runs = {
        "ios": run(changed("boxes", lambda array: array + np.float32(1.5e-3)), "interpreted"),
        "ios.sums": run(changed("boxes", lambda array: array + np.float32(1.5e-2)), "interpreted"),
        "android": run(),
    }
    found = gate(runs, reference=HALF, rounds={"ios": "float16", "ios.sums": "float16-sums"})
    assert passed(found)
    assert {(v.target, v.platform, v.against) for v in found if v.platform == "ios"} == {
        ("m:ios", "ios", "reference"),
        ("m:ios", "ios", "ios.sums"),
    }
    assert {v.against for v in found if v.platform == "android"} == {"reference", "ios", "ios.sums"}
    alike = gate(runs, reference=HALF, rounds={"ios": "float16", "ios.sums": "float16"})
    assert {(v.platform, v.against) for v in red(alike)} == {
        ("ios", "reference"),
        ("ios", "ios.sums"),
        ("android", "ios.sums"),
    }


def test_the_noise_of_one_arithmetic_excuses_no_run_in_another() -> None:
    off = run(changed("boxes", lambda array: array + np.float32(1.5e-3)))
    assert passed(gate({"a": off}, reference=HALF, rounds={"a": "float16"}))
    assert not passed(gate({"a": off}, reference=HALF))


@pytest.mark.parametrize("required", [True, False])
def test_too_little_evidence_is_red_where_the_platform_is_required(required: bool) -> None:
    asked = {"a": Platform(required=required, evidence="executed")}
    found = gate({"a": run(evidence="interpreted")}, platforms=asked)
    (verdict,) = [v for v in found if v.metric == "evidence"]
    assert verdict.ok is not required
    assert "only interpreted" in verdict.detail
    assert "demands that it is executed" in verdict.detail
    assert passed(found) is not required


def test_one_run_with_the_evidence_asked_for_is_enough() -> None:
    asked = {"a": Platform(evidence="executed")}
    runs = {"a": run(), "a.other": run(evidence="interpreted")}
    assert [v for v in gate(runs, platforms=asked) if v.metric == "evidence"] == []


def test_evidence_better_than_asked_for_is_enough() -> None:
    assert passed(gate({"a": run()}, platforms={"a": Platform(evidence="interpreted")}))


def test_a_platform_is_required_and_must_be_interpreted_at_least_unless_told() -> None:
    assert passed(gate({"a": run(evidence="interpreted")}))
    (verdict,) = red(gate({"a": run(evidence="none"), "b": run()}))
    assert (verdict.platform, verdict.metric) == ("a", "evidence")
    assert verdict.detail.startswith("not evidenced: it was not run")


def test_too_little_evidence_is_shown_as_what_there_is() -> None:
    asked = {"a": Platform(evidence="executed"), "b": Platform(required=False, evidence="executed")}
    runs = {name: run(evidence="interpreted") for name in asked}
    found = {v.platform: v for v in gate(runs, platforms=asked) if v.metric == "evidence"}
    assert {v.evidence for v in found.values()} == {"interpreted"}
    assert [v.target for v in found.values()] == ["m:a", "m:b"]
    assert '"required": false' in found["a"].detail
    assert '"required": false' not in found["b"].detail


@pytest.mark.parametrize("other", ["ab", "ab.a", "b.a"])
def test_the_run_of_one_platform_is_no_evidence_for_another(other: str) -> None:
    platforms = {"a": Platform(), other.partition(".")[0]: Platform()}
    (verdict,) = red(gate({other: run()}, platforms=platforms))
    assert (verdict.platform, verdict.metric, verdict.evidence) == ("a", "evidence", "none")


def test_a_way_of_running_may_have_dots_in_its_name() -> None:
    assert passed(gate({"a.b.c": run()}, platforms={"a": Platform()}))


def test_ways_of_one_platform_share_its_demand() -> None:
    own = {"a": Platform(demand=RuntimeDemand({"max_abs": 1e-2}, place="platforms/a"))}
    off = run(changed("boxes", lambda array: array + np.float32(1e-3)))
    assert passed(gate({"a.way": off}, platforms=own))


def test_without_an_evaluation_set_the_reference_is_all_there_is() -> None:
    demand = RuntimeDemand(None, N)
    verdicts = gate({"a": run()}, demand, evaluation=Evaluation(None))
    assert passed(verdicts)
    assert not any(v.metric.startswith("accuracy") for v in verdicts)
    short = {name: array[:-1] for name, array in TRUTH.items()}
    assert {v.metric for v in red(gate({"a": run(short)}, evaluation=Evaluation(None)))} == {"samples"}


# -- what a verdict says beside measured and limit


def test_a_verdict_says_run_floor_and_the_tightest_limit_that_would_pass() -> None:
    off = changed("boxes", lambda array: array + np.float32(3.123e-5))
    found = {v.metric: v for v in gate({"ios.way": run(off)}) if v.output == "boxes"}
    verdict = found["max_abs"]
    assert (verdict.run, verdict.platform, verdict.ok) == ("ios.way", "ios", False)
    assert verdict.floor == pytest.approx(NOISE)
    assert verdict.needed == pytest.approx(3.2e-5)
    assert "(8 x the floor 1e-06); 3.9 times over; worst at sample" in verdict.detail
    assert "would pass from 3.2e-05" in verdict.detail
    assert found["max_rel"].needed is None
    relaxed = RuntimeDemand({"max_abs": verdict.needed})
    assert passed(gate({"ios": run(off)}, relaxed))
    assert {v.run for v in gate({}, platforms={"a": Platform()})} == {""}


def test_flips_have_an_interval_in_their_own_unit() -> None:
    other, reference = flipping(2, 0.5)
    verdicts = gate({"ios": run(other)}, RuntimeDemand({"max_abs": 0.6}), reference=reference)
    (verdict,) = [v for v in verdicts if v.metric == "decision_flips"]
    low, high = wilson(2, N)
    assert (verdict.measured, verdict.needed) == (2, 2)
    assert (verdict.low, verdict.high) == (pytest.approx(low * N), pytest.approx(high * N))
    assert f"up to {high:.2%} would" in verdict.detail


def test_a_rate_of_flips_may_be_limited_too() -> None:
    other, reference = flipping(0, 0.5)
    for limit, ok in ((0.5, True), (0.01, False)):
        demand = RuntimeDemand({"max_abs": 0.6}, flip_rate=limit)
        verdicts = gate({"ios": run(other), "mac": run(other)}, demand, reference=reference)
        assert [v.ok for v in verdicts if v.metric == "flip_rate"] == [ok] * 3
    assert not [v for v in gate({"ios": run()}) if v.metric == "flip_rate"]


def test_another_length_is_a_fault_of_its_own() -> None:
    longer = changed("boxes", lambda array: np.concatenate([array, array[:, :1]], axis=1))
    found = {(v.metric, v.against): v.detail for v in red(gate({"ios": run(longer), "android": run()}))}
    assert found["length", "reference"] == 'ios gives "boxes" 3 long on axis 1, the reference 2 long'
    assert found["length", "ios"] == 'android gives "boxes" 2 long on axis 1, ios 3 long'


def test_what_has_another_shape_is_read_all_the_same() -> None:
    narrow = changed("logits", lambda array: poke(3, np.nan)(array[:, :3].copy()))
    found = {v.metric: v.detail for v in red(gate({"ios": run(narrow)}))}
    assert found.keys() == {"length", "nan"}
    assert found["nan"] == 'ios has NaN in "logits", first at sample 3 (1 of 20)'


# -- how limits came about


def told(found: Judged, metric: str) -> list[str]:
    assert all(v.ok and v.limit is None for v in found.verdicts if v.metric == metric)
    return [f"{v.output}: {v.detail}" for v in found.verdicts if v.metric == metric]


def test_a_derivation_is_told_once_and_not_in_every_line() -> None:
    bad = changed("boxes", lambda array: array + 1)
    found = judged({"ios": run(bad), "android": run(bad), "web": run(bad)})
    rows = told(found, "tolerance")
    assert len(rows) == 2
    assert rows[0].startswith("boxes: android, ios, web may differ by max_abs ")
    assert "fp64" in rows[0] and "inputs moved 1 ulp" in rows[0]
    assert not any("fp64" in v.detail for v in found.verdicts if not v.ok)
    halves = judged({"a": run(), "b": run()}, reference=HALF, rounds={"a": "float16"})
    assert len(told(halves, "tolerance")) == 4


def test_noise_that_is_not_counted_is_told() -> None:
    spread = Spread(1.0, 1.0)
    runtime = {"optimisation": dict.fromkeys(TRUTH, spread)}
    sources = {"fp64": {name: array.astype(np.float64) for name, array in TRUTH.items()}}
    noise = measure(TRUTH, sources, {}, runtime)
    found = judged({"ios": run()}, reference=Reference(TRUTH, noise))
    assert passed(found.verdicts)
    assert {row.partition(" is not counted as noise: ")[0] for row in told(found, "noise")} == {
        "boxes: optimisation", "logits: optimisation",
    }  # fmt: skip
    assert told(judged({"ios": run()}), "noise") == []


def test_without_noise_of_an_output_it_is_red() -> None:
    known = Noise({"boxes": REFERENCE.noise.outputs["boxes"]})
    (verdict,) = red(gate({"ios": run()}, reference=Reference(TRUTH, known)))
    assert (verdict.output, verdict.metric) == ("logits", "noise")
    assert "no noise was measured" in verdict.detail


@pytest.mark.parametrize("change", [{"samples": 5}, {"values": 7}, {"dtype": "float64"}])
def test_the_noise_of_another_reference_is_red(change: dict[str, Any]) -> None:
    known = {**REFERENCE.noise.outputs, "logits": replace(REFERENCE.noise.outputs["logits"], **change)}
    (verdict,) = red(gate({"ios": run()}, reference=Reference(TRUTH, Noise(known))))
    assert (verdict.output, verdict.metric, verdict.target) == ("logits", "noise", "m:reference")
    assert "the reference gives float32" in verdict.detail


# -- all against all


def test_the_matrix_says_who_is_the_odd_one_out() -> None:
    bad = changed("logits", lambda array: array + np.float32(0.5))
    found = judged({"ios": run(), "android": run(), "web": run(bad)}).matrix.outputs
    logits = found["logits"]
    assert logits.runs == ("reference", "android", "ios", "web")
    assert logits.words == "reference = android = ios; web differs"
    assert found["boxes"].words == "reference = android = ios = web"
    assert logits.max_abs[0] == (0.0, 0.0, 0.0, pytest.approx(0.5, rel=1e-5))
    assert logits.ok[3] == (False, False, False, True)
    limit = next(v.limit for v in gate({"web": run(bad)}) if (v.output, v.metric) == ("logits", "max_abs"))
    assert limit is not None
    assert logits.share[0][3] is not None and logits.share[0][3] >= 0.5 / limit * 0.99
    shown = logits.histograms["web"]
    assert sum(shown["counts"]) + shown["zero"] == LOGITS.size
    assert (shown["floor"], shown["limit"]) == (pytest.approx(NOISE), limit)
    assert logits.margins["web"]["margin"] == limit
    assert found["boxes"].margins == {} and found["boxes"].histograms.keys() == {"android", "ios", "web"}


def test_what_cannot_be_compared_is_in_the_matrix_without_a_number() -> None:
    outputs = changed("logits", poke(3, np.nan))
    found = judged({"ios": run(outputs), "web": run({"boxes": BOXES})}).matrix.outputs["logits"]
    assert found.words == "reference alone; ios (nan) differs; web (missing) differs"
    assert found.ok[0] == (True, False, False)
    assert (found.max_abs[0], found.share[0]) == ((0.0, None, None), (0.0, None, None))
    assert found.histograms == {}
    wide = changed("logits", lambda array: array[:, :3])
    alike = judged({"ios": run(wide), "web": run(wide)}).matrix.outputs["logits"]
    assert alike.ok == ((True, False, False), (False, True, None), (False, None, True))


def test_nothing_is_compared_with_an_unfit_reference() -> None:
    outputs = {"logits": np.ones((N, 4), np.float32), "boxes": BOXES}
    found = judged({"ios": run(outputs)}, reference=reference_of(outputs, 0)).matrix.outputs
    assert found["logits"].words == "nothing was compared"
    assert found["boxes"].words == "reference = ios"


def test_two_runs_are_held_to_every_limit_of_the_manifest() -> None:
    up, down = (changed("boxes", lambda a, by=by: a * np.float32(by)) for by in (1.004, 0.996))
    demand = RuntimeDemand({"max_rel": 0.005, "cosine": 0.99})
    found = gate({"up": run(up), "down": run(down)}, demand)
    pair = {v.metric: v.ok for v in found if v.against in ("up", "down") and v.output == "boxes"}
    assert pair == {"max_rel": False, "cosine": True}
    assert [(v.platform, v.metric) for v in red(found)] == [("down", "max_rel")]


# -- outputs too large to hold


def test_files_are_judged_as_arrays_are(tmp_path: Path) -> None:
    runs = {
        "ios": run(changed("logits", lambda array: array + np.float32(1e-3))),
        "web": run(changed("boxes", poke(3, np.nan))),
    }
    tensors.save(tmp_path / "reference", TRUTH)
    stored = {}
    for name, each in runs.items():
        tensors.save(tmp_path / name, each.outputs)
        stored[name] = Recorded(tensors.opened(tmp_path / name), each.version, each.backend, each.evidence)
    reference = Reference(tensors.opened(tmp_path / "reference"), REFERENCE.noise)
    assert judged(stored, reference=reference) == judged(runs)  # type: ignore[arg-type]


@pytest.mark.parametrize("sample", [(4,), (2, 2)], ids=["scores", "values"])
def test_memory_does_not_grow_with_the_outputs(sample: tuple[int, ...]) -> None:
    peaks = []
    for samples in (20_000, 200_000):
        truth = np.arange(samples * 4, dtype=np.float32).reshape(-1, *sample)
        reference = Reference(
            tensors.held({"logits": truth}), measure({"logits": truth}, {"fp64": {"logits": truth + 1.0}}, {})
        )
        runs = {name: run(tensors.held({"logits": truth + np.float32(1)})) for name in ("ios", "web")}
        tracemalloc.start()
        judged(runs, reference=reference, evaluation=Evaluation(samples))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


# -- outputs whose samples differ in length

TEXT = {
    "tokens": np.array([[5, 6, 7, 0], [4, 2, 0, 0], [9, 8, 7, 6]]),
    "ends": np.array([3, 2, 4]),
    "frames": RNG.standard_normal((3, 4, 2)).astype(np.float32),
}
ENDS = {"tokens": OutputDemand("sequence", "ends", 0), "frames": OutputDemand(lengths="ends")}


def speak(outputs: dict[str, Any], labels: Any = None) -> Judged:
    return judged(
        {"ios": run(outputs), "web": run(TEXT)},
        RuntimeDemand(outputs=ENDS),
        evaluation=Evaluation(3, labels),
        reference=reference_of(TEXT),
    )


def test_past_its_end_nothing_of_a_sample_is_compared() -> None:
    frames, tokens = TEXT["frames"].copy(), TEXT["tokens"].copy()
    frames[1, 2:] = np.nan
    tokens[1, 3] = 77
    found = speak({**TEXT, "frames": frames, "tokens": tokens}).verdicts
    assert passed(found)
    assert {v.output for v in found if v.metric == "length"} == {"tokens", "frames"}
    frames[1, 1] += 1
    (verdict,) = {
        v.detail for v in speak({**TEXT, "frames": frames}).verdicts if not v.ok and v.metric == "max_abs"
    }
    assert "worst at sample 1" in verdict


def test_ending_early_is_red_though_the_rest_agrees() -> None:
    found = red(speak({**TEXT, "ends": np.array([3, 1, 4])}).verdicts)
    said = {(v.output, v.metric, v.against): v.detail for v in found}
    assert said["frames", "length", "reference"] == (
        "1 of 3 samples have another length; first at sample 1: 1, the reference has 2"
    )
    assert {output for output, metric, _ in said if metric == "max_abs"} == {"ends"}


def test_lengths_that_are_all_the_same_are_no_constant_reference_but_zeros_are() -> None:
    text = {**TEXT, "ends": np.array([4, 4, 4])}
    held_to = reference_of(text)
    demand = RuntimeDemand(outputs=ENDS)
    assert passed(judged({"a": run(text)}, demand, evaluation=Evaluation(3), reference=held_to).verdicts)
    nothing = {**TEXT, "ends": np.array([0, 0, 0])}
    found = judged({"a": run(nothing)}, demand, evaluation=Evaluation(3), reference=reference_of(nothing))
    assert ("ends", "zero") in {(v.output, v.metric) for v in red(found.verdicts)}


def test_a_run_without_its_lengths_is_read_to_the_end() -> None:
    frames = TEXT["frames"].copy()
    frames[1, 3] = np.inf
    found = speak({"frames": frames, "tokens": TEXT["tokens"]}).verdicts
    assert {"missing", "inf", "length"} <= {v.metric for v in red(found)}


def test_lengths_that_are_none_are_a_fault_of_the_run_and_stop_nothing() -> None:
    for ends in (np.ones((3, 2), np.int64), np.ones(3, np.float32), np.ones(2, np.int64)):
        found = red(speak({**TEXT, "ends": ends}).verdicts)
        assert {"shape", "dtype", "samples"} & {v.metric for v in found if v.output == "ends"}
        assert all("ios" in (v.run, v.against) for v in found)


def test_a_demand_on_what_is_no_output_is_refused() -> None:
    with pytest.raises(RecipeError, match='there is no output "logit"'):
        gate({"ios": run()}, RuntimeDemand(outputs={"logit": OutputDemand(kind="scores")}))


def test_the_task_of_a_sequence_is_scored_beside_the_reference() -> None:
    tokens = TEXT["tokens"].copy()
    tokens[0, 1] = 99
    found = {
        v.metric: v for v in speak({**TEXT, "tokens": tokens}, TEXT["tokens"]).verdicts if v.run == "ios"
    }
    assert found["token_error_rate"].measured == pytest.approx(1 / 9)
    assert found["token_error_rate_drift"].measured == pytest.approx(1 / 9)
    assert found["token_error_rate_drift"].low is not None
