"""What must hold in a manifest beyond its schema: parts that belong together, names that must lead somewhere.

Every rule takes the manifest as it was written, valid or not, and passes over what the schema has refused
already, so that one reading reports all that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from modelbuild import code_names, schema_errors, schemas
from modelbuild.declare import LOADERS, Document, today
from modelbuild.equivalence import demand
from modelbuild.errors import ManifestError, did_you_mean
from modelbuild.runtimes import base
from modelbuild.wording import at, closest, cut, quote, shown

_SHORT_NAME = re.compile(r"[A-Za-z0-9_-]+")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_WAIVER = timedelta(days=366)
RESERVED = frozenset(
    (
        *("data", "teacher", "student", "reference", "preflight", "onnx", "environment", "verdict"),
        *("report", "gate", "source"),
    )
)
Found = Iterator[ManifestError]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest with the platform files that it names (by the path it gives), as they were written.

    `today` decides what a waiver may promise. A manifest found valid on one day stays so: its days only draw nearer.
    """

    root: Path
    document: Document
    shared: Mapping[str, Document]
    today: date = field(default_factory=today)

    def section(self, *steps: str) -> Mapping[str, Any]:
        """Return the object at these steps, or an empty one where there is none."""
        found = self.document.value
        for step in steps:
            found = found.get(step) if isinstance(found, dict) else None
        return found if isinstance(found, dict) else {}

    def error(self, steps: tuple[str | int, ...], fact: str, remedy: str = "") -> ManifestError:
        return ManifestError(at(self.document.place, steps), fact, remedy)


def problems(manifest: Manifest) -> Found:
    """Yield all that is wrong with the manifest and its platform files, the schema's findings first."""
    yield from schema_errors.problems(schemas.resolved(schemas.MODEL), manifest.document)
    for document in manifest.shared.values():
        yield from schema_errors.problems(schemas.resolved(schemas.PLATFORM), document)
    if isinstance(manifest.document.value, dict):
        for rule in RULES:
            yield from rule(manifest)


def _origin(manifest: Manifest) -> Found:
    """A model is distilled here (teacher and student) or finished elsewhere (source)."""
    teacher, student, source = (name in manifest.section() for name in ("teacher", "student", "source"))
    if source and (teacher or student):
        other = "teacher" if teacher else "student"
        remedy = "A model is either distilled here or finished elsewhere: keep one of the two."
        yield manifest.error(("source",), f'"source" stands beside "{other}"', remedy)
    elif not (teacher or student or source):
        yield manifest.error((), "there is no network to build", 'Add "teacher" and "student", or "source".')
    elif student and not teacher:
        remedy = 'Add "teacher"; for finished weights, use "source" in place of "student".'
        yield manifest.error(("student",), "there is a student without a teacher", remedy)
    elif teacher and not student:
        remedy = 'Add "student", the network that ships.'
        yield manifest.error(("teacher",), "there is a teacher without a student", remedy)


def _data_present(manifest: Manifest) -> Found:
    data = manifest.section("data")
    if "evaluation" not in data:
        remedy = 'Add "evaluation": every gate is measured on it.'
        yield manifest.error(("data",), "there is no evaluation data", remedy)
    if "teacher" in manifest.section() and "train" not in data:
        remedy = 'Add "train", or take a finished model from "source".'
        yield manifest.error(("data",), "there is a teacher and no train data", remedy)


def _sampled(manifest: Manifest) -> dict[str, str]:
    names = {name: manifest.section("data", name).get("sample") for name in manifest.section("data")}
    return {name: sample for name, sample in names.items() if isinstance(sample, str)}


def _samples(manifest: Manifest) -> Found:
    known = list(manifest.section("data"))
    for name, sample in _sampled(manifest).items():
        if sample not in known:
            fact = f"there is no data set {quote(sample)}"
            yield manifest.error(("data", name, "sample"), fact, closest(sample, known))


def _cycles(manifest: Manifest) -> Found:
    sampled, seen = _sampled(manifest), set[str]()
    for start in sampled:
        chain: dict[str, None] = {}  # in order, and quick to ask
        name = start
        while name in sampled and name not in chain and name not in seen:
            chain[name] = None
            name = sampled[name]
        seen.update(chain)
        if name in chain:
            ring = [*list(chain)[list(chain).index(name) :], name]
            remedy = "Load one of them with a loader."
            yield manifest.error(("data", name), f"samples in a circle: {shown(' -> '.join(ring))}", remedy)


def _platforms(manifest: Manifest) -> Found:
    declared = manifest.section().get("platforms")
    if declared == {}:
        remedy = 'Add one, such as "android": {"runtime": "onnxruntime"}.'
        yield manifest.error(("platforms",), "there are no platforms", remedy)
    for name in manifest.section("platforms"):
        if name in RESERVED:
            remedy = "Call it after where the model ships, such as ios or server."
            yield manifest.error(("platforms", name), f'"{name}" is the name of another target', remedy)


def _runtimes(manifest: Manifest) -> Found:
    known = base.known()
    for place, steps, value in _declared(manifest):
        runtime = value.get("runtime") if isinstance(value, dict) else None
        if isinstance(runtime, str) and runtime not in known:
            fact = f"there is no runtime {quote(runtime)}"
            yield ManifestError(at(place, (*steps, "runtime")), fact, did_you_mean(cut(runtime), list(known)))


def _declared(manifest: Manifest) -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Yield file, path within it and value of every platform, inline ones first."""
    for name, value in manifest.section("platforms").items():
        yield manifest.document.place, ("platforms", name), value
    for document in manifest.shared.values():
        yield document.place, (), document.value


def _gates(manifest: Manifest) -> Found:
    if "teacher" in manifest.section("gates") and "teacher" not in manifest.section():
        remedy = 'Remove this gate; "task" and "runtime" hold without a teacher.'
        yield manifest.error(("gates", "teacher"), "there is a gate against a teacher and no teacher", remedy)


def _outputs(manifest: Manifest) -> Found:
    steps = ("gates", "runtime", "outputs")
    asked, schema = manifest.section(*steps), schemas.resolved(schemas.MODEL)
    for step in steps:
        schema = schema["properties"][step]
    if not any(schema_errors.problems(schema, Document("", dict(asked)))):
        try:
            demand.outputs(asked, at(manifest.document.place, steps))
        except ManifestError as refused:
            yield refused


def _batch(manifest: Manifest) -> Found:
    batch = manifest.section("export", "dynamic").get("batch")
    if isinstance(batch, list) and [type(each) for each in batch] == [int, int] and batch[0] > batch[1]:
        fact = f"the smallest batch, {batch[0]}, is larger than the largest, {batch[1]}"
        yield manifest.error(("export", "dynamic", "batch"), fact, "Write the smaller number first.")


def _distil(manifest: Manifest) -> Found:
    distil, soft = manifest.section("student", "distil"), manifest.section("student", "distil", "soft")
    if distil.get("task") == 0 and soft.get("weight") == 0:
        fact = "both losses have a weight of 0, so nothing would be learnt"
        yield manifest.error(("student", "distil"), fact, "Give one of them a weight.")


def _code(manifest: Manifest) -> Found:
    for section in ("teacher", "student", "source"):
        yield from _callable(manifest, (section, "module"))
    for name in manifest.section("data"):
        steps = ("data", name, "loader")
        loader = manifest.section(*steps[:2]).get("loader")
        if not isinstance(loader, str) or loader in LOADERS:
            continue
        if _SHORT_NAME.fullmatch(loader):
            remedy = f"{did_you_mean(cut(loader), list(LOADERS))} Your own is package.module:callable."
            yield manifest.error(steps, f"there is no built-in data set {quote(loader)}", remedy)
        else:
            yield from _callable(manifest, steps)


def _callable(manifest: Manifest, steps: tuple[str, ...]) -> Found:
    named = manifest.section(*steps[:-1]).get(steps[-1])
    refused = code_names.refusal(manifest.root, named) if isinstance(named, str) else None
    if refused is not None:
        yield manifest.error(steps, refused.fact, refused.remedy)


def _waivers(manifest: Manifest) -> Found:
    declared, seen = manifest.section().get("waivers"), list[object]()
    for index, waiver in enumerate(declared if isinstance(declared, list) else ()):
        if not isinstance(waiver, dict):
            continue
        scope = [waiver.get(key) for key in ("platform", "gate", "output", "metric")]
        if scope in seen:
            fact = "a waiver before it is on the same figure"
            yield manifest.error(("waivers", index), fact, "Keep one of the two.")
        seen.append(scope)
        for rule in (_waived_place, _waived_limit, _waived_words, _waived_until):
            yield from rule(manifest, ("waivers", index), waiver)


def _waived_place(manifest: Manifest, steps: tuple[str | int, ...], waiver: Mapping[str, Any]) -> Found:
    platform, gate = waiver.get("platform"), waiver.get("gate")
    if ("platform" in waiver) == ("gate" in waiver):
        fact = "names both a platform and a gate" if gate is not None else "names no platform and no gate"
        yield manifest.error(steps, fact, 'Give one of "platform" and "gate".')
    known = list(manifest.section("platforms"))
    if isinstance(platform, str) and platform.partition(".")[0] not in known:
        fact = f"there is no platform {quote(platform.partition('.')[0])}"
        yield manifest.error((*steps, "platform"), fact, closest(platform, known))
    if not isinstance(gate, str) or gate not in demand.SHARES:
        return
    asked = manifest.section("gates", gate)
    if not asked:
        yield manifest.error((*steps, "gate"), f"there is no gate {quote(gate)}", "Remove the waiver.")
    elif asked.get("metric") != waiver.get("metric"):
        fact = f"the {gate} gate is on {quote(asked.get('metric'))}, not on {quote(waiver.get('metric'))}"
        yield manifest.error((*steps, "metric"), fact)


def _waived_limit(manifest: Manifest, steps: tuple[str | int, ...], waiver: Mapping[str, Any]) -> Found:
    """A limit that anything would meet waives the metric itself, not a figure."""
    metric, limit = waiver.get("metric"), waiver.get("limit")
    if isinstance(limit, bool) or not isinstance(limit, int | float):
        return
    if metric in ("decision_flips", "bytes") and not isinstance(limit, int):
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is not a whole number")
    elif metric in (*demand.SHARES.values(), "cosine") and not 0 < limit <= 1:
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is not above 0 and at most 1")
    elif metric == "sqnr_db" and limit <= 0:
        fact = f"{quote(limit)} dB lets the error be as loud as the signal"
        yield manifest.error((*steps, "limit"), fact, "Say more than 0.")
    elif metric in ("max_rel", "flip_rate", demand.TOKENS) and limit >= 1:
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is met by anything", "Say less than 1.")
    elif limit < 0:
        yield manifest.error((*steps, "limit"), f"{quote(limit)} is met by nothing", "Say 0 or more.")


def _waived_words(manifest: Manifest, steps: tuple[str | int, ...], waiver: Mapping[str, Any]) -> Found:
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


def _waived_until(manifest: Manifest, steps: tuple[str | int, ...], waiver: Mapping[str, Any]) -> Found:
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


RULES: tuple[Callable[[Manifest], Found], ...] = (
    _origin,
    _data_present,
    _samples,
    _cycles,
    _platforms,
    _runtimes,
    _gates,
    _outputs,
    _batch,
    _distil,
    _waivers,
    _code,
)
