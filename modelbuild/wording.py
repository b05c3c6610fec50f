"""How values from a manifest stand in a message: on one line, cut when long, nothing that moves a cursor."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from modelbuild.errors import did_you_mean

_CHARS = 80


def shown(text: str) -> str:
    """Return `text` cut to 80 characters, with what cannot be printed as JSON escapes."""
    return "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in cut(text))


def printable(text: str, also: str = "") -> str:
    """Return `text` with what could steer a terminal made visible; the characters in `also` stay."""
    return "".join(c if c.isprintable() or c in also else f"\\x{ord(c):02x}" for c in text)


def quote(value: Any) -> str:
    """Return a JSON value as it would stand in a file, fit to be shown."""
    return shown(json.dumps(value, ensure_ascii=False))


def cut(text: str) -> str:
    return text if len(text) <= _CHARS else text[: _CHARS - 1] + "…"


def pointer(steps: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of keys and indices."""
    return "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in steps)


def at(place: str, steps: Iterable[str | int]) -> str:
    """Return `place#/pointer`, fit to be shown: long keys are cut, what cannot be printed percent-encoded."""
    exact = pointer(step if isinstance(step, int) else cut(step) for step in steps)
    safe = "".join(c if c.isprintable() else _percent(c) for c in exact)
    return f"{place}#{safe}" if safe else place


def closest(word: object, known: Iterable[str]) -> str:
    """Return `Did you mean "x"?`, or nothing where no name that can be printed is near."""
    hint = did_you_mean(cut(word), [k for k in known if k.isprintable()]) if isinstance(word, str) else ""
    return hint if hint.startswith("Did") else ""


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))
