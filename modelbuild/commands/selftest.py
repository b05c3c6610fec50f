"""`doit selftest`: put faults into what was recorded and see the gate turn red; run anew and see it stay green."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuild import platforms
from modelbuild.commands.base import ProjectCommand
from modelbuild.errors import CommandError, did_you_mean
from modelbuild.session import Session
from modelbuild.targets import Target

if TYPE_CHECKING:
    from modelbuild.selftest import Tally

CLEAN = 200


class Selftest(ProjectCommand):
    name = "selftest"
    doc_purpose = (
        "put faults into recorded outputs: each must turn the gate red, and clean runs leave it green"
    )
    doc_usage = "[MODEL ...]"
    cmd_options = (
        {
            "name": "clean",
            "short": "",
            "long": "clean",
            "type": int,
            "default": CLEAN,
            "help": f"clean runs of each model, {CLEAN} unless told",
        },
    )

    def perform(self, session: Session, params: Any, args: list[str]) -> int:
        """Return 1 when a fault is not seen or a clean run is red. Raises CommandError for a model not up to date."""
        if params["clean"] < 1:
            raise CommandError(f"--clean {params['clean']}", "is no number of runs", f"{CLEAN} is usual.")
        models = _models(session, args)
        for model in models:
            _refuse_stale(session, model)
        injected: list[Tally] = []
        cleared: list[Tally] = []
        for model in models:
            for title, tally in _faults(session, model):
                injected.append(tally)
                self._tell(f"{title}: {tally.tried} faults, {tally.did} red", "NOT SEEN", tally)
            tally = _clean(session, model, params["clean"])
            cleared.append(tally)
            self._tell(f"{model}: {tally.tried} clean runs, {tally.did} green", "RED", tally)
        counts = [
            sum(getattr(t, part) for t in tallies)
            for tallies in (injected, cleared)
            for part in ("tried", "did")
        ]
        self.say("{} faults injected, {} red; {} clean runs, {} green".format(*counts))
        return 0 if counts[0] == counts[1] and counts[2] == counts[3] and counts[0] else 1

    def _tell(self, line: str, word: str, tally: Tally) -> None:
        rest = f" (no place here for: {', '.join(tally.no_place)})" if tally.no_place else ""
        self.say(f"{line}{rest}")
        for each in tally.missed[:10]:
            self.say(f"  {word}: {each}")


def _models(session: Session, args: list[str]) -> list[str]:
    known = [*session.plan.models]
    for name in args:
        if name not in known:
            raise CommandError(name, "there is no such model", did_you_mean(name, known))
    return [*dict.fromkeys(args)] or known


def _refuse_stale(session: Session, model: str) -> None:
    status = session.examiner.status(f"{model}:verdict.runtime")
    if status.state != "up-to-date":
        fact = f"its outputs are not up to date ({status.reason})"
        raise CommandError(model, fact, f"Run `doit {model}` first.")


def _faults(session: Session, model: str) -> Iterator[tuple[str, Tally]]:
    """Every platform's usual run, the one that its steps lead to."""
    from modelbuild import selftest

    for target in session.plan.of(model):
        if target.recipe == platforms.STEPS:
            told = target.params
            on = selftest.bench(_inputs(session, target), told["gate"], told["place"], told["rounds"])
            yield f"{model}:{told['run']}", selftest.faults(on, session.at.out(target.inputs["run"]))


def _clean(session: Session, model: str, count: int) -> Tally:
    from modelbuild import selftest

    folders = _inputs(session, session.plan.targets[f"{model}:verdict.runtime"])
    on = selftest.bench(folders, {"tolerance": "auto"}, "gates/runtime", None)
    return selftest.clean(on, session.at.out(f"{model}:onnx"), folders["evaluation"], range(count))


def _inputs(session: Session, target: Target) -> dict[str, Path]:
    return {role: session.at.out(name) for role, name in target.inputs.items()}
