"""The targets of one platform: its artefact, the environments and runs it asks for, and what the gate is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from modelbuild.declare import Model, OnnxSource, Platform
from modelbuild.errors import ManifestError
from modelbuild.golden import checkers
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Bundling, Conversion, Environment, Runtime, Way
from modelbuild.targets import Recipe, Target

LOCK = Recipe("modelbuild.recipes.environment:lock")
CONVERT = Recipe("modelbuild.recipes.platform:convert")
RUN = Recipe("modelbuild.recipes.platform:run")
STEPS = Recipe("modelbuild.recipes.steps:measure")
GOLDEN = Recipe("modelbuild.recipes.golden:golden")
BUNDLE = Recipe("modelbuild.recipes.bundle:bundle")


class Shipped(NamedTuple):
    """A platform as this machine finds it; `unavailable` is why nothing of it can run here, None when it can.

    `ways` are the ways of running it by their names, `code` the modules of its runtime.
    """

    platform: Platform
    runtime: Runtime
    conversion: Conversion
    ways: Mapping[str, Way]
    unavailable: str | None

    @property
    def runs(self) -> Mapping[str, Way]:
        """The ways that this machine can run."""
        if self.unavailable is not None:
            return {}
        return {name: way for name, way in self.ways.items() if way.unavailable is None}

    @property
    def bundling(self) -> Conversion | None:
        """What a bundle is made with, where the runtime makes one and this machine can."""
        if self.unavailable is None and isinstance(self.runtime, Bundling):
            return self.runtime.bundling(self.platform.options)
        return None

    @property
    def code(self) -> tuple[str, ...]:
        return (self.runtime.__module__, *self.runtime.modules())


def shipped(model: Model, platform: Platform) -> Shipped:
    """Ask the platform's runtime. Raises ManifestError, placed in the manifest, for what cannot be asked of it."""
    runtime = base.find(platform.runtime)
    try:
        conversion, ways = runtime.conversion(platform.options), runtime.runs(platform.options)
    except ManifestError as error:
        option = error.place.removeprefix("options/")
        place = f"{platform.place}{'/' if '#' in platform.place else '#/'}{option}"
        raise ManifestError(place, error.fact, error.remedy) from None
    if "student" in conversion.needs and isinstance(model.source, OnnxSource):
        fact = f"{platform.runtime} is made from the model's module, and this model starts from an ONNX file"
        remedy = 'Start from "source": {"module": ..., "weights": ...}, or leave this platform out'
        raise ManifestError(platform.place, fact, remedy)
    return Shipped(platform, runtime, conversion, ways, runtime.available())


def environments(model: str, platforms: Mapping[str, Shipped]) -> Iterator[Target]:
    """The locked environments that the platforms' conversions and runs happen in, each once."""
    asked: dict[str, Environment] = {}
    for each in platforms.values():
        if each.unavailable is None:
            used = [each.conversion.environment, *(way.environment for way in each.runs.values())]
            used += [each.bundling.environment] if each.bundling is not None else []
            asked.update((e.name, e) for e in used if e is not None)
    for name, environment in asked.items():
        params: dict[str, Any] = {"kind": environment.kind, "pins": list(environment.pins)}
        doc = f"the locked environment {name}"
        yield Target(environment_target(model, environment), LOCK, doc, params, files=dict(environment.lock))


def environment_target(model: str, environment: Environment) -> str:
    """The target that locks an environment."""
    return f"{model}:environment.{environment.name}"


def targets(
    model: Model, each: Shipped, inputs: Mapping[str, str], export: Mapping[str, Any], code: tuple[str, ...]
) -> Iterator[Target]:
    """The artefact of a platform and its runs; `inputs`: the targets there are, `code`: the network's modules."""
    if each.unavailable is not None:
        return
    name, conversion = f"{model.name}:{each.platform.name}", each.conversion
    student = "student" in conversion.needs
    yield Target(
        name,
        CONVERT,
        f"the artefact for {each.platform.name} ({each.platform.runtime})",
        {
            "runtime": each.platform.runtime,
            "options": dict(conversion.options),
            **(export if student else {}),
        },
        {
            **{n: inputs[n] for n in conversion.needs if n in inputs},
            **_in(model.name, conversion.environment),
        },
        files=conversion.files,
        modules=(*each.code, *(code if student else ())),
        tools=each.runtime.toolchain(),
    )
    for label, way in each.runs.items():
        yield Target(
            dotted(f"{name}.run", label),
            RUN,
            f"outputs of {each.platform.name} on the evaluation data{f', {label}' if label else ''}",
            {"runtime": each.platform.runtime, "options": dict(way.options)},
            {"artifact": name, "evaluation": inputs["evaluation"], **_in(model.name, way.environment)},
            modules=each.code,
            tools=each.runtime.toolchain(),
            machine=way.machine,
            files=way.files,
        )


def demanded(model: Model, platform: Platform) -> dict[str, Any]:
    """What the platform's runs are held to, and where in the manifest that stands."""
    if platform.tolerance is None:
        return {"gate": model.gates.runtime, "place": "gates/runtime"}
    gate = {**model.gates.runtime, "tolerance": platform.tolerance}
    return {"gate": gate, "place": f"platforms/{platform.name}"}


def steps(model: Model, each: Shipped, inputs: Mapping[str, str]) -> Iterator[Target]:
    """What each switch on the way to the platform's usual run does; `inputs`: the targets there are."""
    for label, way in [*each.runs.items()][:1]:
        name = f"{model.name}:{each.platform.name}"
        told = {"runtime": each.platform.runtime, "options": dict(way.options), "rounds": rounds(model, way)}
        roles = ("onnx", "reference", "noise", "evaluation", "teacher")
        yield Target(
            f"{name}.steps",
            STEPS,
            f"the steps from the teacher to {each.platform.name}",
            {"run": dotted(each.platform.name, label), **told, **demanded(model, each.platform)},
            {
                **{role: inputs[role] for role in roles if role in inputs},
                "run": dotted(f"{name}.run", label),
                **({"rounded": f"{inputs['reference']}.{told['rounds']}"} if told["rounds"] else {}),
                **_in(model.name, way.environment),
            },
            modules=each.code,
            tools=each.runtime.toolchain(),
            machine=way.machine,
            files=way.files,
        )


def golden(model: Model, each: Shipped, inputs: Mapping[str, str]) -> Iterator[Target]:
    """Samples that travel with the artefact, and programs that check it with them where it is used."""
    if each.unavailable is not None:
        return
    platform, name = each.platform, f"{model.name}:{each.platform.name}"
    told = {"runtime": platform.runtime, "rounds": arithmetics(model, each)}
    yield Target(
        f"{name}.golden",
        GOLDEN,
        f"golden samples for {platform.name}, with programs that check them",
        {**told, **demanded(model, platform)},
        {"artifact": name, **{role: inputs[role] for role in ("evaluation", "reference", "noise")}},
        files=checkers(),
    )


def rounds(model: Model, way: Way) -> str | None:
    """The arithmetic below float32 of a way of running, where PyTorch can say what that does to the model."""
    return None if isinstance(model.source, OnnxSource) else way.rounds


def arithmetics(model: Model, each: Shipped) -> list[str]:
    """Those it is run in, each once, "" for float32: another way of running in one of them changes no limit."""
    return sorted({rounds(model, way) or "" for way in each.runs.values()})


def bundle(model: Model, each: Shipped, inputs: Mapping[str, str]) -> Iterator[Target]:
    """What is delivered in place of the artefact where its runtime bundles it."""
    if each.bundling is None:
        return
    platform, name = each.platform, f"{model.name}:{each.platform.name}"
    yield Target(
        bundled(name),
        BUNDLE,
        f"what ships for {platform.name}, with golden samples",
        {
            "runtime": platform.runtime,
            "options": dict(each.bundling.options),
            "rounds": arithmetics(model, each),
            **demanded(model, platform),
        },
        {
            "artifact": name,
            **{role: inputs[role] for role in ("evaluation", "reference", "noise")},
            **_in(model.name, each.bundling.environment),
        },
        files={**each.bundling.files, **checkers()},
        modules=each.code,
    )


def bundled(artefact: str) -> str:
    """The name of the bundle of the artefact called so."""
    return f"{artefact}.bundle"


def _in(model: str, environment: Environment | None) -> dict[str, str]:
    return {} if environment is None else {"environment": environment_target(model, environment)}


def dotted(name: str, way: str) -> str:
    """`digits:ios.run.float16-sums`; the usual way of running has no name of its own."""
    return f"{name}.{way}" if way else name


def run_target(model: str, run: str) -> str:
    """The target of the run that the gate calls `ios`, or `ios.float16-sums`."""
    platform, _, way = run.partition(".")
    return dotted(f"{model}:{platform}.run", way)


def judged(each: Shipped) -> dict[str, Any]:
    """What the runtime gate is told of a platform; `absent`: the ways this machine cannot run, and why."""
    platform = each.platform
    ways = {} if each.unavailable is not None else each.ways
    return {
        "runtime": platform.runtime,
        "required": platform.required,
        "evidence": platform.evidence,
        "unavailable": each.unavailable,
        "absent": {name: way.unavailable for name, way in ways.items() if way.unavailable is not None},
        "tolerance": platform.tolerance,
        "budgets": platform.budgets,
    }
