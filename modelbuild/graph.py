"""The graph of targets: what is built by which recipe from what. Made of manifests alone, importing no framework."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from modelbuild.manifest import Data, Model, OnnxSource, Platform, Project, Student, Teacher, WeightsSource
from modelbuild.runtimes import base

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
    yield from _data(model)
    if isinstance(model.source, OnnxSource):
        yield from _from_onnx(model, model.source)
    else:
        yield from _from_torch(model)
    for platform in model.platforms.values():
        if absent[platform.runtime] is None:
            yield from _platform(model, platform)
    yield from _verdicts(model, absent)


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
    export = {"export": {"opset": model.export.opset, "dynamic": model.export.dynamic}}
    yield Target(
        f"{model.name}:onnx", SOURCE_ONNX, "the canonical ONNX file", export, files={"model": source.onnx}
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
    params = {**net, "export": {"opset": model.export.opset, "dynamic": model.export.dynamic}}
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


def _platform(model: Model, platform: Platform) -> Iterator[Target]:
    runtime = base.find(platform.runtime)
    name = f"{model.name}:{platform.name}"
    params: dict[str, Any] = {"runtime": platform.runtime, "options": platform.options}
    code = (runtime.__module__, *runtime.modules())
    needs = runtime.needs(platform.options)
    net = _net(model) if "student" in needs else {}
    yield Target(
        name,
        CONVERT,
        f"the artefact for {platform.name} ({platform.runtime})",
        {**params, **net},
        _roles(model, *needs),
        modules=(*code, *([_module(net["module"])] if net else [])),
        tools=runtime.toolchain(),
    )
    inputs = {"artifact": name, **_roles(model, "evaluation")}
    doc = f"outputs of {platform.name} on the evaluation data"
    yield Target(f"{name}.run", RUN, doc, params, inputs, modules=code, tools=runtime.toolchain())


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
    platforms = {
        p.name: {
            "runtime": p.runtime,
            "required": p.required,
            "unavailable": absent[p.runtime],
            "tolerance": p.tolerance,
            "budgets": p.budgets,
        }
        for p in model.platforms.values()
    }
    runs = {f"run.{n}": f"{name}:{n}.run" for n, p in platforms.items() if p["unavailable"] is None}
    inputs = {"reference": shipped, **_roles(model, "evaluation"), **runs}
    params = {"gate": gates.runtime, "model": name, "platforms": platforms}
    yield Target(
        f"{name}:verdict.runtime",
        ACROSS_RUNTIMES,
        "gate 3: every runtime against the reference and each other",
        params,
        inputs,
    )
