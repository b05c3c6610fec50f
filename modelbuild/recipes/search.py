"""A candidate of a search: what it has other than the student, how large it is, and whether there is room for it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import callables, dataset, network, presets, search
from modelbuild.errors import RecipeError, did_you_mean
from modelbuild.recipes import capacity

CANDIDATE = "candidate.json"


def describe(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write candidate.json of a listed candidate, "student" of `params`, as `write` does."""
    write(inputs, params, {}, out_dir)


def write(
    inputs: Mapping[str, Path], params: Mapping[str, Any], drawn: Mapping[str, Any], out_dir: Path
) -> None:
    """Write candidate.json: "module", "args", "distil", "train", what was "drawn" (path -> value), and its size.

    `params`: "student", and "capacity" and "platform" as the capacity recipe has them, with its role evaluation.
    "over" is why it is never trained, else None: it takes more than it may, or it was drawn and cannot be built. A
    limit that it keeps to is not told: another budget trains nobody anew.

    Raises RecipeError where one that was not drawn cannot be built.
    """
    student = dict(params["student"])
    for path, value in sorted(drawn.items()):  # a path comes before those that go further into what it gave
        student = search.placed(student, path, value)
    _check_arguments(student, drawn)
    try:
        student["distil"] = presets.expanded(student["distil"])
        size = _weighed(student, inputs, params)
    except RecipeError as error:
        if not drawn:
            raise
        size = {"parameters": None, "bytes": None, "over": f"cannot be built: {error.place}: {error.fact}"}
    dataset.write_json(out_dir / CANDIDATE, {**student, "drawn": drawn, **size})


def _check_arguments(student: Mapping[str, Any], drawn: Mapping[str, Any]) -> None:
    """Refuse an argument that the class does not take: no value that is drawn for it would be any use."""
    taken = inspect.signature(callables.resolve(student["module"])).parameters
    if any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        return
    for path in drawn:
        section, _, name = path.partition(".")
        argument = name.partition(".")[0]
        if section == "args" and argument not in taken:
            fact = f'{student["module"]} takes no argument "{argument}"'
            raise RecipeError(f"search.ranges.{path}", fact, did_you_mean(argument, list(taken)))


def _weighed(
    student: dict[str, Any], inputs: Mapping[str, Path], params: Mapping[str, Any]
) -> dict[str, Any]:
    """The candidate's size; an argument that is "auto" becomes a number in `student`."""
    if "capacity" not in params:
        return {"parameters": network.parameters(network.build(student)), "bytes": None, "over": None}
    given = capacity.sample(inputs["evaluation"])
    found = capacity.weigh(student, given, params["capacity"], params["platform"])
    student["args"] = found.net["args"]
    size = found.footprint
    return {"parameters": size.parameters, "bytes": size.total, "over": found.over or None}
