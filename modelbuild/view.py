"""What a run shows: one line a target, progress of what is running, and last what to do next.

On a terminal a live bar shows running targets (rich, loaded when the first recipe runs); elsewhere progress is a
plain line every few seconds.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any, Protocol, TextIO

from modelbuild.examine import Outcome
from modelbuild.wording import printable

EVERY = 5.0  # seconds between plain progress lines of one target
_COLOURS = {"built": "32", "restored": "36", "failed": "31", "red": "31", "holds": "32"}


def silence(out: TextIO) -> None:
    """Point a stream whose reader has gone at nothing, so that neither writing to it nor closing it fails."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, out.fileno())
    os.close(nothing)


class Progress(Protocol):
    """Shows running targets."""

    def start(self, name: str) -> None: ...

    def step(self, name: str, done: int, total: int, values: dict[str, float]) -> None: ...

    def stop(self, name: str) -> None: ...

    def write(self, line: str, flush: bool = True) -> None: ...

    def close(self) -> None: ...


class PlainProgress:
    """Lines for a log: a running target says every few seconds how far it is, and how long the rest will take."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._said: dict[str, float] = {}
        self._first: dict[str, tuple[float, int]] = {}

    def start(self, name: str) -> None:
        self._said[name] = time.monotonic()

    def step(self, name: str, done: int, total: int, values: dict[str, float]) -> None:
        now = time.monotonic()
        # What came before the first step is no step's time, and a training that goes on does not begin at 0.
        began, before = self._first.setdefault(name, (now, done))
        if now - self._said.get(name, now) >= EVERY:
            self._said[name] = now
            left = _left(now - began, done - before, total - done)
            self.write(f"{name}  {done}/{total}{figures(values)}{left}")

    def stop(self, name: str) -> None:
        self._said.pop(name, None)
        self._first.pop(name, None)

    def write(self, line: str, flush: bool = True) -> None:
        try:
            self._out.write(f"{line}\n")
            if flush:
                self._out.flush()
        except BrokenPipeError:  # `doit | head`: nobody listens any more, and the build goes on
            silence(self._out)

    def close(self) -> None:
        pass


class LiveProgress:
    """Bars below the lines, on a terminal."""

    def __init__(self, out: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        self._bars = Progress(*columns, console=Console(file=out), transient=True)
        self._bars.start()
        self._ids: dict[str, Any] = {}

    def start(self, name: str) -> None:
        self._ids[name] = self._bars.add_task(name, total=None, figures="")

    def step(self, name: str, done: int, total: int, values: dict[str, float]) -> None:
        if name in self._ids:
            self._bars.update(
                self._ids[name], completed=done, total=total, figures=f"{done}/{total}{figures(values)}"
            )

    def stop(self, name: str) -> None:
        if name in self._ids:
            self._bars.remove_task(self._ids.pop(name))

    def write(self, line: str, flush: bool = True) -> None:
        from rich.text import Text

        self._bars.console.print(Text.from_ansi(line), soft_wrap=True, highlight=False)

    def close(self) -> None:
        self._bars.stop()


def figures(values: dict[str, float]) -> str:
    """Format figures as `  loss 0.31`."""
    return "".join(f"  {name} {value:.4g}" for name, value in values.items())


def _left(seconds: float, steps: int, to_go: int) -> str:
    """`  about 40 s left`, when `steps` took `seconds`; nothing where that says nothing of the steps `to_go`."""
    if steps <= 0 or to_go <= 0:
        return ""
    left = seconds / steps * to_go
    minutes = f"{left / 60:.0f} min" if left < 7200 else f"{left / 3600:.1f} h"
    return f"  about {f'{left:.0f} s' if left < 120 else minutes} left"


class View:
    """Lines about targets, in the order they are done. Threads may share it."""

    def __init__(self, out: TextIO, names: list[str]) -> None:
        self._out = out
        self._colour = out.isatty()
        self._width = min(max((len(name) for name in names), default=0), 48)
        self._lock = threading.RLock()
        self._plain = PlainProgress(out)
        self._progress: Progress = self._plain

    def start(self, name: str) -> None:
        """Say that the work on `name` begins."""
        with self._lock:
            if self._colour and self._progress is self._plain:
                self._progress = LiveProgress(self._out)
            self._progress.start(name)

    def step(self, name: str, done: int, total: int, values: dict[str, float]) -> None:
        with self._lock:
            self._progress.step(name, done, total, values)

    def done(self, outcome: Outcome) -> None:
        """Write the line of a target that is finished, whatever became of it."""
        took = "" if outcome.state == "up-to-date" else _seconds(outcome.seconds)
        self.line(outcome.target, outcome.state, took, outcome.reason)

    def line(self, name: str, state: str, took: str = "", reason: str = "") -> None:
        shown = state.replace("-", " ").ljust(10)
        if self._colour and state in _COLOURS:
            shown = f"\x1b[{_COLOURS[state]}m{shown}\x1b[0m"
        with self._lock:
            self._progress.stop(name)
            text = f"{name:<{self._width}}  {shown}  {took:>8}  {printable(reason)}".rstrip()
            # A thousand targets with nothing to do are not worth a thousand system calls.
            self._progress.write(text, flush=state != "up-to-date")

    def say(self, text: str) -> None:
        with self._lock:
            self._progress.write(printable(text, "\n"))

    def close(self) -> None:
        with self._lock:
            self._progress.close()
            self._progress = self._plain


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value < 10 else f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"


def totals(outcomes: list[Outcome], seconds: float) -> str:
    """Sum a run up in one line."""
    words = {"built": "built", "restored": "restored", "up-to-date": "up to date", "failed": "failed"}
    counts = [
        f"{n} {word}" for state, word in words.items() if (n := sum(o.state == state for o in outcomes))
    ]
    targets = "1 target" if len(outcomes) == 1 else f"{len(outcomes)} targets"
    return f"{targets}: {', '.join(counts) or 'nothing to do'} ({_seconds(seconds)})"
