"""From `package.module:name` in a manifest to the object, and its call, with every failure in words."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from modelbuild.errors import ModelbuildError, RecipeError, did_you_mean


def resolve(path: str) -> Any:
    """Import and return the object that `path` (`package.module:name`) names.

    Raises RecipeError when the module cannot be imported or has no such name.
    """
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise RecipeError(path, 'is not of the form "package.module:name"')
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise RecipeError(path, f"cannot be imported: {in_words(error)}") from error
    if not hasattr(module, name):
        known = [other for other in vars(module) if not other.startswith("_")]
        raise RecipeError(path, f'{module_name} has no "{name}"', did_you_mean(name, known))
    return getattr(module, name)


def call(path: str, args: Mapping[str, Any], *positional: Any) -> Any:
    """`resolve(path)(*positional, **args)`.

    Raises RecipeError when the call fails; an error that already speaks for itself passes as it is.
    """
    function = resolve(path)
    try:
        return function(*positional, **args)
    except ModelbuildError:
        raise
    except Exception as error:
        given = ", ".join(f"{name}={value!r}" for name, value in args.items())
        raise RecipeError(path, f"failed when called with ({given}): {in_words(error)}") from error


def in_words(error: BaseException) -> str:
    """The first line of what lies at the root of `error`, after the name of its kind."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip()}" if lines else type(error).__name__
