"""doit's own database, made so that losing it costs nothing and a no-op does not feel it.

doit asks its database twice a task. Its sqlite backend answers each time with half a dozen system calls (about a
tenth of a no-op at 1,000 tasks), and every backend of its own gives up on a file it cannot read. Nothing a build
relies on is in there (doit keeps which tasks are ignored, and values of finished ones), so: one JSON file, read once,
replaced whole and only when something changed; one that cannot be read is begun anew.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from doit.dependency import JsonDB


class DoitDb(JsonDB):  # type: ignore[misc]  # doit is untyped
    """doit's JSON backend, minding the disk."""

    desc = "one JSON file, disposable"

    def __init__(self, name: str, codec: Any, *, module_name: str | None = None) -> None:
        """Read the file; a torn or foreign one counts as empty."""
        self.name, self.codec = name, codec
        try:
            self._text = Path(name).read_text("utf-8")
            loaded = codec.decode(self._text)
        except (OSError, ValueError):
            self._text, loaded = "", {}
        sound = isinstance(loaded, dict) and all(isinstance(row, dict) for row in loaded.values())
        self._db: dict[str, Any] = loaded if sound else {}

    def dump(self) -> None:
        """Write the file when it would say something new."""
        text = self.codec.encode(self._db)
        if text != self._text:
            fresh = Path(f"{self.name}.{os.getpid()}")
            with contextlib.suppress(OSError):  # nothing in it is worth failing a build for
                fresh.parent.mkdir(parents=True, exist_ok=True)
                fresh.write_text(text, "utf-8")
                # Dying here leaves the file as it was.
                fresh.replace(self.name)
