"""Whether `package.module:callable` names code that a manifest may name, found without importing anything."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from modelbuild import modules
from modelbuild.confine import Refusal
from modelbuild.limits import LIMITS
from modelbuild.wording import closest, quote

_CHARS = 200
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_FORM = re.compile(rf"({_NAME}(?:\.{_NAME})*):({_NAME})")


def refusal(root: Path, named: str) -> Refusal | None:
    """Say why `named` is no callable of the project at `root` or of an installed package, or return None."""
    form = _FORM.fullmatch(named)
    if form is None or len(named) > _CHARS:
        fact = f"{quote(named)} is not of the form package.module:callable"
        return Refusal(fact, 'For example "modelbuild.zoo.convnet:ConvNet".')
    dotted, name = form.groups()
    top = dotted.partition(".")[0]
    # Asked before any file is looked for: an os.py in the project would not be what `import os` gives.
    if top in sys.stdlib_module_names or top in sys.builtin_module_names or top == "__main__":
        fact = f'"{top}" is part of Python itself; a manifest names project code and installed packages'
        return Refusal(fact, "Write a function in the project that does what is needed, and name that.")
    try:
        file = modules.locate(root, dotted)
    except (LookupError, ImportError, ValueError, OSError) as error:
        words = str(error.args[0]) if error.args else type(error).__name__
        return Refusal(words, "Check the spelling, or install the package that holds it.")
    return _in_file(file, dotted, name)


def _in_file(file: Path, dotted: str, name: str) -> Refusal | None:
    if file.is_dir():
        return Refusal(
            f'"{dotted}" is a folder, not a module', f"Name a module in it: {dotted}.module:{name}."
        )
    if file.suffix != ".py" or file.stat().st_size > LIMITS.code_bytes:
        return None  # compiled or huge: only the import itself can tell
    try:
        found = list(_top_level(ast.parse(file.read_bytes()).body))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" (line {error.lineno})" if isinstance(error, SyntaxError) else ""
        return Refusal(f'module "{dotted}" is not valid Python{line}', "")
    if name in found or "*" in found or "__getattr__" in found:
        return None
    return Refusal(f'module "{dotted}" has no "{name}"', closest(name, found))


def _top_level(body: Iterable[ast.AST]) -> Iterator[str]:
    """Yield every name that running these statements may bind in the module."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        else:
            yield from _top_level(ast.iter_child_nodes(node))
