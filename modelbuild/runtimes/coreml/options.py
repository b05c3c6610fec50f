"""What a platform may say about Core ML, checked as far as no framework is needed for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from modelbuild import options as checks
from modelbuild.errors import ManifestError

NAME = "coreml"
TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
PRECISIONS = ("float32", "float16", "mixed")
UNITS = ("all", "cpu_only", "cpu_and_gpu", "cpu_and_neural_engine")
Accumulation = Literal["float32", "float16"]
ACCUMULATIONS: tuple[Accumulation, ...] = ("float32", "float16")
METADATA = ("author", "license", "version", "description")
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Options(NamedTuple):
    """Every option with its default; see schema/runtimes/coreml.schema.json for what they mean.

    `names` maps ours to Core ML's, `shapes` an input to {"axes": [...]} or {"enumerated": [[...], ...]}.
    """

    deployment_target: str = "iOS16"
    precision: str = "float32"
    keep_float32: Sequence[str] = ()
    compute_units: str = "all"
    accumulation: Sequence[Accumulation] = ACCUMULATIONS
    batch: int | None = None
    names: Mapping[str, str] = {}  # never changed
    shapes: Mapping[str, Mapping[str, Any]] = {}
    classes: Mapping[str, Any] | None = None
    compression: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, str] = {}

    @property
    def half(self) -> bool:
        """Whether float16 is computed in."""
        return self.precision != "float32"

    @property
    def ios(self) -> int:
        return int(self.deployment_target.removeprefix("iOS"))


def parse(options: Mapping[str, Any]) -> Options:
    """The options of a platform. Raises ManifestError, placed at the option, for one that cannot be."""
    checks.known(NAME, options, Options._fields)
    parsed = Options(**options)
    checks.one_of("deployment_target", parsed.deployment_target, TARGETS)
    checks.one_of("precision", parsed.precision, PRECISIONS)
    checks.one_of("compute_units", parsed.compute_units, UNITS)
    for each in parsed.accumulation:
        checks.one_of("accumulation", each, ACCUMULATIONS)
    for key in parsed.metadata:
        checks.one_of("metadata", key, METADATA)
    _refuse_contradictions(parsed)
    _check_shapes(parsed)
    _check_names(parsed.names)
    _check_labels((parsed.classes or {}).get("labels", ()))
    return parsed


def _refuse_contradictions(options: Options) -> None:
    if bool(options.keep_float32) != (options.precision == "mixed"):
        fact = (
            f'there are operations to keep in float32 and the precision is "{options.precision}"'
            if options.keep_float32
            else 'the precision is "mixed" and nothing says which operations stay in float32'
        )
        raise ManifestError(
            "options/keep_float32", fact, 'Give "precision": "mixed" and "keep_float32" together'
        )
    if not options.accumulation:
        raise ManifestError(
            "options/accumulation", "is empty: nothing would be checked", "Leave it out for both"
        )
    labelled = options.classes["output"] if options.classes else None
    if labelled in options.names:
        fact = f'output "{labelled}" has classes, and Core ML names what a classifier gives itself'
        raise ManifestError(f"options/names/{labelled}", fact, "Leave its name out")
    steps = options.compression
    if options.ios < 18 and any(step.get("bits") == 3 for step in steps):
        fact = f"palettes of 3 bits exist from iOS 18 on, and the deployment target is {options.deployment_target}"
        raise ManifestError("options/compression", fact, 'Say "deployment_target": "iOS18", or other bits')
    if steps and options.ios < 16:
        fact = (
            f"weights are compressed from iOS 16 on, and the deployment target is {options.deployment_target}"
        )
        raise ManifestError("options/compression", fact, 'Say "deployment_target": "iOS16" or later')
    if len(steps) > 1 and options.ios < 18:
        fact = f"weights are compressed in several steps from iOS 18 on, not in {options.deployment_target}"
        raise ManifestError("options/compression", fact, 'Say "deployment_target": "iOS18", or one step')


def _check_shapes(options: Options) -> None:
    for name, shape in options.shapes.items():
        _check_shape(name, shape)
    enumerated = [name for name, shape in options.shapes.items() if "enumerated" in shape]
    if len(enumerated) > 1 and options.ios < 18:
        fact = (
            f"enumerate the shapes of {' and '.join(enumerated)}, and one input may have them before iOS 18"
        )
        raise ManifestError("options/shapes", fact, 'Say "deployment_target": "iOS18", or give axes')


def _check_shape(name: str, shape: Mapping[str, Any]) -> None:
    place = f"options/shapes/{name}"
    if len(shape) != 1 or not shape.keys() <= {"axes", "enumerated"}:
        fact = f"has {' and '.join(sorted(shape)) or 'nothing'}"
        raise ManifestError(place, fact, "Give either axes or enumerated")
    for axis in shape.get("axes", ()):
        if not isinstance(axis, int) and axis[0] > axis[1]:
            raise ManifestError(place, f"{json.dumps(list(axis))} is empty", "Give the smaller length first")


def _check_names(names: Mapping[str, str]) -> None:
    for ours, theirs in names.items():
        if not PLAIN.fullmatch(theirs):
            fact = f"{json.dumps(theirs)} is no name for Core ML"
            raise ManifestError(f"options/names/{ours}", fact, "Use letters, digits and underscores")
    twice = _twice(names.values())
    if twice:
        raise ManifestError("options/names", f'"{twice[0]}" is given to two', "Give each a name of its own")


def _check_labels(labels: Sequence[str | int]) -> None:
    if len({type(label) for label in labels}) > 1:
        raise ManifestError("options/classes/labels", "are texts and numbers", "Let all be of one kind")
    twice = _twice(labels)
    if twice:
        fact = f"{json.dumps(twice[0])} is there twice"
        raise ManifestError("options/classes/labels", fact, "Give each class a label of its own")


def _twice(values: Iterable[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]
