# ruff: noqa: E501  (tables: one refusal a line)

"""Manifests as someone hostile would write them. Each must end in one ManifestError, soon, and run nothing."""

import json
import os
import sys

import pytest

from modelbuild import manifest
from modelbuild.errors import ManifestError
from modelbuild.limits import LIMITS

SOURCE = {
    "model": "wine",
    "source": {"onnx": "models/wine.onnx"},
    "data": {"evaluation": {"loader": "sklearn-wine"}},
    "platforms": {"server": {"runtime": "onnxruntime"}},
}


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project"
    (folder / "manifests/platforms").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "models/wine.onnx").write_text("onnx")
    (tmp_path / "outside.onnx").write_text("secret")
    (tmp_path / "outside.json").write_text('{"runtime": "onnxruntime"}')
    (tmp_path / "evil.py").write_text("raise SystemExit('ran')\ndef load(): ...")
    return folder


def refusal(root, value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    (root / "manifests/x.json").write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        manifest.load(root, set())
    text = str(caught.value)
    assert len(text) < 12_000
    assert all(line.isprintable() for line in text.splitlines())
    return text


@pytest.mark.parametrize("opening", ["[", '{"a":', "[[[{}],", '["\\"[', '{"\\\\":['])
@pytest.mark.parametrize("count", [1_000, 100_000])
def test_deep_nesting(root, opening, count):
    assert "is nested deeper" in refusal(root, (opening * count).encode()) or opening == '["\\"['


@pytest.mark.parametrize(
    "text",
    [
        '"' * LIMITS.manifest_bytes,
        '"' + '\\"' * (LIMITS.manifest_bytes // 2 - 1),
        "[" * 30 + '"' + "\\" * 900_000,
        "[]," * 30 + '"' + '\\"' * 400_000,
    ],
)
def test_text_made_to_backtrack(root, text):
    assert refusal(root, text.encode()[: LIMITS.manifest_bytes]).startswith("manifests/x.json:1:")


def test_ten_megabytes(root):
    assert "is larger than" in refusal(root, b'{"model": "' + b"a" * (10 << 20) + b'"}')


def test_a_number_of_a_million_digits(root):
    assert "does not fit 64 bits" in refusal(root, b'{"model": ' + b"9" * 1_000_000 + b"}")
    assert "is too large for a number" in refusal(root, b'{"model": 1e' + b"9" * 1_000_000 + b"}")


def test_a_million_duplicates(root):
    text = "{" + ",".join(['"a":0'] * 100_000) + "}"
    assert "more than 50,000 values" not in refusal(root, text.encode())
    assert 'the key "a" stands here twice' in refusal(root, text.encode())


def test_a_key_that_an_editor_shows_first_and_the_parser_reads_last(root):
    text = json.dumps(SOURCE).replace('"model"', '"source": {"onnx": "models/other.onnx"}, "model"')
    assert 'the key "source" stands here twice' in refusal(root, text.encode())


def test_forty_thousand_unknown_keys(root):
    lines = refusal(root, {**SOURCE, **{f"key{i}": 0 for i in range(40_000)}}).splitlines()
    assert len(lines) == 12
    assert lines[-1] == "  and 1 more"  # no more were even looked for


def test_thousands_of_samples_in_one_circle(root):
    data = {f"d{i}": {"sample": f"d{(i + 1) % 8000}", "count": 1} for i in range(8000)}
    assert "data sets in a circle: d0 -> d1 -> " in refusal(
        root, {**SOURCE, "data": {**SOURCE["data"], **data}}
    )


@pytest.mark.parametrize(
    "path",
    ["../outside.onnx", "models/../../outside.onnx", "models/..", "..", "/etc/passwd", "//etc/passwd",
     "\\\\host\\share", "c:outside", "file:///etc/passwd", "models/wine.onnx\x00.txt", "models/wine.onnx\n",
     "~root/x", "$HOME/x", "a" * 5000, "a/" * 5000, "\u202exnno.eniw"],
)  # fmt: skip
def test_paths_that_lead_elsewhere(root, path):
    assert "#/source/onnx: " in refusal(root, {**SOURCE, "source": {"onnx": path}})
    assert "#/platforms/p: " in refusal(root, {**SOURCE, "platforms": {"p": path}})


@pytest.mark.parametrize("target", ["../../outside.onnx", "/etc/hostname"])
def test_a_link_that_leaves_the_project(root, target):
    os.symlink(target, root / "models/link.onnx")
    text = refusal(root, {**SOURCE, "source": {"onnx": "models/link.onnx"}})
    assert text.endswith(
        '"models/link.onnx" is a link that leaves the project. Copy the file into the project.'
    )


def test_a_folder_that_is_a_link_out_of_the_project(root, tmp_path):
    os.symlink(tmp_path, root / "away")
    assert "leaves the project" in refusal(root, {**SOURCE, "source": {"onnx": "away/outside.onnx"}})
    os.symlink(tmp_path, root / "manifests/away")
    assert "leaves the project" in refusal(root, {**SOURCE, "platforms": {"p": "away/outside.json"}})


def test_a_manifest_that_is_a_link_out_of_the_project(root, tmp_path):
    (tmp_path / "outside.json").write_text(json.dumps(SOURCE))
    os.symlink(tmp_path / "outside.json", root / "manifests/x.json")
    with pytest.raises(ManifestError, match=r'manifests/x.json: "x.json" is a link that leaves the project'):
        manifest.load(root, set())


def test_links_in_a_ring_and_links_inside(root):
    os.symlink("b.onnx", root / "models/a.onnx")
    os.symlink("a.onnx", root / "models/b.onnx")
    assert "there is no file" in refusal(root, {**SOURCE, "source": {"onnx": "models/a.onnx"}})
    os.symlink("wine.onnx", root / "models/inside.onnx")
    (root / "manifests/x.json").write_text(json.dumps({**SOURCE, "source": {"onnx": "models/inside.onnx"}}))
    assert manifest.load(root, set()).models


def test_pipes_and_devices(root):
    os.mkfifo(root / "models/pipe.onnx")
    assert "is not a regular file" in refusal(root, {**SOURCE, "source": {"onnx": "models/pipe.onnx"}})
    os.mkfifo(root / "manifests/platforms/pipe.json")
    assert "is not a regular file" in refusal(root, {**SOURCE, "platforms": {"p": "platforms/pipe.json"}})
    os.mkfifo(root / "manifests/pipe.json")
    (root / "manifests/x.json").unlink()
    with pytest.raises(ManifestError, match="is not a regular file"):
        manifest.load(root, set())


@pytest.mark.parametrize(
    "loader",
    ["os:system", "subprocess:run", "builtins:eval", "posix:system", "os.path:join", "importlib:import_module",
     "__main__:x", "sys:exit", "evil:load", "..evil:load", ".evil:load", "../evil.py:load", "/tmp/evil:load",
     "mine.data:load()", "mine.data:load; import os", "mine.data:load\n", "mine:__import__('os')", "os.system",
     "os:system:x", "a..b:c", ":", "", "x:", ":x", "\u043es:system", "a" * 50_000 + ":x", "lambda: 1", "."],
)  # fmt: skip
def test_code_that_a_manifest_may_not_name(root, loader):
    before = set(sys.modules)
    assert "#/data/evaluation/loader: " in refusal(
        root, {**SOURCE, "data": {"evaluation": {"loader": loader}}}
    )
    assert {name for name in set(sys.modules) - before if not name.startswith("modelbuild")} <= set(
        sys.modules
    )
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    "loader", ["mine:load()", "mine:load\n", "mine:load; x", "mine:load.x", " mine:load"]
)
def test_more_than_a_name_after_a_name_that_is_good(root, loader):
    (root / "mine.py").write_text("def load(): ...")
    text = refusal(root, {**SOURCE, "data": {"evaluation": {"loader": loader}}})
    assert "is not of the form package.module:callable" in text


@pytest.mark.parametrize("loader", ["__main__:main", "builtins:eval", "posix:system", "os.path:join"])
def test_what_python_itself_holds(root, loader):
    text = refusal(root, {**SOURCE, "data": {"evaluation": {"loader": loader}}})
    assert "is part of Python itself" in text


def test_a_folder_without_code(root, monkeypatch):
    monkeypatch.setattr("modelbuild.modules.locate", lambda root, dotted: root / "models")
    text = refusal(root, {**SOURCE, "data": {"evaluation": {"loader": "models:load"}}})
    assert text.endswith('"models" is a folder, not a module. Name a module in it: models.module:load.')


def test_a_decoy_of_a_standard_module_in_the_project(root):
    (root / "os.py").write_text("def system(command): ...")
    text = refusal(root, {**SOURCE, "data": {"evaluation": {"loader": "os:system"}}})
    assert '"os" is part of Python itself' in text


def test_project_code_is_looked_at_and_not_run(root):
    (root / "mine.py").write_text("raise SystemExit('ran')\ndef load(): ...")
    data = {"evaluation": {"loader": "mine:load"}}
    (root / "manifests/x.json").write_text(json.dumps({**SOURCE, "data": data}))
    assert manifest.load(root, set()).models
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    "source", [b"\x00", b"(" * 100_000, b"# coding: nonsense\n", b"x = " + b"-" * 90_000 + b"1"]
)
def test_project_code_that_breaks_the_parser(root, source):
    (root / "mine.py").write_bytes(source)
    assert "is not valid Python" in refusal(root, {**SOURCE, "data": {"evaluation": {"loader": "mine:load"}}})


def test_a_module_that_is_a_link_out_of_the_project(root, tmp_path):
    os.symlink(tmp_path / "evil.py", root / "mine.py")
    assert "leaves the project" in refusal(root, {**SOURCE, "data": {"evaluation": {"loader": "mine:load"}}})


@pytest.mark.parametrize(
    "name", ["\x1b[2J", "\x1b]0;owned\x07", "<script>alert(1)</script>", "a\nb", "a\x00", "\u202ea", "\x9b31m", "é", "a/b",
             "..", "__proto__", "A", "a b", "a.b", "a:b", "", "a" * 65, "a\n", "\u2028"],
)  # fmt: skip
def test_names_that_reach_a_terminal_or_a_report(root, name):
    assert refusal(root, {**SOURCE, "model": name})
    assert refusal(root, {**SOURCE, name: 1})
    assert refusal(root, {**SOURCE, "platforms": {name: {"runtime": "onnxruntime"}}})
    assert refusal(root, {**SOURCE, "data": {**SOURCE["data"], name: {"loader": "sklearn-wine"}}})
    assert refusal(root, {**SOURCE, "data": {**SOURCE["data"], "x": {"sample": name, "count": 1}, name: 3}})
    assert refusal(root, {**SOURCE, "platforms": {"x": {"runtime": name}}})
    assert refusal(root, {**SOURCE, "data": {"evaluation": {"loader": name}}})


def test_two_files_whose_bytes_run_together_are_told_apart(root):
    """Moving the border between manifest and platform file makes another digest."""
    loader = manifest._Loader(root, set())
    file = manifest._File
    document = manifest.Document
    one = loader._digest([file(b"ab", document("m", 0)), file(b"c", document("p", 0))])
    two = loader._digest([file(b"a", document("m", 0)), file(b"bc", document("p", 0))])
    assert one != two
