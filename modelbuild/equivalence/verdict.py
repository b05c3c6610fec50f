"""One verdict: what was measured against which limit, and whether that passes. A record, never a log line."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.runtimes.base import Evidence


@dataclass(frozen=True, slots=True)
class Verdict:
    """`platform` was held `against` another platform, "reference", "teacher" or "label", on one output.

    `measured` is None where there is no finite number to show (then `detail` says why), `limit` is None
    where nothing is demanded of the metric. `run` is the name of the run, `platform` or `platform.way`, "" where the
    verdict is on none. In the metric's unit: `floor` is the noise that is nobody's fault, `needed` the tightest limit
    that would pass, `low` and `high` the 95 % confidence interval of `measured`, `constant` what a constant output
    reaches; each None where there is none. `more_is_better` is None where the name of the metric tells.
    """

    target: str
    platform: str
    version: str
    backend: str
    against: str
    output: str
    metric: str
    measured: float | None
    limit: float | None
    ok: bool
    evidence: Evidence
    detail: str
    run: str = ""
    floor: float | None = None
    needed: float | None = None
    low: float | None = None
    high: float | None = None
    constant: float | None = None
    more_is_better: bool | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> Verdict:
        """Raises RecipeError for a record with a field missing or unknown."""
        names = [field.name for field in fields(Verdict)]
        for name in record:
            if name not in names:
                raise RecipeError("verdict", f'unknown field "{name}"', did_you_mean(name, names))
        missing = [name for name in names if name not in record]
        if missing:
            raise RecipeError("verdict", f"missing field {', '.join(missing)}", "")
        return Verdict(**record)


def passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether all are green; no verdict at all is no pass."""
    return bool(verdicts) and all(verdict.ok for verdict in verdicts)


def write(path: Path, verdicts: Sequence[Verdict]) -> None:
    """Write {"ok", "verdicts"} in the order given."""
    record = {"ok": passed(verdicts), "verdicts": [verdict.to_json() for verdict in verdicts]}
    path.write_text(json.dumps(record, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read(path: Path) -> tuple[Verdict, ...]:
    """Read what `write` wrote. Raises RecipeError where its "ok" is not what its verdicts say."""
    record = json.loads(path.read_text())
    verdicts = tuple(Verdict.from_json(verdict) for verdict in record["verdicts"])
    if record["ok"] is not passed(verdicts):
        raise RecipeError(
            path.name, f'"ok" is {record["ok"]}, its verdicts say {passed(verdicts)}', "Rebuild it"
        )
    return verdicts
