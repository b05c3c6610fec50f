"""The graph of targets: what is built by which recipe from what. Made of manifests alone, importing no framework."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from modelbuild.errors import ManifestError
from modelbuild.manifest import Data, Model, OnnxSource, Platform, Project, Student, Teacher, WeightsSource
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Way

NOTHING: Mapping[str, Any] = MappingProxyType({})
Absent = Mapping[str, str | None]  # runtime -> why this machine cannot use it, or None


class Recipe(NamedTuple):
    """A function `(inputs, params, out_dir) -> None`, by path; `tools` are distributions it uses without import."""

    function: str
    tools: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return self.function.partition(":")[0]


class Target(NamedTuple):
    """One node. `inputs`: role -> target; `files`: role -> project file; `modules`: code the manifest names."""

    name: str
    recipe: Recipe
    doc: str
    params: Mapping[str, Any] = NOTHING
    inputs: Mapping[str, str] = NOTHING
    files: Mapping[str, str] = NOTHING
    modules: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def model(self) -> str:
        return self.name.partition(":")[0]


class Plan(NamedTuple):
    """Every target by name, inputs before what is made from them; `models` in the manifests' order."""

    targets: Mapping[str, Target]
    models: Mapping[str, tuple[Target, ...]]

    def of(self, model: str) -> tuple[Target, ...]:
        """Return the targets of one model."""
        return self.models[model]

    def ends(self, model: str) -> list[str]:
        """Return the names of the targets nothing else is made from."""
        used = {name for target in self.models[model] for name in target.inputs.values()}
        return [target.name for target in self.models[model] if target.name not in used]

    def verdicts(self, model: str) -> list[str]:
        """Return the names of the targets that hold a model's verdicts."""
        return [t.name for t in self.models[model] if t.name.startswith(f"{model}:verdict.")]


_HERE = "modelbuild.recipes"
LOAD = Recipe(f"{_HERE}.data:load")
SAMPLE = Recipe(f"{_HERE}.data:sample")
TEACHER = Recipe(f"{_HERE}.teacher:train")
TEACHER_OUTPUTS = Recipe(f"{_HERE}.teacher:outputs")
DISTIL = Recipe(f"{_HERE}.distil:distil")
WEIGHTS = Recipe(f"{_HERE}.source:weights")
SOURCE_ONNX = Recipe(f"{_HERE}.source:onnx")
EXPORT = Recipe(f"{_HERE}.export:export", tools=("onnxscript", "onnx-ir"))
TORCH_REFERENCE = Recipe(f"{_HERE}.reference:torch_outputs")
ONNX_REFERENCE = Recipe(f"{_HERE}.reference:onnx_outputs")
ROUNDED = Recipe(f"{_HERE}.rounded:outputs")
PREFLIGHT = Recipe(f"{_HERE}.preflight:examine")
CONVERT = Recipe(f"{_HERE}.platform:convert")
RUN = Recipe(f"{_HERE}.platform:run")
AGAINST_TEACHER = Recipe(f"{_HERE}.verdicts:teacher")
AGAINST_TRUTH = Recipe(f"{_HERE}.verdicts:task")
ACROSS_RUNTIMES = Recipe(f"{_HERE}.verdicts:runtime")


def plan(project: Project) -> Plan:
    """Lay out the targets of every model."""
    names = {p.runtime for model in project.models for p in model.platforms.values()}
    absent = {name: base.find(name).available() for name in names}
    models = {model.name: tuple(_model(model, absent)) for model in project.models}
    return Plan({t.name: t for targets in models.values() for t in targets}, models)


def _model(model: Model, absent: Absent) -> Iterator[Target]:
    for platform in model.platforms.values():
        _check_options(model, platform)
    yield from _data(model)
    if isinstance(model.source, OnnxSource):
        yield from _from_onnx(model, model.source)
    else:
        yield from _from_torch(model)
        yield from _rounded(model, absent)
    for platform in model.platforms.values():
        if absent[platform.runtime] is None:
            yield from _platform(model, platform)
    yield from _verdicts(model, absent)


def _check_options(model: Model, platform: Platform) -> None:
    """Raises ManifestError, placed in the manifest, for what the platform's runtime cannot be asked for."""
    try:
        needs = base.find(platform.runtime).needs(platform.options)
    except ManifestError as error:
        option = error.place.removeprefix("options/")
        place = f"{platform.place}{'/' if '#' in platform.place else '#/'}{option}"
        raise ManifestError(place, error.fact, error.remedy) from None
    if "student" in needs and isinstance(model.source, OnnxSource):
        fact = f"{platform.runtime} is made from the model's module, and this model starts from an ONNX file"
        remedy = 'Start from "source": {"module": ..., "weights": ...}, or leave this platform out'
        raise ManifestError(platform.place, fact, remedy)


def _data(model: Model) -> Iterator[Target]:
    waiting = dict(model.data)
    while waiting:  # the manifest has refused cycles, so every round finds one that is ready
        name = next(n for n, d in waiting.items() if d.sample is None or d.sample not in waiting)
        yield _data_target(model.name, name, waiting.pop(name))


def _data_target(model: str, name: str, data: Data) -> Target:
    full = f"{model}:data.{name}"
    if data.sample is not None:
        params: dict[str, Any] = {"count": data.count, "seed": data.seed}
        return Target(
            full,
            SAMPLE,
            f"{data.count} samples of {data.sample}",
            params,
            {"data": f"{model}:data.{data.sample}"},
        )
    params = {"loader": data.loader, "args": data.args}
    return Target(full, LOAD, f"the {name} data", params, modules=(_module(str(data.loader)),))


def _module(path: str) -> str:
    return path.partition(":")[0]


def _roles(model: Model, *roles: str) -> dict[str, str]:
    """Map each role to its target; a data set the manifest does not declare is left out."""
    found = {}
    for role in roles:
        if role in ("train", "unlabelled", "evaluation", "calibration"):
            if role in model.data:
                found[role] = f"{model.name}:data.{role}"
        else:
            found[role] = f"{model.name}:{role}"
    return found


def _from_onnx(model: Model, source: OnnxSource) -> Iterator[Target]:
    params = {"export": _export(model)}
    yield Target(
        f"{model.name}:onnx", SOURCE_ONNX, "the canonical ONNX file", params, files={"model": source.onnx}
    )
    inputs = _roles(model, "onnx", "evaluation")
    yield Target(
        f"{model.name}:reference", ONNX_REFERENCE, "reference outputs (ONNX Runtime, unoptimised)", {}, inputs
    )


def _from_torch(model: Model) -> Iterator[Target]:
    """Teacher, teacher outputs, student (or given weights), reference, ONNX."""
    yield from _student(model)
    net = _net(model)
    code = (_module(net["module"]),)
    name, inputs = model.name, _roles(model, "student", "evaluation")
    yield Target(
        f"{name}:reference",
        TORCH_REFERENCE,
        "reference outputs (PyTorch, fp32 and fp64)",
        net,
        inputs,
        modules=code,
    )
    params = {**net, "export": _export(model)}
    yield Target(f"{name}:onnx", EXPORT, "the canonical ONNX file", params, inputs, modules=code)


def _net(model: Model) -> dict[str, Any]:
    """Module and arguments of the network that ships."""
    net = model.student or model.source
    if net is None or isinstance(net, OnnxSource):
        return {}
    return {"module": net.module, "args": net.args}


def _student(model: Model) -> Iterator[Target]:
    """The student's weights: given, or distilled from a teacher."""
    source = model.source
    if isinstance(source, WeightsSource):
        files, code = {"weights": source.weights}, (_module(source.module),)
        doc = "the given weights"
        yield Target(f"{model.name}:student", WEIGHTS, doc, _net(model), files=files, modules=code)
    if model.teacher is not None and model.student is not None:
        yield from _teacher(model, model.teacher)
        yield _distilled(model, model.student)


def _teacher(model: Model, teacher: Teacher) -> Iterator[Target]:
    name, code = f"{model.name}:teacher", (_module(teacher.module),)
    net = {"module": teacher.module, "args": teacher.args}
    trained = {**net, "train": teacher.train}
    yield Target(name, TEACHER, "the trained teacher", trained, _roles(model, "train"), modules=code)
    inputs = _roles(model, "teacher", "train", "unlabelled", "evaluation")
    doc = "the teacher's outputs on all data"
    yield Target(f"{name}.outputs", TEACHER_OUTPUTS, doc, net, inputs, modules=code)


def _distilled(model: Model, student: Student) -> Target:
    params = {**_net(model), "distil": student.distil, "train": student.train}
    inputs = {**_roles(model, "train", "unlabelled"), "outputs": f"{model.name}:teacher.outputs"}
    code = (_module(student.module),)
    return Target(f"{model.name}:student", DISTIL, "the student, distilled", params, inputs, modules=code)


def _rounded(model: Model, absent: Absent) -> Iterator[Target]:
    """What each arithmetic below float32 that a platform computes in does to the student."""
    arithmetics = {way.rounds for each in model.platforms.values() for way in _ways(each, absent).values()}
    net = _net(model)
    inputs, code = _roles(model, "student", "evaluation"), (_module(net["module"]),)
    if arithmetics - {None}:
        doc = "what of the student would not survive float16"
        yield Target(f"{model.name}:preflight", PREFLIGHT, doc, net, inputs, modules=code)
    for rounds in sorted(filter(None, arithmetics)):
        doc = f"reference outputs in {rounds} arithmetic"
        params = {**net, "rounds": rounds}
        yield Target(f"{model.name}:reference.{rounds}", ROUNDED, doc, params, inputs, modules=code)


def _ways(platform: Platform, absent: Absent) -> Mapping[str, Way]:
    """The ways in which a platform is run; none where this machine cannot."""
    return base.find(platform.runtime).runs(platform.options) if absent[platform.runtime] is None else {}


def _platform(model: Model, platform: Platform) -> Iterator[Target]:
    runtime = base.find(platform.runtime)
    name = f"{model.name}:{platform.name}"
    params: dict[str, Any] = {"runtime": platform.runtime, "options": platform.options}
    code = (runtime.__module__, *runtime.modules())
    needs = runtime.needs(platform.options)
    made = {**_net(model), "export": _export(model)} if "student" in needs else {}
    yield Target(
        name,
        CONVERT,
        f"the artefact for {platform.name} ({platform.runtime})",
        {**params, **made},
        _roles(model, *needs),
        modules=(*code, *([_module(made["module"])] if made else [])),
        tools=runtime.toolchain(),
    )
    inputs = {"artifact": name, **_roles(model, "evaluation")}
    for label, way in runtime.runs(platform.options).items():
        doc = f"outputs of {platform.name} on the evaluation data{f', {label}' if label else ''}"
        run, told = _dotted(f"{name}.run", label), {**params, **way.params}
        yield Target(run, RUN, doc, told, inputs, modules=code, tools=runtime.toolchain())


def _dotted(name: str, way: str) -> str:
    """`digits:ios.run.float16-sums`; the usual way of running has no name of its own."""
    return f"{name}.{way}" if way else name


def _export(model: Model) -> dict[str, Any]:
    return {"opset": model.export.opset, "dynamic": model.export.dynamic}


def _verdicts(model: Model, absent: Absent) -> Iterator[Target]:
    name, gates, shipped = model.name, model.gates, f"{model.name}:reference"
    if model.teacher is not None and gates.teacher is not None:
        inputs = {"reference": shipped, "outputs": f"{name}:teacher.outputs"}
        yield Target(
            f"{name}:verdict.teacher",
            AGAINST_TEACHER,
            "gate 1: against the teacher",
            {"gate": gates.teacher, "target": shipped},
            inputs,
        )
    if gates.task is not None:
        inputs = {"reference": shipped, **_roles(model, "evaluation")}
        yield Target(
            f"{name}:verdict.task",
            AGAINST_TRUTH,
            "gate 2: against ground truth",
            {"gate": gates.task, "target": shipped},
            inputs,
        )
    yield _across(model, absent)


def _across(model: Model, absent: Absent) -> Target:
    """Gate 3: runs go by the names of their platforms, `ios`, or where there are several, `ios.float16-sums`."""
    name, shipped = model.name, f"{model.name}:reference"
    runs, rounds = dict[str, str](), dict[str, str]()
    for platform in model.platforms.values():
        for label, way in _ways(platform, absent).items():
            run = _dotted(platform.name, label)
            runs[run] = _dotted(f"{name}:{platform.name}.run", label)
            if way.rounds is not None and _net(model):
                rounds[run] = way.rounds
    inputs = {
        "reference": shipped,
        **_roles(model, "evaluation"),
        **{f"run.{run}": target for run, target in runs.items()},
        **{f"rounded.{each}": f"{shipped}.{each}" for each in rounds.values()},
        **({"preflight": f"{name}:preflight"} if rounds else {}),
    }
    platforms = {p.name: _judged(p, absent[p.runtime]) for p in model.platforms.values()}
    params = {"gate": model.gates.runtime, "model": name, "platforms": platforms, "rounds": rounds}
    doc = "gate 3: every runtime against the reference and each other"
    return Target(f"{name}:verdict.runtime", ACROSS_RUNTIMES, doc, params, inputs)


def _judged(platform: Platform, unavailable: str | None) -> dict[str, Any]:
    """What the runtime gate is told of a platform."""
    return {
        "runtime": platform.runtime,
        "required": platform.required,
        "evidence": platform.evidence,
        "unavailable": unavailable,
        "tolerance": platform.tolerance,
        "budgets": platform.budgets,
    }
