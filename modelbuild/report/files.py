"""Where a report meets the disk: the only place, and each file whole or not at all."""

from __future__ import annotations

import json
import secrets
from pathlib import Path

from modelbuild.errors import StoreError
from modelbuild.report import html, junit, markdown
from modelbuild.report.record import Report, to_json


def write(report: Report, folder: Path, summary: Path | None = None) -> tuple[Path, ...]:
    """Write `report.html`, `report.json` and `report.xml` (JUnit) into `folder`, and return their paths.

    Where `summary` is given, as CI gives it in `GITHUB_STEP_SUMMARY`, the Markdown summary is appended to it.
    Raises StoreError where the disk refuses.
    """
    texts = {
        "report.html": html.page(report),
        "report.json": json.dumps(to_json(report), indent=1, sort_keys=True, allow_nan=False) + "\n",
        "report.xml": junit.document(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths = tuple(_replace(folder / name, text) for name, text in texts.items())
        if summary is not None:
            _append(summary, markdown.summary(report))
    except OSError as problem:
        raise StoreError(
            str(problem.filename or folder), _fact(problem), "Make room there, or make it writable"
        ) from None
    return paths


def _fact(problem: OSError) -> str:
    return f"the report cannot be written: {problem.strerror or problem}"


def _replace(path: Path, text: str) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        # If we die here, the report of the run before still stands whole, beside a hidden file.
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _append(path: Path, text: str) -> None:
    with path.open("a", encoding="utf-8", newline="\n") as file:
        file.write(text)
