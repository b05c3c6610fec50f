"""What a manifest declares, as values: the only form in which the rest of the program sees one."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild import schemas
from modelbuild.wording import at

Options = Mapping[str, Any]

# The data sets that come along, by the name a manifest may use for them.
LOADERS: Mapping[str, str] = {
    "sklearn-digits": "modelbuild.zoo.digits:load",
    "sklearn-wine": "modelbuild.zoo.wine:load",
}


@dataclass(frozen=True, slots=True)
class Data:
    """Either `loader` (`package.module:callable`) called with `args`, or `count` samples of data `sample`."""

    name: str
    loader: str | None
    args: Options
    sample: str | None
    count: int
    seed: int


class Teacher(NamedTuple):
    """`train`: steps, batch, lr, weight_decay, seed."""

    module: str
    args: Options
    train: Options


class Student(NamedTuple):
    """`distil`: task (weight), soft (kind, weight, temperature); `train` as a teacher's."""

    module: str
    args: Options
    distil: Options
    train: Options


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
    gate's holds.
    """

    name: str
    place: str
    description: str
    runtime: str
    required: bool
    evidence: str
    tolerance: str | Options | None
    budgets: Options
    options: Options


class Gates(NamedTuple):
    """`teacher` and `task` are None where they are not gated; `runtime` always holds."""

    teacher: Options | None
    task: Options | None
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

    Either `source`, or both `teacher` and `student`, is there.
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
        teacher=Teacher(**full["teacher"]) if "teacher" in full else None,
        student=Student(**full["student"]) if "student" in full else None,
        source=_source(full["source"]) if "source" in full else None,
        export=Export(**full["export"]),
        platforms={
            name: _platform(name, manifest.place, each, shared) for name, each in full["platforms"].items()
        },
        gates=Gates(full["gates"].get("teacher"), full["gates"].get("task"), full["gates"]["runtime"]),
        waivers=tuple(_waiver(each) for each in full["waivers"]),
    )


def _data(name: str, data: Options) -> Data:
    if "sample" in data:
        return Data(name, None, {}, data["sample"], data["count"], data["seed"])
    return Data(name, LOADERS.get(data["loader"], data["loader"]), data["args"], None, 0, 0)


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
        options={key: value for key, value in full.items() if key not in schema["properties"]},
    )
