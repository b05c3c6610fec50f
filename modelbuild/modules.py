"""Where a module's source lies, and everything of this project that it imports, found without importing anything.

A target's key must hold the source of all code that can change its bytes. The closure is read from the import
statements (`ast`), so that it costs no import and no execution: project modules are followed, installed packages
are named (their version goes into the key), the standard library is the Python version.
"""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import json
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

OWN_PACKAGE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Closure:
    """Project modules (dotted name -> file) a module reaches, and the top-level names of all else it imports."""

    files: tuple[tuple[str, Path], ...]
    external: frozenset[str]


@lru_cache(maxsize=1)
def _site_folders() -> tuple[Path, ...]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return tuple(dict.fromkeys(Path(folder).resolve() for folder in folders))


def _below(folder: Path, parts: list[str]) -> Path | None:
    """`folder/a/b.py`, `folder/a/b/__init__.py`, or the plain folder `folder/a/b` (a namespace package)."""
    stem = folder.joinpath(*parts)
    for candidate in (stem / "__init__.py", stem.with_name(stem.name + ".py")):
        if candidate.is_file():
            return candidate
    return stem if stem.is_dir() else None


@lru_cache(maxsize=4096)
def project_file(root: Path, dotted: str) -> Path | None:
    """Return the source file of `dotted` when it belongs to the project at `root` or to modelbuild itself."""
    parts = dotted.split(".")
    if parts[0] == OWN_PACKAGE.name:
        return _below(OWN_PACKAGE, parts[1:]) if parts[1:] else OWN_PACKAGE / "__init__.py"
    found = _below(root, parts)
    # A plain folder of the project must not hide an installed package of the same name.
    return found if found is not None and found.is_file() else None


def locate(root: Path, dotted: str) -> Path:
    """Return the source file of module `dotted` without importing it.

    Raises LookupError, in words, when the module is part of the standard library, does not exist, or lies
    neither inside the project at `root` nor in an installed package.
    """
    if not all(part.isidentifier() for part in dotted.split(".")):
        raise LookupError(f'"{dotted}" is not a module name')
    found = project_file(root, dotted)
    if found is not None:
        return _inside(root, dotted, found)
    top = dotted.partition(".")[0]
    if top in sys.stdlib_module_names:
        raise LookupError(f'"{top}" is part of Python itself; a manifest names only the project\'s and installed packages\' callables')
    return _installed(root, dotted, top)


def _inside(root: Path, dotted: str, path: Path) -> Path:
    real = path.resolve()
    if real.is_relative_to(root.resolve()) or real.is_relative_to(OWN_PACKAGE.resolve()):
        return path
    raise LookupError(f'module "{dotted}" is a link that leaves the project')


def _installed(root: Path, dotted: str, top: str) -> Path:
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise LookupError(f'there is no module "{top}" in the project or among the installed packages')
    folders = [Path(p) for p in spec.submodule_search_locations or ()]
    rest = dotted.split(".")[1:]
    found = next((p for f in folders if (p := _below(f, rest))), None) if rest else _origin(spec)
    if found is None:
        raise LookupError(f'the package "{top}" has no module "{dotted}"')
    if not _is_installed(found, top):
        raise LookupError(f'module "{dotted}" lies outside the project and the installed packages')
    return found


def _origin(spec: importlib.machinery.ModuleSpec) -> Path | None:
    if spec.origin and spec.has_location:
        return Path(spec.origin)
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0]) if folders else None


def _is_installed(path: Path, top: str) -> bool:
    real = path.resolve()
    if any(real.is_relative_to(folder) for folder in _site_folders()):
        return True
    # An editable install lies elsewhere on disk and is still a distribution of this environment.
    from importlib.metadata import packages_distributions

    return top in packages_distributions()


class ImportReader(ast.NodeVisitor):
    """Collects (level, module, names) of every import that can run; blocks under TYPE_CHECKING cannot."""

    def __init__(self) -> None:
        self.found: list[tuple[int, str, list[str]]] = []

    def visit_Import(self, node: ast.Import) -> None:  # noqa: N802
        self.found.extend((0, alias.name, []) for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:  # noqa: N802
        self.found.append((node.level, node.module or "", [alias.name for alias in node.names]))

    def visit_If(self, node: ast.If) -> None:  # noqa: N802
        name = node.test.attr if isinstance(node.test, ast.Attribute) else getattr(node.test, "id", "")
        for child in node.orelse if name == "TYPE_CHECKING" else [node.test, *node.body, *node.orelse]:
            self.visit(child)


def read_imports(source: bytes) -> list[tuple[int, str, list[str]]]:
    """List the imports of one source file; a file that does not parse has none (its import will say why)."""
    reader = ImportReader()
    try:
        reader.visit(ast.parse(source))
    except (SyntaxError, ValueError):
        return []
    return reader.found


def _names(dotted: str, is_package: bool, imports: list[tuple[int, str, list[str]]]) -> Iterator[str]:
    """Absolute names that the import statements of module `dotted` may load, submodules included."""
    for level, module, names in imports:
        base = module
        if level:
            up = dotted.split(".")
            package = up[: len(up) - level + (1 if is_package else 0)]
            base = ".".join([*package, module] if module else package)
        yield base
        yield from (f"{base}.{name}" for name in names if name != "*")


def _with_parents(dotted: str) -> Iterator[str]:
    parts = dotted.split(".")
    return (".".join(parts[: n + 1]) for n in range(len(parts)))


class ClosureReader:
    """Closures of modules, sharing one reading of each file.

    `digest(path)` is the (memoised) content digest of a file; `memo` maps a digest to the JSON of its imports
    and outlives the process, so that a no-op build parses nothing.
    """

    def __init__(self, root: Path, digest: Callable[[Path], str], memo: MutableMapping[str, str]) -> None:
        self._root, self._digest, self._memo = root, digest, memo
        self._direct: dict[str, tuple[list[str], set[str]]] = {}

    def closure(self, modules: tuple[str, ...]) -> Closure:
        """All project modules reached from `modules`, sorted by name, and the external names they import."""
        seen: dict[str, Path] = {}
        external: set[str] = set()
        todo = [name for module in modules for name in _with_parents(module)]
        external.update(m.partition(".")[0] for m in modules if project_file(self._root, m) is None)
        while todo:
            dotted = todo.pop()
            path = None if dotted in seen else project_file(self._root, dotted)
            if path is None or not path.is_file():
                continue
            seen[dotted] = path
            inner, outer = self._reached(dotted, path)
            todo.extend(inner)
            external |= outer
        return Closure(tuple(sorted(seen.items())), frozenset(external - sys.stdlib_module_names))

    def _reached(self, dotted: str, path: Path) -> tuple[list[str], set[str]]:
        if dotted not in self._direct:
            inner: list[str] = []
            outer: set[str] = set()
            for name in _names(dotted, path.name == "__init__.py", self._imports(path)):
                if any(project_file(self._root, parent) for parent in _with_parents(name)):
                    inner.extend(_with_parents(name))
                elif name:
                    outer.add(name.partition(".")[0])
            self._direct[dotted] = (inner, outer)
        return self._direct[dotted]

    def _imports(self, path: Path) -> list[tuple[int, str, list[str]]]:
        digest = self._digest(path)
        if digest not in self._memo:
            self._memo[digest] = json.dumps(read_imports(path.read_bytes()))
        found: list[tuple[int, str, list[str]]] = json.loads(self._memo[digest])
        return found
