"""What a user runs into on an ordinary day: pipes, partial runs, several models, mistakes of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
from xml.etree import ElementTree

import pytest
from project_dir import DATA_TARGET, DOIT, ProjectDir


def red(project: ProjectDir) -> None:
    """Ask for labels that the model does not give."""
    project.manifest(lambda m: m["data"]["evaluation"].update(args={"wrong": 12}))


def second_model(project: ProjectDir) -> None:
    manifest = json.loads(project.path("manifests/tiny.json").read_text())
    manifest["model"] = "zebra"  # after tiny, in whatever order models are taken
    project.write("manifests/zebra.json", json.dumps(manifest))


def test_a_gate_cannot_be_ignored(project):
    red(project)
    for name in ("tiny:gate", "tiny", DATA_TARGET):
        refused = project.doit("ignore", name)
        assert refused.code == 3
        assert "cannot be ignored" in refused.err
    assert project.doit().code == 1


def test_a_target_marked_as_ignored_all_the_same_does_not_pass(project):
    project.write(".cache/doit.db", json.dumps({"tiny:gate": {"ignore:": "1"}}))
    result = project.doit()
    assert result.code == 1
    assert "tiny:gate" in result.out
    assert "ignored" in result.out


def test_one_models_failure_does_not_keep_the_others_from_being_judged(project):
    second_model(project)
    project.write("shop/broken.py", "def load():\n    return {}['lable']\n")
    project.manifest(lambda m: m["data"].update(evaluation={"loader": "shop.broken:load"}))
    result = project.doit()
    assert result.code == 1, result.text
    assert "zebra: 10 verdicts hold" in result.out
    assert project.report("zebra")["ok"] is True
    assert project.report("tiny")["ok"] is False
    assert project.doit("--no-continue", "tiny").code == 1


def test_an_error_in_the_users_own_code_is_found_by_file_and_line(project):
    project.write(
        "shop/broken.py", "def helper():\n    return {}['lable']\n\n\ndef load():\n    return helper()\n"
    )
    project.manifest(lambda m: m["data"].update(evaluation={"loader": "shop.broken:load"}))
    result = project.doit()
    assert f"{DATA_TARGET}: shop.broken:load: failed when called" in result.text
    assert "KeyError: 'lable' (shop/broken.py:2)" in result.text
    assert f".cache/logs/{DATA_TARGET.replace(':', '/')}.log" in result.text
    assert "in helper" in project.path(f".cache/logs/{DATA_TARGET.replace(':', '/')}.log").read_text()


@pytest.mark.parametrize("command", [[], ["status"], ["plan"], ["why", "tiny:onnx"]])
def test_a_reader_that_leaves_early_is_no_error(project, command):
    project.write("shop/sizes.py", "SAMPLES = 25\n")
    process = subprocess.Popen(
        [*DOIT, *command],
        cwd=project.root,
        env=project.environment({"PYTHONUNBUFFERED": "1"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0, errors
    assert errors == ""
    if not command:
        assert set(project.doit().states.values()) == {"up to date"}


def test_forget_without_a_name_forgets_nothing_and_says_so(project):
    result = project.doit("forget")
    assert result.code == 3
    assert result.err == "ERROR: doit forget: no target is named. Name one, or say --all.\n"
    assert project.doit().of("built") == set()


def test_every_run_says_what_holds(project):
    line = "tiny: 10 verdicts hold, 2 platforms executed, report: .cache/out/tiny/report.html"
    found = [project.doit(*args).out.splitlines()[-1] for args in ([], ["tiny:gate"], ["tiny"])]
    assert found == [line] * 3


def test_a_gate_asked_for_alone_reads_what_is_up_to_date(project):
    project.doit("forget", "tiny:gate")
    result = project.doit("-s", "tiny:gate")
    assert result.code == 0, result.text
    assert "verdicts hold" in result.out


def test_verify_puts_back_what_the_store_lost_and_the_copy_still_has(project):
    for path in project.objects():
        path.unlink()
    found = project.doit("verify")
    assert found.code == 1
    assert "missing from the store; put back from .cache/out/tiny/onnx" in found.out
    assert project.doit("verify").code == 0
    shutil.rmtree(project.out("tiny"))
    assert project.doit().of("built") == set()


def test_pinning_and_collecting_at_once_is_refused(project):
    before = project.objects()
    result = project.doit("gc", "--max-size=0", "--pin", "tiny:onnx")
    assert result.code == 3
    assert "two commands" in result.err
    assert project.objects() == before


def test_a_model_is_listed_by_its_description(project):
    project.manifest(lambda m: m.update(description="A tiny model of a shop."))
    assert "A tiny model of a shop." in project.doit("list").out


def test_what_was_stored_before_is_not_called_a_first_build(project):
    project.path(".cache/state.db").unlink()
    result = project.doit()
    assert set(result.states.values()) == {"restored"}
    assert set(result.reasons.values()) == {"already in the store"}


def test_junit_holds_what_was_demanded_and_no_figure_that_cannot_fail(project):
    suite = ElementTree.fromstring(project.out("tiny", "report.xml").read_text())
    names = [case.attrib["name"] for case in suite.iter("testcase")]
    assert len(names) == 10
    assert not any("cosine" in name for name in names)


def test_status_and_why_tell_of_a_red_gate(project):
    assert project.doit("status").out.splitlines()[-1].startswith("tiny: 10 verdicts hold")
    red(project)
    assert project.doit("status").out.splitlines()[-1].startswith("tiny: not judged, ")
    project.doit()
    assert project.doit("status").out.splitlines()[-1] == "tiny: 1 of 10 verdicts is red"
    assert (
        "RED  reference against label, scores accuracy: accuracy 0.5"
        in project.doit("why", "tiny:reference").out
    )


def test_other_doit_projects_of_the_environment_are_left_alone(tmp_path):
    project = ProjectDir(tmp_path)
    project.write(
        "dodo.py",
        "import sys\n"
        "def task_a():\n    return {'actions': ['echo made > a.txt'], 'targets': ['a.txt'], 'clean': True}\n"
        "def task_b():\n    return {'actions': [lambda: 'modelbuild.session' not in sys.modules]}\n"
        "def task_c():\n    return {'actions': ['false'], 'task_dep': ['b']}\n",
    )
    assert project.doit("a", "b").code == 0
    assert project.doit("c").code == 1
    assert project.doit("forget", "a").code == 0
    assert project.doit("clean", "a").code == 0
    assert not project.path("a.txt").exists()
    assert project.doit("ignore", "c").code == 0
    assert project.doit().code == 0


def test_an_artefact_is_held_to_its_budget(project):
    size = sum(path.stat().st_size for path in project.out("tiny:phone").iterdir())
    project.manifest(lambda m: m["platforms"]["phone"].update(budgets={"bytes": size}))
    assert project.doit().code == 0
    project.manifest(lambda m: m["platforms"]["phone"].update(budgets={"bytes": size - 1}))
    result = project.doit()
    assert result.code == 1
    assert f"the artefact has {size} bytes, at most {size - 1} are allowed" in result.out
    assert result.of("built") == {"tiny:verdict.runtime", "tiny:repro"}
