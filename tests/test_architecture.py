"""Rules of the house that a reader can rely on: sizes, names, what is not used, what is documented."""

import ast
import io
import shutil
import subprocess
import tokenize
from pathlib import Path

import pytest

import modelbuild

PACKAGE = Path(modelbuild.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_bytes()) for path in FILES}
TOP_LEVEL = {"pyproject.toml", "dodo.py", "README.md", "LICENSE", "modelbuild", "manifests", "tests"}
LONGEST, USUAL, FILE_LINES = 40, 25, 300


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def functions():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name(path)}:{node.name}", node.end_lineno - node.lineno + 1


def code_lines(path):
    """Lines that hold code: no blank ones, comments or docstrings."""
    documented = set()
    for node in ast.walk(TREES[path]):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            documented.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    skip = {
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    }
    found = set()
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type not in skip:
            found.update(range(token.start[0], token.end[0] + 1))
    return len(found - documented)


def test_no_function_is_long():
    assert [f for f in functions() if f[1] > LONGEST] == []


def test_nearly_all_functions_are_short():
    lengths = sorted(length for _, length in functions())
    assert lengths[int(len(lengths) * 0.9)] < USUAL


def test_no_file_is_long():
    assert {name(path): n for path in FILES if (n := code_lines(path)) > FILE_LINES} == {}


def test_no_file_is_a_drawer_for_odds_and_ends():
    assert {p.stem for p in FILES} & {"utils", "util", "helpers", "helper", "common", "misc"} == set()


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "NotImplementedError", "xfail"])
def test_nothing_is_left_for_later(word):
    assert [name(path) for path in FILES if word in path.read_text()] == []


def calls():
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield path, node


def test_nothing_is_evaluated_or_handed_to_a_shell():
    bad = []
    for path, node in calls():
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        attribute = isinstance(node.func, ast.Attribute)
        shell = any(k.arg == "shell" for k in node.keywords) or (attribute and called in ("system", "popen"))
        if (
            shell
            or (not attribute and called in ("eval", "exec", "compile", "__import__"))
            or called == "extractall"
        ):
            bad.append(f"{name(path)}:{node.lineno}: {called}")
    assert bad == []


def test_weights_are_loaded_as_weights_only():
    for path, node in calls():
        if ast.unparse(node.func) == "torch.load":
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            assert given.get("weights_only") == "True", f"{name(path)}:{node.lineno}"


def test_no_pickle():
    unsafe = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not {n.partition(".")[0] for n in names} & unsafe, f"{name(path)}:{node.lineno}"


def test_the_dodo_file_is_a_page_at_most():
    assert len((ROOT / "dodo.py").read_text().splitlines()) <= 20


def test_the_top_level_holds_only_what_was_agreed():
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("there is no git repository here to list")
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    found = {line.partition("/")[0] for line in listed}
    assert {entry for entry in found - TOP_LEVEL if not entry.startswith(".")} == set()


def public(body, prefix=""):
    """Functions and classes whose names do not begin with "_", methods of public classes included."""
    for node in body:
        if isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
        ) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


PROMISED = {
    node.name
    for tree in TREES.values()
    for owner in tree.body
    if isinstance(owner, ast.ClassDef) and any("Protocol" in ast.unparse(base) for base in owner.bases)
    for node in owner.body
    if isinstance(node, ast.FunctionDef) and ast.get_docstring(node)
}


def speaks_for_itself(path, qualified, node):
    """What a Protocol documents, short methods, overrides, functions of one line, doit commands, empty subclasses."""
    if isinstance(node, ast.ClassDef):
        return bool(node.bases) and (len(node.body) <= 3 or "doc_purpose" in ast.unparse(node))
    if "." not in qualified:
        return node.end_lineno - node.lineno < 2
    class_ = qualified.partition(".")[0]
    owner = next(n for n in TREES[path].body if isinstance(n, ast.ClassDef) and n.name == class_)
    short = node.end_lineno - node.lineno < 10
    return short or node.name in PROMISED or bool(owner.bases)


@pytest.mark.parametrize("path", FILES, ids=name)
def test_what_is_public_is_documented(path):
    missing = [
        f"{qualified} (line {node.lineno})"
        for qualified, node in public(TREES[path].body)
        if ast.get_docstring(node) is None and not speaks_for_itself(path, qualified, node)
    ]
    assert missing == []


@pytest.mark.parametrize("path", [p for p in FILES if p.name != "__init__.py"], ids=name)
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(TREES[path])
