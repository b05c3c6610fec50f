"""Equal inputs, equal bytes: data to ONNX in two processes that differ in all they should not notice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

import modelbuild
from modelbuild.recipes import data, distil, export, reference, teacher, teacher_outputs

torch.set_num_threads(1)
NET = "modelbuild.zoo.convnet:ConvNet"
WIDE, NARROW = {"module": NET, "args": {"width": 3}}, {"module": NET, "args": {"width": 2}}
TRAIN = {"steps": 6, "batch": 16, "lr": 0.01, "weight_decay": 0.01, "seed": 4}
EXPORT = {"opset": 18, "dynamic": {"batch": [1, 64]}}


def build(root: Path) -> None:
    """Every recipe of a small model, each into its folder below `root`."""
    names = ("all", "train", "evaluation", "unlabelled", "teacher", "student", "onnx", "reference")
    names += ("said.train", "said.unlabelled")
    at = {name: root / name for name in names}
    for path in at.values():
        path.mkdir(parents=True)
    data.load({}, {"loader": "modelbuild.zoo.digits:load", "args": {"part": "train"}, "files": []}, at["all"])
    for seed, name in enumerate(("train", "evaluation", "unlabelled")):
        data.sample({"data": at["all"]}, {"count": 40, "seed": seed}, at[name])
    teacher.train(at, {**WIDE, "train": TRAIN}, at["teacher"])
    for part in ("train", "unlabelled"):
        roles = {"teacher": at["teacher"], "data": at[part]}
        teacher_outputs.outputs(roles, {"hidden": False, "store": "float32"}, at[f"said.{part}"])
    distil.distil(at, {"network": NARROW, "distil": {}, "train": TRAIN}, at["student"])
    reference.torch_outputs(at, {}, at["reference"])
    export.export(at, {"export": EXPORT}, at["onnx"])


def contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*.*")) if path.is_file()
    }


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "elsewhere" / "deeper"
    there.mkdir(parents=True)
    torch.manual_seed(99)  # the state of this process must not matter
    build(here)
    code = [str(Path(__file__).parent), str(Path(modelbuild.__file__).parents[1])]
    environment = {**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": os.pathsep.join(code)}
    command = "import pathlib, test_recipes_bytes as t; t.build(pathlib.Path('out'))"
    subprocess.run([sys.executable, "-c", command], cwd=there, env=environment, check=True)
    mine, theirs = contents(here), contents(there / "out")
    assert {
        "student/weights.safetensors",
        "student/training.json",
        "onnx/model.onnx",
        "onnx/names.json",
    } <= set(mine)
    assert [name for name in mine if mine[name] != theirs.get(name)] == [] and set(mine) == set(theirs)
    assert str(tmp_path).encode() not in b"".join(mine.values())
