"""`doit rehearse`: a release that computes something else is named before anyone upgrades to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import doctored
import pytest
from project_dir import ProjectDir, Result

from modelbuild import nodejs

Doit = Callable[..., Result]


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """1.18.2 is sound; 1.18.3 and 1.18.4 are not."""
    folder = tmp_path_factory.mktemp("wheels")
    for version, broken in (("1.18.2", False), ("1.18.3", True), ("1.18.4", True)):
        doctored.release(version, folder, broken=broken)
    return doctored.environment(folder, tmp_path_factory.mktemp("uv"))


@pytest.fixture
def doit(project: ProjectDir, releases: dict[str, str]) -> Doit:
    return lambda *args: project.doit(*args, env=releases)


@pytest.fixture
def name(project: ProjectDir) -> str:
    """A platform of ONNX Runtime, shipped for the real version."""
    project.manifest(lambda m: m["platforms"]["phone"].update(versions=[doctored.REAL]))
    assert project.doit().code == 0
    return "phone"


def test_a_broken_release_is_named_and_a_sound_one_is_not(project: ProjectDir, doit: Doit, name: str) -> None:
    before = project.contents()
    sound = doit("rehearse", name, "--version", "1.18.2")
    assert sound.code == 0, sound.text
    assert "the same bits" in sound.text
    assert sound.text.endswith(f"tiny:{name} 1.18.2: every verdict as under {doctored.REAL}\n")
    broken = doit("rehearse", name, "--version", "1.18.3")
    assert broken.code == 1, broken.text
    last = broken.text.strip().splitlines()[-1]
    assert last.startswith(f"tiny:{name} 1.18.3: RED where {doctored.REAL} holds: ")
    assert "scores max_abs" in last
    assert "the outputs differ by at most" in broken.text
    (row,) = (line.split() for line in broken.text.splitlines() if line.split()[:2] == ["scores", "max_abs"])
    assert (row[2:4], row[5]) == (["0", "holds"], "RED")
    assert float(row[4]) > float(row[6]) > 0
    assert f"scores max_abs {row[4]}, limit {row[6]}" in last
    after = project.contents()
    assert {
        path: after[path] for path in before
    } == before  # what is shipped, and its verdicts, are as they were
    assert set(project.doit().states.values()) == {"up to date"}


def test_a_rehearsal_that_is_repeated_builds_nothing(project: ProjectDir, doit: Doit, name: str) -> None:
    first = doit("rehearse", name, "--version", "1.18.3")
    stamps = {p: p.stat().st_mtime_ns for p in project.path(".cache/records").rglob("*.json")}
    again = doit("rehearse", name, "--version", "1.18.3")
    assert (again.code, again.text) == (first.code, first.text)
    assert stamps == {p: p.stat().st_mtime_ns for p in project.path(".cache/records").rglob("*.json")}


def test_the_first_broken_release_is_found(doit: Doit, name: str) -> None:
    result = doit("rehearse", name, "--bisect", "1.18.1..1.18.4")
    assert result.code == 1, result.text
    assert "4 versions from 1.18.1 to 1.18.4" in result.text
    last = result.text.strip().splitlines()[-1]
    assert last.startswith(f"tiny:{name}: the first version whose verdict differs from 1.18.1's is 1.18.3: ")
    assert "scores max_abs" in last
    assert "  1.18.2: every verdict holds\n" in result.text
    assert "  1.18.4: RED: scores " in result.text


def test_where_nothing_differs_that_is_said(doit: Doit, name: str) -> None:
    result = doit("rehearse", f"tiny:{name}", "--bisect", "1.18.1..1.18.2")
    assert result.code == 0, result.text
    assert "1.18.2 has the verdicts of 1.18.1" in result.text


def test_a_version_that_does_not_load_the_artefact_is_a_result(
    project: ProjectDir, doit: Doit, name: str
) -> None:
    import onnx

    def newer(path: Path) -> None:
        model = onnx.load(path)
        model.opset_import[0].version, model.ir_version = 22, 10
        path.write_bytes(model.SerializeToString())

    newer(project.path("models/tiny.onnx"))
    project.manifest(lambda m: m.setdefault("export", {}).update(opset=22))
    project.manifest(lambda m: m["platforms"][name].pop("versions"))
    assert project.doit().code == 0
    result = doit("rehearse", name, "--version", doctored.REAL)
    assert result.code == 1, result.text
    assert f"version {doctored.REAL} does not load the model (opset 22, IR 10)" in result.text
    assert "Export to a lower opset" in result.text
    assert "Traceback" not in result.text
    neither = doit("rehearse", name, "--bisect", "1.18.1..1.18.2")
    assert neither.code == 0, neither.text
    assert neither.text.count("does not run: version 1.18.") == 2


def test_every_way_of_running_is_judged(project: ProjectDir, doit: Doit, name: str) -> None:
    project.manifest(lambda m: m["platforms"][name].update(optimisation=["all", "disabled"]))
    assert project.doit().code == 0
    result = doit("rehearse", name, "--version", "1.18.3")
    assert result.code == 1
    rows = [line.split() for line in result.text.splitlines() if "max_abs" in line.split()[:3]]
    assert [(row[0], row[6]) for row in rows] == [("all:", "RED"), ("disabled:", "RED")]


def test_the_tolerance_of_the_platform_is_the_one_that_counts(
    project: ProjectDir, doit: Doit, name: str
) -> None:
    own = {"max_abs": 1.0}
    project.manifest(lambda m: m["platforms"][name].update(tolerance=own))
    assert project.doit().code == 0
    result = doit("rehearse", name, "--version", "1.18.3")
    assert result.code == 0, result.text
    (row,) = (line.split() for line in result.text.splitlines() if "max_abs" in line.split())
    assert (row[5], row[6]) == ("holds", "1")


def test_the_platforms_of_all_models_are_rehearsed(project: ProjectDir, doit: Doit, name: str) -> None:
    document = json.loads(project.path("manifests/tiny.json").read_text())
    project.write("manifests/other.json", json.dumps({**document, "model": "other"}))
    assert project.doit().code == 0
    result = doit("rehearse", name, "--version", "1.18.3")
    assert result.code == 1, result.text
    assert [f"{model}:{name} 1.18.3: RED where" in result.text for model in ("other", "tiny")] == [True, True]


def test_the_browser_is_rehearsed_against_the_version_that_it_has_now(project: ProjectDir) -> None:
    if nodejs.find() is None:
        pytest.skip(f"there is no Node: {nodejs.REMEDY}")
    page = {"runtime": "onnxruntime-web", "executable": "no-such-browser"}
    project.manifest(lambda m: m["platforms"].update(browser=page))
    assert project.doit().code == 0
    result = project.doit("rehearse", "browser", "--version", "1.24.3")
    assert result.code == 0, result.text
    assert "tiny:browser under 1.24.3, and under 1.30.0 as now" in result.text
    assert "  node-wasm: the same bits\n" in result.text
    assert "  chromium-wasm: not run: " in result.text  # said, not passed over
    run = json.loads(project.out("tiny:rehearsal.browser.1.24.3.node-wasm.run", "run.json").read_text())
    assert run["version"] == "1.24.3"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("NAME",), 3, "a version or a range"),
        (("NAME", "--version", "1.18.2", "--bisect", "1..2"), 3, "a version or a range"),
        (("--version", "1.18.2"), 3, "one platform"),
        (("nowhere", "--version", "1.18.2"), 3, "there is no such platform"),
        (("NAME", "--version", "new"), 3, "no version"),
        (("NAME", "--version", "1.18.77"), 3, "1.18.77: is no released version of onnxruntime"),
        (("NAME", "--bisect", "1.18.1"), 3, "is no range"),
        (("NAME", "--bisect", "1.18.2..1.18.1"), 3, "is not the older one"),
        (("NAME", "--bisect", "1.18.1..1.18.77"), 3, "is no released version"),
        (("NAME", "--versio"), 3, "lists the options"),
    ],
)
def test_mistakes_are_said(doit: Doit, name: str, args: tuple[str, ...], code: int, words: str) -> None:
    result = doit("rehearse", *(name if arg == "NAME" else arg for arg in args))
    assert words in result.text
    assert result.code == code
    assert "Traceback" not in result.text


def test_what_is_not_up_to_date_is_not_rehearsed(project: ProjectDir, doit: Doit, name: str) -> None:
    project.manifest(lambda m: m["platforms"][name].update(shapes="fixed"))
    result = doit("rehearse", name, "--version", "1.18.2")
    assert result.code == 1
    assert "is not up to date" in result.text
    assert "Run `doit tiny` first" in result.text
