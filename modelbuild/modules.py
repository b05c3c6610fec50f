"""Where the module lies that a manifest names, found without importing it, and whether a manifest may name it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import site
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path

from modelbuild.closure import OWN_PACKAGE, Finder


@lru_cache(maxsize=1)
def _site_folders() -> tuple[Path, ...]:
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    return tuple(dict.fromkeys(Path(folder).resolve() for folder in folders))


def locate(root: Path, dotted: str) -> Path:
    """Return the source file of module `dotted` without importing it.

    Raises LookupError, in words, when the module is part of the standard library, does not exist, or lies
    neither inside the project at `root` nor in an installed package.
    """
    if not all(part.isidentifier() for part in dotted.split(".")):
        raise LookupError(f'"{dotted}" is not a module name')
    top = dotted.partition(".")[0]
    if top in sys.stdlib_module_names:
        words = (
            "is part of Python itself; a manifest names callables of the project and of installed packages"
        )
        raise LookupError(f'"{top}" {words}')
    finder = Finder(root)
    found = finder.find(dotted)
    return _inside(root, dotted, found) if found is not None else _installed(finder, dotted, top)


def _inside(root: Path, dotted: str, path: Path) -> Path:
    real = path.resolve()
    if real.is_relative_to(root.resolve()) or real.is_relative_to(OWN_PACKAGE.resolve()):
        return path
    raise LookupError(f'module "{dotted}" is a link that leaves the project')


def _installed(finder: Finder, dotted: str, top: str) -> Path:
    spec = importlib.util.find_spec(top)
    if spec is None:
        raise LookupError(f'there is no module "{top}" in the project or among the installed packages')
    rest = dotted.split(".")[1:]
    inner = (finder.below(folder, rest) for folder in spec.submodule_search_locations or () if rest)
    found = next(filter(None, inner), None) if rest else _origin(spec)
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
