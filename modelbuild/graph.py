"""The graph of targets: what is built by which recipe from what. Made of manifests alone, importing no framework."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from modelbuild import datasets, distillation, platforms, search
from modelbuild.manifest import Model, OnnxSource, Project
from modelbuild.platforms import Shipped
from modelbuild.runtimes.base import Way
from modelbuild.targets import Plan, Recipe, Target

Platforms = Mapping[str, Shipped]

_HERE = "modelbuild.recipes"
SOURCE_ONNX = Recipe(f"{_HERE}.source:onnx")
EXPORT = Recipe(f"{_HERE}.export:export", tools=("onnxscript", "onnx-ir"))
TORCH_REFERENCE = Recipe(f"{_HERE}.reference:torch_outputs")
ONNX_REFERENCE = Recipe(f"{_HERE}.reference:onnx_outputs")
ROUNDED = Recipe(f"{_HERE}.rounded:outputs")
NOISE = Recipe(f"{_HERE}.noise:measure")
PREFLIGHT = Recipe(f"{_HERE}.preflight:examine")
AGAINST_TEACHER = Recipe(f"{_HERE}.verdicts:teacher")
AGAINST_TRUTH = Recipe(f"{_HERE}.verdicts:task")
ACROSS_RUNTIMES = Recipe(f"{_HERE}.verdicts:runtime")
LOCALISE = Recipe(
    f"{_HERE}.localise:localise", tools=("numpy", "onnx", "onnxruntime", "onnxscript", "onnx-ir")
)
# Copied as they are for whoever has to show a fault to somebody else.
REPRODUCERS = {
    name: str(Path(__file__).parent / "recipes" / name)
    for name in ("repro_coreml.py", "repro_onnxruntime.py", "repro_web.mjs")
}


def plan(project: Project) -> Plan:
    """Lay out the targets of every model. Raises ManifestError for what a platform's runtime cannot be asked for."""
    models = {model.name: tuple(_model(model)) for model in project.models}
    return Plan({t.name: t for targets in models.values() for t in targets}, models)


def _model(model: Model) -> Iterator[Target]:
    ships = {name: platforms.shipped(model, each) for name, each in model.platforms.items()}
    yield from datasets.targets(model)
    if isinstance(model.source, OnnxSource):
        yield from _from_onnx(model, model.source)
    else:
        yield from _from_torch(model)
        yield from _rounded(model, ships)
    yield _noise(model, ships)
    yield from platforms.environments(model.name, ships)
    inputs = _roles(model, "onnx", "student", "reference", "noise", "evaluation", "calibration")
    told = {**inputs, **_taught(model)}
    for each in ships.values():
        yield from platforms.targets(
            model, each, inputs, {"export": _export(model)}, distillation.code(model)
        )
        yield from platforms.golden(model, each, inputs)
        yield from platforms.bundle(model, each, inputs)
        yield from platforms.steps(model, each, told)
    yield from _verdicts(model, ships)


def _roles(model: Model, *roles: str) -> dict[str, str]:
    """Map each role to its target; a data set the manifest does not declare is left out."""
    found = {}
    for role in roles:
        if role in ("train", "unlabelled", "evaluation", "calibration"):
            if role in model.data:
                found[role] = datasets.target_of(model.name, role)
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
    """The student, however it is come by, its reference outputs and its ONNX file."""
    yield from distillation.targets(model)
    name, inputs, code = model.name, _roles(model, "student", "evaluation"), distillation.code(model)
    doc = "reference outputs (PyTorch, fp32 and fp64)"
    yield Target(f"{name}:reference", TORCH_REFERENCE, doc, {}, inputs, modules=code)
    params = {"export": _export(model)}
    yield Target(f"{name}:onnx", EXPORT, "the canonical ONNX file", params, inputs, modules=code)


def _taught(model: Model) -> dict[str, str]:
    """What the teacher says of the evaluation data, where there is a teacher."""
    return {} if model.teacher is None else {"teacher": distillation.said(model.name, "evaluation")}


def _rounded(model: Model, ships: Platforms) -> Iterator[Target]:
    """What each arithmetic below float32 that a platform computes in does to the student."""
    arithmetics, code = _arithmetics(model, ships), distillation.code(model)
    inputs = _roles(model, "student", "evaluation")
    if _halved(arithmetics):
        doc = "what of the student would not survive float16"
        yield Target(f"{model.name}:preflight", PREFLIGHT, doc, {}, inputs, modules=code)
    for rounds in arithmetics:
        doc = f"reference outputs in {rounds} arithmetic"
        params = {"rounds": rounds}
        yield Target(f"{model.name}:reference.{rounds}", ROUNDED, doc, params, inputs, modules=code)


def _arithmetics(model: Model, ships: Platforms) -> list[str]:
    """The arithmetics below float32 that some platform computes in and PyTorch can."""
    found = {platforms.rounds(model, way) for each in ships.values() for way in each.runs.values()}
    return sorted(filter(None, found))


def _halved(arithmetics: Iterable[str]) -> bool:
    """Whether one of them has float16's range."""
    return any("float16" in each for each in arithmetics)


def _noise(model: Model, ships: Platforms) -> Target:
    shipped = f"{model.name}:reference"
    rounded = {f"rounded.{each}": f"{shipped}.{each}" for each in _arithmetics(model, ships)}
    inputs = {**_roles(model, "onnx", "reference", "evaluation"), **rounded}
    doc = "the spread of the outputs that is nobody's fault"
    return Target(f"{model.name}:noise", NOISE, doc, _said(model), inputs, tools=("onnxruntime",))


def _export(model: Model) -> dict[str, Any]:
    return {"opset": model.export.opset, "dynamic": model.export.dynamic}


def _verdicts(model: Model, ships: Platforms) -> Iterator[Target]:
    name, gates, shipped = model.name, model.gates, f"{model.name}:reference"
    said = _said(model)
    if model.teacher is not None and gates.teacher is not None:
        inputs = {"reference": shipped, "outputs": distillation.said(name, "evaluation")}
        yield Target(
            f"{name}:verdict.teacher",
            AGAINST_TEACHER,
            "gate 1: against the teacher",
            {"gate": gates.teacher, "target": shipped, **said},
            inputs,
            modules=search.metrics(gates.teacher),
        )
    if gates.task is not None:
        inputs = {"reference": shipped, **_roles(model, "evaluation")}
        yield Target(
            f"{name}:verdict.task",
            AGAINST_TRUTH,
            "gate 2: against ground truth",
            {"gate": gates.task, "target": shipped, **said},
            inputs,
            modules=search.metrics(gates.task),
        )
    yield _across(model, ships)
    yield _located(model, ships)


def _said(model: Model) -> dict[str, Any]:
    """What the manifest says of the outputs, where it says anything."""
    outputs = model.gates.runtime.get("outputs", {})
    return {"outputs": outputs} if outputs else {}


def _across(model: Model, ships: Platforms) -> Target:
    """Gate 3: runs go by the names of their platforms, `ios`, or where there are several, `ios.float16-sums`."""
    name = model.name
    ways = {run: way for run, _, way in _runs(ships)}
    rounds = {run: found for run, way in ways.items() if (found := platforms.rounds(model, way))}
    inputs = {
        **_roles(model, "reference", "noise", "evaluation"),
        **{f"run.{run}": platforms.run_target(name, run) for run in ways},
        **({"preflight": f"{name}:preflight"} if _halved(rounds.values()) else {}),
    }
    told = {platform: platforms.judged(each) for platform, each in ships.items()}
    params = {"gate": model.gates.runtime, "model": name, "platforms": told, "rounds": rounds}
    doc = "gate 3: every runtime against the reference and each other"
    return Target(f"{name}:verdict.runtime", ACROSS_RUNTIMES, doc, params, inputs)


def _runs(ships: Platforms) -> Iterator[tuple[str, Shipped, Way]]:
    """Every run by its name: that of its platform, `ios`, or where there are several, `ios.float16-sums`."""
    for platform, each in ships.items():
        for label, way in each.runs.items():
            yield platforms.dotted(platform, label), each, way


def _located(model: Model, ships: Platforms) -> Target:
    """What a red run is owed: the first operation that differs, the step that did it, and a program to show it."""
    name, runs = model.name, [*_runs(ships)]
    inputs = {
        "verdict": f"{name}:verdict.runtime",
        **_roles(model, "onnx", "reference", "noise", "evaluation"),
        **({} if isinstance(model.source, OnnxSource) else {"student": f"{name}:student"}),
        **_taught(model),
        **{f"artifact.{platform}": f"{name}:{platform}" for platform, each in ships.items() if each.runs},
        **{f"run.{run}": platforms.run_target(name, run) for run, _, _ in runs},
        **{
            f"environment.{run}": platforms.environment_target(name, way.environment)
            for run, _, way in runs
            if way.environment
        },
        **{f"rounded.{each}": f"{name}:reference.{each}" for each in _arithmetics(model, ships)},
    }
    told = {
        run: {
            "runtime": each.platform.runtime,
            "options": dict(way.options),
            "rounds": platforms.rounds(model, way),
            **platforms.demanded(model, each.platform),
        }
        for run, each, way in runs
    }
    code = {module for _, each, _ in runs for module in each.code}
    return Target(
        f"{name}:repro",
        LOCALISE,
        "of what is red: the first operation that differs, and a program that shows it",
        {"runs": told, "export": _export(model)},
        inputs,
        modules=(*sorted(code), *distillation.code(model)),
        machine={what: path for _, _, way in runs for what, path in way.machine.items()},
        files={**REPRODUCERS, **{what: path for _, _, way in runs for what, path in way.files.items()}},
        tools=tuple(sorted({tool for _, each, _ in runs for tool in each.runtime.toolchain()})),
    )
