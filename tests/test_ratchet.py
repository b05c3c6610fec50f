"""What was accepted may not get worse by more than chance or noise, and the lock file says so to a reviewer."""

import json
from dataclasses import replace
from datetime import date

import pytest
from held import TODAY, figure, row, share, terms, waiver

from modelbuild import accepted, ratchet
from modelbuild.accepted import Kept, Lock
from modelbuild.errors import ManifestError
from modelbuild.ratchet import Known


def judged(given, *figures, **more):
    return ratchet.held_to([given], terms(*figures, **more))[0]


# -- worse, or not


@pytest.mark.parametrize(
    ("measured", "noise", "floor32", "ok"),
    [
        (1e-5, 0.0, 0.0, True),
        (1.01e-5, 0.0, 0.0, False),
        (3e-5, 2e-5, 0.0, True),
        (3.1e-5, 2e-5, 0.0, False),
        (3e-5, 0.0, 2e-5, True),
        (3.1e-5, 1e-6, 2e-5, False),
        (1e-9, 0.0, 0.0, True),
    ],
)
def test_an_error_may_exceed_the_accepted_one_by_what_rounding_explains(measured, noise, floor32, ok):
    known = Known({("y", "max_abs"): floor32}, {})
    found = judged(row(measured=measured), figure(noise=noise), known=known)
    assert found.ok == ok
    if ok:
        assert found == row(measured=measured)
    else:
        assert found.limit == pytest.approx(1e-5 + max(noise, floor32))
        for words in (
            "is worse than the 1e-05 accepted in manifests/m.lock.json",
            "manifests/m.json",
            "as measured",
        ):
            assert words in found.detail
        assert ("by more than rounding explains" in found.detail) == bool(noise or floor32)


def test_a_coarser_arithmetic_is_worse_although_its_own_limit_allows_it():
    """From float32 to float16 the floor and the limit of the verdict grow; what was accepted does not."""
    float32 = row(measured=7e-6, limit=4.6e-5, floor=5.7e-6)
    lock, _ = ratchet.renewed([float32], terms(), {})
    float16 = row(measured=0.02, limit=0.04, floor=0.02)
    found = ratchet.held_to([float16], terms(*lock.figures.values()))[0]
    assert not found.ok
    assert "0.02 is worse than the 7e-06 accepted" in found.detail


def test_the_other_way_round_the_line_gets_tighter():
    lock, _ = ratchet.renewed([row(measured=0.02, limit=0.04, floor=0.02)], terms(), {})
    lock, changes = ratchet.renewed(
        [row(measured=7e-6, limit=4.6e-5, floor=5.7e-6)], terms(*lock.figures.values()), {}
    )
    (line,) = lock.figures.values()
    assert (line.accepted, line.noise) == (7e-6, pytest.approx(4.56e-5))
    assert changes == (("tighter", "ios y max_abs: 0.02 -> 7e-06"),)


@pytest.mark.parametrize(("measured", "low", "high", "ok"), [
    (0.98, 0.96, 0.991, True), (0.97, 0.95, 0.989, False), (0.999, 0.995, 1.0, True),
])  # fmt: skip
def test_a_share_is_worse_where_its_interval_lies_below_the_accepted_one(measured, low, high, ok):
    found = judged(share(measured, low, high), figure("m:reference", "accuracy", 0.99, against="label"))
    assert found.ok == ok
    assert ok or "by more than chance (its 95 % interval ends at 0.989)" in found.detail


@pytest.mark.parametrize(("low", "high", "ok"), [(0.09, 0.2, True), (0.11, 0.2, False)])
def test_an_error_with_an_interval_is_worse_where_it_lies_above(low, high, ok):
    given = share(0.15, low, high, metric="rmse", against="teacher")
    assert judged(given, figure("m:reference", "rmse", 0.1, against="teacher")).ok == ok


@pytest.mark.parametrize(("more", "low", "high", "ok"), [
    (True, 0.9, 0.98, False), (True, 0.9, 1.0, True), (True, 1.01, 1.1, True),
    (False, 0.9, 0.98, True), (False, 0.9, 1.0, True), (False, 1.01, 1.1, False),
])  # fmt: skip
def test_a_metric_of_the_project_is_worse_on_the_side_that_its_verdict_says(more, low, high, ok):
    given = share(0.97, low, high, metric="far", more_is_better=more)
    found = judged(given, figure("m:reference", "far", 0.99, against="label"))
    assert found.ok == ok
    assert (
        ok or f"by more than chance (its 95 % interval ends at {high if more else low:.4g})" in found.detail
    )


@pytest.mark.parametrize(
    ("more", "measured", "kind"), [(True, 1.2, "tighter"), (False, 0.8, "tighter"), (True, 0.8, None)]
)
def test_a_metric_of_the_project_is_tightened_the_way_it_is_better(more, measured, kind):
    given = share(measured, measured - 0.1, measured + 0.1, metric="far", limit=None, more_is_better=more)
    given = replace(given, limit=0.5 if more else 5.0)
    old = figure("m:reference", "far", 1.0, against="label")
    _, changes = ratchet.renewed([given], terms(old), {})
    assert [each.kind for each in changes] == ([kind] if kind else [])


def test_every_metric_of_a_gate_on_the_model_itself_is_held():
    metrics = ("accuracy", "cosine", "l1", "rmse", "far")
    rows = [share(0.9, 0.8, 0.95, metric=each, limit=0.5, against="teacher") for each in metrics]
    lock, _ = ratchet.renewed(rows, terms(), {})
    assert {each.metric for each in lock.figures.values()} == set(metrics)
    runs = [row(metric=each, low=0.1, high=0.2) for each in metrics]
    lock, _ = ratchet.renewed(runs, terms(), {})
    assert {each.metric for each in lock.figures.values()} == {"accuracy", "rmse", "far"}


def test_a_share_without_an_interval_is_compared_as_it_is():
    lines = figure("m:reference", "accuracy", 0.99, against="label")
    assert judged(share(0.99), lines).ok
    assert not judged(share(0.9899), lines).ok


def test_what_rounding_moves_is_not_judged_by_an_interval():
    """An error of a run has a floor; an interval around it says how samples scatter, not how processors do."""
    given = row(measured=1.2e-5, floor=1e-6, low=1.19e-5, high=1.21e-5)
    assert judged(given, figure(noise=1e-5)).ok


@pytest.mark.parametrize("metric", ["bytes", "decision_flips"])
def test_counts_and_sizes_are_compared_exactly(metric):
    known = Known({("y", metric): 100.0}, {})
    for measured, ok in ((3, True), (4, False), (2, True)):
        given = row(metric=metric, measured=measured, floor=5.0, low=0.0, high=9.0)
        assert judged(given, figure(metric=metric, held=3.0, noise=9.0), known=known).ok == ok


def test_a_red_gate_keeps_its_limit_and_its_words():
    found = judged(row(measured=2.0, ok=False), figure())
    assert (found.ok, found.limit) == (False, 1.0)
    assert found.detail == "as measured"
    assert found.detail.endswith("as measured")


def test_what_measured_nothing_stays_as_it_is():
    for given in (row(measured=None, ok=False, detail="NaN"), row(measured=None)):
        assert judged(given, figure()) == given


def test_only_the_same_figure_is_compared():
    for other in (
        figure("android"), figure("ios.float16-sums"), figure(metric="rmse"), figure(output="z"),
        figure(against="label"),
    ):  # fmt: skip
        assert judged(row(measured=0.5), replace_held(other, 1e-9)).ok


def replace_held(line, held):
    return line._replace(accepted=held)


# -- what is missing


def extra(rows, held):
    return ratchet.held_to(rows, held)[len(rows) :]


def test_without_a_lock_nothing_is_demanded_and_it_is_said_once():
    rows = [row(measured=0.9), row("android", measured=0.9)]
    found = ratchet.held_to(rows, terms())
    assert found[:2] == tuple(rows)
    (note,) = found[2:]
    assert note.ok
    assert "`doit accept m` writes manifests/m.lock.json" in note.detail


def test_a_figure_that_is_no_longer_measured_is_red_one_row_a_run():
    (found,) = extra([row()], terms(figure(), figure("android"), figure("android", "rmse")))
    assert (found.ok, found.metric, found.run, found.target) == (
        False,
        "vanished",
        "android",
        "m:verdict.runtime",
    )
    assert (
        "android is no longer held to what was accepted in manifests/m.lock.json: y max_abs, y rmse"
        in found.detail
    )
    assert "`doit accept m`" in found.detail


def test_an_output_or_a_gate_that_is_gone_is_red_too():
    lines = [figure(), figure(output="z"), figure("m:reference", "accuracy", against="label")]
    found = extra([row()], terms(*lines))
    assert [(each.ok, each.platform) for each in found] == [(False, "ios"), (False, "")]


def away(platform, way=""):
    given = row(platform, "evidence", None, limit=None, evidence="none", output="")
    return replace(given, backend=way, run="", version="")


@pytest.mark.parametrize("gone", [away("web"), away("web", "chromium-wasm")])
def test_a_run_that_this_machine_does_not_have_is_not_missed(gone):
    (note,) = extra([row(), gone], terms(figure(), figure("web.chromium-wasm")))
    assert note.ok
    assert note.detail.endswith("this machine does not run it: web.chromium-wasm")


def test_a_way_that_is_here_is_missed_although_another_is_not():
    lines = [figure(), figure("web.node-wasm"), figure("web.chromium-wasm")]
    (found, _) = extra([row(), away("web", "chromium-wasm")], terms(*lines))
    assert (found.ok, found.run) == (False, "web.node-wasm")


def test_an_interpretation_is_not_missed_where_the_platform_itself_runs():
    lines = [figure(evidence="interpreted"), figure("ios.float16-sums", evidence="interpreted")]
    (note,) = extra([row(evidence="executed")], terms(*lines))
    assert note.ok
    (found,) = extra([row(evidence="interpreted")], terms(*lines))
    assert not found.ok


def test_a_run_that_is_red_for_a_fault_is_not_missed_as_well():
    given = row(metric="nan", measured=None, ok=False, limit=None)
    assert extra([given], terms(figure())) == ()


def test_where_verdicts_are_not_there_yet_nothing_is_missed():
    assert extra([], terms(figure(), whole=False)) == ()


def test_a_figure_that_nobody_accepted_is_said_and_not_red():
    (note,) = extra([row(), row("android")], terms(figure()))
    assert note.ok
    assert "android reference y max_abs" in note.detail


# -- what is accepted


def test_pairs_and_what_follows_from_others_are_not_held():
    rows = [
        row(), row("android"), row("android", against="ios"), row(metric="cosine"), row(metric="max_rel"),
        row(metric="rmse", limit=None), row(metric="accuracy_drift", limit=None), row(metric="l1"),
        row(metric="sqnr_db"), share(0.99, 0.98, 1.0), share(0.99, output="z"), row(metric="length"),
        replace(row(metric="bytes", against="budget"), run=""),
    ]  # fmt: skip
    lock, changes = ratchet.renewed(rows, terms(), {})
    assert sorted(each[0] + " " + each[3] for each in lock.figures) == [
        "android max_abs", "ios max_abs", "ios rmse", "m:ios bytes", "m:reference accuracy",
    ]  # fmt: skip
    assert {change.kind for change in changes} == {"new"}


def test_within_chance_and_noise_a_line_stays_as_it_is():
    lines = [figure(held=1e-5, noise=2e-5), figure("m:reference", "accuracy", 0.98, against="label")]
    held = terms(*lines)
    rows = [row(measured=2.5e-5, floor=2e-6), share(0.99, 0.97, 0.999)]
    lock, changes = ratchet.renewed(rows, held, {})
    assert lock.figures == held.lock.figures
    assert changes == ()


def test_clearly_better_figures_make_the_line_tighter():
    size = replace(row(metric="bytes", measured=8.0, against="budget", output=""), run="")
    lines = [
        figure(held=0.5),
        figure("m:reference", "accuracy", 0.9, against="label"),
        figure("m:ios", "bytes", 9.0, against="budget", output=""),
    ]
    rows = [row(measured=1e-5, floor=1e-6), share(0.99, 0.97, 0.999), size]
    lock, changes = ratchet.renewed(rows, terms(*lines), {})
    assert [each.accepted for each in lock.figures.values()] == [1e-5, 0.99, 8.0]
    assert [change.kind for change in changes] == ["tighter"] * 3


def test_what_is_gone_is_dropped_and_what_this_machine_cannot_run_is_kept():
    held = terms(figure(), figure("android"), figure("web.chromium-wasm"))
    targets = {"m:web": Kept("k", {"a": "1"}), "m:android": Kept("k", {"a": "1"})}
    held = replace(held, lock=held.lock._replace(targets=targets))
    lock, changes = ratchet.renewed([row(), away("web")], held, {"m:ios": Kept("k", {})})
    assert {each[0] for each in lock.figures} == {"ios", "web.chromium-wasm"}
    assert set(lock.targets) == {"m:web", "m:ios"}
    assert [(c.kind, c.words, c.counts) for c in changes] == [
        ("gone", "android y max_abs: 1e-05", True),
        ("bytes", "m:android: no longer there", False),
        ("bytes", "m:ios: not accepted before", False),
    ]


def test_what_a_waiver_lets_pass_is_not_accepted_with_it():
    held = terms(figure(noise=1e-6), waivers=[waiver()])
    lock, changes = ratchet.renewed([row(measured=0.05)], held, {})
    (line,) = lock.figures.values()
    assert (line.accepted, line.waived) == (1e-5, 0.05)
    assert changes == (("waived", "ios y max_abs: 1e-05 is accepted, 0.05 waived"),)
    again = replace(held, lock=lock)
    assert ratchet.held_to([row(measured=0.05)], again)[0].ok
    assert ratchet.renewed([row(measured=0.05)], again, {})[1] == ()
    for ended in (replace(again, today=date(2026, 3, 2)), replace(again, waivers=())):
        assert not ratchet.held_to([row(measured=0.05)], ended)[0].ok
    lock, changes = ratchet.renewed([row(measured=1e-5, floor=1.25e-7)], again, {})
    assert [each.waived for each in lock.figures.values()] == [None]
    assert [change.kind for change in changes] == ["mended"]


def test_what_a_waiver_lets_pass_of_a_gate_is_accepted_up_to_the_gates_own_limit():
    lock, changes = ratchet.renewed([row(measured=0.05, limit=0.01, ok=False)], terms(waivers=[waiver()]), {})
    (line,) = lock.figures.values()
    assert (line.accepted, line.waived) == (0.01, 0.05)
    assert changes == (("new", "ios y max_abs: 0.01, waived 0.05"),)


# -- the file


def written(tmp_path, lock):
    (tmp_path / "manifests").mkdir(exist_ok=True)
    path = tmp_path / accepted.place(lock.model)
    path.write_text(accepted.text(lock))
    return path


LINES = (
    figure("ios", held=0.1 + 0.2, noise=1e-7),
    figure("android.1.18.1", "decision_flips", 0.0),
    figure("m:reference", "accuracy", 0.99, against="label", evidence="executed", waived=0.5),
)


def test_the_file_reads_back_and_has_one_line_a_figure_in_order(tmp_path):
    lock = Lock("m", {"m:ios": Kept("k", {"b": "2", "a": "1"})}, {each.key: each for each in LINES})
    path = written(tmp_path, lock)
    assert accepted.read(tmp_path, "m") == lock
    lines = [line for line in path.read_text().splitlines() if "metric" in line]
    assert [json.loads(line.rstrip(",")).get("run") for line in lines] == ["android.1.18.1", "ios", None]
    assert lines[1].strip().rstrip(",") == (
        '{"run": "ios", "against": "reference", "output": "y", "metric": "max_abs", '
        '"accepted": 0.30000000000000004, "noise": 1e-07, "evidence": "executed"}'
    )
    assert path.read_text() == accepted.text(accepted.read(tmp_path, "m"))


def test_there_need_not_be_a_file(tmp_path):
    assert accepted.read(tmp_path, "m") is None


def document():
    return json.loads(
        accepted.text(Lock("m", {"m:ios": Kept("k", {"a": "1"})}, {each.key: each for each in LINES}))
    )


def at(document, *steps):
    for step in steps:
        document = document[step]
    return document


FAULTS = {
    "another model": (lambda d: d.update(model="n"), "#/model: is of the model"),
    "an unknown key": (lambda d: d.update(figure=[]), '#/figure: unknown key. Did you mean "figures"'),
    "no figures": (lambda d: d.pop("figures"), '"figures" is missing'),
    "a list of targets": (lambda d: d.update(targets=[]), "#/targets: [] is not an object"),
    "a target that is none": (lambda d: d["targets"].update(x=1), "#/targets/x: 1 is no object"),
    "a digest that is none": (
        lambda d: at(d, "targets", "m:ios", "outputs").update(a=1),
        "outputs/a: 1 is not text",
    ),
    "a figure that is none": (lambda d: d["figures"].append(3), "#/figures/3: 3 is no object"),
    "a number that is text": (
        lambda d: d["figures"][1].update(accepted="0"),
        'accepted: "0" is not a number',
    ),
    "a truth value": (lambda d: d["figures"][1].update(accepted=True), "accepted: true is not a number"),
    "neither run nor target": (lambda d: d["figures"][1].pop("run"), "#/figures/1: names not exactly one"),
    "both": (lambda d: d["figures"][1].update(target="m:x"), "#/figures/1: names not exactly one"),
    "a target for a run": (lambda d: d["figures"][1].update(run="m:ios"), "is no run"),
    "noise below nothing": (lambda d: d["figures"][1].update(noise=-1.0), "noise: -1.0 is less than 0"),
    "the same line twice": (lambda d: d["figures"].append(d["figures"][1]), "#/figures/3: a line before it"),
    "an unknown field": (lambda d: d["figures"][1].update(limit=1), "limit: unknown key"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_is_not_well_formed_is_refused_where_it_is_wrong(tmp_path, fault):
    change, words = FAULTS[fault]
    told = document()
    change(told)
    written(tmp_path, Lock("m", {}, {})).write_text(json.dumps(told))
    with pytest.raises(ManifestError) as caught:
        accepted.read(tmp_path, "m")
    assert words in str(caught.value)
    assert str(caught.value).startswith("manifests/m.lock.json")


@pytest.mark.parametrize(("text", "words"), [
    ('{"model": "m", "model": "m"}', "stands here twice"), ("{", "is not JSON"), ("", "is not JSON"),
    ('{"model": NaN}', "NaN is not JSON"), ("[]", "is no object"),
])  # fmt: skip
def test_the_file_is_read_strictly(tmp_path, text, words):
    written(tmp_path, Lock("m", {}, {})).write_text(text)
    with pytest.raises(ManifestError, match=words):
        accepted.read(tmp_path, "m")


def test_a_dangling_link_is_no_missing_file(tmp_path):
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "m.lock.json").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match="cannot be read"):
        accepted.read(tmp_path, "m")


# -- the fingerprint


def test_the_fingerprint_changes_with_all_that_decides_how_a_verdict_is_read(tmp_path):
    def taken(waivers=None, day=TODAY):
        waivers = [waiver()] if waivers is None else waivers
        return accepted.fingerprint(tmp_path, "m", waivers, day)

    seen = [taken(), taken(()), taken((waiver(limit=0.2),)), taken((waiver(reason="else"),))]
    seen.append(taken(day=date(2026, 3, 2)))  # it has ended
    written(tmp_path, Lock("m", {}, {}))
    seen.append(taken())
    written(tmp_path, Lock("m", {}, {LINES[0].key: LINES[0]}))
    seen.append(taken())
    assert len(set(seen)) == len(seen)
    assert taken() == taken(day=date(2025, 1, 1))  # a day that ends nothing changes nothing


def test_the_noise_of_the_model_is_known_by_output_and_metric(tmp_path):
    np = pytest.importorskip("numpy")
    from modelbuild.equivalence import noise

    y = np.linspace(-1, 3, 40, dtype=np.float32).reshape(20, 2)
    found = noise.measure({"y": y}, {"fp64": {"y": y + np.float32(1e-3)}}, {})
    noise.write(tmp_path / "noise.json", found)
    known = ratchet.measured(tmp_path / "noise.json")
    assert known.rounding["y", "max_abs"] == pytest.approx(8e-3, rel=1e-3)
    assert known.constant["y", "max_abs"] == pytest.approx(2.0)
    assert known.constant["y", "decision_flips"] == 20
