"""Opens a model in an ONNX Runtime: the installed one in this process, or another one in a worker's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnx

from modelbuild.errors import RecipeError
from modelbuild.runtimes.onnxruntime import isolated, worker
from modelbuild.runtimes.onnxruntime.options import NAME, Options

LOADING = re.compile(r"Load model from .*? failed:\s*")  # often from a file that is gone when this is read


@contextmanager
def opened(model: Path, options: Options, environment: str | None) -> Iterator[Any]:
    """A session over `model`; errors of ONNX Runtime in our words, with the version that raised them."""
    (level,), (threads,) = options.optimisation, options.threads
    if environment is None:
        try:
            session: Any = worker.Session(str(model), level, threads)
        except Exception as error:
            raise does_not_load(model, worker.VERSION, error) from error
        yield session
        return
    with isolated.started(Path(environment)) as process:
        try:
            session = isolated.Session(process, str(model), level, threads)
        except isolated.AnswerError as error:
            raise does_not_load(model, error.version, error) from error
        yield session


def does_not_load(model: Path, version: str, error: Exception) -> RecipeError:
    """Names the version, and what the file is made of: the way out is a lower opset or a newer version."""
    made = _made_of(model) if model.suffix == ".onnx" else ""
    said = LOADING.sub("", first_line(error))
    fact = f"version {version} does not load the model{made}: {said}"
    remedy = 'Export to a lower opset ("export": {"opset": 18} reaches 1.16), or use a newer ONNX Runtime'
    return RecipeError(NAME, fact, remedy)


def _made_of(model: Path) -> str:
    try:
        found = onnx.load(model, load_external_data=False)
    except Exception:
        return ""
    opsets = ", ".join(f"{each.domain or 'opset'} {each.version}" for each in found.opset_import)
    return f" ({opsets}, IR {found.ir_version})"


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def readable(model: Path) -> Iterator[None]:
    """What reading `model` as ONNX raises, in our words."""
    try:
        yield
    except RecipeError:
        raise
    except Exception as error:
        raise RecipeError(
            NAME, f"{model.name} cannot be read: {first_line(error)}", "Build it again"
        ) from error
