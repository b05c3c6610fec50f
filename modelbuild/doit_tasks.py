"""doit's side of the build, and the only file that knows its task dictionaries.

doit decides order, parallelism and what is selected; whether a target is up to date is decided by the examiner. So
tasks have `task_dep` and an `uptodate` callable and no `file_dep`, and doit's own database holds nothing a build
relies on.
"""

from __future__ import annotations

import atexit
import gc
import inspect
import shutil
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TextIO

from doit.action import BaseAction
from doit.exceptions import BaseFail, InvalidDodoFile, TaskError, TaskFailed

from modelbuild.doit_reporter import Reporter
from modelbuild.errors import BuildError, ModelbuildError
from modelbuild.paths import Workspace
from modelbuild.session import Session

_session: Session | None = None
_required: tuple[str, ...] = ()

# A plan is many small objects that all live to the end: looking for garbage among them slows a no-op by a sixth.
gc.set_threshold(1_000_000, 50, 50)


def current() -> Session:
    """Return the session of this process, begun in the folder doit runs in. Raises InvalidDodoFile."""
    global _session
    if _session is None:
        try:
            _session = Reporter.session = Session(Path.cwd(), required=_required)
        except ModelbuildError as error:
            raise InvalidDodoFile(str(error)) from None
        atexit.register(_session.close)  # whichever reporter was chosen, what was learnt is kept
    return _session


def require(names: tuple[str, ...]) -> None:
    """Have the session that is to come want evidence of these platforms, `PLATFORM` or `PLATFORM:WAY`."""
    global _required
    _required = names


def begun() -> Session | None:
    """Return the session where the dodo.py began one; other doit projects of the environment have none."""
    return _session


class Step(BaseAction):  # type: ignore[misc]  # doit is untyped
    """What one task does: subclasses say whether it is up to date, how it runs, and what cleaning removes.

    A step is doit's action, and as a callable doit's question whether it is up to date, whose `repr` is the reason
    that `doit info` shows. One object for both, because a project may have ten thousand.
    """

    __signature__ = inspect.Signature()  # doit inspects what it calls, every time; this saves it the work
    doc = ""
    task: Any = None
    out = err = result = None
    values: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, session: Session, name: str, model: str) -> None:
        self.session, self.name, self.model = session, name, model

    def __call__(self) -> bool:
        return self.up_to_date()

    def __repr__(self) -> str:
        return self.why() or f"{type(self).__name__.lower()} {self.name}"

    def execute(self, out: TextIO | None = None, err: TextIO | None = None) -> BaseFail | None:
        """Run; what goes wrong becomes doit's failure (exit code 1) or error (2)."""
        try:
            return self.run()
        except BuildError as error:
            return TaskFailed(str(error))
        except ModelbuildError as error:
            return TaskError(str(error))
        except Exception:
            return TaskError(f"{self.name}: a fault of modelbuild itself\n{traceback.format_exc()}")

    def up_to_date(self) -> bool:
        """Whether there is nothing to do."""
        return False

    def why(self) -> str:
        """Return the reason `doit info` shows."""
        return ""

    def run(self) -> BaseFail | None:
        """Do it."""
        return None

    def clean(self) -> None:
        """Remove what people see of it."""


class Build(Step):
    """Brings one target up to date."""

    def up_to_date(self) -> bool:
        """Ask the examiner; what it cannot answer the action will meet again, and report."""
        return self.session.examiner.note_if_up_to_date(self.name)

    def why(self) -> str:
        try:
            return self.session.examiner.status(self.name).reason
        except ModelbuildError as error:
            return str(error)

    def run(self) -> None:
        self.session.builder.build(self.name, Reporter.sink(self.name))

    def clean(self) -> None:
        """Remove the readable copy; the store keeps the contents, so that the next build restores them."""
        shutil.rmtree(self.session.at.out(self.name), ignore_errors=True)
        self.session.at.log(self.name).unlink(missing_ok=True)


class Report(Step):
    """Writes a model's report when what it would say has changed."""

    doc = "the report: HTML, JSON, JUnit"

    def up_to_date(self) -> bool:
        return self.session.report_is_current(self.model)

    def run(self) -> None:
        self.session.write_report(self.model)

    def clean(self) -> None:
        self.session.remove_report(self.model)


class Gate(Step):
    """Fails the build when a verdict does not hold, with the lines that say what to do."""

    doc = "fails when a verdict does not hold"

    def up_to_date(self) -> bool:
        return self.session.gate_holds(self.model)

    def run(self) -> BaseFail | None:
        findings = self.session.gate(self.model)
        return None if findings.ok else TaskFailed("\n".join(findings.lines))


def generate() -> Iterator[dict[str, Any]]:
    """Yield every target of every model as a doit task, then each model's report and gate."""
    session = current()
    for model, targets in session.plan.models.items():
        yield {"basename": model, "name": None, "doc": session.describe(model)}
        for target in targets:
            after = [*dict.fromkeys(target.inputs.values())]
            yield _task(Build(session, target.name, model), target.doc, after)
        yield _task(Report(session, f"{model}:report", model), Report.doc, session.plan.ends(model))
        yield _task(Gate(session, f"{model}:gate", model), Gate.doc, [f"{model}:report"])


def _task(step: Step, doc: str, after: list[str]) -> dict[str, Any]:
    name = step.name[len(step.model) + 1 :]
    return {
        "basename": step.model,
        "name": name,
        "doc": doc,
        "actions": [step],
        "uptodate": [step],
        "task_dep": after,
    }


def _interrupted(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("Stopped. What was finished is kept; `doit` goes on from there.\n")
    else:
        sys.__excepthook__(kind, error, trace)


def configure(root: Path) -> dict[str, Any]:
    """Return DOIT_CONFIG: threads that wait on jobs, our reporter, and doit's own database where it can be lost."""
    sys.excepthook = _interrupted
    return {
        "reporter": Reporter,
        "par_type": "thread",
        "backend": "modelbuild",
        "dep_file": str(Workspace(root).doit_db),
        "verbosity": 2,
        "continue": True,  # one model's failure says nothing of the others: all are built and judged
    }
