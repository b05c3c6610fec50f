"""Node as a host: the same WebAssembly file as in a browser, run by the same engine as Chromium's, without a page."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from modelbuild import nodejs
from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime_web.server import Posted, posted

PLACE = "Node"
PROGRAM = Path(__file__).with_name("node_host.mjs")
OLDEST = 18
LAST_LINES = 4
LAST_BYTES = 600
CHATTER = ("[V:onnxruntime", "[I:onnxruntime")
ALONE = ("NODE_OPTIONS", "NODE_PATH")  # they would load other code into it


def answer(node: str, files: Mapping[str, Path | bytes], dist: Path, seconds: float) -> Posted:
    """What node_host.mjs answers to the job in `files`, and as "log" the lines that ONNX Runtime said.

    Raises RecipeError when Node is too old, dies or says nothing; TimeoutError after `seconds`.
    """
    check(node)
    with tempfile.TemporaryDirectory(prefix="modelbuild-node-") as name:
        folder = Path(name)
        for path, content in files.items():
            if isinstance(content, bytes):
                (folder / path).write_bytes(content)
            else:
                (folder / path).symlink_to(content.absolute())
        said = _run([node, str(PROGRAM), str(folder), str(dist.absolute())], seconds)
        found = folder / "answer"
        if said.returncode != 0 or not found.is_file():
            raise RecipeError(PLACE, _end(said), nodejs.REMEDY)
        about, data = posted(found.read_bytes())
    return Posted({**about, "log": [*said.stdout.splitlines(), *said.stderr.splitlines()]}, data)


def check(node: str) -> None:
    """Raise RecipeError unless `node` is a Node that is new enough."""
    said = _run([node, "--version"], 60).stdout.strip()
    major = said.removeprefix("v").partition(".")[0]
    if not major.isdecimal():
        raise RecipeError(PLACE, f"{node} is no Node: it calls its version {said!r}", nodejs.REMEDY)
    if int(major) < OLDEST:
        raise RecipeError(
            PLACE, f"{node} is version {said}; {OLDEST} is the oldest that works", nodejs.REMEDY
        )


def _run(command: list[str], seconds: float) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in ALONE}
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=env,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from error
    except OSError as error:
        raise RecipeError(PLACE, f"{command[0]} cannot be run: {error.strerror}", nodejs.REMEDY) from error


def _end(done: subprocess.CompletedProcess[str]) -> str:
    code = done.returncode
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code} and no answer"
    lines = [line.strip() for line in done.stderr.splitlines() if not any(word in line for word in CHATTER)]
    said = " ".join([line for line in lines if line][-LAST_LINES:])[-LAST_BYTES:].rstrip(".")
    return f"it {how}: {said}" if said else f"it {how}"
