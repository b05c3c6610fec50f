"""Where things lie: the project's root and the folders below `.cache/`."""

from pathlib import Path
from typing import NamedTuple


class Workspace(NamedTuple):
    """The folders of one project; nothing is created before something is written."""

    root: Path

    @property
    def cache(self) -> Path:
        return self.root / ".cache"

    @property
    def objects(self) -> Path:
        """File contents, by digest; never changed once there."""
        return self.cache / "objects"

    @property
    def records(self) -> Path:
        """Action records, by key: what was built from what."""
        return self.cache / "records"

    @property
    def tmp(self) -> Path:
        """Scratch of running builds; what a killed build left is swept by the next."""
        return self.cache / "tmp"

    @property
    def checkpoints(self) -> Path:
        """How far killed trainings had come, by the key of their target; gone when the target is built."""
        return self.cache / "checkpoints"

    @property
    def quarantine(self) -> Path:
        """Objects whose bytes no longer match their digest."""
        return self.cache / "quarantine"

    @property
    def locks(self) -> Path:
        return self.cache / "locks"

    @property
    def leases(self) -> Path:
        """What running builds use, so that `doit gc` leaves it alone."""
        return self.cache / "leases"

    @property
    def environments(self) -> Path:
        """Installed environments, by the digest of their lock; each can be made again from it."""
        return self.cache / "environments"

    @property
    def logs(self) -> Path:
        return self.cache / "logs"

    @property
    def pins(self) -> Path:
        return self.cache / "pins.json"

    @property
    def state_db(self) -> Path:
        return self.cache / "state.db"

    @property
    def doit_db(self) -> Path:
        return self.cache / "doit.db"

    def out(self, target: str) -> Path:
        """Return the readable copy of a target: `digits:data.train` lies in `.cache/out/digits/data.train`."""
        return Path(self.out_name(target))

    def out_name(self, target: str) -> str:
        """Return the same as text: a no-op asks for every target, and a path object costs more than its stat."""
        return f"{self.root}/.cache/out/{target.replace(':', '/', 1)}"

    def log(self, target: str) -> Path:
        model, _, name = target.partition(":")
        return self.logs / model / f"{name}.log"

    def relative(self, path: Path) -> str:
        """Return the path as a user types it: relative to the root where it lies inside."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)
