"""`doit rehearse`: a release that computes something else is named before anyone upgrades to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import doctored
import pytest
from project_dir import ProjectDir, Result

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
    import json

    name = next(iter(json.loads(project.path("manifests/tiny.json").read_text())["platforms"]))
    project.manifest(lambda m: m["platforms"][name].update(versions=[doctored.REAL]))
    assert project.doit().code == 0
    return str(name)


def test_a_broken_release_is_named_and_a_sound_one_is_not(project: ProjectDir, doit: Doit, name: str) -> None:
    before = project.contents()
    sound = doit("rehearse", name, "--version", "1.18.2")
    assert sound.code == 0, sound.text
    assert "the same bits" in sound.text
    assert f"tiny:{name} 1.18.2: no verdict is worse than under {doctored.REAL}" in sound.text
    broken = doit("rehearse", name, "--version", "1.18.3")
    assert broken.code == 1, broken.text
    assert f"tiny:{name} 1.18.3: RED where {doctored.REAL} holds" in broken.text
    assert "scores max_abs" in broken.text
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
    assert last.startswith("the first version whose verdict differs from that of 1.18.1 is 1.18.3: ")
    assert "max_abs" in last
    assert "1.18.2: every verdict holds" in result.text


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

    newer(next(project.root.glob("**/*.onnx")))
    project.manifest(lambda m: m.setdefault("export", {}).update(opset=22))
    project.manifest(lambda m: m["platforms"][name].pop("versions"))
    assert project.doit().code == 0
    result = doit("rehearse", name, "--version", doctored.REAL)
    assert result.code == 1, result.text
    assert f"version {doctored.REAL} does not load the model (opset 22, IR 10)" in result.text
    assert "Export to a lower opset" in result.text
    assert "Traceback" not in result.text


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("NAME",), 3, "a version or a range"),
        (("NAME", "--version", "1.18.2", "--bisect", "1..2"), 3, "a version or a range"),
        (("--version", "1.18.2"), 3, "one platform"),
        (("nowhere", "--version", "1.18.2"), 3, "there is no such platform"),
        (("NAME", "--version", "new"), 3, "no version"),
        (("NAME", "--version", "1.18.77"), 1, "cannot be resolved"),
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
