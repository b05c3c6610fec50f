import json
import sys

import pytest
from fakes import target
from hypothesis import given
from hypothesis import strategies as st

from modelbuild import keys as keymaker
from modelbuild.digest import of_file
from modelbuild.errors import BuildError
from modelbuild.keys import Keys, differences, expanded, key_of, reason
from modelbuild.targets import Recipe

FILES = {
    "lab.py": "import steps.train\ndef f(i, p, o): ...",
    "steps/__init__.py": "",
    "steps/train.py": "from . import loss\ndef g():\n    from .late import h",
    "steps/loss.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import types_only",
    "steps/late.py": "import xxhash",
    "steps/unused.py": "",
    "types_only.py": "",
    "nets/__init__.py": "",
    "nets/mine.py": "",
    "nets/yours.py": "",
    "data/weights.bin": "w",
    "data/other.bin": "o",
}
BASE = target(
    "m:a",
    "lab:f",
    params={"module": "nets.mine:Net", "args": {"width": 8}},
    inputs={"train": "m:t"},
    files={"weights": "data/weights.bin"},
    modules=("nets.mine",),
    tools=("doit",),
)
INPUTS = {"train": "d" * 32}


@pytest.fixture
def root(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def parts(root, target=BASE, inputs=INPUTS):
    return Keys(root, of_file, lambda kind: {}).parts(target, inputs)


def key(root, target=BASE, inputs=INPUTS):
    return key_of(parts(root, target, inputs))


@pytest.mark.parametrize(
    "name",
    [
        "lab.py",
        "steps/__init__.py",
        "steps/train.py",
        "steps/loss.py",
        "steps/late.py",
        "nets/__init__.py",
        "nets/mine.py",
    ],
)
def test_an_edit_of_any_code_that_can_run_misses(root, name):
    before = key(root)
    (root / name).write_text((root / name).read_text() + "\n# edited\n")
    assert key(root) != before


@pytest.mark.parametrize(
    "name", ["steps/unused.py", "types_only.py", "nets/yours.py", "data/other.bin", "new.py"]
)
def test_an_edit_of_anything_else_hits(root, name):
    before = key(root)
    (root / name).write_text("# edited\n")
    assert key(root) == before


def test_new_code_in_the_way_of_an_import_misses(root):
    before = key(root)
    (root / "xxhash.py").write_text("")
    assert key(root) != before


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": Recipe("lab:g")},
        {"recipe": Recipe("lab:f", tools=("pytest",))},
        {"params": {"module": "nets.mine:Net", "args": {"width": 9}}},
        {"params": {"module": "nets.mine:Net", "args": {}}},
        {"params": {"module": "nets.mine:Net", "args": {"width": 8, "depth": None}}},
        {"modules": ("nets.yours",)},
        {"modules": ()},
        {"tools": ("pytest",)},
        {"files": {}},
        {"files": {"weights": "data/other.bin"}},
        {"files": {"bias": "data/weights.bin"}},
    ],
    ids=str,
)
def test_a_change_of_what_the_target_declares_misses(root, change):
    assert key(root, BASE._replace(**change)) != key(root)


@pytest.mark.parametrize(
    "change", [{"name": "m:b"}, {"doc": "other words"}, {"inputs": {"train": "m:renamed"}}], ids=str
)
def test_a_change_of_names_and_words_hits(root, change):
    assert key(root, BASE._replace(**change)) == key(root)


def test_the_order_in_which_things_are_declared_does_not_count(root):
    turned = BASE._replace(
        params={"args": {"width": 8}, "module": "nets.mine:Net"}, inputs={"b": "m:b", "train": "m:t"}
    )
    same = BASE._replace(inputs={"train": "m:t", "b": "m:b"})
    assert key(root, turned, {"train": "d", "b": "e"}) == key(root, same, {"b": "e", "train": "d"})


def test_the_bytes_of_an_input_and_of_a_file_count_and_nothing_else_of_them(root):
    before = key(root)
    assert key(root, inputs={"train": "e" * 32}) != before
    assert key(root, inputs={"other": "d" * 32}) != before
    (root / "data" / "weights.bin").touch()
    assert key(root) == before
    (root / "data" / "weights.bin").write_text("W")
    assert key(root) != before


def test_the_version_of_an_imported_library_counts(root, monkeypatch):
    before = key(root)
    real = keymaker.installed()

    def with_(**changes):
        have = {**real, **changes}
        monkeypatch.setattr(keymaker, "installed", lambda: have)
        monkeypatch.setattr("modelbuild.versions.installed", lambda: have)
        return key(root)

    assert with_(xxhash="0.0") != before  # imported, inside a function
    assert with_(doit="0.0") != before  # declared by the runtime
    assert with_(pytest="0.0") == before
    assert with_() == before


def test_a_declared_library_that_is_not_there_is_a_part_too(root):
    missing = BASE._replace(tools=("no-such-library",))
    assert ("version no-such-library", "not installed") in parts(root, missing)


def test_code_that_cannot_be_read_is_said_in_words(root):
    def gone(path):
        if path.name == "loss.py":  # listed a moment ago, removed since
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return of_file(path)

    with pytest.raises(BuildError, match=r"loss\.py: cannot be read: No such file"):
        Keys(root, gone, lambda kind: {}).parts(BASE, INPUTS)


def test_two_targets_of_one_recipe_keep_their_own_tools(root):
    keys = Keys(root, of_file, lambda kind: {})
    first = keys.parts(BASE, INPUTS)
    assert keys.parts(BASE._replace(tools=("pytest",)), INPUTS) != first
    assert keys.parts(BASE._replace(recipe=Recipe("lab:f", ("filelock",))), INPUTS) != first
    assert keys.parts(BASE, INPUTS) == first


def test_the_minor_version_of_python_counts_and_the_patch_does_not(root, monkeypatch):
    before = key(root)
    major, minor, micro, *rest = sys.version_info
    monkeypatch.setattr(keymaker.sys, "version_info", (major, minor, micro + 1, *rest))
    assert key(root) == before
    monkeypatch.setattr(keymaker.sys, "version_info", (major, minor + 1, micro, *rest))
    assert key(root) != before


def test_the_generation_of_the_store_counts(root, monkeypatch):
    before = key(root)
    monkeypatch.setattr(keymaker, "GENERATION", keymaker.GENERATION + 1)
    assert key(root) != before


def test_where_the_project_lies_does_not_count(root, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    for name, text in FILES.items():
        (other / name).parent.mkdir(parents=True, exist_ok=True)
        (other / name).write_text(text)
    assert key(other) == key(root)


def test_a_file_that_is_gone_is_said_with_its_target(root):
    (root / "data" / "weights.bin").unlink()
    with pytest.raises(BuildError, match=r"m:a: cannot read data/weights.bin: No such file or directory"):
        key(root)


def test_the_bytes_of_a_program_of_this_machine_count_and_not_its_place(root):
    browser, moved = root / "browser", root / "moved"
    browser.write_text("version 1")
    moved.write_text("version 1")
    here = BASE._replace(machine={"chromium": str(browser)})
    before = parts(root, here)
    assert key_of(before) != key(root)
    assert key(root, BASE._replace(machine={"chromium": str(moved)})) == key_of(before)
    browser.write_text("version 2")
    assert key(root, here) != key_of(before)
    assert reason(here, before, parts(root, here)) == "another chromium on this machine"
    browser.unlink()
    with pytest.raises(BuildError, match=r"m:a: cannot read .*browser: No such file"):
        key(root, here)


def test_a_renewed_computer_sees_what_lies_on_disk_now(root):
    keys = Keys(root, of_file, lambda kind: {})
    before = keys.parts(BASE, INPUTS)
    (root / "nets" / "mine.py").write_text("# edited")
    assert keys.parts(BASE, INPUTS) == before
    assert keys.renewed().parts(BASE, INPUTS) != before


# -- the encoding

NAMES = st.text(st.sampled_from("ab/~[]01.\0é"), max_size=3)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e300]),
    st.sampled_from(["", "0", "1", "true", "null", "[]", "{}", "a\0b", "é"]),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)


def text(value):
    """What tells JSON values apart: 1, 1.0, true and "1" are four."""
    return json.dumps(value, sort_keys=True)


def walked(value):
    """The parts of a target with these parameters, before its code."""
    return (("params", keymaker._canonical(value)),)


@given(JSON, JSON)
def test_different_values_never_have_the_same_parts(first, second):
    a, b = walked(first), walked(second)
    assert (a == b) == (text(first) == text(second))
    assert (key_of(a) == key_of(b)) == (a == b)


@given(JSON)
def test_pointers_are_unique_and_no_part_holds_the_separator(value):
    found = list(expanded(walked(value)))
    assert len({label for label, _ in found}) == len(found)
    assert "\0" not in "".join(walked(value)[0])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, []), ({"a": {}}, {"a": []}), ({"a": {}}, {}), ({"a": None}, {}), ([[]], []), ([None], []),
        ({"a": 1}, {"a": 1.0}), ({"a": 1}, {"a": True}), ({"a": 1}, {"a": "1"}), ({"a": 0.0}, {"a": -0.0}),
        ({"a": [1]}, {"a": {"0": 1}}), ({"a": [1]}, {"a[0]": 1}), ({"a": {"b": 1}}, {"a/b": 1}),
        ({"~1": 1}, {"/": 1}),
        ({"~2": 1}, {"[": 1}), ({"a\0": 1}, {"a~3": 1}), ({"": {"a": 1}}, {"/a": 1}), ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": [[1], 2]}, {"a": [[1, 2]]}), ({"é": 1}, {"e\u0301": 1}), ("", None),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_look_alike_are_told_apart(first, second):
    assert walked(first) != walked(second)
    assert list(expanded(walked(first))) != list(expanded(walked(second)))


def test_what_json_cannot_say_is_refused(root):
    with pytest.raises(ValueError, match="JSON"):
        key(root, BASE._replace(params={"a": float("nan")}))


PIECES = st.sampled_from(["a", "b", "ab", ""])
ANY_PARTS = st.lists(st.tuples(PIECES, PIECES), max_size=3).map(tuple)


@given(ANY_PARTS, ANY_PARTS)
def test_a_key_tells_where_a_field_ends(first, second):
    assert (key_of(first) == key_of(second)) == (first == second)


# -- the explanation is the key's own walk


def test_what_the_key_holds_is_what_is_explained(root):
    before = parts(root)
    (root / "steps" / "loss.py").write_text("# edited")
    after = parts(
        root, BASE._replace(params={"module": "nets.mine:Net", "args": {"width": 9}}), {"train": "e" * 32}
    )
    assert key_of(before) != key_of(after)
    assert [label for label, _, _ in differences(before, after)] == [
        "code steps.loss",
        "param /args/width",
        "input train",
    ]
    assert differences(before, before) == []


@given(JSON, JSON)
def test_keys_differ_exactly_when_there_is_something_to_explain(first, second):
    a, b = walked(first), walked(second)
    assert (key_of(a) == key_of(b)) == (not differences(a, b))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (("code nets.mine", "1"), ("code nets.mine", "2"), "code changed: nets.mine"),
        (("code nets.mine", "1"), None, "code removed: nets.mine"),
        (None, ("code nets.mine", "1"), "code added: nets.mine"),
        (("file weights", "1"), ("file weights", "2"), "file changed: data/weights.bin"),
        (("input train", "1"), ("input train", "2"), "input changed: m:t"),
        (("version numpy", "1.0"), ("version numpy", "2.0"), "numpy: 1.0 -> 2.0"),
        (("version numpy", "1.0"), None, "numpy: 1.0 -> none"),
        (("params", '{"args":{"width":8}}'), ("params", '{"args":{"width":9}}'), "/args/width: 8 -> 9"),
        (("params", '{"a":1}'), ("params", '{"a":1,"args":{"width":9}}'), "/args/width: none -> 9"),
        (("params", '{"a":[1,2]}'), ("params", '{"a":[1]}'), "/a[1]: 2 -> none"),
        (("python", "3.11"), ("python", "3.12"), "python: 3.11 -> 3.12"),
        (("generation", "1"), ("generation", "2"), "generation: 1 -> 2"),
        (("recipe", "lab:f"), ("recipe", "lab:g"), "recipe: lab:f -> lab:g"),
    ],
)
def test_the_reason_is_said_in_words(old, new, words):
    assert reason(BASE, (old,) if old else (), (new,) if new else ()) == words


def test_a_long_list_of_reasons_is_cut():
    new = (("params", json.dumps({str(n): 1 for n in range(5)})),)
    assert reason(BASE, (), new) == "/0: none -> 1; /1: none -> 1 (+3 more)"
