"""What ONNX Runtime's own mobile tools say of a model: which accelerators take it, which operators it needs.

The usability checker has no other interface than its log, so that is read, line by line; a log that says nothing of
an accelerator that it set out to check is an error, never an empty record.
"""

from __future__ import annotations

import logging
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelbuild.errors import RecipeError
from modelbuild.quiet import quietly
from modelbuild.runtimes.onnxruntime.options import NAME

CHECKING = re.compile(r"Checking (NNAPI|CoreML \w+)$")
PARTITIONS = re.compile(r"(\d+) partitions with a total of (\d+)/(\d+) nodes can be handled")
UNSUPPORTED = re.compile(r"Unsupported ops: (.+)$")
SUITABLE = re.compile(
    r"Model should perform well with .+?( if modified to have fixed input shapes)?: (YES|NO|MAYBE)"
)


def usability(model: Path) -> dict[str, Any]:
    """What the checker says of the ONNX file: "accelerators", each by name with "as_is" and "fixed".

    Both have "nodes" (those it takes), "of" (all), "partitions", "unsupported" (operators), and "well" (YES, NO or
    MAYBE); "fixed", the same with fixed input shapes, is None where the checker saw no reason to look. Raises
    RecipeError.
    """
    lines = [line for message in _log_of(model) for line in message.splitlines()]
    found: dict[str, dict[str, Any]] = {}
    for name, part in _sections(lines):
        found[name] = {"as_is": _verdict(name, part, fixed=False), "fixed": _verdict(name, part, fixed=True)}
    if not found:
        fact = "the mobile usability check says nothing that is understood"
        raise RecipeError(NAME, fact, 'Use a released ONNX Runtime, or say "format": "onnx"')
    return {"accelerators": found}


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def _log_of(model: Path) -> list[str]:
    from onnxruntime.tools.mobile_helpers import usability_checker

    kept, log = _Kept(), logging.Logger("usability", logging.INFO)
    log.addHandler(kept)
    try:
        usability_checker.analyze_model(model, skip_optimize=False, logger=log)
    except Exception as error:
        fact = f"the mobile usability check failed: {error}"
        raise RecipeError(NAME, fact, 'Use a released ONNX Runtime, or say "format": "onnx"') from error
    return kept.messages


def _sections(lines: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """The lines of each accelerator, by its name."""
    starts = [(at, match[1]) for at, line in enumerate(lines) if (match := CHECKING.match(line))]
    ends = [*(at for at, _ in starts[1:]), len(lines)]
    for (start, name), end in zip(starts, ends, strict=False):  # no start, no section
        yield name, list(lines[start:end])


def _verdict(name: str, lines: Sequence[str], *, fixed: bool) -> dict[str, Any] | None:
    """As the model is, or with fixed shapes; the checker says both alike, one after the other."""
    well = next((m[2] for line in lines if (m := SUITABLE.match(line)) and bool(m[1]) == fixed), None)
    at = [index for index, line in enumerate(lines) if PARTITIONS.match(line)]
    if fixed and well is None and len(at) < 2:
        return None
    if well is None or len(at) <= fixed:
        raise RecipeError(NAME, f"the mobile usability check leaves out what it found for {name}")
    start, end = at[fixed], (at[fixed + 1] if len(at) > fixed + 1 else len(lines))
    partitions, nodes, total = map(int, _groups(PARTITIONS, lines[start]))
    named = [m[1] for line in lines[start:end] if (m := UNSUPPORTED.search(line))]
    operators = sorted({each.strip() for line in named for each in line.split(",")})
    return {"nodes": nodes, "of": total, "partitions": partitions, "unsupported": operators, "well": well}


def _groups(pattern: re.Pattern[str], line: str) -> tuple[str, ...]:
    match = pattern.match(line)
    return match.groups() if match else ()


def sentences(record: dict[str, Any]) -> list[str]:
    """One line an accelerator: `NNAPI: 0 of 10 nodes as it is, all 10 in 1 partition with fixed shapes`."""
    return [f"{name}: {_sentence(each)}" for name, each in sorted(record["accelerators"].items())]


def _sentence(found: dict[str, Any]) -> str:
    as_is, fixed = found["as_is"], found["fixed"]
    words = f"{_nodes(as_is)} as it is"
    if fixed is not None and (fixed["nodes"], fixed["well"]) != (as_is["nodes"], as_is["well"]):
        words += f', {_nodes(fixed)} with "shapes": "fixed"'
    lacking = (fixed or as_is)["unsupported"]
    return f"{words}; not supported: {', '.join(lacking)}" if lacking else words


def _nodes(found: dict[str, Any]) -> str:
    if not found["nodes"]:
        return "no node"
    many = "partition" if found["partitions"] == 1 else "partitions"
    slow = "" if found["well"] == "YES" else " (better on the processor)"
    return f"{found['nodes']} of {found['of']} nodes in {found['partitions']} {many}{slow}"


def required_operators(model: Path) -> str:
    """The operators and types that a reduced build of ONNX Runtime must have to run the ORT file `model`.

    The text of a required-operators config, without the lines in which its writer tells of this machine.
    """
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "operators.config"
        try:
            with _root_logger_kept(), quietly():
                from onnxruntime.tools.ort_format_model import create_config_from_models

                create_config_from_models([model], config, enable_type_reduction=True)
        except Exception as error:
            raise RecipeError(NAME, f"the operators of {model.name} cannot be listed: {error}") from error
        lines = [line.rstrip() for line in config.read_text().splitlines()]
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("#"))


@contextmanager
def _root_logger_kept() -> Iterator[None]:
    """Importing the tool gives the root logger a handler of its own, unless there is one."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)
