"""Builds that cannot succeed: what they say, what they leave, and how the next one goes on."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from project_dir import ALL, DATA_TARGET, ProjectDir, Result

FAULT = """\
import errno
import os

kind, at = os.environ["FAULT"].split()
count = 0


def guard(call):
    def wrapped(*args, **kwargs):
        global count
        count += 1
        if count >= int(at):  # a disk that is full stays full
            if kind == "crash":
                os.kill(os.getpid(), 9)
            raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)))
        return call(*args, **kwargs)

    return wrapped


os.fsync, os.replace = guard(os.fsync), guard(os.replace)
"""


def _faulty(project: ProjectDir, kind: str, at: int) -> dict[str, str]:
    """Return an environment in which the `at`-th sync or rename of the build fails, and each after it."""
    project.write("spy/sitecustomize.py", FAULT)
    paths = os.pathsep.join([str(project.path("spy")), os.environ.get("PYTHONPATH", "")])
    return {"PYTHONPATH": paths, "FAULT": f"{kind} {at}"}


def _loader(project: ProjectDir, body: str) -> None:
    project.write("shop/data.py", f"import os\n\n\ndef load():\n    {body}\n")


def _clean(result: Result) -> None:
    assert "Traceback" not in result.text, result.text


# -- gates


def _wrong(manifest: dict[str, Any]) -> None:
    """Label half of the data wrongly: the model is then right on the other half alone."""
    manifest["data"]["evaluation"]["args"] = {"wrong": 12}


@pytest.mark.parametrize("run", ["first", "later"])
def test_a_red_gate_fails_the_build_and_still_reports(fresh: ProjectDir, run: str) -> None:
    if run == "later":
        fresh.doit()
    fresh.manifest(_wrong)
    result = fresh.doit()
    assert result.code == 1, result.text
    _clean(result)
    assert set(result.states) == ALL | {"tiny:gate"}
    assert result.states["tiny:gate"] == "red"
    last = result.out.splitlines()[-6:]
    assert any("accuracy" in line and "0.5" in line and "0.9" in line for line in last), last
    assert "report.html" in last[-1] or "doit " in last[-1], last
    assert fresh.report()["ok"] is False
    assert fresh.out("tiny", "report.html").exists()
    assert list(ElementTree.parse(fresh.out("tiny", "report.xml")).getroot().iter("failure"))

    again = fresh.doit()
    assert again.code == 1
    assert fresh.executed() == set()
    assert again.out.splitlines()[-3:] == last[-3:]
    assert fresh.report()["ok"] is False
    assert fresh.doit("tiny:gate").code == 1


def test_a_gate_that_turns_green_again_passes(project: ProjectDir) -> None:
    project.manifest(_wrong)
    assert project.doit().code == 1
    project.manifest(lambda m: m["data"]["evaluation"].pop("args"))
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == set()
    assert project.report()["ok"] is True
    assert project.doit().code == 0


def test_a_verdict_changed_by_hand_is_not_believed(project: ProjectDir) -> None:
    project.manifest(_wrong)
    project.doit()
    path = project.out("tiny:verdict.task", "verdicts.json")
    assert '"ok": false' in path.read_text()
    path.chmod(0o644)
    path.write_text(path.read_text().replace('"ok": false', '"ok": true'))
    result = project.doit()
    assert result.code == 1
    assert '"ok": false' in path.read_text()


# -- recipes


def test_a_loader_that_raises_is_told_with_its_log(project: ProjectDir) -> None:
    _loader(project, 'print("so far so good"); raise ValueError("no such sample")')
    result = project.doit()
    assert result.code == 1
    _clean(result)
    assert result.states[DATA_TARGET] == "failed"
    assert "ValueError: no such sample" in result.out
    assert "so far so good" in project.path(".cache/logs/tiny/data.evaluation.log").read_text()
    states = project.report_states()
    assert states[DATA_TARGET] == "failed"
    assert states["tiny:reference"] == "not run"
    assert project.report()["ok"] is False
    again = project.doit()
    assert again.code == 1
    assert project.executed() == {DATA_TARGET}


def test_a_failure_does_not_hide_behind_the_last_good_report(project: ProjectDir) -> None:
    assert project.report()["ok"] is True
    _loader(project, 'raise ValueError("x")')
    project.doit("tiny:reference")
    assert project.report()["ok"] is False


@pytest.mark.parametrize(
    "body", ["return None", "return {}", "import sys; sys.exit(0)", "raise KeyboardInterrupt"]
)
def test_a_loader_that_gives_nothing_is_refused(project: ProjectDir, body: str) -> None:
    _loader(project, body)
    result = project.doit()
    assert result.code == 1
    _clean(result)
    assert result.states[DATA_TARGET] == "failed"


@pytest.mark.parametrize(
    ("body", "word", "jobs"),
    [
        ("os.kill(os.getpid(), 11)", "SIGSEGV", ()),
        ("os.kill(os.getpid(), 11)", "SIGSEGV", ("-n", "2")),
        ("os.kill(os.getpid(), 9)", "SIGKILL", ()),
        ("os._exit(7)", "exit code 7", ("-n", "2")),
        ("os._exit(0)", "exit code 0", ()),
    ],
)
def test_a_recipe_that_crashes_takes_only_itself_down(
    project: ProjectDir, body: str, word: str, jobs: tuple[str, ...]
) -> None:
    project.write("manifests/other.json", project.path("manifests/tiny.json").read_text().replace('"tiny"', '"other"')
                  .replace("shop.data", "shop.crash").replace("0.9", "0.8"))  # fmt: skip
    project.write("shop/crash.py", f"import os\n\n\ndef load():\n    {body}\n")
    result = project.doit("--continue", *jobs)
    assert result.code != 0, result.text
    _clean(result)
    assert result.states["other:data.evaluation"] == "failed"
    assert word in result.out
    assert ".cache/logs/other/data.evaluation.log" in result.out
    assert result.of("up to date") >= ALL
    assert project.report("other")["ok"] is False
    assert project.report("tiny")["ok"] is True


def test_a_job_that_failed_leaves_nothing_recorded(project: ProjectDir) -> None:
    records, before = project.records(), project.contents()
    _loader(project, "os._exit(3)")
    project.doit()
    assert project.records() == records
    assert project.contents() == before


def test_a_recipe_may_not_leave_links(project: ProjectDir) -> None:
    """What cannot travel through the store is refused when it is made."""
    project.write("shop/data.py", project.path("shop/data.py").read_text().replace(
        "def load(scale=1.0, wrong=0):",
        "def load(scale=1.0, wrong=0):\n    import inspect, os\n"
        "    out = next(f.frame.f_locals['out_dir'] for f in inspect.stack() if 'out_dir' in f.frame.f_locals)\n"
        "    os.symlink('/etc/hostname', out / 'link')",
    ))  # fmt: skip
    result = project.doit()
    assert result.code == 1, result.text
    assert "link is neither a regular file nor a folder" in result.out


# -- manifests


@pytest.mark.parametrize("args", [(), ("plan",), ("list",), ("verify",), ("gc",), ("status",)])
def test_a_wrong_manifest_is_one_clean_message(project: ProjectDir, args: tuple[str, ...]) -> None:
    project.manifest(lambda m: m["platforms"]["phone"].update(optimisation="al"))
    result = project.doit(*args)
    assert result.code == 3, result.text
    _clean(result)
    assert "manifests/tiny.json#/platforms/phone/optimisation" in result.text
    assert 'Did you mean "all"?' in result.text


def test_a_torn_manifest_is_one_clean_message(project: ProjectDir) -> None:
    text = project.path("manifests/tiny.json").read_text()
    for at in range(0, len(text) - 1, 90):
        project.write("manifests/tiny.json", text[:at])
        result = project.doit("plan")
        assert result.code == 3, text[:at]
        _clean(result)


def test_a_missing_onnx_file_is_named(project: ProjectDir) -> None:
    project.path("models/tiny.onnx").unlink()
    result = project.doit()
    assert result.code == 3
    _clean(result)
    assert "models/tiny.onnx" in result.text


def test_a_missing_loader_is_named(project: ProjectDir) -> None:
    project.path("shop/data.py").unlink()
    result = project.doit()
    assert result.code in (1, 3)
    _clean(result)
    assert "shop.data" in result.text


def test_no_manifest_at_all_says_what_to_write(fresh: ProjectDir) -> None:
    fresh.path("manifests/tiny.json").unlink()
    result = fresh.doit()
    assert result.code == 3
    _clean(result)
    assert "manifests/" in result.text


# -- a disk that refuses, and death at any step


@pytest.mark.parametrize(
    ("kind", "at"), [("EROFS", 1), ("EIO", 2), *(("ENOSPC", at) for at in (1, 3, 4, 7, 8, 9, 10, 11))]
)
def test_a_disk_that_refuses_is_said_in_words_and_nothing_half_is_kept(
    project: ProjectDir, kind: str, at: int
) -> None:
    before = project.contents()
    project.replace("shop/data.py", "import numpy", "# new\nimport numpy")
    result = project.doit(DATA_TARGET, env=_faulty(project, kind, at))
    if result.code != 0:
        assert result.code == 2, result.text
        assert result.states[DATA_TARGET] == "failed"
        _clean(result)
        assert os.strerror(getattr(__import__("errno"), kind)) in result.out
    after = project.doit()
    assert after.code == 0, after.text
    assert project.contents() == before
    assert project.doit("verify").code == 0


@pytest.mark.parametrize("at", range(1, 12))
def test_death_at_any_step_leaves_a_store_that_reads_right(project: ProjectDir, at: int) -> None:
    before = project.contents()
    project.replace("shop/data.py", "import numpy", "# new\nimport numpy")
    result = project.doit(DATA_TARGET, env=_faulty(project, "crash", at))
    assert result.code in (0, -signal.SIGKILL), result.text
    after = project.doit()
    assert after.code == 0, after.text
    assert project.executed() <= {DATA_TARGET}
    assert project.contents() == before
    assert project.doit("verify").code == 0
    assert list(project.path(".cache/tmp").iterdir()) == []


def test_a_cache_that_cannot_be_written_is_said_in_words(fresh: ProjectDir) -> None:
    Path(fresh.root / ".cache").write_text("a file where the cache should be")
    result = fresh.doit()
    assert result.code in (2, 3)
    _clean(result)
    assert ".cache" in result.text
    assert json.loads(fresh.path("manifests/tiny.json").read_text())["model"] == "tiny"


def test_a_gate_that_cannot_be_judged_does_not_hide_another_that_is_red(project: ProjectDir) -> None:
    def both(manifest: dict[str, Any]) -> None:
        _wrong(manifest)
        manifest["gates"]["runtime"]["tolerance"] = {"max_abs": 1e9}  # vacuous: it cannot even be judged

    project.manifest(both)
    result = project.doit()
    assert result.code == 1, result.text
    assert result.states["tiny:verdict.runtime"] == "failed"
    _clean(result)
    last = result.out.splitlines()[-12:]
    assert any("accuracy" in line and "0.5" in line and "0.9" in line for line in last), last
    assert any("would pass a constant" in line for line in last), last
    assert any(line.startswith("next: doit why") for line in last), last
