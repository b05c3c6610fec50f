"""A waiver lets one figure pass, up to a limit and until a day; the manifest refuses one that says too little."""

import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from held import TODAY, row, share, terms, waiver

from modelbuild import declare, ratchet, waivers
from modelbuild.declare import Document
from modelbuild.ratchet import Known
from modelbuild.validate import Manifest, problems

RED = row(measured=0.05, limit=0.01, ok=False)


def settled(given, *given_waivers, day=TODAY, constants=None):
    return waivers.settle(given, given_waivers, day, constants or {})


# -- judging


def test_what_is_red_passes_up_to_the_limit_and_says_why():
    found = settled(RED, waiver())
    assert (found.row.ok, found.row.limit, found.by) == (True, 0.1, waiver())
    assert (
        found.row.detail == "waived until 2026-03-01: half (https://x.org/1). Without that red: as measured"
    )


def test_it_holds_on_its_last_day_and_not_after():
    assert settled(RED, waiver(), day=date(2026, 3, 1)).row.ok
    found = settled(RED, waiver(), day=date(2026, 3, 2)).row
    assert not found.ok
    assert (
        "the waiver ended on 2026-03-01 (half (https://x.org/1)): mend it, or renew the waiver"
        in found.detail
    )


def test_beyond_its_limit_the_verdict_stays_red():
    assert settled(replace(RED, measured=0.1), waiver()).row.ok
    found = settled(replace(RED, measured=0.1001), waiver()).row
    assert not found.ok
    assert "only up to 0.1" in found.detail


def test_a_share_passes_down_to_the_limit():
    given = share(0.9, limit=0.95, ok=False)
    on_gate = waiver(platform=None, gate="task", metric="accuracy")
    assert settled(given, on_gate._replace(limit=0.9)).row.ok
    assert not settled(given, on_gate._replace(limit=0.91)).row.ok


@pytest.mark.parametrize(
    ("more", "measured", "limit", "yes"),
    [
        (True, 0.9, 0.9, True), (True, 0.9, 0.91, False),
        (False, 0.9, 0.9, True), (False, 0.9, 0.89, False), (None, 0.9, 0.89, False),
        (True, -3.0, -3.5, True), (False, -3.0, -3.5, False),
    ],
)  # fmt: skip
def test_a_metric_of_the_project_passes_the_way_it_is_better(more, measured, limit, yes):
    given = share(measured, metric="far", limit=5.0, ok=False, more_is_better=more)
    on_gate = waiver(platform=None, gate="task", metric="far", limit=limit)
    found = settled(given, on_gate)
    assert found.row.ok == yes
    if not yes:
        assert f"only {'down' if more else 'up'} to {limit:g}" in found.row.detail


@pytest.mark.parametrize("more", [True, False])
def test_the_worst_of_a_projects_metric_is_where_less_is_good(more):
    on_gate = waiver(platform=None, gate="task", metric="far", limit=0 if more else 9)
    given = [
        share(m, metric="far", ok=False, output=o, more_is_better=more) for m, o in ((0.9, "y"), (0.8, "z"))
    ]
    (note,) = notes(*given, waived=(on_gate,))
    worst, towards = ("0.8", "down") if more else ("0.9", "up")
    assert f"{worst} (the worst of 2), is waived {towards} to" in note.detail


def test_a_waiver_of_a_gate_that_a_constant_would_meet_does_not_count():
    on_gate = waiver(platform=None, gate="task", metric="accuracy", limit=0.3)
    given = share(0.4, limit=0.95, ok=False, constant=0.375)
    found = settled(given, on_gate).row
    assert not found.ok
    assert "0.3 would pass a constant in place of the output, which reaches 0.375" in found.detail
    assert settled(given, on_gate._replace(limit=0.38)).row.ok
    far = share(2.0, metric="far", ok=False, constant=3.0, more_is_better=False)
    assert not settled(far, on_gate._replace(metric="far", limit=3)).row.ok
    assert settled(far, on_gate._replace(metric="far", limit=2.9)).row.ok


@pytest.mark.parametrize("kind", ["nan", "missing", "shape", "max_abs"])
def test_what_could_not_be_measured_never_passes(kind):
    given = row(metric=kind, measured=None, limit=None, ok=False)
    assert settled(given, waiver(metric=kind)).row == given


def test_a_limit_that_a_constant_would_meet_does_not_count():
    found = settled(RED, waiver(), constants={("y", "max_abs"): 0.09}).row
    assert not found.ok
    assert "0.1 would pass a constant in place of the output, which reaches 0.09" in found.detail
    assert settled(RED, waiver(), constants={("y", "max_abs"): 0.11}).row.ok


def test_the_constants_come_from_the_noise_of_the_model():
    known = Known({}, {("y", "max_abs"): 0.09})
    assert not ratchet.held_to([RED], terms(waivers=[waiver()], known=known))[0].ok


@pytest.mark.parametrize(
    ("other", "yes"),
    [
        (waiver(), True),
        (waiver(output="y"), True),
        (waiver(output="z"), False),
        (waiver(metric="rmse"), False),
        (waiver(platform="android"), False),
        (waiver(platform="io"), False),
        (waiver(platform="ios.float16-sums"), False),
        (waiver(platform=None, gate="task"), False),
    ],
)
def test_it_covers_its_own_figure_alone(other, yes):
    assert settled(RED, other).row.ok == yes


@pytest.mark.parametrize(
    ("name", "run", "yes"),
    [
        ("android", "android.1.18.1", True),
        ("android.1.18.1", "android.1.18.1", True),
        ("android.1.18.1", "android.1.18.10", False),
        ("android.1.18.1", "android", False),
    ],
)
def test_a_platform_covers_its_runs_and_a_run_itself(name, run, yes):
    assert settled(row(run, measured=0.05, ok=False), waiver(platform=name)).row.ok == yes


def test_of_two_runs_compared_either_may_be_the_waivers():
    pair = row("android", against="ios", measured=0.05, ok=False)
    assert settled(pair, waiver(platform="ios")).row.ok
    assert settled(pair, waiver(platform="android")).row.ok
    assert not settled(pair, waiver(platform="web")).row.ok


def test_the_size_of_an_artefact_may_be_waived():
    given = replace(
        row(metric="bytes", against="budget", measured=5.0, limit=4.0, ok=False), run="", output=""
    )
    assert settled(given, waiver(metric="bytes", limit=5)).row.ok
    assert not settled(given, waiver(metric="bytes", limit=4)).row.ok


@pytest.mark.parametrize(("gate", "against", "yes"), [("task", "label", True), ("teacher", "label", False)])
def test_a_gate_covers_its_own_verdicts(gate, against, yes):
    given = share(0.9, limit=0.95, ok=False, against=against)
    assert settled(given, waiver(platform=None, gate=gate, metric="accuracy")).row.ok == yes


def test_a_waiver_of_a_gate_covers_no_platform():
    given = row(metric="accuracy", against="label", measured=0.9, ok=False)
    assert not settled(given, waiver(platform=None, gate="task", metric="accuracy")).row.ok


def test_one_of_two_that_still_holds_is_enough():
    both = waiver(output="y", expires="2026-02-01"), waiver()
    assert settled(RED, *both).by == both[1]
    assert settled(RED, *both[::-1]).row.ok


# -- what is said of them


def notes(*given, waived=None, day=TODAY):
    found = ratchet.held_to(given, terms(waivers=waived or [waiver()], today=day))[len(given) :]
    return [each for each in found if each.metric == waivers.METRIC]


def test_what_passes_is_told_once_with_reason_link_and_end():
    (note,) = notes(RED, replace(RED, against="android", measured=0.07))
    assert (note.ok, note.target, note.limit) == (True, "m:verdict.runtime", None)
    assert note.detail == (
        "max_abs on ios, 0.07 (the worst of 2), is waived up to 0.1 until 2026-03-01: half (https://x.org/1)"
    )


def test_the_worst_share_is_the_lowest():
    on_gate = waiver(platform=None, gate="task", metric="accuracy", limit=0.5)
    given = [share(m, limit=0.95, ok=False, output=o) for m, o in ((0.9, "y"), (0.8, "z"))]
    (note,) = notes(*given, waived=(on_gate,))
    assert note.detail.startswith("accuracy at gate task, 0.8 (the worst of 2), is waived")
    assert note.target == "m:verdict.task"


def test_one_that_nothing_needs_is_said_to_go():
    (note,) = notes(row())
    assert note.ok
    assert note.detail == "the waiver on max_abs on ios is needed by nothing: remove it from manifests/m.json"
    (note,) = notes(row(), day=date(2026, 3, 2))
    assert "ended on 2026-03-01 and is needed by nothing" in note.detail


def test_one_that_did_not_help_or_whose_platform_is_not_here_is_not_said_to_go():
    assert notes(RED, day=date(2026, 3, 2)) == []
    assert notes(replace(RED, measured=9.0)) == []
    assert notes(row("android")) == []


# -- the manifest


def manifest(*given, gates=None):
    platforms = {"ios": {"runtime": "coreml"}, "android": {"runtime": "onnxruntime"}}
    loaded = {"loader": "sklearn-digits"}
    return {
        "model": "m", "data": {"evaluation": loaded}, "source": {"onnx": "m.onnx"}, "platforms": platforms,
        "gates": {"task": {"metric": "accuracy", "min": 0.9}} if gates is None else gates, "waivers": list(given),
    }  # fmt: skip


GOOD = {
    "platform": "ios", "metric": "max_abs", "limit": 0.1, "reason": "half", "link": "https://x.org/1",
    "expires": "2027-03-02",
}  # fmt: skip


def wrong(tmp_path, *given, **more):
    document = Document("m.json", json.loads(json.dumps(manifest(*given, **more))))
    return [str(each) for each in problems(Manifest(tmp_path, document, {}, TODAY))]


def changed(**more):
    return {key: value for key, value in {**GOOD, **more}.items() if value is not ...}


@pytest.mark.parametrize(
    "given",
    [
        GOOD,
        changed(platform="android.1.18.1", output="y"),
        changed(platform=..., gate="task", metric="accuracy", limit=0.8),
        changed(metric="bytes", limit=1000),
        changed(limit=0),
    ],
)
def test_a_manifest_may_waive(tmp_path, given):
    assert wrong(tmp_path, given) == []


LISTED = {
    "task": [
        {"metric": "accuracy", "min": 0.9},
        {"metric": "rmse", "max": 0.9, "output": "y"},
        {"metric": "modelbuild.tensors:load", "max": 0.9},
        {"metric": "cosine", "min": 0.9, "output": "z"},
    ]
}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"metric": "accuracy", "limit": 0.5}, ""),
        ({"metric": "accuracy", "limit": 0.5, "output": "x"}, ""),
        ({"metric": "rmse", "limit": 2}, ""),
        ({"metric": "rmse", "limit": 2, "output": "y"}, ""),
        ({"metric": "rmse", "limit": 2, "output": "yy"}, 'is on rmse of "y", not of "yy"'),
        ({"metric": "cosine", "limit": 0.5}, ""),
        ({"metric": "cosine", "limit": 0, "output": "z"}, "0 is not above 0 and at most 1"),
        ({"metric": "load", "limit": -3}, ""),
        ({"metric": "load", "limit": 3, "output": "x"}, ""),
        ({"metric": "modelbuild.tensors:load", "limit": 3}, "not on "),
        (
            {"metric": "l1", "limit": 3},
            'the task gate is on "accuracy", "rmse", "load", "cosine", not on "l1"',
        ),
        ({"metric": ["accuracy"], "limit": 3}, "is a list"),
        ({"metric": "accuracy", "limit": 0.5, "output": ["x"]}, "is a list"),
    ],
)
def test_of_a_gate_on_several_metrics_each_may_be_waived(tmp_path, more, words):
    found = wrong(tmp_path, {**changed(platform=..., gate="task"), **more}, gates=LISTED)
    assert (words in "\n".join(found)) if words else found == []


@pytest.mark.parametrize("metric", ["accuracy", "agreement", "token_error_rate", "load", "length"])
def test_what_no_platform_is_held_to_is_not_waived_there(tmp_path, metric):
    found = wrong(tmp_path, changed(metric=metric, limit=0.5), gates=LISTED)
    assert any(f'/metric: "{metric}" is not one of max_abs' in each for each in found)


FAULTS = {
    "no reason": (changed(reason=...), '#/waivers/0: "reason" is missing. Why it may pass'),
    "a blank reason": (changed(reason=" \n"), "/reason: says nothing"),
    "no link": (changed(link=...), '#/waivers/0: "link" is missing. Where it is being mended'),
    "no address": (changed(link="JIRA-12"), "is no http or https address"),
    "another protocol": (changed(link="ftp://x.org/1"), "is no http or https address"),
    "a file": (changed(link="file:///etc/passwd"), "is no http or https address"),
    "a script": (changed(link="javascript:alert(1)//http://x"), "is no http or https address"),
    "an address of nowhere": (changed(link="https://"), "is no http or https address"),
    "an address with a blank": (changed(link="https://x.org/a b"), "is no http or https address"),
    "a broken address": (changed(link="https://[x"), "is no http or https address"),
    "no end": (changed(expires=...), '"expires" is missing'),
    "no day": (changed(expires="2026-02-30"), '"2026-02-30" is no day. Write it as in 2027-03-02'),
    "another spelling": (changed(expires="20261231"), "is no day"),
    "digits of another script": (changed(expires="\u0662026-12-31"), "is no day"),
    "too far": (changed(expires="2027-03-03"), "2027-03-03 is more than 366 days ahead"),
    "no limit": (changed(limit=...), '"limit" is missing'),
    "a limit below nothing": (changed(limit=-1), "-1 is met by nothing"),
    "a relative limit of all": (changed(metric="max_rel", limit=1), "1 is met by anything"),
    "a rate of all": (changed(metric="token_error_rate", limit=1.0), "is met by anything"),
    "a share of nothing": (changed(metric="agreement", limit=0), "0 is not above 0 and at most 1"),
    "a likeness of nothing": (changed(metric="cosine", limit=0), "0 is not above 0 and at most 1"),
    "noise as loud as the signal": (changed(metric="sqnr_db", limit=0), "as loud as the signal"),
    "half a flip": (changed(metric="decision_flips", limit=0.5), "0.5 is not a whole number"),
    "text as limit": (changed(limit="1"), '"1" is a string, not a number'),
    "a metric that is none": (changed(metric="max_bas"), 'Did you mean "max_abs"?'),
    "a fault": (changed(metric="nan"), '"nan" is not one of'),
    "a platform that is none": (changed(platform="iso"), 'there is no platform "iso". Did you mean "ios"?'),
    "a run of none": (changed(platform="iso.x"), 'there is no platform "iso"'),
    "neither": (changed(platform=...), "names no platform and no gate"),
    "both": (changed(gate="task", metric="accuracy"), "names both a platform and a gate"),
    "a gate that is not declared": (changed(platform=..., gate="teacher"), 'there is no gate "teacher"'),
    "a gate on another metric": (changed(platform=..., gate="task"), 'is on "accuracy", not on "max_abs"'),
    "a gate that is none": (changed(platform=..., gate="tsk"), '"tsk" is not one of teacher, task'),
    "a gate of another kind": (changed(platform=..., gate=["task"]), "is not one of teacher, task"),
    "an unknown key": (changed(untill="x"), 'unknown key "untill"'),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_waiver_that_says_too_little_is_refused_where_it_stands(tmp_path, fault):
    given, words = FAULTS[fault]
    found = wrong(tmp_path, given)
    assert found
    assert words in "\n".join(found)
    assert all(each.startswith("m.json#/waivers/0") for each in found)


def test_two_on_the_same_figure_are_one_too_many(tmp_path):
    assert wrong(tmp_path, GOOD, changed(output="y")) == []
    (found,) = wrong(tmp_path, GOOD, changed(limit=0.2))
    assert found == "m.json#/waivers/1: a waiver before it is on the same figure. Keep one of the two."


def test_what_is_no_list_of_waivers_is_refused_and_nothing_breaks(tmp_path):
    for bad in ("x", {"a": 1}, None, 3):
        value = {**manifest(), "waivers": bad}
        assert [*problems(Manifest(tmp_path, Document("m.json", value), {}, TODAY))]
    assert wrong(tmp_path, 1, "x", None)


def test_a_model_declares_its_waivers():
    given = changed(output="y")
    made = declare.model(Document("manifests/m.json", manifest(given)), {})
    assert made.waivers == (
        waivers.Waiver("ios", None, "y", "max_abs", 0.1, "half", "https://x.org/1", "2027-03-02"),
    )
    assert (
        declare.model(Document("m", {k: v for k, v in manifest().items() if k != "waivers"}), {}).waivers
        == ()
    )


def test_the_day_is_that_of_utc(monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Kiritimati")  # 14 hours ahead
    time.tzset()
    try:
        assert declare.today() == datetime.now(UTC).date()
    finally:
        monkeypatch.undo()
        time.tzset()
