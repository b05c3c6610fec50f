"""The bench a recipe works on: a fresh folder with its inputs laid out, and proof that it left them alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
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

    def lay_file(self, role: str, source: Path, digest: str, now: Callable[[Path], str], target: str) -> None:
        """Lay a copy of a file. Raises InputChangedError when it is no longer what the key says.

        `now` tells a file's digest from its stamp where it can: the file was hashed for the key, and a stamp that is
        still the same after the copy proves that those bytes were copied, without reading them a second time.
        """
        place = self.folder / "in" / role / source.name
        place.parent.mkdir(parents=True)
        try:
            shutil.copyfile(source, place)
            same = now(source) == digest
        except FileNotFoundError:
            same = False
        if not same:
            fact = f"{source.name} changed while the target was being built"
            raise InputChangedError(target, fact, "Run `doit` again.")
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
