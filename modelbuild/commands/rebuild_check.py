"""`doit rebuild-check`: run recipes twice and compare the bytes."""

from __future__ import annotations

from typing import Any

from modelbuild import digest as digests
from modelbuild.commands.base import ProjectCommand, chosen
from modelbuild.digest import Tree
from modelbuild.errors import CommandError
from modelbuild.session import Session


class RebuildCheck(ProjectCommand):
    name = "rebuild-check"
    doc_purpose = "build targets twice from the same inputs and compare the bytes; exit 1 when they differ"
    doc_usage = "[MODEL | TARGET ...]"

    def perform(self, session: Session, params: Any, args: list[str]) -> int:
        """Check each chosen target. Raises CommandError when an input was not built yet."""
        differing = 0
        for name in chosen(session, args):
            first, second = _run(session, name), _run(session, name)
            changed = _differences(first, second)
            differing += bool(changed)
            self.say(
                f"{name}: {'DIFFERS: ' + ', '.join(changed) if changed else f'same bytes twice ({first.digest})'}"
            )
        return 1 if differing else 0


def _run(session: Session, name: str) -> Tree:
    builder, target = session.builder, session.plan.targets[name]
    status = session.examiner.status(name)
    if status.state == "waiting":
        raise CommandError(name, f"cannot be built yet: {status.reason}", f"Run `doit {name}` first.")
    builder.enter(status.key)
    bench, _ = builder.rehearse(target, status, lambda *_: None)
    return digests.of_folder(bench.out)


def _differences(first: Tree, second: Tree) -> list[str]:
    a, b = ({entry.path: entry for entry in tree.entries} for tree in (first, second))
    return sorted(path for path in a.keys() | b.keys() if a.get(path) != b.get(path))
