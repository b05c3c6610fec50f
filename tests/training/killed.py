"""A training that is killed again and again, in a process of its own.

    python tests/training/killed.py FOLDER SEED

A child trains with checkpoints, is sent SIGKILL, and the next one goes on; then one is left to end. Some are killed
from outside, some microseconds or milliseconds after a step they report; some kill themselves in the middle of what
they do to the disk. FOLDER/undisturbed and FOLDER/killed get weights and training.json; what happened is printed as
JSON: of every child killed the step it began after, and where it died.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import torch
from tiny import settings, train

from modelbuild import checkpoints, dataset, network, progress
from modelbuild.training import curve

GIVEN = {
    "steps": 120, "checkpoint": 3, "ema": 0.9, "clip": 1.0, "optimiser": "sgd", "schedule": "one_cycle", "lr": 0.05,
    "early_stopping": {"every": 7, "patience": 100},
}  # fmt: skip
KILLS = 14


def work(folder: Path, seed: int) -> None:
    learner, told = train(settings(**GIVEN), unlabelled=True, seed=seed)
    folder.mkdir(exist_ok=True)
    network.save(folder, learner.student, {"module": "tiny:Student"})
    dataset.write_json(folder / "training.json", told)


def die_at_event(number: int) -> None:
    """Kill this process half-way through the `number`th write, sync, renaming or removal from now on."""
    left = [number]

    def wrapped(real: Any, before: Any = lambda *_: None) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            left[0] -= 1
            if left[0] == 0:
                before(*args)
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    os.fsync = wrapped(os.fsync)
    os.unlink = wrapped(os.unlink)
    Path.replace = wrapped(Path.replace)  # type: ignore[method-assign]
    real_open = Path.open

    def opened(path: Path, mode: str = "r", *args: Any) -> Any:
        file = real_open(path, mode, *args)
        if "w" not in mode:
            return file
        return Torn(file, wrapped)

    Path.open = opened  # type: ignore[method-assign, assignment]


class Torn:
    """A file of which, when its process dies in `write`, half has reached the disk."""

    def __init__(self, file: Any, wrapped: Any) -> None:
        self.file = file
        self.write = wrapped(file.write, lambda data: (file.write(data[: len(data) // 2]), file.flush()))
        self.flush, self.fileno = file.flush, file.fileno

    def __enter__(self) -> Torn:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


def child(folder: Path, seed: int, event: int, home: int) -> NoReturn:
    first = [True]

    def sink(done: int, total: int, values: object) -> None:
        os.write(home, f"{'from' if first[0] else 'at'} {done}\n".encode())
        first[0] = False

    progress.set_sink(sink)
    curve.REPORT_STEPS = 1
    checkpoints.set_folder(folder / "checkpoints")
    if event:
        die_at_event(event)
    work(folder / "killed", seed)
    os._exit(0)


def life(folder: Path, draw: random.Random, kill: bool, seed: int) -> dict[str, Any] | None:
    """Let a child live; what became of it, None when it came to its end."""
    event = draw.randrange(1, 40) if kill and draw.random() < 0.5 else 0
    reports, pause = draw.randrange(1, 16), draw.choice((0.0, 0.0003, 0.002, 0.01))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(read)
        child(folder, seed, event, write)
    os.close(write)
    began = at = 0
    with os.fdopen(read) as lines:
        for number, line in enumerate(lines):
            word, step = line.split()
            began, at = (int(step), int(step)) if word == "from" else (began, int(step))
            if kill and not event and number == reports:
                time.sleep(pause)
                os.kill(pid, signal.SIGKILL)
                break
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return {"from": began, "seen": at, "event": event}
    assert status == 0, status
    return None


def main(folder: Path, seed: int) -> None:
    torch.set_num_threads(1)
    draw, lives = random.Random(seed), list[dict[str, Any]]()
    progress.set_sink(lambda *_: None)
    work(folder / "undisturbed", 0)
    for kill in (*[True] * KILLS, False):
        # Whoever goes on begins with other weights and draws: the checkpoint must bring them all.
        seed = 1 + len(lives) if list(folder.glob("checkpoints/*.json")) else 0
        ended = life(folder, draw, kill, seed)
        if ended is None:
            break
        lives.append(ended)
    print(json.dumps(lives))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
