"""The local executor: one fresh process a job, forked here when that is safe and cheap, else by the zygote."""

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
from modelbuild.job import Job, perform
from modelbuild.progress import Sink
from modelbuild.zygote import PRELOAD, start


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
            pid = self._launch(job, home_write, life_read, (home_read, life_write))
            with os.fdopen(home_read, "rb") as home:
                result = _listen(home, sink)
        finally:
            os.close(life_write)  # whatever happened here, the job does not outlive it
        if pid:
            _, status = os.waitpid(pid, 0)
            result.setdefault("ended", os.waitstatus_to_exitcode(status))
        return _verdict(job, result)

    def _launch(self, job: Job, home: int, life: int, ours: tuple[int, int]) -> int:
        """Start the job; return its pid when it was forked here, 0 when the zygote has it."""
        try:
            # Forking a process with threads can deadlock the child, and an import here would be paid by every job.
            if self._zygote is None and threading.active_count() == 1 and not set(job.imports) & set(PRELOAD):
                return _fork_here(job, home, life, ours)
            self._send(job, home, life)
            return 0
        finally:
            os.close(home)
            os.close(life)

    def _send(self, job: Job, home: int, life: int) -> None:
        with self._lock:
            if self._zygote is None or self._zygote[0].poll() is not None:
                self._zygote = start()
            socket.send_fds(self._zygote[1], [job.to_json().encode()], [home, life])

    def close(self) -> None:
        with self._lock:
            if self._zygote is not None:
                process, orders = self._zygote
                orders.close()
                process.wait()
                self._zygote = None


def _fork_here(job: Job, home: int, life: int, ours: tuple[int, int]) -> int:
    pid = os.fork()
    if pid == 0:
        for descriptor in ours:
            os.close(descriptor)
        perform(job, home, life)
    return pid


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
    return result


def _verdict(job: Job, result: dict[str, Any]) -> float:
    if "done" in result:
        return float(result["done"])
    if "failed" in result:
        place, fact, remedy = result["failed"]
        raise RecipeError(place or job.target, fact, remedy)
    code = int(result.get("ended", -signal.SIGKILL))
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = "The machine may be out of memory. " if code == -signal.SIGKILL else ""
    raise JobCrashedError(job.target, f"its process {how}", f"{hint}Its output is in {job.log}.")
