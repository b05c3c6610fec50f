import json

import pytest
from fakes import InProcess, bring, plan_of, target

from modelbuild import session as sessions
from modelbuild.errors import ManifestError, RecipeError
from modelbuild.manifest import Export, Gates, Model, Project
from modelbuild.session import REPORTS, Session

MODEL = Model("m", "manifests/m.json", "", {}, None, None, None, Export(18, {}), {}, Gates(None, None, {}))
RECIPES = """\
import json


def verdicts(inputs, params, out_dir):
    rows = params["verdicts"]
    claimed = params.get("claimed", bool(rows) and all(row["ok"] for row in rows))
    document = {"ok": claimed, "verdicts": rows}
    (out_dir / "verdicts.json").write_text(json.dumps(document, indent=1, sort_keys=True))
    (out_dir / "matrix.json").write_text(json.dumps({"outputs": {}}))


def run(inputs, params, out_dir):
    (out_dir / "run.json").write_text(json.dumps({"evidence": params["evidence"]}))
"""


def verdict(ok=True, measured=0.5):
    return {
        "target": "m:android", "platform": "android", "version": "1", "backend": "cpu", "against": "reference",
        "output": "logits", "metric": "max_abs", "measured": measured, "limit": 1.0, "ok": ok,
        "evidence": "executed", "detail": "", "run": "android",
        "floor": None, "needed": None, "low": None, "high": None, "constant": None, "more_is_better": None,
    }  # fmt: skip


def targets(ok=True, evidence="executed", unavailable=None):
    platforms = {"android": {"runtime": "fake", "required": True, "unavailable": unavailable}}
    run = target("m:android.run", "lab:run", {"evidence": evidence})
    params = {"platforms": platforms, "verdicts": [verdict(ok)]}
    return [run, target("m:verdict.runtime", "lab:verdicts", params, {"run": "m:android.run"})]


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """Begin a session over given targets, as a new process would."""
    (tmp_path / "lab.py").write_text(RECIPES)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr(sessions.manifest, "load", lambda root, accepted: Project(root, (MODEL,)))
    begun = []

    def begin(wanted):
        monkeypatch.setattr(sessions.graph, "plan", lambda project: plan_of(*wanted))
        session = Session(tmp_path, lambda: InProcess(tmp_path))
        begun.append(session)
        return session

    yield begin
    for session in begun:
        session.close()


def build(session):
    for name in session.plan.targets:
        bring(session.builder, name)
    return session


def test_wrong_manifests_are_a_users_error(tmp_path):
    with pytest.raises(ManifestError):
        Session(tmp_path)


def test_a_session_over_nothing_new_makes_no_builder(begin):
    build(begin(targets())).close()
    session = begin(targets())
    assert [session.examiner.status(name).state for name in session.plan.targets] == ["up-to-date"] * 2
    session.close()
    assert session._builder is None


def test_a_green_gate_is_read_once(begin):
    session = build(begin(targets()))
    assert not session.gate_holds("m")
    assert session.gate("m").ok
    session.close()
    assert build(begin(targets())).gate_holds("m")


def test_a_red_gate_is_read_every_time_and_says_so(begin):
    session = build(begin(targets(ok=False)))
    findings = session.gate("m")
    assert not findings.ok
    assert any("m:android" in line or "android" in line for line in findings.lines)
    session.close()
    again = build(begin(targets(ok=False)))
    assert not again.gate_holds("m")
    assert not again.gate("m").ok


def test_a_gate_that_held_does_not_hold_for_other_verdicts(begin):
    session = build(begin(targets()))
    session.gate("m")
    session.close()
    changed = build(begin(targets(ok=False)))
    assert not changed.gate_holds("m")
    changed.close()
    assert build(begin(targets())).gate_holds("m")


def test_a_gate_does_not_hold_before_its_verdicts_are_found_again(begin):
    session = build(begin(targets()))
    session.gate("m")
    session.close()
    assert not begin(targets()).gate_holds("m")


def test_no_verdicts_at_all_are_no_green_gate(begin):
    wanted = targets()
    wanted[1] = wanted[1]._replace(params={**wanted[1].params, "verdicts": []})
    assert not build(begin(wanted)).gate("m").ok


def test_a_claim_that_its_verdicts_do_not_bear_out_is_refused(begin):
    wanted = targets(ok=False)
    wanted[1] = wanted[1]._replace(params={**wanted[1].params, "claimed": True})
    with pytest.raises(RecipeError, match="its verdicts say False"):
        build(begin(wanted)).gate("m")


def test_a_target_that_was_not_built_is_no_green_gate(begin):
    session = begin([*targets(), target("m:more", "lab:run", {"evidence": "x"})])
    for name in ("m:android.run", "m:verdict.runtime"):
        bring(session.builder, name)
    assert not session.gate("m").ok
    assert {row.name: row.state for row in session.report("m").targets}["m:more"] == "not run"


def test_the_report_is_written_and_current_until_something_changes(begin, tmp_path):
    session = build(begin(targets()))
    assert not session.report_is_current("m")
    session.write_report("m")
    assert {p.name for p in session.at.out("m").glob("report.*")} == set(REPORTS)
    session.close()
    build(begin(targets())).write_report("m")  # it says "up to date" now
    assert build(begin(targets())).report_is_current("m")
    (session.at.out("m") / "report.json").write_text("{}")
    assert not build(begin(targets())).report_is_current("m")


def test_a_report_that_was_removed_is_not_current(begin):
    for _ in range(2):
        session = build(begin(targets()))
        session.write_report("m")
    assert session.report_is_current("m")
    session.remove_report("m")
    assert not session.report_is_current("m")
    session.remove_report("m")


def test_other_verdicts_need_another_report(begin):
    for _ in range(2):
        build(begin(targets())).write_report("m")
    assert not build(begin(targets(ok=False))).report_is_current("m")


def test_a_summary_is_written_on_every_run_where_one_is_asked_for(begin, monkeypatch, tmp_path):
    for _ in range(2):
        build(begin(targets())).write_report("m")
    session = build(begin(targets()))
    assert session.report_is_current("m")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert not session.report_is_current("m")
    session.write_report("m")
    assert (tmp_path / "summary.md").read_text()


def test_the_report_tells_of_targets_verdicts_and_platforms(begin):
    session = build(begin(targets()))
    report = session.report("m")
    assert report.ok
    assert [(row.name, row.state, row.needs) for row in report.targets] == [
        ("m:android.run", "built", ()),
        ("m:verdict.runtime", "built", ("m:android.run",)),
    ]
    assert report.targets[0].bytes == len(json.dumps({"evidence": "executed"}))
    assert set(report.targets[0].digests) == {"", "run.json"}
    figure, no_lock_yet = report.verdicts
    assert (figure.metric, no_lock_yet.metric, no_lock_yet.limit) == ("max_abs", "accepted", None)
    assert [(p.name, p.evidence, p.unavailable) for p in report.platforms] == [("android", "executed", "")]


def test_the_seconds_of_a_target_are_those_of_its_recipe_whenever_it_ran(begin):
    build(begin(targets())).close()
    assert [row.seconds for row in build(begin(targets())).report("m").targets] == [0.25, 0.25]


def test_a_platform_that_is_not_here_has_no_evidence(begin):
    report = build(begin(targets(unavailable="needs a GPU"))).report("m")
    assert [(p.evidence, p.unavailable) for p in report.platforms] == [("none", "needs a GPU")]


def test_a_failed_target_is_in_the_report_with_its_error(begin):
    session = begin(targets())

    def fail(job):
        raise RecipeError("m:android.run", "it broke", "Mend it.")

    session.builder.executor.before = fail
    with pytest.raises(RecipeError):
        session.builder.build("m:android.run", lambda *_: None)
    report = session.report("m")
    assert not report.ok
    assert (report.targets[0].state, report.targets[0].error) == (
        "failed",
        "m:android.run: it broke. Mend it.",
    )
    session.write_report("m")
    assert (session.at.out("m") / "report.html").exists()


def test_verdicts_of_a_target_that_failed_now_are_not_read_from_an_older_copy(begin):
    build(begin(targets())).close()
    session = begin(targets(ok=False))
    bring(session.builder, "m:android.run")

    def fail(job):
        raise RecipeError("m:verdict.runtime", "it broke")

    session.builder.executor.before = fail
    with pytest.raises(RecipeError):
        session.builder.build("m:verdict.runtime", lambda *_: None)
    assert session.report("m").verdicts == ()
    assert not session.gate("m").ok


def test_a_gate_that_held_is_read_again_when_the_accepted_figures_change(begin, tmp_path):
    session = build(begin(targets()))
    assert session.gate("m").ok
    session.write_report("m")
    session.close()
    lock = tmp_path / "manifests" / "m.lock.json"
    lock.parent.mkdir()
    lock.write_text("{}")
    again = build(begin(targets()))
    assert not again.gate_holds("m")
    assert not again.report_is_current("m")
