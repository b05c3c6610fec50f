"""A process that has the frameworks imported and forks once for every job.

Importing torch takes seconds and forking takes milliseconds, so each framework is imported once a build, here, when
the first job that uses it arrives. Every job starts as a fresh fork: clean random state, and a crash (a segfault of
a runtime, out of memory) ends the job alone.

`multiprocessing`'s forkserver was tried: every job imported the caller's main module again, and its messages are
pickles. Here a job is a line of JSON with two file descriptors beside it: where it reports to, and its lifeline.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import signal
import socket
import subprocess
import sys
from typing import NoReturn

from modelbuild.job import Job, perform

PRELOAD = ("numpy", "torch", "onnx", "onnxruntime", "onnxscript", "optuna", "sklearn", "coremltools")
# What torch imports when it is first told to be deterministic, as every job that computes with it does: a second.
WITH = {"torch": ("torch._inductor.config",)}
HEAD = 8  # bytes before a job's JSON: its length; the descriptors travel with them


def start() -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start the zygote; it ends when the returned socket is closed."""
    ours, theirs = socket.socketpair()
    # Hash order must not reach an artefact's bytes, and one thread a job keeps results and machines steady.
    env = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        env.setdefault(name, "1")
    command = [sys.executable, "-c", f"from modelbuild.zygote import serve; serve({theirs.fileno()})"]
    with theirs:
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()], env=env, stdin=subprocess.DEVNULL)
    return process, ours


def serve(descriptor: int) -> NoReturn:
    """Fork for every message until the other end closes; tell each job's owner how it ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the build, which ends its jobs itself
    orders = socket.socket(fileno=descriptor)
    bell_read, bell_write = os.pipe()
    os.set_blocking(bell_write, False)
    signal.set_wakeup_fd(bell_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    homes: dict[int, int] = {}
    while True:
        ready, _, _ = select.select([orders.fileno(), bell_read], [], [])
        if bell_read in ready:
            os.read(bell_read, 4096)
            _bury(homes)
        if orders.fileno() in ready:
            head, descriptors, _, _ = socket.recv_fds(orders, HEAD, 2)
            body = _exactly(orders, int.from_bytes(head)) if head else b""
            if not body:
                os._exit(0)  # tearing down frameworks that were only imported to be forked takes long
            _fork(Job.from_json(body.decode()), descriptors[0], descriptors[1], homes, orders)


def post(orders: socket.socket, job: Job, home: int, life: int) -> None:
    """Order `job` from the zygote behind `orders`. Raises OSError when it is no more."""
    body = job.to_json().encode()
    socket.send_fds(orders, [len(body).to_bytes(HEAD)], [home, life])
    orders.sendall(body)


def _exactly(orders: socket.socket, size: int) -> bytes:
    """Read `size` bytes; b"" when the other end closes before."""
    parts = []
    while size:
        parts.append(orders.recv(min(size, 1 << 20)))
        if not parts[-1]:
            return b""
        size -= len(parts[-1])
    return b"".join(parts)


def _fork(job: Job, home: int, life: int, homes: dict[int, int], orders: socket.socket) -> None:
    for name in PRELOAD:
        if name in job.imports and name not in sys.modules:
            from modelbuild.quiet import quietly  # a recipe of the standard library alone needs none of it

            with contextlib.suppress(Exception), quietly():  # the job itself will say what is wrong with it
                for module in (name, *WITH.get(name, ())):
                    importlib.import_module(module)
    pid = os.fork()
    if pid == 0:
        _become(job, home, life, homes, orders)
    os.close(life)
    homes[pid] = home


def _become(job: Job, home: int, life: int, homes: dict[int, int], orders: socket.socket) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    orders.close()
    for other in homes.values():
        os.close(other)
    perform(job, home, life)


def _bury(homes: dict[int, int]) -> None:
    """Collect ended jobs; a status line tells their owners of a signal."""
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            home = homes.pop(pid, None)
            if home is None:  # not a job: a process that some framework began when it was imported
                continue
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)  # what the recipe left running
            with contextlib.suppress(OSError):
                os.write(home, b'{"ended": %d}\n' % os.waitstatus_to_exitcode(status))
            os.close(home)
