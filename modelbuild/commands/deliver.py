"""`doit deliver --to DIR`: copy what ships, when everything about it holds."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from modelbuild import digest as digests
from modelbuild import platforms
from modelbuild.commands.base import ProjectCommand
from modelbuild.errors import BuildError, CommandError, did_you_mean
from modelbuild.examine import Examiner
from modelbuild.report import to_json
from modelbuild.session import Session

OPTION_TO = {
    "name": "to",
    "short": "",
    "long": "to",
    "type": str,
    "default": "",
    "help": "folder to copy the artefacts into",
}


class Deliver(ProjectCommand):
    name = "deliver"
    doc_purpose = "copy every artefact with its verdicts into a folder; refuses what is red or not up to date"
    doc_usage = "--to DIR [MODEL ...]"
    cmd_options = (OPTION_TO,)

    def perform(self, session: Session, params: Any, args: list[str]) -> None:
        """Copy model by model, each whole or not at all. Raises CommandError, BuildError."""
        if not params["to"]:
            raise CommandError("doit deliver", "no folder is named", "Say where: `doit deliver --to DIR`.")
        models = args or list(session.plan.models)
        refuse_unknown(session, models)
        for model in models:
            check_deliverable(session, model)
        for model in models:
            self.say(f"{model}: {_deliver(session, model, Path(params['to']) / model)}")


def refuse_unknown(session: Session, models: list[str]) -> None:
    """Raise CommandError for a model that is not there."""
    for model in models:
        if model not in session.plan.models:
            known = list(session.plan.models)
            raise CommandError(model, "there is no such model", did_you_mean(model, known))


def refuse_late(session: Session, model: str) -> None:
    """Raise BuildError unless every target of `model` is up to date, and note that it is."""
    for target in session.plan.of(model):
        status = session.examiner.status(target.name)
        if status.state != "up-to-date":
            raise BuildError(
                target.name, f"is not up to date ({status.reason})", f"Run `doit {model}` first."
            )
        session.examiner.note_up_to_date(target.name)


def check_deliverable(session: Session, model: str) -> None:
    """Raise BuildError unless every target of `model` is up to date and every verdict holds."""
    refuse_late(session, model)
    if not session.gate(model).ok:
        raise BuildError(
            model,
            "its gate is red, so nothing is delivered",
            f"Run `doit {model}:gate` to see what does not hold.",
        )


def _deliver(session: Session, model: str, to: Path) -> str:
    """Write a fresh folder beside `to`, then put it in the place of what was there."""
    fresh = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
    report = session.report(model)
    names = [p.name for p in report.platforms if p.evidence != "none"]
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(str(to.parent), f"cannot be a folder: {error.strerror}", "Name another.") from None
    try:
        fresh.mkdir()
        for platform in names:
            _ship(session, f"{model}:{platform}", fresh / platform)
        document = {**to_json(report), "delivered": names}
        (fresh / "delivery.json").write_text(json.dumps(document, indent=1, sort_keys=True, allow_nan=False))
        old = to.with_name(f".{to.name}.{uuid.uuid4().hex[:8]}")
        if to.exists():
            os.replace(to, old)  # noqa: PTH105
        # Dying here leaves the delivery before this one beside, under a hidden name, and this one whole as well.
        os.replace(fresh, to)  # noqa: PTH105
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    missing = [p.name for p in report.platforms if p.evidence == "none"]
    return f"{', '.join(names)} -> {to}" + (
        f" (not evidenced, not delivered: {', '.join(missing)})" if missing else ""
    )


def _ship(session: Session, artefact: str, to: Path) -> None:
    """Copy the artefact, or its bundle, and beside it the golden samples with their checkers, which a bundle has."""
    known, ships, golden = session.plan.targets, platforms.bundled(artefact), f"{artefact}.golden"
    _copy(session.examiner, ships if ships in known else artefact, to)
    if golden in known and not (to / "golden").exists():
        _copy(session.examiner, golden, to / "golden")


def _copy(run: Examiner, name: str, to: Path) -> None:
    # The copy, not the store: `doit gc` may have let go of the contents, and the copy is looked at byte by byte.
    shutil.copytree(run.at.out(name), to)
    tree = digests.of_folder(to)
    if tree.digest != run.status(name).digest:
        raise BuildError(name, "its copy in .cache/out was changed", f"Run `doit {name}`.")
    for entry in tree.entries:
        (to / entry.path).chmod(0o755 if entry.mode == "x" else 0o644)
