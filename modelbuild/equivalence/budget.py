"""What an artefact may cost, as verdicts like any other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild.equivalence.verdict import Verdict


def verdicts(
    target: str, platform: str, record: Mapping[str, Any], budgets: Mapping[str, int]
) -> Iterator[Verdict]:
    """Hold the artefact that `record` (run.json) tells of to its `budgets`: {"bytes": the largest size}."""
    if "bytes" in budgets:
        size, limit = record["bytes"], budgets["bytes"]
        yield Verdict(
            target=target,
            platform=platform,
            version=record["version"],
            backend=record["backend"],
            against="budget",
            output="",
            metric="bytes",
            measured=float(size),
            limit=float(limit),
            ok=size <= limit,
            evidence=record["evidence"],
            detail=f"the artefact has {size} bytes, at most {limit} are allowed",
        )
