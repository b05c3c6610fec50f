"""The gate as a user meets it: a fault is found, shown and gone again; figures are accepted, waived and held."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import onnx
import pytest
from gated import GatedDir
from onnx import numpy_helper
from project_dir import Result

from modelbuild.declare import today

REASON, LINK = "the converter rounds the last weights", "https://example.org/issues/7"
WIDE = {"max_abs": 0.05, "rmse": 0.05}  # what "slightly" is well within
UP_TO = 0.01  # what the waivers let pass
LAST_LINES = 14  # of a run
COUNTS = re.compile(r"(\d+) faults injected, (\d+) red; (\d+) clean runs, (\d+) green")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> GatedDir:
    project = GatedDir.create(tmp_path_factory.mktemp("gate") / "project")
    result = project.doit()
    assert result.code == 0, result.text
    return project


@pytest.fixture
def project(tmp_path: Path, built: GatedDir) -> GatedDir:
    """Built and green."""
    shutil.copytree(built.root, tmp_path / "project")
    return GatedDir(tmp_path / "project")


@pytest.fixture(scope="module")
def accepted_once(tmp_path_factory: pytest.TempPathFactory, built: GatedDir) -> GatedDir:
    root = tmp_path_factory.mktemp("accepted") / "project"
    shutil.copytree(built.root, root)
    project = GatedDir(root)
    project.spoil("", tolerance=WIDE)
    assert project.doit().code == 0
    assert project.doit("accept").code == 0
    return project


@pytest.fixture
def accepted(tmp_path: Path, accepted_once: GatedDir) -> GatedDir:
    """Green, with wide limits on the device and its figures accepted."""
    shutil.copytree(accepted_once.root, tmp_path / "project")
    return GatedDir(tmp_path / "project")


def last(result: Result) -> str:
    return "\n".join(result.out.splitlines()[-LAST_LINES:])


def reproduced(project: GatedDir, result: Result) -> tuple[Result, Result]:
    """What the program that the last lines name says of the artefact, and of the model."""
    line = re.search(r"^ *reproduce: (.+)$", last(result), re.MULTILINE)
    assert line is not None, result.out
    assert last(result).endswith(f"next: {line[1]}")
    return project.typed(line[1]), project.typed(f"{line[1]} reference")


# -- a fault inside an artefact


@pytest.mark.parametrize(
    ("fault", "operation"),
    [
        ("scaled", "MatMul scoring"),
        ("swapped", "Gemm mixing"),
        ("shifted", "Gemm mixing"),
        ("leaky", "LeakyRelu folding"),
        ("not a number", "MatMul scoring"),
    ],
)
def test_a_fault_in_the_artefact_is_named_and_shown(project: GatedDir, fault: str, operation: str) -> None:
    project.spoil(fault)
    result = project.doit()
    assert result.code == 1, result.text
    assert result.states["tiny:gate"] == "red"
    said = last(result)
    assert re.search(
        r"^  device \S+ CPUExecutionProvider against reference, output scores: ", said, re.MULTILINE
    )
    assert re.search(r"(worst|first) at sample \d+", said)
    assert f"{operation} is the first to differ" in said
    assert "(stage: the file that ships)" in said
    assert "scores: reference = phone; device" in said
    if fault != "not a number":
        measured = re.search(r"max_abs (\S+) against a limit of (\S+)", said)
        assert measured is not None
        assert float(measured[1]) > 10 * float(measured[2]) > 0
    shipped, model = reproduced(project, result)
    assert (shipped.code, model.code) == (1, 0), shipped.text + model.text
    assert shipped.out.splitlines()[0].startswith(f"{operation} in shipped.onnx, onnxruntime ")
    assert shipped.out.splitlines()[-1] == "reproduced"

    page = project.out("tiny", "report.html").read_text()
    card = re.search(r'<article class="card"><h3>device <code>scores</code></h3>.*?</article>', page)
    assert card is not None
    kind, _, name = operation.partition(" ")
    assert f"<b>{kind}</b> <code>{name}</code>" in card[0]
    assert ".cache/out/tiny/repro/device/reproduce.py" in card[0]
    assert "the file that ships" in card[0]


def test_a_red_build_says_the_same_again_and_is_green_without_the_fault(project: GatedDir) -> None:
    project.spoil("scaled")
    first = project.doit()
    again = project.doit()
    assert again.code == 1
    assert project.executed() == set()
    assert last(again).partition("\ntiny: ")[2] == last(first).partition("\ntiny: ")[2] != ""
    assert (
        "reproduce: python .cache/out/tiny/repro/device/reproduce.py"
        in project.doit("why", "tiny:device").out
    )
    assert "RED" not in project.doit("why", "tiny:phone").out

    project.spoil("")
    mended = project.doit()
    assert mended.code == 0, mended.text
    assert project.executed() == set()
    assert "reproduce" not in mended.out
    assert not (project.out("tiny:repro") / "device").exists()


def test_the_steps_tell_the_file_from_the_runtime(project: GatedDir) -> None:
    project.spoil("scaled")
    project.doit()
    steps = json.loads(project.out("tiny:device.steps", "steps.json").read_text())["outputs"]["scores"]
    assert [(step["stage"], step["ok"]) for step in steps] == [
        ("runtime", True),
        ("optimisation", True),
        ("artefact", False),
    ]
    (finding,) = json.loads(project.out("tiny:repro", "findings.json").read_text())["findings"]
    assert finding["stage"] == "artefact"
    assert finding["steps"]["outputs"]["scores"] == steps
    assert finding["confirmed"] == len(finding["samples"]) > 1
    assert finding["sample"] in finding["samples"]


def test_a_platform_more_builds_what_is_its_own_and_the_verdict(project: GatedDir) -> None:
    before = project.contents()
    project.manifest(
        lambda m: m["platforms"].update(tablet={"runtime": "onnxruntime", "shapes": "fixed", "batch": 1})
    )
    result = project.doit()
    assert result.code == 0, result.text
    own = {f"tiny:tablet{part}" for part in ("", ".run", ".golden", ".steps")}
    assert result.of("built") == project.executed() == own | {"tiny:verdict.runtime", "tiny:repro"}
    assert not result.of("restored")
    after = project.contents()
    changed = {name for name in before if before[name] != after[name]}
    assert {name.split("/")[1] for name in changed} <= {"verdict.runtime", "repro"}


# -- alive


def test_the_selftest_sees_every_fault_and_no_other(project: GatedDir) -> None:
    result = project.doit("selftest", "--clean", "5")
    assert result.code == 0, result.text
    counts = COUNTS.fullmatch(result.out.splitlines()[-1])
    assert counts is not None, result.out
    injected, red, clean, green = map(int, counts.groups())
    assert injected == red >= 2 * 30  # on each of two platforms
    assert clean == green == 5


def test_a_selftest_on_what_is_red_proves_nothing(project: GatedDir) -> None:
    project.spoil("scaled")
    project.doit()
    result = project.doit("selftest", "--clean", "1")
    assert result.code == 3
    assert "is red already" in result.err
    assert "Traceback" not in result.text
    project.spoil("")
    result = project.doit("selftest", "--clean", "1")
    assert result.code == 3
    assert "not up to date" in result.err


@pytest.mark.full
def test_the_selftest_in_full(project: GatedDir) -> None:
    result = project.doit("selftest")
    assert result.code == 0, result.text
    counts = COUNTS.fullmatch(result.out.splitlines()[-1])
    assert counts is not None, result.out
    assert counts[3] == counts[4] == "200"


# -- figures that are accepted, and waivers


def waive(project: GatedDir, days: int, limit: float = UP_TO) -> None:
    """Let both figures of the device pass for so many days from today."""
    expires = (today() + timedelta(days)).isoformat()
    waiver = {"platform": "device", "output": "scores", "limit": limit, "reason": REASON, "link": LINK}
    waivers = [{**waiver, "metric": metric, "expires": expires} for metric in ("max_abs", "rmse")]
    project.manifest(lambda m: m.update(waivers=waivers))


def figures(project: GatedDir) -> dict[tuple[str, str], Mapping[str, Any]]:
    lock = json.loads(project.path("manifests/tiny.lock.json").read_text())
    return {(row.get("run") or row["target"], row["metric"]): row for row in lock["figures"]}


def test_what_is_accepted_is_written_down_once(project: GatedDir) -> None:
    told = [row["detail"] for row in project.report()["verdicts"] if row["metric"] == "accepted"]
    assert len(told) == 1
    assert told[0].startswith("no figure is accepted yet: `doit accept tiny` writes manifests/tiny.lock.json")
    check = project.doit("accept", "--check")
    assert check.code == 1, check.text
    assert not project.path("manifests/tiny.lock.json").exists()

    result = project.doit("accept")
    assert result.code == 0, result.text
    assert result.out.splitlines()[-1] == "manifests/tiny.lock.json: 7 figures, 4 targets. Commit it."
    assert {("phone", "max_abs"), ("device", "rmse"), ("tiny:reference", "accuracy")} <= figures(
        project
    ).keys()
    written = project.path("manifests/tiny.lock.json").read_bytes()
    assert project.doit("accept", "--check").code == 0
    assert project.doit("accept").code == 0
    assert project.path("manifests/tiny.lock.json").read_bytes() == written

    after = project.doit()
    assert after.code == 0, after.text
    assert project.executed() == set()  # it decides nothing that is built
    assert not [row for row in project.report()["verdicts"] if row["metric"] == "accepted"]


def test_a_figure_that_got_worse_is_red_until_a_waiver_lets_it_pass(accepted: GatedDir) -> None:
    written = accepted.path("manifests/tiny.lock.json").read_bytes()
    accepted.spoil("slightly", tolerance=WIDE)
    worse = accepted.doit()
    assert worse.code == 1, worse.text
    assert "is worse than the 0 accepted in manifests/tiny.lock.json" in last(worse)
    assert "max_abs 0.002" in last(worse)
    for args in (("accept",), ("accept", "--check")):
        refused = accepted.doit(*args)
        assert refused.code == 1
        assert "device scores max_abs would loosen" in refused.err
    assert accepted.doit("deliver", "--to", "ship").code == 1
    assert accepted.path("manifests/tiny.lock.json").read_bytes() == written

    waive(accepted, days=0)
    passes = accepted.doit()
    assert passes.code == 0, passes.text
    assert accepted.executed() == set()
    for metric in ("max_abs", "rmse"):
        line = rf"warning: {metric} of scores on device, \S+, is waived up to 0.01 until \S+: {REASON} \({LINK}\)"
        assert re.search(line, last(passes)), last(passes)

    waive(accepted, days=-1)
    expired = accepted.doit()
    assert expired.code == 1, expired.text
    assert f"the waiver ended on {(today() - timedelta(1)).isoformat()} ({REASON}" in last(expired)

    waive(accepted, days=30, limit=0.0001)
    short = accepted.doit()
    assert short.code == 1
    assert "the waiver lets it pass only up to 0.0001" in last(short)


def test_what_is_waived_is_noted_and_never_accepted(accepted: GatedDir) -> None:
    accepted.spoil("slightly", tolerance=WIDE)
    waive(accepted, days=30)
    assert accepted.doit().code == 0
    assert accepted.doit("accept", "--check").code == 1
    assert accepted.doit("accept").code == 0
    line = figures(accepted)["device", "max_abs"]
    assert line["accepted"] == 0
    assert 0.001 < line["waived"] < UP_TO
    assert accepted.doit("accept", "--check").code == 0

    accepted.manifest(lambda m: m.pop("waivers"))
    assert accepted.doit().code == 1


def test_a_waiver_lets_the_gate_itself_pass_but_not_what_has_no_number(project: GatedDir) -> None:
    project.spoil("slightly")
    red = project.doit()
    assert red.code == 1, red.text
    assert "MatMul scoring is the first to differ" in last(red)
    waive(project, days=30)
    passes = project.doit()
    assert passes.code == 0, passes.text
    assert project.executed() == set()
    assert "is waived up to 0.01" in last(passes)
    assert "first to differ" not in last(passes)

    project.spoil("not a number")
    nothing = project.doit()
    assert nothing.code == 1, nothing.text
    assert "NaN" in last(nothing)


# -- golden samples


def test_what_is_delivered_checks_itself(project: GatedDir) -> None:
    result = project.doit("deliver", "--to", "ship")
    assert result.code == 0, result.text
    for platform in ("phone", "device"):
        done = project.typed(f"python ship/tiny/{platform}/golden/check.py")
        assert done.code == 0, done.text
        assert re.fullmatch(r"holds: 8 samples, scores off by \S+, limit \S+\n", done.out)
    path = project.path("ship/tiny/device/model.onnx")
    model = onnx.load(path)
    (weight,) = (each for each in model.graph.initializer if each.name == "score")
    array = numpy_helper.to_array(weight)
    weight.CopyFrom(numpy_helper.from_array(array * array.dtype.type(1.01), "score"))
    onnx.save(model, path)
    done = project.typed("python ship/tiny/device/golden/check.py")
    assert done.code == 1, done.text
    assert re.match(r'RED: output "scores", sample \d, value \d+: ', done.err)
    assert project.typed("python ship/tiny/phone/golden/check.py").code == 0
