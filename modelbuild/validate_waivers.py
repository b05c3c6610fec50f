"""What must hold in the waivers of a manifest beyond its schema."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any
from urllib.parse import urlsplit

from modelbuild.equivalence import demand
from modelbuild.wording import closest, quote
from modelbuild.written import Found, Manifest, Steps

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_WAIVER = timedelta(days=366)
ON_PLATFORMS = (*demand.CEILINGS, *demand.FLOORS, "decision_flips", "flip_rate", "bytes")


def waivers(manifest: Manifest) -> Found:
    """Every waiver is on a figure that there may be, for a reason, up to a limit and until a day."""
    declared, seen = manifest.section().get("waivers"), list[object]()
    for index, waiver in enumerate(declared if isinstance(declared, list) else ()):
        if not isinstance(waiver, dict):
            continue
        scope = [waiver.get(key) for key in ("platform", "gate", "output", "metric")]
        if scope in seen:
            fact = "a waiver before it is on the same figure"
            yield manifest.error(("waivers", index), fact, "Keep one of the two.")
        seen.append(scope)
        for rule in (_waived_place, _waived_figure, _waived_limit, _waived_words, _waived_until):
            yield from rule(manifest, ("waivers", index), waiver)


def _waived_place(manifest: Manifest, steps: Steps, waiver: Mapping[str, Any]) -> Found:
    platform, gate = waiver.get("platform"), waiver.get("gate")
    if ("platform" in waiver) == ("gate" in waiver):
        fact = "names both a platform and a gate" if gate is not None else "names no platform and no gate"
        yield manifest.error(steps, fact, 'Give one of "platform" and "gate".')
    known = list(manifest.section("platforms"))
    if isinstance(platform, str) and platform.partition(".")[0] not in known:
        fact = f"there is no platform {quote(platform.partition('.')[0])}"
        yield manifest.error((*steps, "platform"), fact, closest(platform, known))


def _waived_figure(manifest: Manifest, steps: Steps, waiver: Mapping[str, Any]) -> Found:
    """Its metric is one that platforms, or its gate, are held to."""
    gate, metric = waiver.get("gate"), waiver.get("metric")
    if isinstance(gate, str) and gate in demand.SHARES:
        if gate not in manifest.section("gates"):
            yield manifest.error((*steps, "gate"), f"there is no gate {quote(gate)}", "Remove the waiver.")
        yield from _of_gate(manifest, steps, waiver, gate)
    elif "gate" not in waiver and isinstance(metric, str) and metric not in ON_PLATFORMS:
        fact = f"{quote(metric)} is not one of {', '.join(ON_PLATFORMS)}"
        yield manifest.error((*steps, "metric"), fact, closest(metric, ON_PLATFORMS))


def _of_gate(manifest: Manifest, steps: Steps, waiver: Mapping[str, Any], gate: str) -> Found:
    outputs: dict[str, list[str | None]] = {}
    for _, asked in manifest.demands(gate):
        if isinstance(asked.get("metric"), str) and isinstance(asked.get("output"), str | None):
            outputs.setdefault(demand.called(asked["metric"]), []).append(asked.get("output"))
    metric, output = waiver.get("metric"), waiver.get("output")
    if not outputs or not isinstance(metric, str):
        return
    if metric not in outputs:
        fact = f"the {gate} gate is on {', '.join(map(quote, outputs))}, not on {quote(metric)}"
        yield manifest.error((*steps, "metric"), fact, closest(metric, outputs))
    elif isinstance(output, str) and not {output, None} & {*outputs[metric]}:
        named = [each for each in outputs[metric] if each is not None]
        fact = f"the {gate} gate is on {metric} of {', '.join(map(quote, named))}, not of {quote(output)}"
        yield manifest.error((*steps, "output"), fact, closest(output, named))


def _waived_limit(manifest: Manifest, steps: Steps, waiver: Mapping[str, Any]) -> Found:
    """A limit that anything would meet waives the metric itself, not a figure."""
    metric, limit = waiver.get("metric"), waiver.get("limit")
    if isinstance(limit, bool) or not isinstance(limit, int | float) or not isinstance(metric, str):
        return
    if metric not in demand.TAKEN:
        return  # of a project's own metric any number may be a figure
    if metric in demand.COUNTS and not isinstance(limit, int):
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is not a whole number")
    elif metric == "sqnr_db" and limit <= 0:
        fact = f"{quote(limit)} dB lets the error be as loud as the signal"
        yield manifest.error((*steps, "limit"), fact, "Say more than 0.")
    elif metric in demand.MORE and metric != "sqnr_db" and not 0 < limit <= 1:
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is not above 0 and at most 1")
    elif metric in ("max_rel", "flip_rate", demand.TOKENS) and limit >= 1:
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is met by anything", "Say less than 1.")
    elif limit < 0:
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is met by nothing", "Say 0 or more.")


def _waived_words(manifest: Manifest, steps: Steps, waiver: Mapping[str, Any]) -> Found:
    reason, link = waiver.get("reason"), waiver.get("link")
    if isinstance(reason, str) and not reason.strip():
        yield manifest.error((*steps, "reason"), "says nothing", "Say why the figure may be worse.")
    if isinstance(link, str) and not _is_address(link):
        remedy = "Link to the issue in which it is being mended."
        yield manifest.error((*steps, "link"), f"{quote(link)} is no http or https address", remedy)


def _is_address(link: str) -> bool:
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    plain = link.isprintable() and not any(c.isspace() for c in link)
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def _waived_until(manifest: Manifest, steps: Steps, waiver: Mapping[str, Any]) -> Found:
    expires = waiver.get("expires")
    if not isinstance(expires, str):
        return
    last = manifest.today + _LONGEST_WAIVER
    try:
        day = date.fromisoformat(expires) if _DAY.fullmatch(expires) else None
    except ValueError:
        day = None
    if day is None:
        yield manifest.error((*steps, "expires"), f"{quote(expires)} is no day", f"Write it as in {last}.")
    elif day > last:
        fact = f"{expires} is more than {_LONGEST_WAIVER.days} days ahead"
        yield manifest.error((*steps, "expires"), fact, f"A waiver ends: say {last} at the latest.")
