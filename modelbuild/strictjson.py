"""JSON read as a stranger's input: what is ambiguous, oversized or not JSON is refused with its place.

The standard parser keeps the last of two equal keys, turns `NaN` and `1e999` into floats that no other reader
accepts, and recurses as deep as it is told. All of that is refused here. A finding made while parsing has no
pointer yet, so its value is replaced by a mark, and the mark is looked up in the finished tree.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from modelbuild.errors import ManifestError
from modelbuild.limits import LIMITS
from modelbuild.wording import at, cut, quote

Steps = tuple[str | int, ...]

_LARGEST_INT = (1 << 63) - 1
# Possessive, and the closing quote optional: linear on any text, unterminated strings included.
_BRACKETS = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)


def read(path: Path, place: str) -> Any:
    """Return the JSON value of the file; `place` names it in errors. Raises ManifestError."""
    return parse(read_bytes(path, place), place)


def read_bytes(path: Path, place: str) -> bytes:
    """Return the file's bytes, at most `LIMITS.manifest_bytes`. Raises ManifestError."""
    try:
        data = _at_most(LIMITS.manifest_bytes + 1, path)
    except OSError as error:
        raise ManifestError(place, f"cannot be read ({error.strerror})") from None
    if data is None:
        raise ManifestError(place, "is not a regular file")
    if len(data) > LIMITS.manifest_bytes:
        fact = f"is larger than {LIMITS.manifest_bytes:,} bytes"
        raise ManifestError(place, fact, "A manifest declares; keep data in files that it names.")
    return data


def _at_most(count: int, path: Path) -> bytes | None:
    """Read the first `count` bytes, or return None for what is no regular file."""
    # Without O_NONBLOCK, opening a named pipe would wait for a writer for ever.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read(count)
    finally:
        os.close(handle)


def parse(data: bytes, place: str) -> Any:
    """Return the JSON value of `data`. Raises ManifestError, for a syntax error with line and column."""
    text = _decoded(data, place)
    _refuse_depth(text, place)
    marks = _Marks()
    try:
        value = json.loads(
            text,
            object_pairs_hook=marks.on_object,
            parse_constant=marks.on_constant,
            parse_float=marks.on_float,
            parse_int=marks.on_int,
        )
    except json.JSONDecodeError as error:
        fact = f"is not JSON: {error.msg[:1].lower()}{error.msg[1:]}"
        raise ManifestError(f"{place}:{error.lineno}:{error.colno}", fact) from None
    # Every item but the first follows a comma or an opening bracket; only a crowded text needs counting.
    if text.count(",") + text.count("[") + text.count("{") >= LIMITS.json_items:
        _refuse_crowd(value, place)
    marks.refuse(value, place)
    if "\\u" in text:
        _refuse_surrogates(value, place)
    return value


def canonical(value: Any) -> bytes:
    """Return the one spelling of a JSON value: sorted keys, no blanks, ASCII.

    Raises ValueError on NaN and infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def walk(value: Any, steps: Steps = ()) -> Iterator[tuple[Steps, Any]]:
    """Yield every value of a tree with its path, outermost first."""
    yield steps, value
    if isinstance(value, dict):
        for key, child in value.items():
            yield from walk(child, (*steps, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from walk(child, (*steps, index))


class _Marks:
    """The parser's hooks, and what they found: (the value or its stand-in, fact, remedy)."""

    def __init__(self) -> None:
        self._found: list[tuple[object, str, str]] = []

    def _mark(self, value: object, fact: str, remedy: str) -> object:
        self._found.append((value, fact, remedy))
        return value

    def on_object(self, pairs: list[tuple[str, Any]]) -> object:
        made = dict(pairs)
        if len(made) == len(pairs):
            return made
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return self._mark(made, f"the key {quote(twice)} stands here twice", "Keep one of the two.")

    def on_constant(self, name: str) -> object:
        return self._mark(object(), f"{name} is not JSON", "Write a finite number.")

    def on_float(self, digits: str) -> object:
        value = float(digits)
        if math.isfinite(value):
            return value
        return self._mark(object(), f"{cut(digits)} is too large for a number", "Write a finite number.")

    def on_int(self, digits: str) -> object:
        # The length first: Python refuses to convert thousands of digits, with an error of its own.
        value = int(digits) if len(digits) <= 20 else _LARGEST_INT + 1
        if abs(value) <= _LARGEST_INT:
            return value
        return self._mark(object(), f"{cut(digits)} does not fit 64 bits", "Write a smaller number.")

    def refuse(self, value: Any, place: str) -> None:
        """Raise for the first finding in document order, with its pointer."""
        if not self._found:
            return
        facts = {id(mark): (fact, remedy) for mark, fact, remedy in self._found}
        for steps, child in walk(value):
            if id(child) in facts:
                raise ManifestError(at(place, steps), *facts[id(child)])


def _decoded(data: bytes, place: str) -> str:
    if data.startswith(b"\xef\xbb\xbf"):
        raise ManifestError(place, "begins with a byte order mark", "Save it as UTF-8 without one.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ManifestError(place, f"is not UTF-8 (byte {error.start})", "Save it as UTF-8.") from None


def _refuse_depth(text: str, place: str) -> None:
    """Refuse nesting beyond the limit before the parser recurses into it."""
    if text.count("[") + text.count("{") <= LIMITS.json_depth:
        return
    depth = 0
    for found in _BRACKETS.finditer(text):
        first = text[found.start()]
        depth += (first in "[{") - (first in "]}")
        if depth > LIMITS.json_depth:
            line = text.count("\n", 0, found.start()) + 1
            column = found.start() - text.rfind("\n", 0, found.start())
            fact = f"is nested deeper than {LIMITS.json_depth} levels"
            raise ManifestError(f"{place}:{line}:{column}", fact)


def _refuse_crowd(value: Any, place: str) -> None:
    for count, (steps, _) in enumerate(walk(value), 1):
        if count > LIMITS.json_items:
            fact = f"the file holds more than {LIMITS.json_items:,} values"
            raise ManifestError(at(place, steps[:-1]), fact)


def _refuse_surrogates(value: Any, place: str) -> None:
    for steps, child in walk(value):
        texts = [child] if isinstance(child, str) else list(child) if isinstance(child, dict) else []
        if any("\ud800" <= c <= "\udfff" for text in texts for c in text):
            raise ManifestError(at(place, steps), "holds half of a surrogate pair, which is not a character")
