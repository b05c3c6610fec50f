"""JSON into frozen records by their type hints: what does not fit is refused with its place, never guessed at."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from modelbuild.errors import RecipeError
from modelbuild.report import clean

# What a field is called in JSON where Python keeps the word for itself.
NAMED = "json"
_WORDS = {float: "a finite number", int: "a whole number", str: "text", bool: "true or false"}


def decode(kind: Any, value: Any, place: str) -> Any:
    """`value` as a `kind`: a record, float, int, str, bool, `X | None`, tuple[X, ...] or Mapping[str, X].

    A field that a record does not know is passed over; one without a default must be there. Raises RecipeError.
    """
    if is_dataclass(kind):
        return _record(kind, value, place)
    origin, of = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else decode(of[0], value, place)
    if origin is tuple:
        items = _is(value, list, "a list", place)
        return tuple(decode(of[0], item, f"{place}/{index}") for index, item in enumerate(items))
    if origin is Mapping:
        items = _is(value, dict, "an object", place)
        return {name: decode(of[1], item, f"{place}/{name}") for name, item in items.items()}
    return _plain(kind, value, place)


def encode(value: Any) -> Any:
    """A record as JSON values, such that `decode` gives it back. A number that JSON cannot say becomes null."""
    if is_dataclass(value):
        return {_name(each): encode(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: encode(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    return None if _endless(value) else value


def _endless(value: Any) -> bool:
    return type(value) is float and not math.isfinite(value)


def _record(kind: Any, value: Any, place: str) -> Any:
    found = _is(value, dict, "an object", place)
    hints = _hints(kind)
    known = {}
    for each in fields(kind):
        name = _name(each)
        if name in found:
            known[each.name] = decode(hints[each.name], found[name], f"{place}/{name}")
        elif each.default is MISSING and each.default_factory is MISSING:
            raise _refusal(place, f'the field "{name}" is missing')
    return kind(**known)


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _name(each: Any) -> str:
    return str(each.metadata.get(NAMED, each.name))


def _plain(kind: type, value: Any, place: str) -> Any:
    if kind is float and type(value) is int and abs(value) < 1 << 1023:
        return float(value)
    if type(value) is not kind or _endless(value):
        raise _refusal(place, f"it is not {_WORDS[kind]}")
    return value


def _is(value: Any, kind: type, words: str, place: str) -> Any:
    if type(value) is not kind:
        raise _refusal(place, f"it is not {words}")
    return value


def _refusal(place: str, fact: str) -> RecipeError:
    return RecipeError(clean.line(place), fact, "Build it again")
