"""Versions of installed distributions, read from the names of their metadata folders.

`importlib.metadata.version` parses a whole METADATA file a package; the folder's name says the same in a
hundredth of the time, and a no-op build asks for a dozen versions.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import MutableMapping
from functools import lru_cache

from modelbuild import digest as digests

_METADATA = re.compile(
    r"(?P<name>[A-Za-z0-9._-]+?)-(?P<version>[0-9][^-]*)(?:-py3[.0-9]*)?\.(?:dist|egg)-info"
)


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@lru_cache(maxsize=1)
def installed() -> dict[str, str]:
    """Map every distribution on `sys.path` to its version; the first on the path wins, as in an import."""
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")  # noqa: PTH208  # names, not paths: half the time
        except OSError:
            continue
        for name in names:
            if match := _METADATA.fullmatch(name):
                found.setdefault(normal(match["name"]), match["version"])
    return found


class ImportNames:
    """Finds the distributions behind an import name (`sklearn` -> `scikit-learn`); `memo` outlives the process."""

    def __init__(self, memo: MutableMapping[str, str]) -> None:
        self._memo = memo
        # The answer can change only when something is installed or removed.
        self._environment = digests.of_bytes(repr(sorted(installed().items())).encode())

    def versions(self, name: str) -> dict[str, str]:
        """Return distribution -> version for import name `name`; {} when nothing installed provides it."""
        versions = installed()
        if normal(name) in versions:
            return {normal(name): versions[normal(name)]}
        return {d: versions[d] for d in self._providers().get(name, []) if d in versions}

    def _providers(self) -> dict[str, list[str]]:
        if self._environment not in self._memo:
            from importlib.metadata import packages_distributions

            table = {k: sorted({normal(d) for d in v}) for k, v in packages_distributions().items()}
            self._memo[self._environment] = json.dumps(table, sort_keys=True)
        if not hasattr(self, "_table"):
            self._table: dict[str, list[str]] = json.loads(self._memo[self._environment])
        return self._table
