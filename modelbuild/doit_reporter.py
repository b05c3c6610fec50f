"""doit's reporter: hands what happens to the view, and ends the run with the lines that count."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, ClassVar, TextIO

from doit.exceptions import BaseFail, TaskFailed, UnmetDependency

from modelbuild.errors import ModelbuildError
from modelbuild.progress import Sink
from modelbuild.session import Session
from modelbuild.view import View, totals


class Reporter:
    """One line a target, live progress on a terminal, and last what is red or what ships."""

    desc = "one line a target, live progress on a terminal"
    session: ClassVar[Session]
    view: ClassVar[View | None] = None
    last: ClassVar[Reporter | None] = None

    def __init__(self, outstream: TextIO, options: dict[str, Any]) -> None:
        self.began = time.perf_counter()
        self.shown = Reporter.view = View(outstream, list(self.session.plan.targets))
        self.failures: list[tuple[str, BaseFail]] = []
        self.closing: list[str] = []
        self.ignored = False
        Reporter.last = self

    @staticmethod
    def exit_code(code: int) -> int:
        """Return the exit code made true: 1 where targets failed, and where one was ignored all the same."""
        last = Reporter.last
        if last is None:
            return code
        own = [fail for _, fail in last.failures if not isinstance(fail, UnmetDependency)]
        if code == 2 and own and all(isinstance(fail, TaskFailed) for fail in own):
            return 1
        return code or int(last.ignored)

    @staticmethod
    def sink(name: str) -> Sink:
        """Return where the progress of `name` goes: nowhere when another reporter was chosen."""
        view = Reporter.view
        if view is None:
            return lambda done, total, values: None
        return lambda done, total, values: view.step(name, done, total, values)

    def initialize(self, tasks: Any, selected_tasks: Any) -> None:
        """Nothing to prepare."""

    def get_status(self, task: Any) -> None:
        """Doit looks whether the task is up to date."""

    def execute_task(self, task: Any) -> None:
        """Doit starts the task."""
        if task.name in self.session.plan.targets:
            self.shown.start(task.name)

    def skip_uptodate(self, task: Any) -> None:
        """Doit found the task up to date."""
        self._show(task.name)
        self._close(task.name)

    def skip_ignore(self, task: Any) -> None:
        """Doit was told to ignore the task: what it would have said is not known, so the run does not pass."""
        self.ignored = True
        self.shown.line(task.name, "ignored", reason="`doit forget` makes doit look at it again")

    def add_success(self, task: Any) -> None:
        """Doit ran the task, and it went well."""
        self._show(task.name)
        self._close(task.name)

    def _close(self, name: str) -> None:
        model, _, target = name.partition(":")
        if target == "gate" and model in self.session.plan.models:
            self.closing += self.session.gate_lines(model)

    def add_failure(self, task: Any, fail: BaseFail) -> None:
        """Doit ran the task, and it failed."""
        if not self._show(task.name) and not isinstance(fail, UnmetDependency):
            self.shown.line(task.name, "red" if task.name.endswith(":gate") else "failed")
        self.failures.append((task.name, fail))

    def _show(self, name: str) -> bool:
        outcome = self.session.examiner.outcomes.get(name)
        if outcome is not None:
            self.shown.done(outcome)
        return outcome is not None

    def _kept_back(self, model: str) -> tuple[str, ...]:
        """What the model's gate had to say, where a failed target kept it from being asked."""
        unasked = {name for name, fail in self.failures if isinstance(fail, UnmetDependency)}
        return self.session.gate(model).lines if f"{model}:gate" in unasked else ()

    def _messages(self, gates: bool) -> Iterator[str]:
        """What the gates that are red have to say, or the targets that failed."""
        for name, fail in self.failures:
            if not isinstance(fail, UnmetDependency) and name.endswith(":gate") is gates:
                yield fail.message if name.partition(":")[0] in fail.message else f"{name}: {fail.message}"

    def cleanup_error(self, exception: BaseFail) -> None:
        """Doit could not tear a task down."""
        self.shown.say(exception.get_msg())

    def runtime_error(self, msg: str) -> None:
        """Doit itself gave up."""
        self.shown.say(msg)

    def teardown_task(self, task: Any) -> None:
        """Doit tears the task down."""

    def complete_run(self) -> None:
        """Say the last lines; the model of a failed target gets its report all the same."""
        self.shown.close()
        outcomes = self.session.examiner.outcomes
        self.shown.say(totals(list(outcomes.values()), time.perf_counter() - self.began))
        for model in sorted({name.partition(":")[0] for name, _ in self.failures if name in outcomes}):
            try:
                self.session.write_report(model)
                self.closing += self._kept_back(model)
            except ModelbuildError as error:
                self.shown.say(str(error))
        # Errors in full first: what is read last is what they come to, and what to do next.
        for line in [*self._messages(gates=False), *self.closing, *self._messages(gates=True)]:
            self.shown.say(line)
        Reporter.view = None
        self.session.close()
