"""What must hold in what a manifest says of training, capacity and search, beyond its schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from modelbuild import kinds, presets, schema_errors, schemas, search
from modelbuild.declare import Document
from modelbuild.errors import ManifestError, did_you_mean
from modelbuild.wording import cut, quote
from modelbuild.written import Found, Manifest

AUTO = "auto"


def losses(manifest: Manifest) -> Found:
    """The kinds of loss, the options of each, and that anything is learnt at all."""
    distil = manifest.section("student", "distil")
    yield from _kind(manifest, ("student", "distil", "task"), distil.get("task"), kinds.TASK)
    yield from _kind(manifest, ("teacher", "task"), manifest.section("teacher").get("task"), kinds.TASK)
    for steps, entry in _soft(distil):
        yield from _kind(manifest, steps, entry, kinds.SOFT)
    full = presets.expanded(distil) if distil.get("preset") in (None, *presets.PRESETS) else distil
    weights = [_weight(full.get("task", {})), _weight(full.get("layers", {"weight": 0}))]
    weights += [_weight(entry) for _, entry in _soft(full)] or [_weight({})]
    if not any(weights):
        fact = "every loss has a weight of 0, so nothing would be learnt"
        yield manifest.error(("student", "distil"), fact, "Give one of them a weight.")


def _soft(distil: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    soft, steps = distil.get("soft"), ("student", "distil", "soft")
    if isinstance(soft, list):
        yield from (((*steps, index), entry) for index, entry in enumerate(soft))
    elif soft is not None:
        yield steps, soft


def _weight(entry: Any) -> Any:
    return entry.get("weight", 1) if isinstance(entry, Mapping) else entry


def _kind(
    manifest: Manifest, steps: tuple[str | int, ...], entry: Any, known: Mapping[str, tuple[str, ...]]
) -> Found:
    kind = entry.get("kind") if isinstance(entry, dict) else None
    if not isinstance(kind, str):
        return
    own = ":" in kind
    if not own and kind not in known:
        remedy = f"{did_you_mean(cut(kind), list(known))} Your own is package.module:callable."
        yield manifest.error((*steps, "kind"), f"there is no loss {quote(kind)}", remedy.strip())
        return
    allowed = ("args",) if own else known[kind]
    general = ("kind", "weight", "output", "outputs")
    for option in entry:
        if option not in (*allowed, *general):
            has = ", ".join(allowed) or "none"
            fact = f"{quote(option)} is no option of {'a callable' if own else kind}"
            yield manifest.error((*steps, option), fact, f"Its options: {has}.")


def capacity(manifest: Manifest) -> Found:
    """A budget that some device says, and no more than one argument to solve for."""
    student = manifest.section("student")
    asked = manifest.section("student", "capacity")
    if asked.get("budget") == "lowest" and not any(_devices(manifest)):
        fact = "no platform says what memory its device has"
        remedy = 'Give one "device": {"memory": BYTES}, or write a number of bytes here.'
        yield manifest.error(("student", "capacity", "budget"), fact, remedy)
    args = student.get("args")
    open_ones = [name for name, value in (args if isinstance(args, dict) else {}).items() if value == AUTO]
    if open_ones and not asked:
        steps = ("student", "args", open_ones[0])
        yield manifest.error(steps, '"auto" needs a capacity to solve for', 'Add "capacity" to the student.')
    if len(open_ones) > 1:
        fact = f'{" and ".join(open_ones[:2])} are both "auto", and one can be solved for'
        yield manifest.error(("student", "args", open_ones[1]), fact, "Write a number for the others.")
    if open_ones and manifest.section("search"):
        fact = '"auto" stands beside a search, which says what is tried'
        yield manifest.error(("student", "args", open_ones[0]), fact, "Give the search a range in its place.")


def _devices(manifest: Manifest) -> Iterator[Any]:
    for value in manifest.section("platforms").values():
        found = manifest.shared[value].value if isinstance(value, str) and value in manifest.shared else value
        yield isinstance(found, dict) and isinstance(found.get("device"), dict)


def teacher(manifest: Manifest) -> Found:
    """What a teacher that is an ONNX file cannot give."""
    distil = manifest.section("student", "distil")
    if "onnx" not in manifest.section("teacher"):
        return
    if "initial" in distil or "preset" in distil:
        named = "initial" if "initial" in distil else "preset"
        fact = "the student would start from the teacher's weights, and the teacher is an ONNX file"
        yield manifest.error(("student", "distil", named), fact, "Leave it out.")
    elif "layers" in distil and not isinstance(
        manifest.section("student", "distil", "layers").get("map"), list
    ):
        fact = "the teacher is an ONNX file, whose layers nobody knows"
        remedy = 'Give "map" as pairs: a module path of the student, a value of the file.'
        yield manifest.error(("student", "distil", "layers"), fact, remedy)


def searched(manifest: Manifest) -> Found:
    """Cycles that go on from each other, and candidates that are students."""
    asked = manifest.section("search")
    if not asked:
        return
    if "student" not in manifest.section():
        yield manifest.error(("search",), "there is a search and no student", 'Add "teacher" and "student".')
    if not asked.get("candidates") and not asked.get("samples"):
        remedy = 'Add "candidates", or "samples" with "ranges".'
        yield manifest.error(("search",), "there is nothing to choose from", remedy)
    yield from _cycles(manifest, asked.get("cycles"))
    yield from _ranges(manifest, asked)
    yield from _candidates(manifest)


def _cycles(manifest: Manifest, cycles: Any) -> Found:
    before = 0
    for index, cycle in enumerate(cycles if isinstance(cycles, list) else ()):
        if not isinstance(cycle, dict):
            continue
        place, steps = ("search", "cycles", index), cycle.get("steps")
        if isinstance(steps, int) and steps <= before:
            fact = f"ends at step {steps}, and the cycle before at step {before}"
            yield manifest.error((*place, "steps"), fact, "Steps are counted from the first: write more.")
        before = steps if isinstance(steps, int) else before
        if index == 0 and ("keep" in cycle or cycle.get("proposals")):
            named = "keep" if "keep" in cycle else "proposals"
            yield manifest.error((*place, named), "there is no cycle before the first", "Leave it out.")
        if index and "keep" not in cycle:
            fact = "does not say how many go on"
            yield manifest.error(
                place, fact, 'Add "keep": a number that a further candidate leaves as it is.'
            )


def _ranges(manifest: Manifest, asked: Mapping[str, Any]) -> Found:
    ranges = manifest.section("search", "ranges")
    cycles = asked.get("cycles")
    proposals = any(
        isinstance(c, dict) and c.get("proposals") for c in (cycles if isinstance(cycles, list) else ())
    )
    if not ranges and (asked.get("samples") or proposals):
        remedy = 'Add "ranges", such as {"args.width": {"low": 4, "high": 16}}.'
        yield manifest.error(("search",), "candidates are to be drawn, and there is no range", remedy)
    for path, each in ranges.items():
        steps = ("search", "ranges", path)
        yield from _path(manifest, steps, path)
        if not isinstance(each, dict):
            continue
        low, high = each.get("low"), each.get("high")
        if isinstance(low, int | float) and isinstance(high, int | float) and not low < high:
            yield manifest.error(steps, f"low, {low}, is not below high, {high}", "Swap them.")
        elif each.get("log") and isinstance(low, int | float) and low <= 0:
            yield manifest.error((*steps, "low"), f"{low} has no logarithm", "Say more than 0.")


def _path(manifest: Manifest, steps: tuple[str | int, ...], path: str) -> Found:
    """A range is of something that a student has: its arguments are known to its class alone."""
    section, _, inner = path.partition(".")
    if section not in search.OVERRIDES or path.endswith("."):
        fact = f"{quote(path)} is no path into the student"
        yield manifest.error(steps, fact, f"It begins with one of {', '.join(search.OVERRIDES)}.")
    elif section in ("distil", "train") and inner:
        known = schemas.resolved(schemas.MODEL)["properties"]["student"]["properties"][section]["properties"]
        named = inner.partition(".")[0]
        if named not in known:
            fact = f"{section} has no {quote(named)}"
            yield manifest.error(steps, fact, did_you_mean(cut(named), sorted(known)))


def _candidates(manifest: Manifest) -> Found:
    """Every listed candidate is a student by the schema of students."""
    student, schema = manifest.section("student"), schemas.resolved(schemas.MODEL)["properties"]["student"]
    if any(schema_errors.problems(schema, Document("", dict(student)))):
        return
    for name, overrides in manifest.section("search", "candidates").items():
        steps = ("search", "candidates", name)
        if name in search.RESERVED or name.startswith(search.DRAWN):
            yield manifest.error(steps, f"{quote(name)} is a name of the search's own", "Choose another.")
        if not isinstance(overrides, dict):
            continue
        merged = search.merged(student, overrides)
        for found in schema_errors.problems(schema, Document("", merged)):
            yield _placed(manifest, steps, found)


def _placed(manifest: Manifest, steps: tuple[str | int, ...], found: ManifestError) -> ManifestError:
    inner = [step for step in found.place.removeprefix("#").split("/") if step]
    return manifest.error((*steps, *inner), found.fact, found.remedy)


RULES = (losses, capacity, teacher, searched)
