"""The bench a recipe works on: a fresh folder with its inputs laid out, and proof that it left them alone."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from modelbuild import digest as digests
from modelbuild.digest import Stamp, Tree
from modelbuild.errors import InputChangedError
from modelbuild.store import Store


@dataclass(frozen=True, slots=True)
class Bench:
    """`folder/in/ROLE` is what the recipe reads, `folder/out` what it writes; `inputs`: role -> path."""

    folder: Path
    inputs: dict[str, Path] = field(default_factory=dict)
    stamps: dict[Path, tuple[Stamp, str]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def lay_tree(self, store: Store, role: str, tree: Tree) -> None:
        """Lay a copy of an input target. Raises LostError, and then has laid nothing."""
        place = self.folder / "in" / role
        try:
            store.materialise(tree, place)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        self.inputs[role] = place
        self.stamps.update({place / e.path: (digests.stamp(place / e.path), e.digest) for e in tree.entries})

    def lay_file(self, role: str, source: Path, digest: str, target: str) -> None:
        """Lay a copy of a project file. Raises InputChangedError when it is no longer what the key says."""
        place = self.folder / "in" / role / source.name
        place.parent.mkdir(parents=True)
        try:
            with source.open("rb", buffering=0) as reader, place.open("xb", buffering=0) as writer:
                found = digests.copy(reader, writer)
        except FileNotFoundError:
            found = ""
        if found != digest:
            raise InputChangedError(
                target, f"{source.name} changed while the target was being built", "Run `doit` again."
            )
        place.chmod(0o444)
        self.inputs[role] = place
        self.stamps[place] = (digests.stamp(place), digest)

    def disturbed(self) -> str:
        """Return the first input the recipe changed, as ROLE/file, or "". Reads only files whose stamp moved."""
        for place, (stamp, digest) in self.stamps.items():
            same = place.is_file() and (digests.stamp(place) == stamp or digests.of_file(place) == digest)
            if not same:
                return place.relative_to(self.folder / "in").as_posix()
        return ""
