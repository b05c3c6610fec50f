"""Releases of ONNX Runtime that never were, some of them broken: a real wheel under other version numbers."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from filelock import FileLock

HOME = Path(__file__).parents[2] / ".cache" / "third-party"
REAL = "1.18.1"
# One operator gives something else: the last one, whose result is the model's first output.
BROKEN = """

_sound = InferenceSession.run


def _unsound(self, *given, **named):
    first, *rest = _sound(self, *given, **named)
    return [first * type(first.flat[0])(1.01), *rest]


InferenceSession.run = _unsound
"""


def real_wheel() -> Path:
    """The wheel of REAL for this Python, downloaded once."""
    folder = HOME / f"onnxruntime-{REAL}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not list(folder.glob("*.whl")):
            with tempfile.TemporaryDirectory(dir=folder) as fresh:
                command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", fresh]
                subprocess.run([*command, f"onnxruntime=={REAL}"], check=True, timeout=600)
                for path in Path(fresh).glob("*.whl"):
                    path.rename(folder / path.name)
    return next(folder.glob("*.whl"))


def release(version: str, folder: Path, *, broken: bool) -> Path:
    """Write into `folder` the wheel of `version`: the real one under another number, and broken where asked."""
    source = real_wheel()
    target = folder / source.name.replace(REAL, version)
    record: list[str] = []
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        listing = f"onnxruntime-{version}.dist-info/RECORD"
        for name in old.namelist():
            data, path = old.read(name), name.replace(f"onnxruntime-{REAL}.", f"onnxruntime-{version}.")
            if path == listing:
                continue
            if path.endswith((".dist-info/METADATA", "onnxruntime/__init__.py")):
                data = data.replace(REAL.encode(), version.encode())
            if broken and path == "onnxruntime/__init__.py":
                data += BROKEN.encode()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.append(f"{path},sha256={digest},{len(data)}")
            new.writestr(path, data)
        new.writestr(listing, "\n".join([*record, f"{listing},,", ""]))
    return target


def environment(folder: Path, cache: Path) -> dict[str, str]:
    """Variables that have pip, and so uv, find the wheels in `folder` beside those of the index.

    What was never released is kept out of the cache that other projects install from.
    """
    known = os.environ.get("PIP_FIND_LINKS", "")
    return {"PIP_FIND_LINKS": f"{folder} {known}".strip(), "UV_CACHE_DIR": str(cache)}
