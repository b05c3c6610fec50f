"""Checks that every runtime makes of its options; what is wrong is placed at the option."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from modelbuild.errors import ManifestError, did_you_mean


def known(runtime: str, options: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise ManifestError for an option that is not among `names`."""
    there = list(names)
    for name in options:
        if name not in there:
            raise ManifestError(f"options/{name}", f"{runtime} has no such option", did_you_mean(name, there))


def one_of(option: str, value: object, allowed: Sequence[str]) -> None:
    """Raise ManifestError for a value that is not among `allowed`."""
    if value not in allowed:
        fact = f"{json.dumps(value)} is not one of {', '.join(allowed)}"
        raise ManifestError(f"options/{option}", fact, did_you_mean(str(value), list(allowed)))


def count(option: str, value: object) -> None:
    """Raise ManifestError for what is no whole number from 1 up."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        fact = f"{json.dumps(value)} is not a whole number from 1 up"
        raise ManifestError(f"options/{option}", fact, f'Leave "{option}" out for the default')


def distinct(option: str, values: Sequence[Any]) -> None:
    """Raise ManifestError for a list that is empty, or has a value twice."""
    if not values:
        raise ManifestError(
            f"options/{option}", "is empty: nothing would be run", "Leave it out for the default"
        )
    twice = [each for index, each in enumerate(values) if each in values[:index]]
    if twice:
        raise ManifestError(
            f"options/{option}", f"{json.dumps(twice[0])} stands there twice", "Name each once"
        )
