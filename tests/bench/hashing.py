"""Hashing: how near to the library's own speed, and how often a build reads each file to hash it.

python tests/bench/hashing.py [MB]              (default 1024)
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from xxhash import xxh3_128

sys.path.insert(0, str(Path(__file__).parent))
from projects import TrivialExecutor, generated

from modelbuild import digest
from modelbuild.session import Session


def speed(size: int) -> None:
    """Our `of_file` against the library over the same bytes in memory, and against reading alone."""
    data = os.urandom(1 << 20) * (size >> 20)
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        works = {
            "library, in memory": lambda: xxh3_128(data).digest(),
            "library, read by 1 MiB": lambda: library(file.name),
            "modelbuild, file": lambda: digest.of_file(Path(file.name)),
        }
        taken: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(7):
            for name, work in works.items():
                began = time.thread_time()
                work()
                taken[name].append(time.thread_time() - began)
    rates = {name: size / statistics.median(times) / 1e9 for name, times in taken.items()}
    for name, rate in rates.items():
        print(f"{name:>24}: {rate:.2f} GB/s of CPU")
    ratio = rates["modelbuild, file"] / rates["library, read by 1 MiB"]
    print(f"{'modelbuild / library':>24}: {ratio:.2f} on the same file")


def library(name: str) -> str:
    """The shortest loop over the library that reads a file in constant memory."""
    hasher = xxh3_128()
    buffer = bytearray(1 << 20)
    view = memoryview(buffer)
    with open(name, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            hasher.update(view[:count])
    return hasher.hexdigest()


def reads() -> None:
    """Count how often each file is read to be hashed in one build from nothing."""
    seen: Counter[str] = Counter()
    original = digest.copy

    def counting(source, target):
        seen[os.path.realpath(source.name)] += 1
        return original(source, target)

    digest.copy = counting
    try:
        with tempfile.TemporaryDirectory() as folder:
            generated(Path(folder) / "project", 25)
    finally:
        digest.copy = original
    for path, count in seen.most_common(3):
        print(f"  {count} x {path}")
    print(f"{len(seen)} files hashed in a build, the most often read: {max(seen.values())} time(s)")


if __name__ == "__main__":
    speed((int(sys.argv[1]) if len(sys.argv) > 1 else 1024) << 20)
    reads()
    assert Session and TrivialExecutor
