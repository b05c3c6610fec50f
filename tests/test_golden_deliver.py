"""What is delivered carries golden samples: a platform's beside its artefact, those of a bundle within it."""

import io
import json

import pytest
from fakes import InProcess, bring, plan_of, target
from held import row

from modelbuild import session as sessions
from modelbuild.commands.deliver import Deliver
from modelbuild.declare import Export, Gates, Model
from modelbuild.errors import BuildError
from modelbuild.manifest import Project
from modelbuild.session import Session

RECIPES = """\
import json


def verdicts(inputs, params, out_dir):
    (out_dir / "verdicts.json").write_text(json.dumps({"ok": True, "verdicts": params["verdicts"]}))
    (out_dir / "matrix.json").write_text(json.dumps({"outputs": {}}))


def run(inputs, params, out_dir):
    (out_dir / "run.json").write_text(json.dumps({"evidence": "executed"}))


def write(inputs, params, out_dir):
    for path, text in params.items():
        (out_dir / path).parent.mkdir(exist_ok=True)
        (out_dir / path).write_text(text)
"""
PLATFORMS = ("phone", "web", "old")


def targets():
    told = {name: {"runtime": "fake", "required": True, "unavailable": None} for name in PLATFORMS}
    bundle = {"index.html": "page", "golden/golden.json": "of the bundle"}
    return [
        *(target(f"m:{name}", "lab:write", {"model.onnx": name}) for name in PLATFORMS),
        *(target(f"m:{name}.run", "lab:run") for name in PLATFORMS),
        target("m:phone.golden", "lab:write", {"golden.json": "of the phone", "check.py": "py"}),
        target("m:web.golden", "lab:write", {"golden.json": "not of the bundle"}),
        target("m:web.bundle", "lab:write", bundle),
        target(
            "m:verdict.runtime", "lab:verdicts", {"platforms": told, "verdicts": [row("phone").to_json()]}
        ),
    ]


@pytest.fixture
def session(tmp_path, monkeypatch):
    (tmp_path / "lab.py").write_text(RECIPES)
    model = Model(
        "m", "manifests/m.json", "", {}, None, None, None, Export(18, {}), {}, Gates(None, None, {})
    )
    monkeypatch.setattr(sessions.manifest, "load", lambda root, accepted: Project(tmp_path, (model,)))
    monkeypatch.setattr(sessions.graph, "plan", lambda project: plan_of(*targets()))
    begun = Session(tmp_path, lambda: InProcess(tmp_path))
    for name in begun.plan.targets:
        bring(begun.builder, name)
    yield begun
    begun.close()


def deliver(session, to):
    command = Deliver.__new__(Deliver)
    command.outstream = io.StringIO()
    command.perform(session, {"to": str(to)}, [])
    return {p.relative_to(to / "m").as_posix(): p.read_text() for p in (to / "m").rglob("*") if p.is_file()}


def test_golden_samples_go_along_with_every_artefact_that_has_them(session, tmp_path):
    found = deliver(session, tmp_path / "to")
    assert json.loads(found.pop("delivery.json"))["ok"]
    assert found == {
        "phone/model.onnx": "phone",
        "phone/golden/golden.json": "of the phone",
        "phone/golden/check.py": "py",
        "web/index.html": "page",
        "web/golden/golden.json": "of the bundle",
        "old/model.onnx": "old",
    }


def test_golden_samples_that_were_changed_on_disk_are_not_delivered(session, tmp_path):
    copy = session.at.out("m:phone.golden") / "golden.json"
    copy.chmod(0o644)
    copy.write_text("changed")
    session.examiner._status.clear()
    with pytest.raises(BuildError, match=r"m:phone\.golden"):
        deliver(session, tmp_path / "to")
    assert not (tmp_path / "to").exists()
