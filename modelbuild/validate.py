"""What must hold in a manifest beyond its schema: parts that belong together, names that must lead somewhere.

Every rule takes the manifest as it was written, valid or not, and passes over what the schema has refused
already, so that one reading reports all that is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from modelbuild import code_names, schema_errors, schemas, validate_training, validate_waivers
from modelbuild.declare import AUGMENTATIONS, LOADERS, Document
from modelbuild.equivalence import demand
from modelbuild.equivalence.demand import QualityDemand
from modelbuild.errors import ManifestError, did_you_mean
from modelbuild.runtimes import base
from modelbuild.wording import at, closest, cut, quote, shown
from modelbuild.written import Found as Found
from modelbuild.written import Manifest as Manifest
from modelbuild.written import Steps

_SHORT_NAME = re.compile(r"[A-Za-z0-9_-]+")
Pattern = tuple[str | type, ...]
RESERVED = frozenset(
    (
        *("data", "teacher", "student", "reference", "preflight", "onnx", "environment", "verdict"),
        *("report", "gate", "source", "noise", "repro", "capacity", "search"),
    )
)


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


def _sources(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Every data set that is made of another one: how, "sample" or "augment", and of which."""
    found = dict[str, tuple[str, str]]()
    for name in manifest.section("data"):
        declared = manifest.section("data", name)
        how = "sample" if "sample" in declared else "augment"
        if isinstance(source := declared.get(how), str):
            found[name] = how, source
    return found


def _made_of_data(manifest: Manifest) -> Found:
    known = list(manifest.section("data"))
    for name, (how, source) in _sources(manifest).items():
        if source not in known:
            fact = f"there is no data set {quote(source)}"
            yield manifest.error(("data", name, how), fact, closest(source, known))


def _circles(manifest: Manifest) -> Found:
    sources, seen = {name: source for name, (_, source) in _sources(manifest).items()}, set[str]()
    for start in sources:
        chain: dict[str, None] = {}  # in order, and quick to ask
        name = start
        while name in sources and name not in chain and name not in seen:
            chain[name] = None
            name = sources[name]
        seen.update(chain)
        if name in chain:
            ring = [*list(chain)[list(chain).index(name) :], name]
            fact = f"data sets in a circle: {shown(' -> '.join(ring))}"
            yield manifest.error(("data", name), fact, "Load one of them with a loader.")


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
    for gate in demand.SHARES:
        read = list[QualityDemand]()
        schema = _schema("gates", gate)["then"]
        for steps, asked in manifest.demands(gate):
            if any(schema_errors.problems(schema, Document("", dict(asked)))):
                continue
            try:
                read.append(demand.quality(asked, gate, at(manifest.document.place, steps)))
            except ManifestError as refused:
                yield refused
        try:
            demand.refuse_twice(read)
        except ManifestError as refused:
            yield refused


def _schema(*steps: str) -> Mapping[str, Any]:
    found: Any = schemas.resolved(schemas.MODEL)
    for step in steps:
        found = found["properties"][step]
    return found  # type: ignore[no-any-return]


def _outputs(manifest: Manifest) -> Found:
    steps = ("gates", "runtime", "outputs")
    asked = manifest.section(*steps)
    if not any(schema_errors.problems(_schema(*steps), Document("", dict(asked)))):
        try:
            demand.outputs(asked, at(manifest.document.place, steps))
        except ManifestError as refused:
            yield refused


def _batch(manifest: Manifest) -> Found:
    batch = manifest.section("export", "dynamic").get("batch")
    if isinstance(batch, list) and [type(each) for each in batch] == [int, int] and batch[0] > batch[1]:
        fact = f"the smallest batch, {batch[0]}, is larger than the largest, {batch[1]}"
        yield manifest.error(("export", "dynamic", "batch"), fact, "Write the smaller number first.")


# Where a manifest names code: steps, of which `str` is any key and `int` any index. The first are always
# package.module:callable, the second may also be the short name of what comes along, which other rules know.
_LOSSES = (("task", "kind"), ("soft", "kind"), ("soft", int, "kind"))
_DISTILS = (("student", "distil"), ("search", "candidates", str, "distil"))
_CALLABLES: tuple[Pattern, ...] = (
    *((section, "module") for section in ("teacher", "student", "source")),
    ("teacher", "through"),
    ("search", "candidates", str, "module"),
    ("search", "ranges", "module", "choices", int),
)
_OR_SHORT: tuple[Pattern, ...] = (
    ("data", str, "loader"),
    ("data", str, "by"),
    ("teacher", "task", "kind"),
    *((*distil, *loss) for distil in _DISTILS for loss in _LOSSES),
    *(("search", "ranges", f"distil.{loss}.kind", "choices", int) for loss in ("task", "soft")),
    *(("gates", gate, *index, "metric") for gate in demand.SHARES for index in ((), (int,))),
)
_COMES_ALONG = {"loader": ("data set", LOADERS), "by": ("augmentation", AUGMENTATIONS)}


def _code(manifest: Manifest) -> Found:
    for pattern in _CALLABLES:
        for steps, named in _matches(manifest.document.value, pattern):
            yield from _callable(manifest, steps, named)
    for pattern in _OR_SHORT:
        for steps, named in _matches(manifest.document.value, pattern):
            what, known = _COMES_ALONG.get(str(pattern[-1]), ("", {}))
            if what and _SHORT_NAME.fullmatch(named) and named not in known:
                remedy = f"{did_you_mean(cut(named), list(known))} Your own is package.module:callable."
                yield manifest.error(steps, f"there is no built-in {what} {quote(named)}", remedy)
            elif named not in known and (what or ":" in named):
                yield from _callable(manifest, steps, named)


def _matches(value: Any, pattern: Pattern) -> Iterator[tuple[Steps, str]]:
    """Yield the texts that stand where the pattern says, and where."""
    if not pattern:
        yield from [((), value)] if isinstance(value, str) else []
        return
    first, rest = pattern[0], pattern[1:]
    inside: Mapping[Any, Any] = value if isinstance(value, dict) else {}
    if first is int:
        inside = dict(enumerate(value)) if isinstance(value, list) else {}
    for key, below in inside.items():
        if first in (str, int, key):
            yield from (((key, *steps), text) for steps, text in _matches(below, rest))


def _callable(manifest: Manifest, steps: Steps, named: str) -> Found:
    refused = code_names.refusal(manifest.root, named)
    if refused is not None:
        yield manifest.error(steps, refused.fact, refused.remedy)


RULES: tuple[Callable[[Manifest], Found], ...] = (
    _origin,
    _data_present,
    _made_of_data,
    _circles,
    _platforms,
    _runtimes,
    _gates,
    _outputs,
    _batch,
    _code,
    *validate_training.RULES,
    validate_waivers.waivers,
)
