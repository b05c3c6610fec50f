"""A file that a manifest names: one of the project, or `package:NAME/file`, one of an installed package.

A package is found without being imported: neither its code nor what it imports runs because a file of it is read.
"""

import importlib.util
from pathlib import Path

from modelbuild import confine
from modelbuild.confine import Refusal
from modelbuild.errors import BuildError
from modelbuild.wording import closest, quote

PREFIX = "package:"
_FORM = "Write package:NAME/path/of/file, NAME as Python imports it."


def refusal(root: Path, named: str) -> Refusal | None:
    """Say why `named` is no such file, or return None.

    Of a file in a package the spelling is looked at alone: whether it is there is the matter of the targets that read
    it, and the models of those who have not installed the package build without.
    """
    if not named.startswith(PREFIX):
        return confine.refusal(root, named)
    path = named.removeprefix(PREFIX)
    refused = confine.spelling(path, _FORM, named)
    if refused is not None:
        return refused
    top, *rest = path.split("/")
    if not top.isidentifier():
        return Refusal(f"{quote(top)} is not the name of a package in Python", _FORM)
    if not rest or not all(part.strip(".") for part in rest):
        return Refusal(f"{quote(named)} names no file in {top}", _FORM)
    return None


def locate(root: Path, named: str, target: str) -> Path:
    """Where the file lies that `target` reads; absolute paths, which the product itself names, stay as they are.

    Raises BuildError when its package is not installed or has no such file. Whether a file of the project is there
    shows when it is read.
    """
    if not named.startswith(PREFIX):
        return root / named
    top, _, rest = named.removeprefix(PREFIX).partition("/")
    folders = _folders(top)
    if not folders:
        remedy = "Install it, such as with `pip install`; it may go by another name there."
        raise BuildError(target, f"the package {top}, which {named} is a file of, is not installed", remedy)
    found = next((path for folder in folders if (path := folder / rest).exists()), None)
    if found is None:
        raise BuildError(
            target, f"the package {top} has no file {quote(rest)}", _neighbour(folders[0] / rest)
        )
    return found


def _folders(top: str) -> list[Path]:
    """The folders of the package `top`, several of a namespace; none where it is no package or not installed."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):  # ValueError: a module that was made by hand is loaded under that name
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations if spec else None) or ()]


def _neighbour(missing: Path) -> str:
    try:
        return closest(missing.name, [entry.name for entry in missing.parent.iterdir()])
    except OSError:
        return "Is it another version of the package?"
