"""What a plan is made of: a recipe, a target, and all targets of a project."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NOTHING: Mapping[str, Any] = MappingProxyType({})


def module_of(path: str) -> str:
    """The module of `package.module:name`."""
    return path.partition(":")[0]


class Recipe(NamedTuple):
    """A function `(inputs, params, out_dir) -> None`, by path; `tools` are distributions it uses without import."""

    function: str
    tools: tuple[str, ...] = ()

    @property
    def module(self) -> str:
        return module_of(self.function)


class Target(NamedTuple):
    """One node. `inputs`: role -> target; `files`: role -> project file; `modules`: code the manifest names.

    `machine`: what -> a file of this machine whose contents decide the result, such as a browser; it is part of the
    key and the recipe finds it by itself.
    """

    name: str
    recipe: Recipe
    doc: str
    params: Mapping[str, Any] = NOTHING
    inputs: Mapping[str, str] = NOTHING
    files: Mapping[str, str] = NOTHING
    modules: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    machine: Mapping[str, str] = NOTHING

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
