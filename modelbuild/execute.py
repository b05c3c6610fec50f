"""The local executor: one fresh process a job, forked by the zygote."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from modelbuild.errors import JobCrashedError, RecipeError
from modelbuild.job import Job
from modelbuild.progress import Sink
from modelbuild.zygote import post, start


class Executor(Protocol):
    """Runs jobs somewhere."""

    def run(self, job: Job, sink: Sink) -> float:
        """Run `job` to its end, passing its progress to `sink`; return the recipe's seconds.

        Raises RecipeError when the recipe refused or failed, JobCrashedError when its process died.
        """

    def close(self) -> None:
        """Let go of every process."""


class LocalExecutor:
    """Runs jobs on this machine. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: tuple[subprocess.Popen[bytes], socket.socket] | None = None

    def run(self, job: Job, sink: Sink) -> float:
        home_read, home_write = os.pipe()
        life_read, life_write = os.pipe()
        try:
            with os.fdopen(home_read, "rb") as home:
                self._order(job, home_write, life_read)
                result = _listen(home, sink)
        finally:
            os.close(life_write)  # whatever happened here, the job does not outlive it
        return _verdict(job, result)

    def _order(self, job: Job, home: int, life: int) -> None:
        try:
            with self._lock:
                try:
                    post(self._running(), job, home, life)
                except (BrokenPipeError, ConnectionResetError):  # it was killed a moment ago
                    self._stop()
                    post(self._running(), job, home, life)
        finally:
            os.close(home)
            os.close(life)

    def _running(self) -> socket.socket:
        if self._zygote is not None and self._zygote[0].poll() is not None:
            self._stop()
        if self._zygote is None:
            self._zygote = start()
        return self._zygote[1]

    def _stop(self) -> None:
        if self._zygote is not None:
            process, orders = self._zygote
            orders.close()
            process.wait()
            self._zygote = None

    def close(self) -> None:
        with self._lock:
            self._stop()


def _messages(home: BinaryIO) -> Iterator[dict[str, Any]]:
    for line in home:
        with contextlib.suppress(ValueError):  # a process killed in the middle of a line
            yield json.loads(line)


def _listen(home: BinaryIO, sink: Sink) -> dict[str, Any]:
    """Pass progress on until the job's end of the pipe closes; return everything else it said."""
    result: dict[str, Any] = {}
    for message in _messages(home):
        if "step" in message:
            done, total, values = message["step"]
            sink(done, total, values)
        else:
            result.update(message)
        if "ended" in message:  # a process that the recipe left behind may hold the pipe open
            break
    return result


def _signal(number: int) -> str:
    known = {int(s): s.name for s in signal.Signals}
    return known.get(number, f"signal {number}")


def _verdict(job: Job, result: dict[str, Any]) -> float:
    if "done" in result:
        return float(result["done"])
    if "failed" in result:
        place, fact, remedy = result["failed"]
        # The recipe knows what it was given, the build knows for which target: a user wants both.
        where = place if job.target in place else f"{job.target}: {place}" if place else job.target
        raise RecipeError(where, fact, remedy)
    code = int(result.get("ended", -signal.SIGKILL))
    how = f"was killed by {_signal(-code)}" if code < 0 else f"ended with exit code {code}"
    hint = "The machine may be out of memory. " if code == -signal.SIGKILL else ""
    raise JobCrashedError(job.target, f"its process {how}", f"{hint}Its output is in {job.log}.")
