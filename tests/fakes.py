"""A tiny project in a temporary folder, targets for it, and an executor that runs recipes in this process."""

import runpy
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modelbuild.build import Builder
from modelbuild.examine import Examiner, Outcome
from modelbuild.execute import Executor
from modelbuild.job import Job
from modelbuild.journal import Journal
from modelbuild.paths import Workspace
from modelbuild.progress import Sink
from modelbuild.targets import Plan, Recipe, Target

RECIPES = '''\
"""Recipes of the tiny project."""


def write(inputs, params, out_dir):
    (out_dir / "text").write_text(params["text"])


def join(inputs, params, out_dir):
    files = [f for role in sorted(inputs) for f in sorted(inputs[role].rglob("*")) if f.is_file()]
    (out_dir / "text").write_text("+".join(f.read_text() for f in files))


def copy_file(inputs, params, out_dir):
    (out_dir / "text").write_text(inputs["source"].read_text())
'''


class InProcess:
    """Runs a job's recipe here, from the file in the project as it stands now; `ran` lists the targets."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self.ran: list[str] = []
        self.jobs: list[Job] = []
        self.before: Callable[[Job], None] = lambda job: None
        self.after: Callable[[Job], None] = lambda job: None

    def run(self, job: Job, sink: Sink) -> float:
        with self._lock:
            self.ran.append(job.target)
            self.jobs.append(job)
        module, _, name = job.function.partition(":")
        recipe = runpy.run_path(str(self._root / f"{module}.py"))[name]
        self.before(job)
        recipe({role: Path(p) for role, p in job.inputs.items()}, job.params, Path(job.out))
        self.after(job)
        return 0.25

    def close(self) -> None:
        pass


def target(
    name: str,
    function: str = "lab:write",
    params: dict[str, Any] | None = None,
    inputs: dict[str, str] | None = None,
    files: dict[str, str] | None = None,
    modules: tuple[str, ...] = (),
    tools: tuple[str, ...] = (),
) -> Target:
    return Target(name, Recipe(function), "", params or {}, inputs or {}, files or {}, modules, tools)


def plan_of(*targets: Target) -> Plan:
    models = {t.model: tuple(other for other in targets if other.model == t.model) for t in targets}
    return Plan({t.name: t for t in targets}, models)


def chain(text: str = "a") -> list[Target]:
    """`m:b` is made from `m:a`, `m:c` from both."""
    return [
        target("m:a", params={"text": text}),
        target("m:b", "lab:join", inputs={"a": "m:a"}),
        target("m:c", "lab:join", inputs={"a": "m:a", "b": "m:b"}),
    ]


class Lab:
    """A project folder with `lab.py`; every `build` is a run of its own, as a new process would make it."""

    def __init__(self, root: Path, recipes: str = RECIPES) -> None:
        self.root = root
        self.at = Workspace(root)
        root.mkdir(parents=True, exist_ok=True)
        (root / "lab.py").write_text(recipes)
        self.executor = InProcess(root)
        self._builders: list[Builder] = []

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        for builder in self._builders:
            close(builder)

    def builder(self, targets: list[Target], executor: Executor | None = None) -> Builder:
        known = Examiner(plan_of(*targets), self.at, Journal(self.at.state_db))
        self._builders.append(Builder(known, executor or self.executor))
        return self._builders[-1]

    def build(self, targets: list[Target], *names: str) -> dict[str, Outcome]:
        """Build in order what is not up to date, as doit does; return every outcome."""
        builder = self.builder(targets)
        try:
            for name in names or [t.name for t in targets]:
                bring(builder, name)
            return builder.known.outcomes
        finally:
            close(builder)

    def states(self, targets: list[Target]) -> dict[str, str]:
        return {name: outcome.state for name, outcome in self.build(targets).items()}

    def text(self, name: str) -> str:
        return (self.at.out(name) / "text").read_text()


def bring(builder: Builder, name: str) -> None:
    if builder.known.status(name).state == "up-to-date":
        builder.known.note_up_to_date(name)
    else:
        builder.build(name, lambda *_: None)


def close(builder: Builder) -> None:
    builder.close()
    builder.journal.close()


def overwrite(path: Path, data: bytes) -> None:
    """Change a file that the build made read-only."""
    path.chmod(0o644)
    path.write_bytes(data)
