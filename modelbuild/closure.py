"""Everything of this project that a module imports, found without importing anything.

A target's key must hold the source of all code that can change its bytes. The closure is read from the import
statements (`ast`), so that it costs no import and no execution: project modules are followed, installed packages
are named (their version goes into the key), the standard library is the Python version.
"""

import ast
import json
import os
import sys
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import NamedTuple, TypeGuard

OWN_PACKAGE = Path(__file__).parent


class Closure(NamedTuple):
    """Project modules (dotted name -> file) a module reaches, and the top-level names of all else it imports."""

    files: tuple[tuple[str, Path], ...]
    external: frozenset[str]


class Finder:
    """Finds modules of the project at `root` and of modelbuild itself, listing each folder once."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._listings: dict[str, frozenset[str]] = {}
        self._found: dict[str, Path | None] = {}

    def find(self, dotted: str) -> Path | None:
        """Return the source file of `dotted`, or None when it is no module here."""
        if dotted not in self._found:
            parts = dotted.split(".")
            own = parts[0] == OWN_PACKAGE.name
            self._found[dotted] = self.below(str(OWN_PACKAGE.parent) if own else self._root, parts)
        return self._found[dotted]

    def knows(self, top: str) -> bool:
        """Whether a module of top-level name `top` could be here at all: most imports are of other packages."""
        there = self._listing(self._root)
        return top == OWN_PACKAGE.name or top in there or f"{top}.py" in there

    def below(self, folder: str, parts: list[str]) -> Path | None:
        """Return `folder/a/b.py` or `folder/a/b/__init__.py` for parts a, b."""
        for part in parts[:-1]:
            if part not in self._listing(folder):
                return None
            folder = f"{folder}/{part}"
        last, there = parts[-1], self._listing(folder)
        if last in there and "__init__.py" in self._listing(f"{folder}/{last}"):
            return Path(f"{folder}/{last}/__init__.py")
        return Path(f"{folder}/{last}.py") if f"{last}.py" in there else None

    def _listing(self, folder: str) -> frozenset[str]:
        if folder not in self._listings:
            try:
                self._listings[folder] = frozenset(os.listdir(folder))  # noqa: PTH208  # names, not paths
            except OSError:
                self._listings[folder] = frozenset()
        return self._listings[folder]


Import = tuple[int, str, list[str]]
ALL = -1  # the level of what `__all__` of a package names: a star import loads those that are submodules


def read_imports(source: bytes) -> list[Import]:
    """List (level, module, names) of every import that can run; blocks under TYPE_CHECKING cannot.

    A file that does not parse has none: its import will say why.
    """
    found: list[Import] = []
    try:
        todo: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError):
        return []
    while todo:  # no recursion: generated code nests deeper than Python's stack
        node = todo.pop()
        found.extend(_imports_of(node))
        todo.extend(node.orelse if _for_type_checkers(node) else ast.iter_child_nodes(node))
    return sorted(found)


def _for_type_checkers(node: ast.AST) -> TypeGuard[ast.If]:
    if not isinstance(node, ast.If):
        return False
    name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
    return name == "TYPE_CHECKING"


def _imports_of(node: ast.AST) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from ((0, alias.name, []) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.level, node.module or "", [alias.name for alias in node.names]
    elif isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets):
        words = (n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant))
        yield ALL, "", [word for word in words if isinstance(word, str)]


def _names(dotted: str, is_package: bool, imports: list[Import]) -> Iterator[str]:
    """Absolute names that the import statements of module `dotted` may load, submodules included."""
    for level, module, names in imports:
        base = module
        if level == ALL:
            yield from (f"{dotted}.{name}" for name in names if is_package)
            continue
        if level:
            up = dotted.split(".")
            package = up[: len(up) - level + (1 if is_package else 0)]
            base = ".".join([*package, module] if module else package)
        yield base
        yield from (f"{base}.{name}" for name in names if name != "*")


def _with_parents(dotted: str) -> list[str]:
    parts = dotted.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


class ClosureReader:
    """Closures of modules, sharing one reading of each file.

    `digest(path)` is the (memoised) content digest of a file; `memo` maps a digest to the JSON of its imports
    and outlives the process, so that a no-op build parses nothing.
    """

    def __init__(self, root: Path, digest: Callable[[Path], str], memo: MutableMapping[str, str]) -> None:
        self._digest, self._memo = digest, memo
        self._finder = Finder(root)
        self._direct: dict[str, tuple[set[str], set[str]]] = {}
        self._known: dict[str, list[str]] = {}

    def closure(self, modules: tuple[str, ...]) -> Closure:
        """All project modules reached from `modules`, sorted by name, and the external names they import."""
        seen: dict[str, Path] = {}
        external: set[str] = set()
        todo = {name for module in modules for name in self._split(module, external)}
        while todo:
            dotted = todo.pop()
            path = self._finder.find(dotted)
            if path is None:
                continue
            seen[dotted] = path
            inner, outer = self._reached(dotted, path)
            todo |= inner - seen.keys()
            external |= outer
        return Closure(tuple(sorted(seen.items())), frozenset(external - sys.stdlib_module_names))

    def _split(self, name: str, external: set[str]) -> list[str]:
        """Return the modules here that importing `name` runs; add its package to `external` when there is none."""
        here = self._known.get(name)
        if here is None:  # many modules import the same few names
            parents = _with_parents(name) if self._finder.knows(name.partition(".")[0]) else []
            here = self._known[name] = [each for each in parents if self._finder.find(each) is not None]
        if not here and name:
            external.add(name.partition(".")[0])
        return here

    def _reached(self, dotted: str, path: Path) -> tuple[set[str], set[str]]:
        if dotted not in self._direct:
            outer: set[str] = set()
            names = _names(dotted, path.name == "__init__.py", self._imports(path))
            self._direct[dotted] = ({part for name in names for part in self._split(name, outer)}, outer)
        return self._direct[dotted]

    def _imports(self, path: Path) -> list[Import]:
        digest = self._digest(path)
        if digest not in self._memo:
            self._memo[digest] = json.dumps(read_imports(path.read_bytes()))
        found: list[Import] = json.loads(self._memo[digest])
        return found
