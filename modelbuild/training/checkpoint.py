"""The state of a training on disk: tensors as safetensors, and beside them a JSON file that vouches for their bytes.

The JSON file is written last, and every file is whole and on the disk before it bears its name. So a process may be
killed at any moment: what a later one finds is the checkpoint before or the new one, and a file that was cut short
or changed since is told by its digest.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save

from modelbuild import digest
from modelbuild.errors import RecipeError
from modelbuild.training.weights import Tensors

NAME = "state"
TENSORS, FACTS, HALF_WRITTEN = ".safetensors", ".json", ".tmp"
KEPT = 2
SECONDS = 20.0  # between two checkpoints, where the settings say no number of steps


@dataclass(frozen=True, slots=True)
class State:
    """All that a training needs to go on after `step`: tensors by group and name, and facts that JSON can hold."""

    step: int
    tensors: Mapping[str, Tensors]
    facts: Mapping[str, Any]

    def group(self, name: str) -> Tensors:
        return self.tensors.get(name, {})


def write(folder: Path, state: State, name: str = NAME) -> None:
    """Write `state` to `folder` so that it is there wholly or not at all; the bytes depend on the state alone.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flat = {f"{group}:{key}": each for group, part in state.tensors.items() for key, each in part.items()}
    data = save({key: each.detach().cpu().clone().contiguous() for key, each in flat.items()})
    told = {"step": state.step, "facts": state.facts, "tensors": digest.of_bytes(data)}
    sealed = {"state": told, "xxh3": _seal(told)}
    _durably(folder / f"{name}{TENSORS}", data)
    _durably(folder / f"{name}{FACTS}", (json.dumps(sealed, sort_keys=True) + "\n").encode())


def _seal(told: Mapping[str, Any]) -> str:
    return digest.of_bytes(json.dumps(told, sort_keys=True, allow_nan=False).encode())


def _durably(path: Path, data: bytes) -> None:
    """Have `path` hold `data`: its name appears when all of it is on the disk."""
    temporary = path.with_name(path.name + HALF_WRITTEN)
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    handle = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(handle)  # the name itself
    finally:
        os.close(handle)


def read(folder: Path, name: str = NAME) -> State:
    """Read what `write` wrote. Raises RecipeError where it is not there or not whole."""
    try:
        return _read(folder, name)
    except (OSError, ValueError) as error:
        raise RecipeError(folder.name, f"holds no state of a training: {error}", "Build it again") from error


def _read(folder: Path, name: str) -> State:
    """Read and verify; OSError or ValueError where that fails. What is verified are the bytes that are used."""
    told = _unsealed((folder / f"{name}{FACTS}").read_bytes())
    data = (folder / f"{name}{TENSORS}").read_bytes()
    if digest.of_bytes(data) != told["tensors"]:
        raise ValueError(f"{name}{TENSORS} is damaged")
    groups: dict[str, Tensors] = {}
    try:
        for path, each in load(data).items():
            group, _, key = path.partition(":")
            groups.setdefault(group, {})[key] = each
    except SafetensorError as error:
        raise ValueError(f"{name}{TENSORS}: {error}") from error
    return State(told["step"], groups, told["facts"])


def _unsealed(text: bytes) -> dict[str, Any]:
    try:
        sealed = json.loads(text)
        told: dict[str, Any] = sealed["state"]
        if _seal(told) == sealed["xxh3"]:
            return told
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise ValueError("its JSON file is damaged")


class Keeper:
    """Keeps the newest checkpoints of one training in `folder`; without a folder there are none.

    One is due after every `every` steps, else when SECONDS have passed since the last.
    """

    def __init__(self, folder: Path | None, every: int | None) -> None:
        self._folder, self._every, self._last = folder, every, time.monotonic()

    def due(self, step: int) -> bool:
        if self._folder is None:
            return False
        if self._every is not None:
            return step % self._every == 0
        return time.monotonic() - self._last >= SECONDS

    def keep(self, state: State) -> None:
        """Write a checkpoint and let go of all but the newest; what the disk refuses is said, and no more.

        A checkpoint is a help, not a result: the training goes on without it.
        """
        self._last = time.monotonic()
        if self._folder is None:
            return
        try:
            write(self._folder, state, f"{state.step:09d}")
            self._clear()
        except OSError as error:
            _say(f"no checkpoint of step {state.step}: {error}")

    def latest(self, refusal: Callable[[State], str]) -> State | None:
        """The newest checkpoint that is whole and that `refusal` has no word against; None where there is none.

        Whatever is passed over is said on stderr and removed.
        """
        for name in self._names():
            assert self._folder is not None
            try:
                state = _read(self._folder, name)
                reason = refusal(state)
            except (OSError, ValueError) as error:
                reason = str(error)
            if not reason:
                _say(f"goes on after step {state.step}, from a checkpoint")
                return state
            _say(f"the checkpoint of step {int(name)} is passed over: {reason}")
            self._remove(name)
        return None

    def _names(self) -> list[str]:
        """Newest first. Tensors without the JSON file were never a checkpoint."""
        if self._folder is None:
            return []
        stems = (each.stem for each in self._folder.glob(f"*{FACTS}"))
        return sorted((stem for stem in stems if stem.isdecimal()), key=int, reverse=True)

    def _clear(self) -> None:
        assert self._folder is not None
        newest = set(self._names()[:KEPT])
        found = [each.name for each in self._folder.iterdir()]
        for name in {each.partition(".")[0] for each in found} - newest:
            self._remove(name)

    def _remove(self, name: str) -> None:
        assert self._folder is not None
        for ending in (FACTS, TENSORS):  # first what vouches for the other
            for path in (self._folder / f"{name}{ending}", self._folder / f"{name}{ending}{HALF_WRITTEN}"):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)


def _say(text: str) -> None:
    print(f"training: {text}", file=sys.stderr, flush=True)
