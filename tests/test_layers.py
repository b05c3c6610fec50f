"""Imports run downward only: from layers below, not from the same one."""

import ast
from pathlib import Path

import pytest

import modelbuild

PACKAGE = Path(modelbuild.__file__).parent
FOLDERS = (
    "commands",
    "environments",
    "equivalence",
    "golden",
    "recipes",
    "report",
    "runtimes",
    "training",
    "zoo",
)  # what they order among themselves is theirs

# From the bottom up. A folder stands for all its modules; a module of a folder named on its own stands where it says.
LAYERS = """
    errors limits allowance paths progress checkpoints quiet tensors digest
    wording
    confine strictjson schemas journal witness leases closure versions presets
    declare modules project_files kinds
    callables dataset deterministic samples processor nodejs golden options accepted provenance
    network exported augment
    capacity
    training
    runtimes.base
    equivalence
    report
    runtimes
    targets
    search
    written code_names schema_errors
    validate_training validate_waivers
    validate
    manifest
    datasets
    distillation platforms
    graph
    keys
    store job
    environments
    examine bench gc zygote
    recipes
    zoo
    requirements waivers
    ratchet
    execute summary view
    build
    session
    rehearsal selftest
    doit_db doit_reporter
    doit_tasks
    commands
"""
ORDER = {name: level for level, line in enumerate(LAYERS.strip().splitlines()) for name in line.split()}


def layer(dotted):
    """The entry of LAYERS that `dotted`, a name below modelbuild, belongs to."""
    return next((n for n in (dotted, dotted.partition(".")[0]) if n in ORDER), None)


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = (
            ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            .removesuffix("__init__")
            .removesuffix(".")
        )
        if dotted:
            yield dotted, path


NAMES = {name for name, _ in modules()}


def imported(path):
    """Names below modelbuild that a file imports, also inside functions and for the type checker."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (
                a.name.removeprefix("modelbuild.") for a in node.names if a.name.startswith("modelbuild.")
            )
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno}: imports are written in full"
            if node.module == "modelbuild":
                yield from (alias.name for alias in node.names)
            elif (node.module or "").startswith("modelbuild."):
                base = node.module.removeprefix("modelbuild.")
                yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in NAMES else base for a in node.names)


@pytest.mark.parametrize(("name", "path"), list(modules()), ids=lambda x: x if isinstance(x, str) else "")
def test_imports_run_downward_only(name, path):
    mine = layer(name)
    assert mine is not None, f"{name} has no place in LAYERS"
    for other in imported(path):
        theirs = layer(other)
        assert theirs is not None, f"{name} imports {other}, which has no place in LAYERS"
        if theirs != mine or mine not in FOLDERS:
            assert ORDER[theirs] < ORDER[mine], f"{name} imports {other}, which is not below it"


def test_every_layer_is_there():
    assert {name for name in ORDER if name not in NAMES and name not in FOLDERS} == set()
    assert set(FOLDERS) >= {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}


def test_no_imports_go_in_a_circle():
    edges = {name: {o for o in imported(path) if o in NAMES and o != name} for name, path in modules()}
    done: set[str] = set()
    while ready := {name for name, needs in edges.items() if name not in done and needs <= done}:
        done |= ready
    assert set(edges) - done == set()


HEAVY = {
    "torch",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "jsonschema",
    "rich",
    "sklearn",
    "coremltools",
    "numpy",
    "optuna",
    "safetensors",
    "tokenizers",
}
NO_OP = [
    "errors",
    "limits",
    "paths",
    "digest",
    "wording",
    "confine",
    "strictjson",
    "schemas",
    "journal",
    "witness",
    "closure",
    "versions",
    "declare",
    "modules",
    "runtimes.base",
    "manifest",
    "targets",
    "platforms",
    "datasets",
    "distillation",
    "search",
    "presets",
    "project_files",
    "checkpoints",
    "graph",
    "keys",
    "examine",
    "session",
    "view",
    "doit_reporter",
    "doit_tasks",
    "progress",
    "leases",
    "store",
    "accepted",
    "ratchet",
    "waivers",
    "golden",
]


@pytest.mark.parametrize("name", NO_OP)
def test_a_build_with_nothing_to_do_loads_no_framework(name):
    path = dict(modules())[name]
    reader = ast.parse(path.read_bytes())
    guarded = {
        id(inner)
        for node in ast.walk(reader)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(reader):
        if id(node) in guarded or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
        assert not {n.partition(".")[0] for n in names} & HEAVY, f"{name} imports {names}"
