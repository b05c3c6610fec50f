"""A student that starts from its teacher's weights: layer by layer, and all else of the same name and shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from modelbuild.errors import RecipeError
from modelbuild.training import layers
from modelbuild.training.layers import CONTAINERS, Pair, Spec

PLACE = "distil.initial"
REMEDY = "Give it the teacher's width, or leave out distil.initial, or the preset that sets it."
State = Mapping[str, Tensor]


class Plan(NamedTuple):
    """The pairs of layers, and for each name in the student's state dict that is copied the teacher's name."""

    pairs: list[Pair]
    names: dict[str, str]


def plan(student: nn.Module, teacher: nn.Module, spec: Spec) -> Plan:
    """What the student takes over, as `spec`, the manifest's "distil.initial", asks; no number is looked at.

    Every layer of the student takes the teacher's that answers to it, as `layers.pairs` says. What lies in no layer
    it takes by name, where the shape is the same. Raises RecipeError for a layer that is not there or is not built
    as its counterpart, and where there is nothing to take.
    """
    found = layers.pairs(spec, student, layers.of_teacher(spec, teacher, PLACE), PLACE)
    own, other = student.state_dict(), teacher.state_dict()
    inside = _prefixes(student, [each.student for each in found])
    inside += _prefixes(teacher, [each.teacher for each in found])
    names = {
        name: name
        for name, value in own.items()
        if not name.startswith(tuple(inside)) and name in other and other[name].shape == value.shape
    }
    for pair in found:
        names |= _of_layer(pair, own, other)
    if not names:
        fact = "the student has nothing that is called and shaped as in the teacher, nor layers that hold weights"
        raise RecipeError(PLACE, fact, REMEDY)
    return Plan(found, names)


def from_teacher(student: nn.Module, teacher: nn.Module, spec: Spec) -> dict[str, Any]:
    """Carry out the `plan`; return for training.json which "layers" took which, how many tensors were "copied", and
    the names of those that were "kept" as they were. Raises RecipeError as `plan` does.
    """
    planned, values = plan(student, teacher, spec), teacher.state_dict()
    student.load_state_dict({own: values[other] for own, other in planned.names.items()}, strict=False)
    return {
        "layers": dict(planned.pairs),
        "copied": len(planned.names),
        "kept": [name for name in student.state_dict() if name not in planned.names],
    }


def _prefixes(module: nn.Module, paths: Sequence[str]) -> list[str]:
    """How names begin that belong to layers: in what holds those at `paths`, else in themselves."""
    parents = {path: path.rpartition(".")[0] for path in paths}
    held = {path: isinstance(module.get_submodule(parent), CONTAINERS) for path, parent in parents.items()}
    found = (parents[path] if held[path] else path for path in paths)
    return [f"{each}." if each else "" for each in found]


def _of_layer(pair: Pair, own: State, other: State) -> dict[str, str]:
    mine, theirs = _below(pair.student, own), _below(pair.teacher, other)
    for name in dict.fromkeys((*mine, *theirs)):
        shapes = [list(each[name].shape) if name in each else "missing" for each in (mine, theirs)]
        if shapes[0] != shapes[1]:
            fact = f'the student\'s layer "{pair.student}" cannot start as the teacher\'s "{pair.teacher}": '
            fact += f'its "{name}" is {shapes[0]}, the teacher\'s {shapes[1]}'
            raise RecipeError(PLACE, fact, REMEDY)
    return {f"{pair.student}.{name}": f"{pair.teacher}.{name}" for name in mine}


def _below(path: str, state: State) -> dict[str, Tensor]:
    return {
        name.removeprefix(f"{path}."): each for name, each in state.items() if name.startswith(f"{path}.")
    }
