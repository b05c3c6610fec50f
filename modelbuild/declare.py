"""What a manifest declares, as values: the only form in which the rest of the program sees one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild import presets, schemas
from modelbuild.wording import at

Options = Mapping[str, Any]

# The data sets that come along, by the name a manifest may use for them.
LOADERS: Mapping[str, str] = {
    "sklearn-digits": "modelbuild.zoo.digits:load",
    "sklearn-wine": "modelbuild.zoo.wine:load",
}

# The augmentations that come along, in the same way.
AUGMENTATIONS: Mapping[str, str] = {
    name: f"modelbuild.augment:{name}" for name in ("shift", "noise", "scale", "mask", "mixup")
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `loader` (`package.module:callable`) gives, called with `args` and the paths of `files`."""

    name: str
    loader: str
    args: Options
    files: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sampled:
    """`count` samples of data `source`."""

    name: str
    source: str
    count: int
    seed: int


@dataclass(frozen=True, slots=True)
class Augmented:
    """`copies` versions of data `source`, changed by `by` (`package.module:callable`) called with `args`."""

    name: str
    source: str
    by: str
    args: Options
    copies: int
    seed: int


Data = Loaded | Sampled | Augmented


class TrainedTeacher(NamedTuple):
    """A module trained here: `task` is its loss, `train` how."""

    module: str
    args: Options
    task: Options
    train: Options


class GivenTeacher(NamedTuple):
    """A module with finished weights: a safetensors file, of which the names that match `ignore` are left out."""

    module: str
    args: Options
    weights: str
    ignore: tuple[str, ...]


class OnnxTeacher(NamedTuple):
    """A finished ONNX file; `through` (`package.module:callable`), called with `args`, makes its outputs."""

    onnx: str
    through: str | None
    args: Options


Teacher = TrainedTeacher | GivenTeacher | OnnxTeacher


class Student(NamedTuple):
    """`distil` and `train` say what it learns from and how; `capacity`, where not None, how large it may be."""

    module: str
    args: Options
    capacity: Options | None
    distil: Options
    train: Options


class Search(NamedTuple):
    """Students to choose from, and the cycles in which they are trained."""

    cycles: tuple[Options, ...]
    candidates: Mapping[str, Options]
    ranges: Mapping[str, Options]
    samples: int
    seed: int


class OnnxSource(NamedTuple):
    """A finished ONNX file, relative to the project's root."""

    onnx: str


class WeightsSource(NamedTuple):
    """A module with finished weights: a safetensors file, relative to the project's root."""

    module: str
    args: Options
    weights: str


class Export(NamedTuple):
    """`dynamic`: axis -> [smallest, largest] length; empty when every shape is fixed."""

    opset: int
    dynamic: Options


class Platform(NamedTuple):
    """`place` is where it is declared, down to the JSON pointer; `options` are those of its runtime.

    `evidence` is the least that counts as such. `tolerance` is "auto", limits by metric, or None where the runtime
    gate's holds. `memory` is what the model may take on its device, in bytes.
    """

    name: str
    place: str
    description: str
    runtime: str
    required: bool
    evidence: str
    tolerance: str | Options | None
    budgets: Options
    memory: int | None
    options: Options


class Gates(NamedTuple):
    """`teacher` and `task` are a demand or a list of them, None where they are not gated; `runtime` always holds."""

    teacher: Options | Sequence[Options] | None
    task: Options | Sequence[Options] | None
    runtime: Options


class Waiver(NamedTuple):
    """Lets `metric` of a `platform` (or of one run of it, "android.1.18.1") or at a `gate` pass up to `limit`.

    On every output where `output` is None. `expires` is the last day on which it holds, such as "2026-12-31".
    """

    platform: str | None
    gate: str | None
    output: str | None
    metric: str
    limit: float
    reason: str
    link: str
    expires: str

    def expired(self, today: date) -> bool:
        return self.expires < today.isoformat()


class Model(NamedTuple):
    """One manifest; `place` is its file as messages name it, such as `manifests/digits.json`.

    Either `source`, or both `teacher` and `student`, is there; with them there may be a `search`.
    """

    name: str
    place: str
    description: str
    data: Mapping[str, Data]
    teacher: Teacher | None
    student: Student | None
    source: OnnxSource | WeightsSource | None
    export: Export
    platforms: Mapping[str, Platform]
    gates: Gates
    waivers: tuple[Waiver, ...] = ()
    search: Search | None = None


class Project(NamedTuple):
    """Every model of the project at `root`, in the order of their files' names."""

    root: Path
    models: tuple[Model, ...]


class Document(NamedTuple):
    """A parsed JSON file and its place."""

    place: str
    value: Any


def model(manifest: Document, shared: Mapping[str, Document]) -> Model:
    """Make the model of a valid manifest; `shared`: the platform files by the path the manifest gives."""
    full = schemas.filled(schemas.resolved(schemas.MODEL), manifest.value)
    return Model(
        name=full["model"],
        place=manifest.place,
        description=full["description"],
        data={name: _data(name, data) for name, data in full["data"].items()},
        teacher=_teacher(full["teacher"]) if "teacher" in full else None,
        student=_student(full["student"]) if "student" in full else None,
        source=_source(full["source"]) if "source" in full else None,
        export=Export(**full["export"]),
        platforms={
            name: _platform(name, manifest.place, each, shared) for name, each in full["platforms"].items()
        },
        gates=Gates(full["gates"].get("teacher"), full["gates"].get("task"), full["gates"]["runtime"]),
        waivers=tuple(_waiver(each) for each in full["waivers"]),
        search=_search(full["search"]) if "search" in full else None,
    )


def _data(name: str, data: Options) -> Data:
    if "sample" in data:
        return Sampled(name, data["sample"], data["count"], data["seed"])
    if "augment" in data:
        by = AUGMENTATIONS.get(data["by"], data["by"])
        return Augmented(name, data["augment"], by, data["args"], data["copies"], data["seed"])
    return Loaded(name, LOADERS.get(data["loader"], data["loader"]), data["args"], data["files"])


def _teacher(teacher: Options) -> Teacher:
    if "onnx" in teacher:
        return OnnxTeacher(teacher["onnx"], teacher.get("through"), teacher["args"])
    if "weights" in teacher:
        ignore = tuple(teacher["ignore"])
        return GivenTeacher(teacher["module"], teacher["args"], teacher["weights"], ignore)
    return TrainedTeacher(teacher["module"], teacher["args"], teacher.get("task", {}), teacher["train"])


def _student(student: Options) -> Student:
    distil = presets.expanded(student["distil"])
    return Student(student["module"], student["args"], student.get("capacity"), distil, student["train"])


def _search(search: Options) -> Search:
    return Search(
        tuple(search["cycles"]), search["candidates"], search["ranges"], search["samples"], search["seed"]
    )


def _source(source: Options) -> OnnxSource | WeightsSource:
    return OnnxSource(**source) if "onnx" in source else WeightsSource(**source)


def today() -> date:
    """The day by which waivers are judged, in UTC: one ends at one moment, wherever the build runs."""
    return datetime.now(UTC).date()


def _waiver(waiver: Options) -> Waiver:
    given: dict[str, Any] = {name: waiver.get(name) for name in Waiver._fields}
    return Waiver(**given)


def _platform(name: str, place: str, inline: Any, shared: Mapping[str, Document]) -> Platform:
    schema = schemas.resolved(schemas.PLATFORM)
    if isinstance(inline, str):
        place, full = shared[inline].place, schemas.filled(schema, shared[inline].value)
    else:
        place, full = at(place, ("platforms", name)), inline
    return Platform(
        name=name,
        place=place,
        description=full["description"],
        runtime=full["runtime"],
        required=full["required"],
        evidence=full["evidence"],
        tolerance=full.get("tolerance"),
        budgets=full["budgets"],
        memory=full.get("device", {}).get("memory"),
        options={key: value for key, value in full.items() if key not in schema["properties"]},
    )
