"""A small project in a folder of its own, and the real `doit` command run in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from modelbuild.paths import Workspace
from modelbuild.store import Record, Store

# The script, where there is one: unlike `-m` it does not put the working folder on the import path.
_SCRIPT = Path(sys.executable).with_name("doit")
DOIT = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "doit"]
REPOSITORY = Path(__file__).parents[2]
PATIENCE = 240.0  # seconds after which a command that does not end is taken to hang

DATA = """\
import numpy as np

from shop.sizes import SAMPLES


def load(scale=1.0, wrong=0):
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((SAMPLES, 4)) * scale).astype(np.float32)
    weight = np.arange(12, dtype=np.float32).reshape(4, 3) % 5
    label = (x @ weight).argmax(1).astype(np.int64)
    label[:wrong] = (label[:wrong] + 1) % 3
    return {"x": x, "label": label}
"""

SLOW = """\
import os
import pathlib
import time

from shop.data import load as quick


def load(started, go):
    with open(started, "a") as log:
        log.write(f"{os.getpid()}\\n")
    for _ in range(6000):
        if pathlib.Path(go).exists():
            return quick()
        time.sleep(0.01)
    raise TimeoutError(go)
"""

MANIFEST: dict[str, Any] = {
    "model": "tiny",
    "source": {"onnx": "models/tiny.onnx"},
    "data": {"evaluation": {"loader": "shop.data:load"}},
    "platforms": {
        "phone": {"runtime": "onnxruntime"},
        "browser": {"runtime": "onnxruntime", "optimisation": "disabled", "batch": 16},
    },
    "gates": {
        "task": {"metric": "accuracy", "min": 0.9},
        "runtime": {"tolerance": "auto", "decision_flips": 0},
    },
}

DATA_TARGET = "tiny:data.evaluation"
ALL = frozenset(
    f"tiny:{name}"
    for name in (
        "data.evaluation", "onnx", "reference", "noise", "phone", "phone.run", "phone.golden", "phone.steps",
        "browser", "browser.run", "browser.golden", "browser.steps", "verdict.task", "verdict.runtime", "repro",
    )
)  # fmt: skip
# The same file and samples as phone's: made once, and then restored. Of builds side by side either may be the first.
TWICE = frozenset({"tiny:browser.golden"})
MADE = ALL - TWICE
_LINE = re.compile(
    r"^(?P<name>[a-z0-9_-]+:\S+) +(?P<state>built|restored|up to date|failed|red)\b(?P<rest>.*)$"
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a command said. `states`: target -> state in its line; `reasons`: target -> the rest of its line."""

    code: int
    out: str
    err: str
    states: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.out + self.err

    def of(self, state: str) -> set[str]:
        return {name for name, found in self.states.items() if found == state}


def result(code: int, out: str, err: str) -> Result:
    found = {m["name"]: m for line in out.splitlines() if (m := _LINE.match(line))}
    states = {name: m["state"] for name, m in found.items()}
    reasons = {name: re.sub(r"^ +[0-9.]+ (?:s|min) +", "", m["rest"]) for name, m in found.items()}
    return Result(code, out, err, states, reasons)


class ProjectDir:
    """`doit` runs the command to its end; `executed` names every recipe that the last command ran."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.last: Result | None = None
        self._logs: dict[str, tuple[int, int]] = {}

    @classmethod
    def create(cls, root: Path, onnx_model: bytes) -> ProjectDir:
        project = cls(root)
        project.write("dodo.py", (REPOSITORY / "dodo.py").read_text())
        project.write("shop/__init__.py", "")
        project.write("shop/sizes.py", "SAMPLES = 24\n")
        project.write("shop/data.py", DATA)
        project.write("shop/slow.py", SLOW)
        project.write("manifests/tiny.json", json.dumps(MANIFEST, indent=1))
        (root / "models").mkdir()
        (root / "models" / "tiny.onnx").write_bytes(onnx_model)
        return project

    def copy_to(self, root: Path) -> ProjectDir:
        shutil.copytree(self.root, root)
        return ProjectDir(root)

    # -- running

    def doit(self, *args: str, env: Mapping[str, str] | None = None) -> Result:
        """Run `doit ARGS` to its end."""
        self._logs = self._log_stamps()
        return self.ended(self.start(*args, env=env))

    def start(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start `doit ARGS` in a process group of its own, as a shell would."""
        return subprocess.Popen(
            [*DOIT, *args],
            cwd=self.root,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ended(self, process: subprocess.Popen[str]) -> Result:
        """Wait for a command and return what it said."""
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            raise AssertionError(f"doit did not end:\n{out}\n{err}") from None
        self.last = result(process.returncode, out, err)
        return self.last

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a plain terminal: nothing of the test run's own CI reaches the command."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("GITHUB_", "PYTEST_", "COV_"))}
        for name in ("CI", "FORCE_COLOR", "PYTHONHASHSEED", "PYTHONWARNINGS"):
            kept.pop(name, None)
        return {**kept, "COLUMNS": "160", "PYTHONDONTWRITEBYTECODE": "1", **(more or {})}

    def executed(self) -> set[str]:
        """Name every recipe the last command ran, by the log that each run begins anew."""
        now = self._log_stamps()
        ran = {name for name, stamp in now.items() if self._logs.get(name) != stamp}
        assert self.last is None or self.last.of("built") <= ran, (self.last.of("built"), ran)
        return ran

    def _log_stamps(self) -> dict[str, tuple[int, int]]:
        logs = self.root / ".cache" / "logs"
        found = {f"{p.parent.name}:{p.name.removesuffix('.log')}": p.stat() for p in logs.glob("*/*.log")}
        return {name: (s.st_mtime_ns, s.st_ino) for name, s in found.items()}

    # -- looking

    def path(self, name: str) -> Path:
        return self.root / name

    def out(self, target: str, file: str = "") -> Path:
        return self.root / ".cache" / "out" / target.replace(":", "/") / file

    def contents(self, below: str = ".cache/out") -> dict[str, bytes]:
        """Bytes of every file below a folder, reports aside: they tell times."""
        base = self.root / below
        files = (p for p in base.rglob("*") if p.is_file() and not p.name.startswith("report."))
        return {p.relative_to(base).as_posix(): p.read_bytes() for p in sorted(files)}

    def report(self, model: str = "tiny") -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out(model, "report.json").read_text())
        return found

    def report_states(self, model: str = "tiny") -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.report(model)["targets"]}

    def records(self) -> list[Path]:
        return sorted(self.path(".cache/records").glob("*/*.json"))

    def objects(self) -> list[Path]:
        return sorted(self.path(".cache/objects").glob("*/*"))

    def record_of(self, target: str) -> Record:
        """Return the newest action record of a target."""
        store = Store(Workspace(self.root), self.root / ".cache" / "tmp" / "test")
        found = [(path.stat().st_mtime_ns, store.record(key)) for path, key in store.records()]
        mine = [(used, record) for used, record in found if record is not None and record.target == target]
        return max(mine, key=lambda pair: pair[0])[1]

    def object_of(self, target: str, file: str) -> Path:
        digest = next(e.digest for e in self.record_of(target).tree.entries if e.path == file)
        return self.path(".cache/objects") / digest[:2] / digest[2:]

    # -- editing

    def write(self, name: str, text: str) -> None:
        place = self.root / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = self.path(name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def manifest(self, change: Callable[[dict[str, Any]], object], model: str = "tiny") -> None:
        """Load a manifest, let `change` alter it in place, write it back."""
        name = f"manifests/{model}.json"
        document = json.loads(self.path(name).read_text())
        change(document)
        self.write(name, json.dumps(document, indent=1))

    def slow(self) -> tuple[Path, Path]:
        """Give the data a loader that says in the first file that it runs and waits for the second."""
        started, go = self.path("started.txt"), self.path("go.txt")
        loader = {"loader": "shop.slow:load", "args": {"started": str(started), "go": str(go)}}
        self.manifest(lambda m: m["data"].update(evaluation=loader))
        return started, go


def overwrite(path: Path, data: bytes) -> None:
    """Write over a file of the store or of out/, read-only as they are, keeping its inode and its times."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def flipped(data: bytes, at: int = -1) -> bytes:
    """Return `data` with one bit of one byte the other way."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def wait_for(path: Path, lines: int = 1) -> list[str]:
    """Wait until a file has so many whole lines; return them."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        if path.exists() and (text := path.read_text()).count("\n") >= lines:
            return text.splitlines()
        time.sleep(0.01)
    raise AssertionError(f"{path.name} did not get {lines} lines")


def gone(pid: int) -> bool:
    """Wait until a process is no more; a zombie counts, as only its parent can bury it."""
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False
