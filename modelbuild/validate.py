"""What must hold in a manifest beyond its schema: parts that belong together, names that must lead somewhere.

Every rule takes the manifest as it was written, valid or not, and passes over what the schema has refused
already, so that one reading reports all that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelbuild import code_names, schema_errors, schemas
from modelbuild.declare import LOADERS, Document
from modelbuild.errors import ManifestError, did_you_mean
from modelbuild.runtimes import base
from modelbuild.wording import at, closest, cut, quote, shown

_SHORT_NAME = re.compile(r"[A-Za-z0-9_-]+")
RESERVED = frozenset(
    (
        *("data", "teacher", "student", "reference", "preflight", "onnx", "environment", "verdict"),
        *("report", "gate", "source"),
    )
)
Found = Iterator[ManifestError]


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest with the platform files that it names (by the path it gives), as they were written."""

    root: Path
    document: Document
    shared: Mapping[str, Document]

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


RULES: tuple[Callable[[Manifest], Found], ...] = (
    _origin,
    _data_present,
    _samples,
    _cycles,
    _platforms,
    _runtimes,
    _gates,
    _batch,
    _distil,
    _code,
)
