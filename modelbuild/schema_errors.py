"""A document held against a JSON Schema, and what is wrong with it in words a person can act on.

The only module that imports the schema library: loaded when a manifest is new, not on a no-op build.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators

from modelbuild import schemas
from modelbuild.declare import Document
from modelbuild.errors import ManifestError, did_you_mean
from modelbuild.schemas import Schema
from modelbuild.wording import at, closest, cut, quote

_KINDS: Mapping[str, str] = {
    "object": "an object",
    "array": "a list",
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}
Words = Iterator[tuple[tuple[str, ...], str, str]]  # further steps of the pointer, fact, remedy


@dataclass(frozen=True, slots=True)
class _Finding:
    """The `value` at `path` breaks `keyword` of `schema`, which asks for `limit`."""

    keyword: str
    limit: Any
    value: Any
    schema: Schema
    path: tuple[str | int, ...]


def problems(schema: Schema, document: Document) -> Iterator[ManifestError]:
    """Yield everything in which the document departs from the (resolved) schema, some of it twice."""
    for error in map(_finding, _Validator(schema).iter_errors(document.value)):
        for steps, fact, remedy in _WORDS[error.keyword](error):
            place = at(document.place, (*error.path, *steps))
            yield ManifestError(place, fact, remedy)


def _is_whole(_: object, value: object) -> bool:
    # JSON Schema counts 600.0 as an integer; a recipe that counts with it would not.
    return isinstance(value, int) and not isinstance(value, bool)


def _whole_pattern(_: object, pattern: str, value: object, __: object) -> Iterator[ValidationError]:
    # In Python `$` also matches before a final line break; in JSON Schema's regular expressions it does not.
    if isinstance(value, str) and not re.fullmatch(pattern.removeprefix("^").removesuffix("$"), value):
        yield ValidationError(pattern)


_extend: Any = validators.extend
_Validator = _extend(
    Draft202012Validator,
    {"pattern": _whole_pattern},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_whole),
)


def _finding(error: Any) -> _Finding:
    # A name that is refused is itself the value; the pointer must lead to what stands under it.
    key = (error.instance,) if "propertyNames" in error.absolute_schema_path else ()
    path = (*error.absolute_path, *key)
    return _Finding(error.validator, error.validator_value, error.instance, error.schema, path)


def _kind(value: object) -> str:
    if isinstance(value, float):
        return "a number with a decimal point"
    names = {dict: "object", list: "array", str: "string", int: "integer", bool: "boolean"}
    return _KINDS[names[type(value)]] if value is not None else "null"


def _type(error: _Finding) -> Words:
    wanted: Any = error.limit
    listed = " or ".join(_KINDS[each] for each in ([wanted] if isinstance(wanted, str) else wanted))
    yield (), f"{quote(error.value)} is {_kind(error.value)}, not {listed}", ""


def _enum(error: _Finding) -> Words:
    allowed = [str(each) for each in error.limit]
    yield (), f"{quote(error.value)} is not one of {', '.join(allowed)}", closest(error.value, allowed)


def _required(error: _Finding) -> Words:
    # The library reports each missing key by itself and says which only in its message, so each report
    # here lists them all.
    for key in error.limit:
        if key not in error.value:
            about = error.schema.get("properties", {}).get(key, {}).get("description", "")
            yield (), f'"{key}" is missing', about


def _unknown(error: _Finding) -> Words:
    if schemas.unsettled(error.schema, error.value):
        return
    known = schemas.known_keys(error.schema, error.value)
    for key in error.value:
        if key not in known:
            yield (key,), f"unknown key {quote(key)}", did_you_mean(cut(key), known)


def _pattern(error: _Finding) -> Words:
    yield (), f"{quote(error.value)} is not a valid name", error.schema.get("description", "")


def _bound(words: str) -> Callable[[_Finding], Words]:
    def fact(error: _Finding) -> Words:
        yield (), f"{quote(error.value)} {words} {error.limit}", ""

    return fact


def _long(error: _Finding) -> Words:
    yield (), f"{quote(error.value)} is longer than {error.limit} characters", ""


def _count(error: _Finding) -> Words:
    exact = error.schema.get("minItems") == error.schema.get("maxItems")
    wanted = "not" if exact else "fewer than" if len(error.value) < error.limit else "more than"
    yield (), f"{quote(error.value)} holds {len(error.value)} values, {wanted} {error.limit}", ""


def _empty(error: _Finding) -> Words:
    known = ", ".join(schemas.known_keys(error.schema, error.value))
    yield (), "says nothing", f"Give one of {known}."


_WORDS: Mapping[str, Callable[[_Finding], Words]] = {
    "type": _type,
    "enum": _enum,
    "required": _required,
    "additionalProperties": _unknown,
    "unevaluatedProperties": _unknown,
    "pattern": _pattern,
    "maxLength": _long,
    "minimum": _bound("is less than"),
    "maximum": _bound("is more than"),
    "exclusiveMinimum": _bound("is not more than"),
    "exclusiveMaximum": _bound("is not less than"),
    "minItems": _count,
    "maxItems": _count,
    "minProperties": _empty,
}
