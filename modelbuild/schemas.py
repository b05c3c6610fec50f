"""The JSON Schemas of manifests as plain data: references resolved, defaults applied, known keys listed.

Nothing here checks a manifest, so nothing here needs the schema library. The schemas keep to a few keywords
(a test holds that), which makes "which properties apply to this value" a question of a few lines.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "schema"
MODEL, PLATFORM = "model.schema.json", "platform.schema.json"

Schema = Mapping[str, Any]
_JSON_TYPES: Mapping[str, type] = {"object": dict, "array": list, "string": str}


@cache
def source(folder: Path = FOLDER) -> bytes:
    """Return the bytes of all schema files, which any decision about a manifest rests on."""
    return b"\0".join(path.read_bytes() for path in sorted(folder.rglob("*.json")))


@cache
def resolved(name: str, folder: Path = FOLDER) -> Schema:
    """Return the schema in file `name` with every `$ref` replaced by what it names."""
    schema: Schema = _inlined(_document(folder / name), folder / name)
    return schema


@cache
def _document(path: Path) -> Any:
    return json.loads(path.read_bytes())


def _inlined(node: Any, file: Path) -> Any:
    if isinstance(node, list):
        return [_inlined(child, file) for child in node]
    if not isinstance(node, dict):
        return node
    own = {key: _inlined(child, file) for key, child in node.items() if key not in ("$ref", "$defs")}
    # What stands beside a `$ref` (a description, a default) speaks of this use and wins.
    return {**_referred(node["$ref"], file), **own} if "$ref" in node else own


def _referred(reference: str, file: Path) -> dict[str, Any]:
    name, _, steps = reference.partition("#")
    target = file.parent / name if name else file
    node = _document(target)
    for step in steps.split("/")[1:]:
        node = node[step]
    inlined: dict[str, Any] = _inlined(node, target)
    return inlined


def parts(schema: Schema, value: Any) -> Iterator[Schema]:
    """Yield the schema and every conditional part of it that applies to `value`."""
    yield schema
    for branch in schema.get("allOf", ()):
        yield from parts(branch, value)
    if "if" in schema:
        yield from parts(schema.get("then" if _holds(schema["if"], value) else "else", {}), value)


def _holds(condition: Schema, value: Any) -> bool:
    if "type" in condition and not isinstance(value, _JSON_TYPES[condition["type"]]):
        return False
    if not isinstance(value, dict):
        return True
    fixed = condition.get("properties", {}).items()
    return all(key in value for key in condition.get("required", ())) and all(
        value[key] == sub["const"] for key, sub in fixed if key in value
    )


def known_keys(schema: Schema, value: Any) -> list[str]:
    """Return the names of all properties that `value` may have under `schema`."""
    return [name for part in parts(schema, value) for name in part.get("properties", ())]


def _own_copy(schema: Schema, default: Any) -> Any:
    if isinstance(default, dict | list):
        return filled(schema, copy.deepcopy(default))
    return default


def filled(schema: Schema, value: Any) -> Any:
    """Return `value` with every absent property that has a default, at any depth; `value` stays as it is."""
    if isinstance(value, list):
        return [filled(schema.get("items", {}), each) for each in value]
    if not isinstance(value, dict):
        return value
    made: dict[str, Any] = dict(value)
    for part in parts(schema, value):
        own = part.get("properties", {})
        for name, sub in own.items():
            if name in value:
                made[name] = filled(sub, value[name])
            elif "default" in sub:
                made[name] = _own_copy(sub, sub["default"])
        others = part.get("additionalProperties")
        if isinstance(others, dict):
            made.update((name, filled(others, value[name])) for name in value.keys() - own.keys())
    return made


def unsettled(schema: Schema, value: Any) -> bool:
    """Return whether `value` is of a kind that the schema says nothing about.

    So it is for a runtime that lies in another distribution: its options are for that runtime to judge.
    """
    branches = schema.get("allOf", ())
    return bool(branches) and not any(_holds(branch["if"], value) for branch in branches)
