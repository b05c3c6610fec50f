"""What a platform may say about ONNX Runtime, and the ways of running that follow from it."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from modelbuild import options as checks
from modelbuild.errors import ManifestError
from modelbuild.runtimes.base import Environment, Switch, Way

NAME = "onnxruntime"
LEVELS = ("disabled", "basic", "extended", "all")
FORMATS = ("onnx", "ort")
SHAPES = ("free", "fixed")
VERSION = re.compile(r"\d+\.\d+\.\d+")
PLAIN = {"optimisation": "disabled", "threads": 1}
NUMPY_1 = (1, 19)  # versions before this one were built against NumPy 1
MOBILE_BATCH = 1


class Options(NamedTuple):
    """Every option with its default; see schema/runtimes/onnxruntime.schema.json for what they mean.

    `optimisation`, `threads` and `versions` may hold several: each combination is a way of running. No version at all
    is the one that is installed beside modelbuild.
    """

    optimisation: Sequence[str] = ("all",)
    threads: Sequence[int] = (1,)
    versions: Sequence[str] = ()
    batch: int | None = None
    precision: str = "float32"
    format: str = "onnx"
    shapes: str = "free"

    @property
    def oldest(self) -> str | None:
        """The oldest version, whose files all newer ones promise to load; None for the installed one."""
        return min(self.versions, key=_numbers, default=None)


def parse(options: Mapping[str, Any]) -> Options:
    """The options of a platform. Raises ManifestError, placed at the option, for one that cannot be."""
    checks.known(NAME, options, Options._fields)
    several = ("optimisation", "threads", "versions")
    listed = {name: _listed(value) if name in several else value for name, value in options.items()}
    parsed = Options(**listed)
    for name in several:
        if name in options:
            checks.distinct(name, getattr(parsed, name))
    for level in parsed.optimisation:
        checks.one_of("optimisation", level, LEVELS)
    for threads in parsed.threads:
        checks.count("threads", threads)
    for version in parsed.versions:
        _version(version)
    checks.one_of("precision", parsed.precision, ["float32"])
    checks.one_of("format", parsed.format, FORMATS)
    checks.one_of("shapes", parsed.shapes, SHAPES)
    checks.count("batch", MOBILE_BATCH if parsed.batch is None else parsed.batch)
    _refuse_idle_levels(parsed)
    return parsed


def _listed(value: Any) -> Any:
    return tuple(value) if isinstance(value, list | tuple) else (value,)


def _version(value: object) -> None:
    if not isinstance(value, str) or not VERSION.fullmatch(value):
        raise ManifestError("options/versions", f'{json.dumps(value)} is no version such as "1.32.0"')


def _refuse_idle_levels(options: Options) -> None:
    """A file in ORT format was optimised when it was written: the level that it is loaded with does nothing."""
    if options.format == "ort" and len(options.optimisation) > 1:
        fact = 'a file in ORT format is optimised once, and "optimisation" names several levels'
        raise ManifestError("options/optimisation", fact, 'Keep one, or say "format": "onnx"')


def reading(options: Options) -> dict[str, Any]:
    """What of the options decides the artefact."""
    found: dict[str, Any] = {
        "format": options.format,
        "shapes": options.shapes,
        "precision": options.precision,
    }
    if options.batch is not None:
        found["batch"] = options.batch
    if options.format == "ort":
        found["optimisation"] = options.optimisation[0]
    return found


def environment(version: str | None) -> Environment | None:
    """The isolated environment of an ONNX Runtime, None for the installed one."""
    if version is None:
        return None
    numpy = ("numpy<2",) if _numbers(version) < NUMPY_1 else ("numpy",)
    return Environment(f"onnxruntime-{version}", "python", (f"onnxruntime=={version}", *numpy))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def ways(options: Options) -> dict[str, Way]:
    """Every combination of version, level and threads; its name has the parts of which there are several."""
    return dict(_ways(options))


def _ways(options: Options) -> Iterator[tuple[str, Way]]:
    for version, level, threads in product(
        options.versions or (None,), options.optimisation, options.threads
    ):
        read = {"optimisation": level, "threads": threads, **_same(options)}
        parts = [version] if version is not None else []
        parts += [level] if len(options.optimisation) > 1 else []
        parts += [f"{threads}-threads" if threads > 1 else "1-thread"] if len(options.threads) > 1 else []
        yield "-".join(parts), Way(read, environment=environment(version), unavailable=_lacking(version))


def _same(options: Options) -> dict[str, Any]:
    """What every way reads."""
    batch = {} if options.batch is None else {"batch": options.batch}
    return {"format": options.format, **batch}


def switches(options: Mapping[str, Any]) -> tuple[Switch, ...]:
    """For a way's `options`: optimisations off and one thread, then as it is. ONNX Runtime Web has the same names."""
    return Switch("runtime", {**options, **PLAIN}), Switch("optimisation", dict(options))


def _lacking(version: str | None) -> str | None:
    if version is not None and importlib.util.find_spec("uv") is None:
        return "uv is not installed, which makes the environments of other versions: pip install uv"
    return None
