"""A manifest as it was written, valid or not: what the rules that it must keep are asked of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from modelbuild.declare import Document, today
from modelbuild.errors import ManifestError
from modelbuild.wording import at

Found = Iterator[ManifestError]
Steps = tuple[str | int, ...]  # from the root of the document, keys and indices


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest with the platform files that it names (by the path it gives), as they were written.

    `today` decides what a waiver may promise. A manifest found valid on one day stays so: its days only draw nearer.
    """

    root: Path
    document: Document
    shared: Mapping[str, Document]
    today: date = field(default_factory=today)

    def section(self, *steps: str) -> Mapping[str, Any]:
        """Return the object at these steps, or an empty one where there is none."""
        found = self.document.value
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def error(self, steps: Steps, fact: str, remedy: str = "") -> ManifestError:
        return ManifestError(at(self.document.place, steps), fact, remedy)

    def demands(self, gate: str) -> Iterator[tuple[Steps, Mapping[str, Any]]]:
        """Yield every demand of the gate "teacher" or "task", and where it stands."""
        declared, steps = self.section("gates").get(gate), ("gates", gate)
        if isinstance(declared, dict):
            yield steps, declared
        for index, each in enumerate(declared if isinstance(declared, list) else ()):
            if isinstance(each, dict):
                yield (*steps, index), each
