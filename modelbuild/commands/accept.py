"""`doit accept`: take the figures of a green build as those that no later build may fall behind."""

from __future__ import annotations

import os
import uuid
from typing import Any

from modelbuild import accepted, declare, ratchet
from modelbuild.accepted import Kept, Lock
from modelbuild.commands.base import ProjectCommand
from modelbuild.commands.deliver import refuse_late, refuse_unknown
from modelbuild.declare import Model
from modelbuild.equivalence import verdict
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import BuildError, StoreError
from modelbuild.ratchet import Change, Terms
from modelbuild.session import Session

OPTION_CHECK = {
    "name": "check",
    "short": "",
    "long": "check",
    "type": bool,
    "default": False,
    "help": "write nothing; exit 1 when a figure is new, gone, or better or worse than accepted by more than noise",
}
SHIPS = ("student", "onnx", "reference")  # and the platforms' artefacts


class Accept(ProjectCommand):
    name = "accept"
    doc_purpose = (
        "record what ships and how good it is in manifests/MODEL.lock.json; refuses what is red or worse"
    )
    doc_usage = "[--check] [MODEL ...]"
    cmd_options = (OPTION_CHECK,)

    def perform(self, session: Session, params: Any, args: list[str]) -> int:
        """Accept model by model, all or none. Raises CommandError, BuildError."""
        models = args or list(session.plan.models)
        refuse_unknown(session, models)
        by_name = {model.name: model for model in session.project.models}
        found = [_renewed(session, by_name[name]) for name in models]
        changed = [self._tell(session, *each, check=params["check"]) for each in found]
        return 1 if params["check"] and any(changed) else 0

    def _tell(
        self, session: Session, before: Lock | None, lock: Lock, changes: tuple[Change, ...], check: bool
    ) -> bool:
        """Say what changes and, unless only asked, write it; return whether a figure does."""
        place, counts = accepted.place(lock.model), any(change.counts for change in changes)
        for change in changes:
            self.say(f"  {change.kind:<7}  {change.words}")
        if check:
            bytes_ = sum(change.kind == "bytes" for change in changes)
            other = f"; targets with other bytes, which fail nothing: {bytes_}" if bytes_ else ""
            figures = "is not what `doit accept` would write" if counts else "figures as accepted"
            self.say(f"{place}: {figures}{other}")
        elif lock == before:
            self.say(f"{place}: nothing to accept, it says so already")
        else:
            _write(session, lock)
            self.say(f"{place}: {len(lock.figures)} figures, {len(lock.targets)} targets. Commit it.")
        return counts


def _renewed(session: Session, model: Model) -> tuple[Lock | None, Lock, tuple[Change, ...]]:
    """The lock before, the one that the build as it stands makes of it, and the changes. Raises BuildError."""
    refuse_late(session, model.name)
    out = session.at.out
    held = ratchet.terms(session.at.root, model, declare.today(), out(f"{model.name}:noise") / "noise.json")
    rows = [
        row for name in session.plan.verdicts(model.name) for row in verdict.read(out(name) / "verdicts.json")
    ]
    _refuse_red(rows, held)
    return held.lock, *ratchet.renewed(rows, held, _targets(session, model.name))


def _refuse_red(rows: list[Verdict], held: Terms) -> None:
    """Raises BuildError for what is red; for a figure that got worse, with its name."""
    judged = ratchet.held_to(rows, held)
    if not rows:
        raise BuildError(held.model, "has no verdicts", f"Run `doit {held.model}` first.")
    for row, now in zip(
        rows, judged, strict=False
    ):  # rows about the figures follow: accepting is what they ask for
        if now.ok:
            continue
        figure = " ".join(filter(None, (row.run or row.target, row.output, row.metric)))
        if row.ok:
            fact = f"{figure} would loosen, and no waiver that holds covers it: {now.detail}"
            raise BuildError(accepted.place(held.model), fact)
        remedy = f"Run `doit {held.model}:gate` to see all that does not hold."
        raise BuildError(held.model, f"{figure} is red, so nothing is accepted", remedy)


def _targets(session: Session, model: str) -> dict[str, Kept]:
    """What ships and what it is made from, by name."""
    report = session.report(model)
    platforms = [f"{model}:{platform.name}" for platform in report.platforms]
    wanted = {f"{model}:{name}" for name in SHIPS} | {n for p in platforms for n in (p, f"{p}.bundle")}
    return {
        row.name: Kept(row.key, {path: digest for path, digest in row.digests.items() if path})
        for row in report.targets
        if row.name in wanted
    }


def _write(session: Session, lock: Lock) -> None:
    path = session.at.root / accepted.place(lock.model)
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        fresh.write_text(accepted.text(lock), encoding="utf-8")
        os.replace(fresh, path)  # noqa: PTH105
    except OSError as error:
        raise StoreError(accepted.place(lock.model), f"cannot be written: {error.strerror}") from error
    finally:
        fresh.unlink(missing_ok=True)
