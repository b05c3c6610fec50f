"""What the command line wants evidence of, beyond the manifest: `doit --require browser:chromium`.

A requirement is `PLATFORM`, or `PLATFORM:WAY` where WAY is a way of running it, or words of one between hyphens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import CommandError, did_you_mean
from modelbuild.targets import Plan

OPTION = "--require"


def check(required: Sequence[str], plan: Plan) -> None:
    """Raise CommandError for a requirement that no model's platforms could ever meet: it would demand nothing."""
    known = _ways(plan)
    for each in required:
        platform, _, way = each.partition(":")
        if platform not in known:
            raise CommandError(
                f"{OPTION} {each}", f'no model has a platform "{platform}"', _near(platform, known)
            )
        if way and not any(_is_of(way, label) for label in known[platform]):
            ways = sorted(label for label in known[platform] if label)
            remedy = did_you_mean(way, ways) if ways else "It is run in one way: name the platform alone."
            raise CommandError(f"{OPTION} {each}", f'platform "{platform}" is never run as "{way}"', remedy)


def _near(platform: str, known: Mapping[str, set[str]]) -> str:
    return did_you_mean(platform, [*known])


def _ways(plan: Plan) -> dict[str, set[str]]:
    """Platform -> the names of its ways of running, also of those this machine does not have."""
    found: dict[str, set[str]] = {}
    for model in plan.models:
        for platform, told in plan.targets[f"{model}:verdict.runtime"].params["platforms"].items():
            run = f"{model}:{platform}.run"
            labels = {t.name[len(run) + 1 :] for t in plan.of(model) if f"{t.name}.".startswith(f"{run}.")}
            found.setdefault(platform, set()).update(labels, told["absent"])
    return found


def held_to(row: Verdict, required: Sequence[str]) -> Verdict:
    """The verdict, red where it says that what is required is not evidenced."""
    if row.metric != "evidence" or row.evidence != "none" or not row.ok:
        return row
    for each in required:
        platform, _, way = each.partition(":")
        if row.platform == platform and (not way or not row.backend or _is_of(way, row.backend)):
            return replace(row, ok=False, detail=f"{row.detail} (demanded by {OPTION} {each})")
    return row


def _is_of(way: str, label: str) -> bool:
    """`chromium` is of `chromium-wasm-2-threads`."""
    return f"-{way}-" in f"-{label}-"
