"""Whom a verdict is about, and how it comes to be said."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from modelbuild.equivalence.compare import Fault
from modelbuild.equivalence.tasks import Row
from modelbuild.equivalence.verdict import Verdict
from modelbuild.runtimes.base import Evidence


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom a verdict is about."""

    target: str
    platform: str
    version: str
    backend: str
    against: str
    evidence: Evidence
    run: str = ""

    def says(
        self, output: str, metric: str, measured: float | None, limit: float | None, ok: bool, detail: str
    ) -> Verdict:
        """One verdict; a number that JSON cannot hold is left to `detail`."""
        finite = measured if measured is not None and math.isfinite(measured) else None
        return Verdict(
            target=self.target,
            platform=self.platform,
            version=self.version,
            backend=self.backend,
            against=self.against,
            output=output,
            metric=metric,
            measured=finite,
            limit=limit,
            ok=ok,
            evidence=self.evidence,
            detail=detail,
            run=self.run,
        )

    def row(self, output: str, row: Row) -> Verdict:
        said = self.says(output, row.metric, row.measured, row.limit, row.ok, row.detail)
        return replace(
            said,
            needed=row.needed,
            low=row.low,
            high=row.high,
            constant=row.constant,
            more_is_better=row.more_is_better,
        )

    def faulty(self, fault: Fault) -> Verdict:
        return self.says(fault.output, fault.kind, None, None, False, fault.words)


def platform_of(run: str) -> str:
    """The platform of a run called `run`."""
    return run.partition(".")[0]
