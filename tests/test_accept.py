"""`doit accept` over a built project: what it writes, what it refuses, and what a second build is then held to."""

import io
import json
from datetime import date

import pytest
from fakes import InProcess, bring, plan_of, target
from held import figure, row, share, waiver

from modelbuild import accepted, declare
from modelbuild import session as sessions
from modelbuild.accepted import Lock
from modelbuild.commands.accept import Accept
from modelbuild.declare import Export, Gates, Model
from modelbuild.errors import BuildError, CommandError, ManifestError
from modelbuild.manifest import Project
from modelbuild.session import Session

RECIPES = """\
import json


def verdicts(inputs, params, out_dir):
    rows = params["verdicts"]
    document = {"ok": bool(rows) and all(row["ok"] for row in rows), "verdicts": rows}
    (out_dir / "verdicts.json").write_text(json.dumps(document))
    (out_dir / "matrix.json").write_text(json.dumps({"outputs": {}}))


def run(inputs, params, out_dir):
    (out_dir / "run.json").write_text(json.dumps({"evidence": "executed"}))


def write(inputs, params, out_dir):
    (out_dir / "model.onnx").write_text(params["text"])
"""
OK = row(measured=1e-5, floor=1e-6)


class Lab:
    """A project of one model `m`; every build is a session of its own."""

    def __init__(self, root, monkeypatch):
        self.root, self.monkeypatch, self.begun = root, monkeypatch, []
        (root / "lab.py").write_text(RECIPES)
        (root / "manifests").mkdir()
        self.path = root / "manifests" / "m.lock.json"
        monkeypatch.setattr(declare, "today", lambda: date(2026, 3, 1))

    def begin(self, *rows, waived=(), text="a"):
        platforms = {"ios": {"runtime": "fake", "required": True, "unavailable": None}}
        told = {"platforms": platforms, "verdicts": [each.to_json() for each in rows]}
        wanted = [
            target("m:onnx", "lab:write", {"text": text}), target("m:ios", "lab:write", {"text": text}),
            target("m:data.evaluation", "lab:write", {"text": "d"}), target("m:ios.run", "lab:run"),
            target("m:verdict.runtime", "lab:verdicts", told),
        ]  # fmt: skip
        export, gates = Export(18, {}), Gates(None, None, {})
        model = Model("m", "manifests/m.json", "", {}, None, None, None, export, {}, gates, tuple(waived))
        project = Project(self.root, (model,))
        self.monkeypatch.setattr(sessions.manifest, "load", lambda root, accepted: project)
        self.monkeypatch.setattr(sessions.graph, "plan", lambda project: plan_of(*wanted))
        self.begun.append(Session(self.root, lambda: InProcess(self.root)))
        return self.begun[-1]

    def accept(self, *rows, check=False, names=(), **more):
        session = self.begin(*rows, **more)
        for name in session.plan.targets:
            bring(session.builder, name)
        command = Accept.__new__(Accept)
        command.outstream = io.StringIO()
        code = command.perform(session, {"check": check}, [*names])
        return code, command.outstream.getvalue()

    def lock(self):
        return accepted.read(self.root, "m")


@pytest.fixture
def lab(tmp_path, monkeypatch):
    found = Lab(tmp_path, monkeypatch)
    yield found
    for session in found.begun:
        session.close()


def test_it_writes_what_ships_and_how_good_it_is(lab):
    code, said = lab.accept(OK, share(0.99, 0.98, 1.0))
    assert (code, "manifests/m.lock.json: 2 figures, 2 targets. Commit it." in said) == (0, True)
    assert "  new      ios y max_abs: 1e-05" in said
    lock = lab.lock()
    assert sorted(lock.targets) == ["m:ios", "m:onnx"]
    assert set(lock.targets["m:onnx"].outputs) == {"model.onnx"}
    assert [each.accepted for each in lock.figures.values()] == [1e-5, 0.99]
    assert [path.name for path in lab.path.parent.iterdir()] == ["m.lock.json"]


def test_a_second_time_there_is_nothing_to_accept(lab):
    lab.accept(OK)
    before = lab.path.stat().st_mtime_ns
    assert lab.accept(OK) == (0, "manifests/m.lock.json: nothing to accept, it says so already\n")
    assert lab.path.stat().st_mtime_ns == before


def test_other_bytes_are_told_and_written(lab):
    lab.accept(OK)
    before = lab.lock()
    code, said = lab.accept(OK, text="b")
    assert code == 0
    assert "  bytes    m:ios: model.onnx\n" in said
    assert lab.lock().targets != before.targets
    assert lab.lock().figures == before.figures


def test_a_figure_that_loosens_is_refused_by_name(lab):
    lab.accept(OK)
    before = lab.path.read_bytes()
    with pytest.raises(BuildError) as caught:
        lab.accept(row(measured=0.5))
    for words in ("manifests/m.lock.json: ios y max_abs would loosen", "no waiver", "manifests/m.json"):
        assert words in str(caught.value)
    assert lab.path.read_bytes() == before


def test_a_waiver_covers_it_until_it_ends(lab):
    lab.accept(OK)
    code, said = lab.accept(row(measured=0.05), waived=[waiver()])
    assert (code, "  waived   ios y max_abs: 1e-05 is accepted, 0.05 waived" in said) == (0, True)
    (line,) = lab.lock().figures.values()
    assert (line.accepted, line.waived) == (1e-5, 0.05)
    with pytest.raises(BuildError, match="the waiver ended on 2026-02-28"):
        lab.accept(row(measured=0.05), waived=[waiver(expires="2026-02-28")])


@pytest.mark.parametrize("red", [row(ok=False), row(metric="nan", measured=None, limit=None, ok=False)])
def test_what_is_red_is_not_accepted(lab, red):
    with pytest.raises(BuildError, match="is red, so nothing is accepted"):
        lab.accept(OK, red)
    assert not lab.path.exists()


def test_a_model_without_verdicts_is_not_accepted(lab):
    with pytest.raises(BuildError, match="has no verdicts"):
        lab.accept()


def test_what_is_not_up_to_date_is_not_accepted(lab):
    lab.accept(OK)
    session = lab.begin(OK, text="c")
    command = Accept.__new__(Accept)
    with pytest.raises(BuildError, match="m:onnx: is not up to date"):
        command.perform(session, {"check": False}, [])


def test_a_model_that_is_not_there_is_a_mistake(lab):
    with pytest.raises(CommandError, match='Did you mean "m"'):
        lab.accept(OK, names=["mm"])


def test_what_is_gone_is_dropped_and_told(lab):
    lab.accept(OK, row("android"))
    code, said = lab.accept(OK)
    assert (code, "  gone     android y max_abs: 1e-05" in said) == (0, True)
    assert {each[0] for each in lab.lock().figures} == {"ios"}


def test_check_writes_nothing_and_tells_by_its_exit_code(lab):
    code, said = lab.accept(OK, check=True)
    assert (code, lab.path.exists()) == (1, False)
    assert said.endswith("manifests/m.lock.json: is not what `doit accept` would write\n")
    lab.accept(OK)
    before = lab.path.read_bytes()
    for same in (OK, row(measured=1.5e-5, floor=1e-6)):  # within noise
        assert lab.accept(same, check=True) == (0, "manifests/m.lock.json: figures as accepted\n")
    code, said = lab.accept(OK, text="other bytes, as another machine may give", check=True)
    assert (code, "  bytes    m:ios: model.onnx" in said) == (0, True)
    for other in ([OK, row("android")], [row("android")], [row(measured=1e-9, floor=1e-6)]):
        assert lab.accept(*other, check=True)[0] == 1
    assert lab.path.read_bytes() == before


def test_a_lock_that_is_not_well_formed_is_not_written_over(lab):
    lab.path.write_text("{")
    with pytest.raises(ManifestError, match="is not JSON"):
        lab.accept(OK)
    assert lab.path.read_text() == "{"


def test_a_hand_edited_loosening_is_what_the_review_sees(lab):
    """The only way for good: the line itself, changed in the file."""
    lab.accept(OK)
    line = figure(held=0.5)
    lab.path.write_text(accepted.text(Lock("m", {}, {line.key: line})))
    assert json.loads(lab.path.read_text())["figures"][0]["accepted"] == 0.5
    assert lab.accept(row(measured=0.5, floor=0.1))[0] == 0
