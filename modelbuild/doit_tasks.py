"""doit's side of the build, and the only file that knows its task dictionaries.

doit decides order, parallelism and what is selected; whether a target is up to date is decided by the builder. So
tasks have `task_dep` and an `uptodate` callable and no `file_dep`, and doit's own database holds nothing a build
relies on.
"""

from __future__ import annotations

import inspect
import os
import shutil
import sqlite3
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from doit.action import BaseAction
from doit.exceptions import BaseFail, InvalidDodoFile, TaskError, TaskFailed, UnmetDependency

from modelbuild.errors import BuildError, ModelbuildError
from modelbuild.session import Session
from modelbuild.view import View, totals

_session: Session | None = None


def current() -> Session:
    """Return the session of this process, begun in the folder doit runs in. Raises InvalidDodoFile."""
    global _session
    if _session is None:
        try:
            _session = Session(Path.cwd())
        except ModelbuildError as error:
            raise InvalidDodoFile(str(error)) from None
    return _session


class UpToDate:
    """doit's question whether a target is up to date; `doit info` shows the reason through `repr`."""

    __signature__ = inspect.Signature()  # doit inspects every callable; this saves it the work

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name

    def __call__(self) -> bool:
        try:
            if self.session.examiner.status(self.name).state == "up-to-date":
                self.session.examiner.note_up_to_date(self.name)
                return True
        except ModelbuildError:
            pass  # the action meets the same error and can report it
        return False

    def __repr__(self) -> str:
        status = self.session.examiner.status(self.name)
        return status.reason or status.state


class Work(BaseAction):  # type: ignore[misc]  # doit is untyped
    """One step for doit: `run` does it; what goes wrong becomes doit's failure or error."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self.task: Any = None
        self.out = self.err = self.result = None
        self.values: dict[str, Any] = {}

    def __str__(self) -> str:
        return f"{type(self).__name__.lower()} {self.name}"

    def execute(self, out: TextIO | None = None, err: TextIO | None = None) -> BaseFail | None:
        try:
            return self.run()
        except BuildError as error:
            return TaskFailed(str(error))
        except ModelbuildError as error:
            return TaskError(str(error))
        except Exception:
            return TaskError(f"{self.name}: a fault of modelbuild itself:\n{traceback.format_exc()}")

    def run(self) -> BaseFail | None:
        raise AssertionError("every step says what it does")


class Build(Work):
    def run(self) -> None:
        view = DoitView.shown
        sink = (lambda *step: view.step(self.name, *step)) if view else (lambda *_: None)
        self.session.builder.build(self.name, sink)


class Report(Work):
    def run(self) -> None:
        self.session.write_report(self.name.partition(":")[0])


class Gate(Work):
    """Fails the build when a verdict does not hold, with the lines that say what to do."""

    def run(self) -> BaseFail | None:
        findings = self.session.gate(self.name.partition(":")[0])
        self.values = {"lines": list(findings.lines)}
        return None if findings.ok else TaskFailed("\n".join(findings.lines))


class Clean(Work):
    """Removes the readable copy; the store keeps the contents, so that the next build restores them."""

    def run(self) -> None:
        shutil.rmtree(self.session.at.out(self.name), ignore_errors=True)
        self.session.at.log(self.name).unlink(missing_ok=True)


class CleanReport(Work):
    def run(self) -> None:
        for path in self.session.at.out(self.name.partition(":")[0]).glob("report.*"):
            path.unlink()


def generate() -> Iterator[dict[str, Any]]:
    """Yield every target of every model as a doit task, then each model's report and gate."""
    session = current()
    for target in session.plan.targets.values():
        yield _task(
            session,
            target.name,
            target.doc,
            Build,
            [UpToDate(session, target.name)],
            [*dict.fromkeys(target.inputs.values())],
            Clean,
        )
    for model in session.plan.models:
        names = [t.name for t in session.plan.of(model)]
        current_report = _question(
            lambda m=model: session.report_is_current(m), "what the report says has changed"
        )
        yield _task(
            session,
            f"{model}:report",
            "the report: HTML, JSON, JUnit",
            Report,
            [current_report],
            names,
            CleanReport,
        )
        holds = _question(lambda m=model: session.gate_holds(m), "its verdicts are to be read")
        yield _task(
            session,
            f"{model}:gate",
            "fails when a verdict does not hold",
            Gate,
            [holds],
            [f"{model}:report"],
            None,
        )


def _task(
    session: Session,
    name: str,
    doc: str,
    work: type[Work],
    uptodate: list[Any],
    after: list[str],
    clean: type[Work] | None,
) -> dict[str, Any]:
    basename, _, sub = name.partition(":")
    task = {
        "basename": basename,
        "name": sub,
        "doc": doc,
        "actions": [work(session, name)],
        "uptodate": uptodate,
        "task_dep": after,
    }
    if clean is not None:
        task["clean"] = [clean(session, name)]
    return task


def _question(ask: Any, otherwise: str) -> Any:
    class Question:
        __signature__ = inspect.Signature()

        def __call__(self) -> bool:
            return bool(ask())

        def __repr__(self) -> str:
            return otherwise

    return Question()


class DoitView:
    """doit's reporter: hands what happens to the view, and ends the run."""

    desc = "one line a target, live progress on a terminal"
    shown: View | None = None

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        self.session = current()
        self.began = time.perf_counter()
        self.view = DoitView.shown = View(outstream, list(self.session.plan.targets))
        self.failures: list[tuple[str, BaseFail]] = []
        self.closing: list[str] = []

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        pass

    get_status = skip_ignore = teardown_task = initialize_task = lambda self, task: None

    def execute_task(self, task: Any) -> None:
        if task.name in self.session.plan.targets:
            self.view.start(task.name)

    def skip_uptodate(self, task: Any) -> None:
        self._show(task)

    def add_success(self, task: Any) -> None:
        self._show(task)

    def _show(self, task: Any) -> None:
        outcome = self.session.examiner.outcomes.get(task.name)
        if outcome is not None:
            self.view.done(outcome)
        for action in task.actions or ():
            self.closing += action.values.get("lines", [])

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        outcome = self.session.examiner.outcomes.get(task.name)
        if outcome is not None:
            self.view.done(outcome)
        elif not isinstance(fail, UnmetDependency):
            self.view.line(task.name, "red" if task.name.endswith(":gate") else "failed")
        self.failures.append((task.name, fail))

    def cleanup_error(self, exception: BaseFail) -> None:
        self.view.say(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        self.view.say(msg)

    def complete_run(self) -> None:
        """Close the view and say the last lines; a failed target's model gets its report all the same."""
        self.view.close()
        outcomes = self.session.examiner.outcomes
        self.view.say(totals(list(outcomes.values()), time.perf_counter() - self.began))
        for model in sorted({name.partition(":")[0] for name, _ in self.failures if name in outcomes}):
            self.session.write_report(model)
        for line in self.closing:
            self.view.say(line)
        for name, fail in self.failures:
            if not isinstance(fail, UnmetDependency):
                self.view.say(f"{name}:\n{fail.message}" if name not in fail.message else fail.message)
        DoitView.shown = None
        self.session.close()


def configure(root: Path) -> dict[str, Any]:
    """Return DOIT_CONFIG: threads that wait on jobs, our view, and doit's own database where it can be lost."""
    database = root / ".cache" / "doit.db"
    _drop_broken(database)
    return {
        "reporter": DoitView,
        "par_type": "thread",
        "backend": "sqlite3",
        "dep_file": str(database),
        "verbosity": 2,
    }


def _drop_broken(database: Path) -> None:
    """Doit dies on a database it cannot read; nothing in it is needed, so such a one is dropped."""
    database.parent.mkdir(parents=True, exist_ok=True)
    if not database.exists():
        return
    try:
        connection = sqlite3.connect(database)
        try:
            connection.execute("select count(*) from doit").fetchone()
        finally:
            connection.close()
    except sqlite3.Error:
        for suffix in ("", "-journal"):
            Path(f"{database}{suffix}").unlink(missing_ok=True)


__all__ = ["configure", "current", "generate", "os"]
