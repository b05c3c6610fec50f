"""From a teacher to a student by the real `doit`: search, capacity, layers, and trainings that are killed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from project_dir import REPOSITORY, ProjectDir, Result

NET = """\
import torch
from torch import nn


class Net(nn.Module):
    output_names = ("logits",)

    def __init__(self, width=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.layers(x))


class Slow(Net):
    def forward(self, x):
        if self.training:
            import time

            time.sleep(0.01)
        return super().forward(x)
"""
DATA = """\
import numpy as np


def load(count=200, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, 4)).astype(np.float32)
    label = (x @ (np.arange(12, dtype=np.float32).reshape(4, 3) % 5)).argmax(1).astype(np.int64)
    return {"x": x, "label": label}
"""
MANIFEST: dict[str, Any] = {
    "model": "taught",
    "data": {
        "train": {"loader": "shop.data:load"},
        "unlabelled": {"augment": "train", "by": "noise", "args": {"sd": 0.1}},
        "evaluation": {"loader": "shop.data:load", "args": {"seed": 1}},
    },
    "teacher": {
        "module": "shop.net:Net",
        "args": {"width": 16},
        "train": {"steps": 150, "batch": 32, "lr": 0.02},
    },
    "student": {
        "module": "shop.net:Net",
        "args": {"width": 6},
        "train": {"steps": 60, "batch": 32, "lr": 0.02},
    },
    "platforms": {"phone": {"runtime": "onnxruntime", "device": {"memory": 2000}}},
    "gates": {"teacher": {"metric": "agreement", "min": 0.6}, "task": [{"metric": "accuracy", "min": 0.6}]},
}
SEARCH = {
    "cycles": [{"steps": 20}, {"steps": 60, "keep": 2}, {"steps": 120, "keep": 1}],
    "candidates": {"narrow": {"args": {"width": 2}}, "wide": {"args": {"width": 12}}},
    "ranges": {"args.width": {"low": 3, "high": 5}},
    "samples": 1,
}


@pytest.fixture
def project(tmp_path: Path) -> ProjectDir:
    made = ProjectDir(tmp_path / "project")
    made.write("dodo.py", (REPOSITORY / "dodo.py").read_text())
    made.write("shop/__init__.py", "")
    made.write("shop/net.py", NET)
    made.write("shop/data.py", DATA)
    made.write("manifests/taught.json", json.dumps(MANIFEST))
    return made


def trained(found: Result) -> set[str]:
    """The candidates' trainings that were run."""
    return {n for n in found.of("built") if n.partition(".")[2].partition(".")[2].startswith("cycle")}


def test_a_candidate_more_is_trained_alone_and_the_smallest_that_passes_ships(project: ProjectDir) -> None:
    project.manifest(lambda m: m.update(search=SEARCH), "taught")
    first = project.doit()
    assert first.code == 0, first.text
    chosen = json.loads(project.out("taught:student", "training.json").read_text())["chosen"]["name"]
    cycle = json.loads(project.out("taught:search.cycle3", "cycle.json").read_text())
    passing = [row for row in cycle["candidates"] if row["ok"]]
    assert chosen == min(passing, key=lambda row: row["parameters"])["name"]
    page = project.out("taught", "report.html").read_text()
    assert all(name in page for name in ("narrow", "wide", "draw-1"))

    more = {**SEARCH, "candidates": {**SEARCH["candidates"], "middle": {"args": {"width": 7}}}}
    project.manifest(lambda m: m.update(search=more), "taught")
    second = project.doit()
    assert second.code == 0, second.text
    assert trained(second) and all(name.startswith("taught:search.middle.") for name in trained(second))
    third = project.doit()
    assert set(third.states.values()) == {"up to date"}


def test_a_search_that_reaches_no_gate_says_how_far_it_got_and_shows_it(project: ProjectDir) -> None:
    project.manifest(lambda m: m.update(search=SEARCH), "taught")
    project.manifest(lambda m: m["gates"].update(task={"metric": "accuracy", "min": 1.0}), "taught")
    found = project.doit()
    assert found.code == 1
    assert found.of("failed") == {"taught:student"}
    assert "no candidate passes" in found.text and "accuracy" in found.text and "at least 1" in found.text
    assert "Traceback" not in found.text
    assert "Search" in project.out("taught", "report.html").read_text()


def test_a_student_over_its_capacity_is_not_trained_and_auto_is_the_largest_that_fits(
    project: ProjectDir,
) -> None:
    def ask(width: object) -> None:
        def change(manifest: dict[str, Any]) -> None:
            manifest["student"].update(args={"width": width}, capacity={"budget": "lowest"})

        project.manifest(change, "taught")

    ask(200)
    over = project.doit("taught:student")
    assert over.code == 1 and over.of("failed") == {"taught:capacity"}
    assert "phone" in over.text and "1,300" in over.text, over.text
    ask("auto")
    found = project.doit("taught:student")
    assert found.code == 0, found.text
    record = json.loads(project.out("taught:capacity", "capacity.json").read_text())
    width = json.loads(project.out("taught:student.network", "network.json").read_text())["args"]["width"]
    assert record["total"] <= record["limit"] == 1300
    # Another budget that comes to the same width trains nothing.
    project.manifest(lambda m: m["platforms"]["phone"]["device"].update(memory=2001), "taught")
    again = project.doit("taught:student")
    assert again.of("built") == {"taught:capacity", "taught:student.network"}, again.text
    assert json.loads(project.out("taught:student", "network.json").read_text())["args"]["width"] == width


def test_layers_are_kept_once_and_other_weights_of_their_loss_label_nothing(project: ProjectDir) -> None:
    layers = {"kind": "l2", "weight": 0.1, "student": "layers", "teacher": "layers"}
    project.manifest(lambda m: m["student"].update(distil={"layers": layers}), "taught")
    found = project.doit("taught:student")
    assert found.code == 0, found.text
    assert project.out("taught:teacher.outputs.train", "hidden.safetensors").exists()
    assert not project.out("taught:teacher.outputs.evaluation", "hidden.safetensors").exists()
    project.manifest(lambda m: m["student"]["distil"]["layers"].update(weight=0.2), "taught")
    again = project.doit("taught:student")
    assert again.of("built") == {"taught:teacher.layers", "taught:student"}
    project.manifest(lambda m: m["student"].update(args={"width": 7}), "taught")
    assert project.doit("taught:student").of("built") == {"taught:teacher.layers", "taught:student"}


def test_a_killed_training_goes_on_where_it_was_and_ends_with_the_same_bytes(
    project: ProjectDir, tmp_path: Path
) -> None:
    train = {"steps": 300, "batch": 16, "checkpoint": 10, "ema": 0.9}
    project.manifest(lambda m: m["student"].update(module="shop.net:Slow", train=train), "taught")
    assert project.doit("taught:teacher.outputs.train", "taught:teacher.outputs.unlabelled").code == 0
    other = project.copy_to(tmp_path / "undisturbed")
    process = project.start("taught:student")
    kept = project.path(".cache/checkpoints")
    deadline = time.monotonic() + 60
    while not [*kept.glob("*/*")] and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    before = {path.name for path in kept.glob("*/*")}
    assert before and not project.out("taught:student").exists()
    found = project.doit("taught:student")
    assert found.code == 0, found.text
    assert not [*kept.glob("*/*")]
    assert other.doit("taught:student").code == 0
    names = ("weights.safetensors", "training.json")
    assert all(
        project.out("taught:student", n).read_bytes() == other.out("taught:student", n).read_bytes()
        for n in names
    )


def test_a_package_that_is_missing_fails_what_reads_it_and_nothing_else(project: ProjectDir) -> None:
    other = {
        **MANIFEST,
        "model": "absent",
        "teacher": {"module": "shop.net:Net", "weights": "package:no_such/w.safetensors"},
    }
    project.write("manifests/absent.json", json.dumps(other))
    found = project.doit("taught:student", "absent:student")
    assert found.code == 1 and "taught:student" in found.of("built")
    assert found.of("failed") == {"absent:teacher"}
    assert (
        "the package no_such, which package:no_such/w.safetensors is a file of, is not installed"
        in found.text
    )
    for command in ("plan", "status"):
        said = project.doit(command)
        assert "no_such" in said.text and "Traceback" not in said.text, said.text
