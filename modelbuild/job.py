"""The process of one recipe: runs it, sends home how far it is, and dies with whoever started it.

What goes home is one JSON object a line: {"step": [done, total, {name: figure}]}, and last either
{"done": seconds} or {"failed": [place, fact, remedy]}. A process that ends without either has crashed.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn

from modelbuild import checkpoints, progress
from modelbuild.errors import ModelbuildError


@dataclass(frozen=True, slots=True)
class Job:
    """One call of a recipe, in terms any process understands. `inputs`: role -> path; `imports`: worth preloading.

    `checkpoints`: where it may keep, and find again after being killed, how far it has come; "" for nowhere.
    """

    target: str
    function: str
    inputs: Mapping[str, str]
    params: Mapping[str, Any]
    out: str
    log: str
    imports: tuple[str, ...] = ()
    checkpoints: str = ""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Job:
        return Job(**json.loads(text))


def perform(job: Job, home: int, life: int) -> NoReturn:
    """Run `job` in this process, which was forked for it. `home` is written to; `life` ends when its owner does."""
    os.setsid()
    threading.Thread(target=_die_with, args=(life,), daemon=True).start()
    _redirect(job.log)
    say = _speaker(home)
    progress.set_sink(
        lambda done, total, values: say(
            {"step": [int(done), int(total), {k: float(v) for k, v in values.items()}]}
        )
    )
    checkpoints.set_folder(Path(job.checkpoints).absolute() if job.checkpoints else None)
    say(_attempt(job))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _die_with(life: int) -> None:
    os.read(life, 1)  # nothing is ever sent: this returns when the other end is gone
    os.killpg(0, signal.SIGKILL)


def _redirect(log: str) -> None:
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    # The streams of the process we were forked from may be wrapped (a test, a terminal view): use plain ones.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)


def _speaker(home: int) -> Callable[[dict[str, Any]], None]:
    return lambda message: _send(home, json.dumps(message).encode() + b"\n")


def _send(home: int, data: bytes) -> None:
    while data:
        data = data[os.write(home, data) :]


def _seed() -> None:
    """Begin the global generators anew, so that code which forgot a seed still repeats itself."""
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)


def _attempt(job: Job) -> dict[str, Any]:
    try:
        module, _, name = job.function.partition(":")
        _seed()
        recipe = getattr(importlib.import_module(module), name)
        began = time.perf_counter()
        recipe({role: Path(p) for role, p in job.inputs.items()}, job.params, Path(job.out))
        return {"done": time.perf_counter() - began}
    except ModelbuildError as error:
        if error.__cause__ is None:
            return {"failed": [error.place, error.fact, error.remedy]}
        remedy = f"{error.remedy} {_told(error.__cause__, job)}".strip()
        return {"failed": [error.place, f"{error.fact}{_where(error.__cause__)}", remedy]}
    except BaseException as error:
        fact = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return {"failed": ["", f"{fact}{_where(error)}", _told(error, job)]}


def _told(error: BaseException, job: Job) -> str:
    traceback.print_exception(error)
    return f"The whole traceback is in {job.log}."


def _where(error: BaseException) -> str:
    """Return ` (shop/data.py:14)`: the innermost line of the project's own code on the way to `error`."""
    here, frames = Path.cwd(), traceback.extract_tb(error.__traceback__)
    inside = [(Path(f.filename), f.lineno) for f in frames if Path(f.filename).is_relative_to(here)]
    own = [(path.relative_to(here), line) for path, line in inside]
    own = [(path, line) for path, line in own if path.parts[0] not in (".venv", "venv", "modelbuild")]
    return f" ({own[-1][0]}:{own[-1][1]})" if own else ""
