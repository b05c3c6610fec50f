"""The targets of a model's data sets: loaded, sampled from another one, or made of another one by augmentation."""

from collections.abc import Iterator
from typing import Any

from modelbuild.declare import Augmented, Data, Loaded, Model, Sampled
from modelbuild.targets import Recipe, Target, module_of

_HERE = "modelbuild.recipes.data"
LOAD = Recipe(f"{_HERE}:load")
SAMPLE = Recipe(f"{_HERE}:sample")
AUGMENT = Recipe(f"{_HERE}:augment")


def targets(model: Model) -> Iterator[Target]:
    """One target a data set, those that others are made from first."""
    waiting = dict(model.data)
    while waiting:  # the manifest has refused cycles, so every round finds one that is ready
        name = next(n for n, data in waiting.items() if _source(data) not in waiting)
        yield _target(model.name, waiting.pop(name))


def target_of(model: str, data: str) -> str:
    """The target of the data set called so."""
    return f"{model}:data.{data}"


def _source(data: Data) -> str | None:
    return None if isinstance(data, Loaded) else data.source


def _target(model: str, data: Data) -> Target:
    name = target_of(model, data.name)
    if isinstance(data, Sampled):
        doc, params = f"{data.count} samples of {data.source}", {"count": data.count, "seed": data.seed}
        return Target(name, SAMPLE, doc, params, {"data": target_of(model, data.source)})
    if isinstance(data, Augmented):
        doc = f"{data.source}, augmented"
        told = {"by": data.by, "args": data.args, "copies": data.copies, "seed": data.seed}
        inputs = {"data": target_of(model, data.source)}
        return Target(name, AUGMENT, doc, told, inputs, modules=(module_of(data.by),))
    loaded: dict[str, Any] = {"loader": data.loader, "args": data.args, "files": sorted(data.files)}
    doc, code = f"the {data.name} data", (module_of(data.loader),)
    return Target(name, LOAD, doc, loaded, files=data.files, modules=code)
