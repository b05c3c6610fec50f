"""`doit verify`: read every byte of the store and of `out/` again, trusting no stamp."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelbuild import digest as digests
from modelbuild.commands.base import ProjectCommand, size
from modelbuild.examine import Examiner
from modelbuild.session import Session


class Verify(ProjectCommand):
    name = "verify"
    doc_purpose = (
        "hash everything in the store and in .cache/out again; exit 1 when something is not what it was"
    )
    doc_usage = ""

    def perform(self, session: Session, params: Any, args: list[str]) -> int:
        """Put damaged objects aside, drop torn records, name copies that were changed; the next build mends them."""
        run = session.examiner
        wrong = [*_objects(run), *_records(run), *_copies(session)]
        for line in wrong:
            self.say(line)
        files = [path for path, _ in run.store.all_objects()]
        total = size(sum(path.stat().st_size for path in files))
        ending = f"{len(wrong)} found damaged; `doit` mends them." if wrong else "all as they were written."
        copies = sum(session.journal.built(name) is not None for name in session.plan.targets)
        self.say(f"{len(files)} objects ({total}) and {copies} copies read: {ending}")
        return 1 if wrong else 0


def _objects(run: Examiner) -> list[str]:
    wrong = []
    for path, digest in list(run.store.all_objects()):
        if digests.of_file(path) != digest:
            run.store.quarantine(digest)
            owners = _owners(run, digest)
            wrong.append(
                f"object {digest}{owners}: its bytes are not what its name says; put into quarantine"
            )
    return wrong


def _owners(run: Examiner, digest: str) -> str:
    names = set()
    for _, key in run.store.records():
        record = run.store.record(key)
        if record is not None and any(entry.digest == digest for entry in record.tree.entries):
            names.add(record.target)
    return f" (of {', '.join(sorted(names))})" if names else ""


def _records(run: Examiner) -> list[str]:
    wrong = []
    for path, key in list(run.store.records()):
        if run.store.record(key) is None:
            path.unlink()
            wrong.append(f"record {key}: torn or altered; removed")
    return wrong


def _copies(session: Session) -> list[str]:
    wrong = []
    for name in session.plan.targets:
        built, out = session.journal.built(name), session.at.out(name)
        if built is None:
            continue
        try:
            same = digests.of_folder(out).digest == built.digest
        except (ValueError, OSError):
            same = False
        if not same:
            session.journal.forget(name)
            wrong.append(f"{session.at.relative(out)}: not what {name} wrote")
        elif lost := _put_back(session.examiner, built.key, out):
            wrong.append(f"{name}: {lost} missing from the store; put back from {session.at.relative(out)}")
    return wrong


def _put_back(run: Examiner, key: str, out: Path) -> str:
    """Take a whole copy into the store again where objects of it were lost; say how many were."""
    record = run.store.record(key)
    if record is None or run.store.has(record.tree):
        return ""
    lost = sum(not run.store.object(entry.digest).is_file() for entry in record.tree.entries)
    run.store.put_folder(out)
    return f"{lost} object{'s' * (lost != 1)}"
