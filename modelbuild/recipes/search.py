"""A candidate of a search: what it has other than the student, how large it is, and whether there is room for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelbuild import dataset, network, presets, search
from modelbuild.errors import RecipeError
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
    try:
        student["distil"] = presets.expanded(student["distil"])
        size = _weighed(student, inputs, params)
    except RecipeError as error:
        if not drawn:
            raise
        size = {"parameters": None, "bytes": None, "over": f"cannot be built: {error.place}: {error.fact}"}
    dataset.write_json(out_dir / CANDIDATE, {**student, "drawn": drawn, **size})


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
