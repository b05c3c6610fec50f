"""Which of the teacher's layers the students are held to: what its cached hidden states are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelbuild import dataset, network
from modelbuild.errors import RecipeError
from modelbuild.training import initial, layers
from modelbuild.training.layers import PLACE, Spec

FILE = "layers.json"
Net = Mapping[str, Any]


def teacher_layers(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write layers.json: "layers", the paths that any student is held to, "teacher", all the teacher's in order, and
    "depth", how many these are. Where the map lists pairs nobody counts layers, and "teacher" is empty.

    `params`: "layers" and "initial", the manifest's or None, and "students", each a "module" with its "args"; where
    there is a role network, the only one lies there. Raises RecipeError for a layer that is not there, and where the
    only student cannot start from the teacher. Nothing here knows a weight: other widths write the same bytes.
    """
    net, spec = network.described(inputs["teacher"]), params["layers"]
    nets = [network.described(inputs["network"])] if "network" in inputs else params["students"]
    students = [_skeleton(each) for each in nets]
    teacher = None if "onnx" in net else _skeleton(net)
    if params["initial"] is not None:
        _check_initial(students, teacher, params["initial"])
    order = [] if spec is None else _order(spec, teacher)
    found = [] if spec is None else [pair for each in students for pair in layers.pairs(spec, each, order)]
    told = {"depth": len(order), "layers": sorted({pair.teacher for pair in found}), "teacher": order}
    dataset.write_json(out_dir / FILE, told)


def _order(spec: Spec, teacher: nn.Module | None) -> list[str]:
    if teacher is not None:
        return layers.of_teacher(spec, teacher)
    if isinstance(spec.get("map", layers.EVEN), str):
        remedy = 'Give "map" as pairs: a module path of the student, a value of the file.'
        raise RecipeError(PLACE, "the teacher is an ONNX file, whose layers nobody knows", remedy)
    return []


def _check_initial(students: list[nn.Module], teacher: nn.Module | None, spec: Spec) -> None:
    if teacher is None:
        fact = "the student would start from the teacher's weights, and the teacher is an ONNX file"
        raise RecipeError(initial.PLACE, fact, "Leave distil.initial out.")
    # Of several, candidates of a search, each may say otherwise; its own training refuses what does not fit.
    if len(students) == 1:
        initial.plan(students[0], teacher, spec)


def _skeleton(net: Net) -> nn.Module:
    """The network without its numbers, which take time and memory; with them, where it computes as it is built."""
    try:
        with torch.device("meta"):
            made = network.build(net)
    except RecipeError:
        made = network.build(net)
    return network.sized(made, net["module"])
