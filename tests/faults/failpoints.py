"""Fails at the n-th step a build takes on disk: as a crash would, or as a full disk does."""

import contextlib
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator

from modelbuild import digest as digests
from modelbuild.journal import Journal


class Crash(BaseException):
    """No code may catch this and go on, as none can after a kill."""


def full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _half(real: Callable[..., object]) -> Callable[..., object]:
    """A write that is torn: half of it arrives."""
    return lambda target, data: real(target, data[: len(data) // 2])


class Failpoints:
    """Counts steps below a folder; raises `error()` at step `at`, before it or half way through a write."""

    def __init__(self, below: str, at: int = -1, error: Callable[[], BaseException] = Crash) -> None:
        self.below, self.at, self.error = below, at, error
        self.steps: list[str] = []
        self.armed = True

    def _step(
        self, name: str, arguments: tuple[object, ...], torn: Callable[..., object] | None = None
    ) -> None:
        if not self.armed or not self._concerns(name, arguments):
            return
        self.steps.append(name)
        if len(self.steps) - 1 == self.at:
            if torn is not None:
                torn(*arguments)
            raise self.error()

    def _concerns(self, name: str, arguments: tuple[object, ...]) -> bool:
        if name in ("fsync", "write", "flush"):
            return True
        places = [os.fspath(a) for a in arguments[:2] if isinstance(a, str | os.PathLike)]
        if name == "open" and not any(isinstance(a, str) and set(a) & set("wxa") for a in arguments[1:2]):
            return False  # reading leaves nothing behind
        return any(str(place).startswith(self.below) for place in places)

    def _wrap(self, name: str, real: Callable[..., object], torn: Callable[..., object] | None = None):
        def step(*arguments: object, **options: object) -> object:
            self._step(name, arguments, torn)
            return real(*arguments, **options)

        return step

    @contextlib.contextmanager
    def __call__(self) -> Iterator["Failpoints"]:
        """Count, and fail, inside the block."""
        places = [
            (os, "fsync"), (os, "replace"), (os, "chmod"), (os, "mkdir"), (os, "utime"), (os, "unlink"),
            (io, "open"), (shutil, "copyfile"), (digests, "_write_all"), (Journal, "flush"),
        ]  # fmt: skip
        kept = [(owner, name, getattr(owner, name)) for owner, name in places]
        try:
            for owner, name, real in kept:
                torn = _half(real) if name == "_write_all" else None
                label = "write" if name == "_write_all" else name
                setattr(owner, name, self._wrap(label, real, torn))
            yield self
        finally:
            for owner, name, real in kept:
                setattr(owner, name, real)
