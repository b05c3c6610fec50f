"""CPU time and peak memory of child processes; medians of interleaved runs, since machines are shared."""

from __future__ import annotations

import resource
import statistics
from collections.abc import Callable


def cpu(work: Callable[[], None]) -> float:
    """CPU seconds of the children that `work` waits for."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    work()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def side_by_side(runs: int, *works: Callable[[], None]) -> list[float]:
    """Median CPU seconds of each of `works`, taken in turns so that noise meets all of them alike."""
    taken: list[list[float]] = [[] for _ in works]
    for _ in range(runs):
        for times, work in zip(taken, works, strict=True):
            times.append(cpu(work))
    return [statistics.median(times) for times in taken]
