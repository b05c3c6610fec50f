"""What a runtime is: one object that makes, and runs, one artefact format; and how it is found by name.

A runtime lives in `modelbuild/runtimes/<name>.py` (a hyphen in the name is an underscore in the file) as the
attribute `RUNTIME`, or in another distribution behind the entry-point group `modelbuild.runtimes`. The
graph asks for `toolchain`, `available`, `conversion`, `modules` and `runs` on every build, also one with nothing to
do: importing a runtime's module and calling these must not load the packages that do the work.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from modelbuild.errors import CommandError, did_you_mean

if TYPE_CHECKING:
    from modelbuild.golden import Golden
    from modelbuild.tensors import Arrays

GROUP = "modelbuild.runtimes"
Evidence = Literal["executed", "interpreted", "none"]
RANK: tuple[Evidence, ...] = ("none", "interpreted", "executed")  # from the least
Target = Literal["onnx", "student", "evaluation", "calibration"]


class Run(NamedTuple):
    """What came out of one artefact: arrays by output name (samples first), and who computed them.

    `evidence` is "executed" when the shipped runtime ran the artefact, "interpreted" when a reference
    interpreter evaluated the shipped file. `placement` maps a node to the provider or device that ran it; `facts`
    is what else is worth a record, as JSON values: the processor's flags, the adapter of a GPU.
    """

    outputs: Arrays
    version: str
    backend: str
    evidence: Evidence
    placement: Mapping[str, str] = MappingProxyType({})
    facts: Mapping[str, Any] = MappingProxyType({})


class Environment(NamedTuple):
    """Packages that a conversion or a run needs beside those of the build, isolated: "python" (uv) or "node" (npm).

    `pins` are requirements of that kind, "onnxruntime==1.18.1" or "onnxruntime-web@1.30.0"; the build locks and
    installs them once, and hands the folder of the installed environment over as `params["environment"]`. `lock`
    names files of a lock that was made before, by role: "manifest" and "lock" of npm.
    """

    name: str
    kind: Literal["python", "node"]
    pins: tuple[str, ...]
    lock: Mapping[str, str] = MappingProxyType({})


class Conversion(NamedTuple):
    """What `convert` reads: target folders by name, of the platform's options those in `options`, an environment.

    An option that only runs read is not among them: to add a way of running leaves the artefact as it is.
    `files` of the runtime, by name, that are no Python decide what comes out too; their contents are part of the key.
    """

    needs: tuple[Target, ...]
    options: Mapping[str, Any] = MappingProxyType({})
    environment: Environment | None = None
    files: Mapping[str, str] = MappingProxyType({})


class Way(NamedTuple):
    """One way of running an artefact: `options` is what `run` reads of the platform's, and nothing else.

    `rounds` is the arithmetic below float32 that is computed in: "float16" where every result is rounded to it,
    "float16-sums" where every step of a sum is too; None for float32. The gate allows what that alone does.
    `machine` names files of this machine that decide what comes out, a browser; their contents are part of the key.
    `files` are as those of a conversion. `unavailable` says why this machine cannot run in this way and what to do
    about it; None when it can.
    """

    options: Mapping[str, Any] = MappingProxyType({})
    rounds: str | None = None
    environment: Environment | None = None
    machine: Mapping[str, str] = MappingProxyType({})
    unavailable: str | None = None
    files: Mapping[str, str] = MappingProxyType({})


@runtime_checkable
class Runtime(Protocol):
    """One screen of promises. Methods below the line may load heavy packages; those above it may not."""

    name: str

    def toolchain(self) -> tuple[str, ...]:
        """Names of the distributions whose versions decide what `convert` and `run` give."""

    def available(self) -> str | None:
        """Why this machine cannot run the format, and what to do about it; None when it can."""

    def conversion(self, options: Mapping[str, Any]) -> Conversion:
        """What `convert` reads. Raises ManifestError, placed at the option, for a bad option."""

    def modules(self) -> tuple[str, ...]:
        """Dotted names of the modules besides its own that belong to the runtime; may be empty."""

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        """The ways in which an artefact is run, by name; "" is the name of the only one, or of the usual one."""

    # ---------------------------------------------------------------------------------------------------

    def convert(self, model: Mapping[str, Path], out: Path, params: Mapping[str, Any]) -> None:
        """Write the artefact into folder `out` from the target folders in `model`, same bytes every time.

        `params` has the conversion's "options", the folder of its "environment" where it has one and, where the
        student is needed, its "module" and "args" and the model's "export".
        Raises RecipeError when the model cannot be expressed in this format.
        """

    def run(self, artifact: Path, inputs: Arrays, params: Mapping[str, Any]) -> Run:
        """Run the artefact in folder `artifact` on every sample (first axis) of the named `inputs`.

        `params` has the way's "options", and the folder of its "environment" where it has one.
        Raises RecipeError for an input that is missing, not asked for, or of another dtype or shape.
        """


class Node(NamedTuple):
    """One operation inside an artefact: its name, its `kind` as the runtime calls it, the values it takes and gives.

    `layout`: it moves or renames numbers and computes none (transpose, reshape, cast, identity). Constants are
    neither nodes nor among the values that are read.
    """

    name: str
    kind: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    layout: bool = False


class Inside(NamedTuple):
    """What an artefact computes, in the runtime's own names: `nodes` in an order in which they can run.

    `identity` maps a value of the artefact to the value of the canonical ONNX file that it should equal; one that is
    not in it has no counterpart (a fused or inserted operation). `batch` is the number of samples of every call where
    the artefact fixes it.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    identity: Mapping[str, str]
    batch: int | None = None


@runtime_checkable
class Inspectable(Protocol):
    """A runtime that can also show the values inside, and cut a part out of an artefact."""

    def inside(self, artifact: Path) -> Inside:
        """The operations of the artefact. Raises RecipeError where they cannot be seen."""

    def intermediates(
        self, artifact: Path, inputs: Arrays, names: tuple[str, ...], params: Mapping[str, Any]
    ) -> Arrays:
        """The values called `names` as one call on `inputs` (all its samples) leaves them; run as `run` does.

        Nothing is said of their first axis. Raises RecipeError for a name that no operation gives.
        """

    def excerpt(self, artifact: Path, out: Path, reads: tuple[str, ...], gives: tuple[str, ...]) -> str:
        """Write into folder `out` the part of the artefact that computes `gives` from `reads`; return its name.

        It keeps the artefact's own weights and attributes. Raises RecipeError where `gives` needs more than `reads`.
        """


class Switch(NamedTuple):
    """A run of the canonical ONNX file with one thing more as it ships: its `stage`, and the options of `run`."""

    stage: Literal["runtime", "optimisation"]
    options: Mapping[str, Any]


@runtime_checkable
class Switchable(Protocol):
    """A runtime of ONNX, so that what its version, its optimiser and its own file format do can be told apart."""

    def switches(self, options: Mapping[str, Any]) -> tuple[Switch, ...]:
        """For one way's `options`: the plainest run in its version and host, then that with its own settings."""

    def as_artifact(self, onnx: Path, out: Path) -> None:
        """Write into folder `out` the canonical file of target folder `onnx` as an artefact that `run` takes."""


@runtime_checkable
class Bundling(Protocol):
    """A runtime whose artefact ships with all that is needed to run it: the bundle is delivered in its place."""

    def bundling(self, options: Mapping[str, Any]) -> Conversion | None:
        """What `bundle` reads beside the artefact; None where this machine cannot make one. Light, as `runs` is."""

    def bundle(self, artifact: Path, out: Path, golden: Golden, params: Mapping[str, Any]) -> None:
        """Write into folder `out` the artefact, what runs it, and `golden` samples with a program that checks them.

        `params` has the "options" and "environment" of `bundling`. Raises RecipeError.
        """


@cache
def find(name: str) -> Runtime:
    """The runtime called `name`; one that ships here wins over an entry point of the same name.

    Raises CommandError for a name nobody answers to, and for an entry point that is not a runtime.
    """
    if name in builtin():
        module = importlib.import_module(f"{__package__}.{name.replace('-', '_')}")
        return _checked(name, module.RUNTIME)
    for entry in _entry_points():
        if entry.name == name:
            return _checked(name, entry.load())
    raise CommandError(f'runtime "{name}"', "there is no such runtime", did_you_mean(name, list(known())))


def known() -> tuple[str, ...]:
    """The names of all runtimes, sorted; none of them is imported."""
    return tuple(sorted({*builtin(), *(entry.name for entry in _entry_points())}))


@cache
def builtin() -> tuple[str, ...]:
    """The names of the runtimes in this folder, sorted; none of them is imported."""
    here = Path(__file__).parent
    found = {p.stem for p in here.glob("*.py")} | {p.parent.name for p in here.glob("*/__init__.py")}
    return tuple(sorted(name.replace("_", "-") for name in found if name != "base" and name[0] != "_"))


def _entry_points() -> tuple[Any, ...]:
    from importlib.metadata import entry_points

    return tuple(entry_points(group=GROUP))


def _checked(name: str, candidate: object) -> Runtime:
    if isinstance(candidate, Runtime):
        return candidate
    missing = [part for part in PARTS if not hasattr(candidate, part)]
    raise CommandError(
        f'runtime "{name}"',
        f"{candidate!r} is not a runtime: it has no {', '.join(missing)}",
        "See modelbuild.runtimes.base.Runtime for what a runtime promises",
    )


PARTS = ("name", "toolchain", "available", "conversion", "modules", "runs", "convert", "run")
