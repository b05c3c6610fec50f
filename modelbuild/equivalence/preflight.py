"""What the pre-flight for float16 found, as a verdict that demands nothing: a warning, before a device overflows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from modelbuild.equivalence.verdict import Verdict

METRIC = "range"
REMEDY = ". Where it matters, keep those modules in float32 (precision mixed, keep_float32)"
SHOWN = 3  # findings of each kind that are named


def warning(model: str, record: Mapping[str, Any]) -> Verdict:
    """Of preflight.json: "measured" is the largest magnitude, or None where `detail` has something to warn of."""
    findings: list[Mapping[str, Any]] = record["findings"]
    kinds = list(dict.fromkeys(each["kind"] for each in findings))
    said = [_kind(kind, [each for each in findings if each["kind"] == kind]) for kind in kinds]
    within = f"all {record['tensors']} values inside the model fit, the largest is {record['largest']:.4g}"
    return Verdict(
        target=f"{model}:preflight",
        platform="",
        version="",
        backend="",
        against="float16's range",
        output="",
        metric=METRIC,
        measured=None if findings else record["largest"],
        limit=None,
        ok=True,
        evidence="executed",
        detail=f"pre-flight for float16: {'; '.join(said) + REMEDY if said else within}",
    )


def _kind(kind: str, found: list[Mapping[str, Any]]) -> str:
    named = ", ".join(
        f"{each['module'] or 'the model'} {each['operation']} {each['value']:.3g}" for each in found[:SHOWN]
    )
    rest = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"{kind} in {named}{rest}"
