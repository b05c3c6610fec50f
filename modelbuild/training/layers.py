"""Which layer of the student answers to which of the teacher's, by the paths of modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from torch import nn

from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.training.learner import at

PLACE = "distil.layers"
EVEN, LAST = "even", "last"
CONTAINERS = (nn.Sequential, nn.ModuleList)
Spec = Mapping[str, Any]


class Pair(NamedTuple):
    """The paths of two layers, one of the student and the one of the teacher that it answers to."""

    student: str
    teacher: str


def layers_of(module: nn.Module, container: str | None, key: str = "its container") -> list[str]:
    """The paths of the layers of `module`, in order: the children of the Sequential or ModuleList at `container`.

    Without one they are those of the container with the most children. Raises RecipeError when there is none at that
    path, and when none stands out: as many children elsewhere, or it lies inside another one, as part of a layer.
    `key` is what the manifest calls the container.
    """
    found = {
        path: len(each)
        for path, each in module.named_modules(remove_duplicate=False)
        if isinstance(each, CONTAINERS) and len(each)
    }
    path = _longest(type(module).__name__, found, key) if container is None else container
    if path not in found:
        kind = type(at(module, path)).__name__
        fact = f'"{path}" is {kind}, not a Sequential or ModuleList with layers in it'
        raise RecipeError(key, fact, did_you_mean(path, list(found)))
    # named_children would leave out a layer that comes a second time
    return [f"{path}.{name}".lstrip(".") for name in module.get_submodule(path)._modules]


def _longest(place: str, found: Mapping[str, int], key: str) -> str:
    if not found:
        fact = "it has no Sequential or ModuleList, which would hold its layers"
        raise RecipeError(place, fact, 'List pairs of paths in "map".')
    most = max(found.values())
    best = [path for path, count in found.items() if count == most]
    if len(best) == 1 and not any(_inside(best[0], path) for path in found):
        return best[0]
    listed = ", ".join(f'"{path}" ({count})' for path, count in found.items())
    fact = f"which Sequential or ModuleList holds its layers is open: {listed}"
    raise RecipeError(place, fact, f"Name one in {key}.")


def _inside(path: str, other: str) -> bool:
    return path != other and (not other or path.startswith(f"{other}."))


def even(students: int, teachers: int) -> list[int]:
    """For each of the `students` layers the number of the teacher's, from 1: k of K answers to round(k N / K).

    Half is rounded up, and nothing answers to 0. Six of twelve answer to every second one, up to the last, as in Sanh
    et al., "DistilBERT", arXiv:1910.01108, section 3: "one layer out of two".
    """
    return [max(1, (2 * k * teachers + students) // (2 * students)) for k in range(1, students + 1)]


def of_teacher(spec: Spec, teacher: nn.Module, place: str = PLACE) -> list[str]:
    """The teacher's layers in order, as `pairs` wants them; none where `spec` lists pairs, which are checked."""
    if isinstance(spec.get("map", EVEN), str):
        return layers_of(teacher, spec.get("teacher"), f"{place}.teacher")
    for _, path in spec["map"]:
        at(teacher, path)
    return []


def pairs(spec: Spec, student: nn.Module, teacher: Sequence[str], place: str = PLACE) -> list[Pair]:
    """Which layer answers to which: "map" of `spec` is even, last, or a list of [student's path, teacher's path].

    `teacher` are the paths of the teacher's layers in order. Raises RecipeError for a layer that the student has not.
    """
    asked = spec.get("map", EVEN)
    if not isinstance(asked, str):
        return _listed(spec, student, place)
    own = layers_of(student, spec.get("student"), f"{place}.student")
    if asked == LAST:
        return [Pair(own[-1], teacher[-1])]
    if asked != EVEN:
        fact = f'the map "{asked}" is not known'
        raise RecipeError(place, fact, f"{did_you_mean(asked, [EVEN, LAST])} Or list pairs of paths.")
    numbers = even(len(own), len(teacher))
    return [Pair(path, teacher[number - 1]) for path, number in zip(own, numbers, strict=True)]


def _listed(spec: Spec, student: nn.Module, place: str) -> list[Pair]:
    for name in ("student", "teacher"):
        if name in spec:
            fact = f"map lists the layers themselves, and {name} names what holds them"
            raise RecipeError(place, fact, f"Leave {place}.{name} out.")
    for path, _ in spec["map"]:
        at(student, path)
    return list(dict.fromkeys(Pair(*each) for each in spec["map"]))
