"""What a run has to tell beside its outputs, as rows for information: where nodes ran, on what, how a phone fares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild.equivalence.verdict import Verdict

USUAL = "CPUExecutionProvider"
SHOWN = 8  # nodes named of a provider that few were left to


def rows(target: str, platform: str, record: Mapping[str, Any]) -> Iterator[Verdict]:
    """The rows of the run that `record`, its run.json, tells of; nothing is demanded in any of them."""
    facts = record.get("facts", {})
    told = {
        "placement": _placement(record.get("placement", {})),
        "processor": _processor(facts.get("processor")),
    }
    said = [(metric, words) for metric, words in told.items() if words]
    said += [("mobile", line) for line in facts.get("mobile", ())]
    for metric, words in said:
        yield Verdict(
            target=target,
            platform=platform,
            version=record["version"],
            backend=record["backend"],
            against="",
            output="",
            metric=metric,
            measured=None,
            limit=None,
            ok=True,
            evidence=record["evidence"],
            detail=words,
        )


def _placement(placement: Mapping[str, str]) -> str:
    """`98 nodes ran on WebGpuExecutionProvider, 12 on CPUExecutionProvider: a, b, ...`; "" where all is as usual."""
    if set(placement.values()) <= {USUAL}:
        return ""
    counts = Counter(placement.values())
    if len(counts) == 1:
        nodes = next(iter(placement)) if len(placement) == 1 else f"all {len(placement)} nodes"
        return f"{nodes} ran on {next(iter(counts))}"
    few = counts.most_common()[-1][0]
    named = [node for node, provider in placement.items() if provider == few]
    more = f" and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
    parts = ", ".join(f"{count} nodes ran on {provider}" for provider, count in counts.most_common())
    return f"{parts}: {', '.join(named[:SHOWN])}{more}"


def _processor(processor: Mapping[str, Any] | None) -> str:
    if processor is None:
        return ""
    flags = " ".join(processor["flags"]) or "flags unknown"
    words = f"8-bit integers on {processor['machine']} ({flags})"
    if processor["saturates"]:
        words += ": without VNNI their sums may saturate, and another processor gives other numbers"
    return words
