"""A search over tiny networks in a plane, run target by target: a build in small, in which equal keys run once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from modelbuild import callables, dataset, search, tensors
from modelbuild.declare import Export, Gates, Model, Search, Student
from modelbuild.search import Shared
from modelbuild.targets import Target

HERE = "search_example:Mlp"
STUDENT = Student(
    HERE,
    {"width": 4},
    None,
    {"task": 0.0, "soft": {"kind": "kl", "weight": 1.0, "temperature": 2.0}},
    {"steps": 1, "batch": 32, "lr": 0.05, "weight_decay": 0.0, "device": "cpu", "seed": 0},
)
CYCLES = ({"steps": 40}, {"steps": 80, "keep": 3}, {"steps": 160, "keep": 2})
GATES = {"teacher": {"metric": "agreement", "min": 0.9}, "task": [{"metric": "accuracy", "min": 0.85}]}


class Mlp(nn.Module):
    """x [n, 2] -> "output" [n, 3], through `width` units."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def taught(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """What the teacher says: three regions of the plane, of which one lies between the others and is bent."""
    bend = x[:, 1] - 1.5 * x[:, 0] ** 2
    return np.stack([4 * (bend - 0.5), 2 - 4 * np.abs(bend + 0.2), -4 * (bend + 0.9)], 1).astype(np.float32)


def listed(**widths: int) -> dict[str, Any]:
    return {name: {"args": {"width": width}} for name, width in widths.items()}


def asked(candidates: Mapping[str, Any], cycles: tuple[dict[str, Any], ...] = CYCLES, **more: Any) -> Search:
    return Search(cycles, candidates, more.get("ranges", {}), more.get("samples", 0), more.get("seed", 0))


def model(gates: Mapping[str, Any] = GATES) -> Model:
    told = Gates(gates.get("teacher"), gates.get("task"), {})
    return Model("m", "manifests/m.json", "", {}, None, None, None, Export(18, {}), {}, told)


def folder_digest(folder: Path) -> str:
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            hasher.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes())
    return hasher.hexdigest()


@dataclass
class Chain:
    """Runs targets in order; `ran` are the names of those whose recipe had to run, newest build last."""

    root: Path
    samples: int = 240
    capacity: Mapping[str, Any] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)
    out: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for at, part in enumerate(("train", "validation")):
            x = np.random.default_rng(at).uniform(-1.2, 1.2, (self.samples, 2)).astype(np.float32)
            label = taught(x).argmax(1).astype(np.int64)
            data, said = (self._folder(f"{kind}.{part}") for kind in ("data", "said"))
            dataset.write(data, dataset.DataSet({"x": x}, {"label": label}))
            tensors.save(said / "outputs.safetensors", {"output": taught(x)})

    def _folder(self, name: str) -> Path:
        (self.root / "given" / name).mkdir(parents=True)
        return self.root / "given" / name

    def shared(self) -> Shared:
        measured = {"evaluation": "data.validation"} if self.capacity else {}
        trained = {"train": "data.train", "said.train": "said.train"}
        judged = {"data": "data.validation", "said": "said.validation"}
        return Shared(trained, judged, measured, self.capacity, lambda each: (each.module.partition(":")[0],))

    def build(self, asked: Search, student: Student = STUDENT, gates: Mapping[str, Any] = GATES) -> None:
        """Every target of the search, one after the other."""
        self.ran, self.out = [], {}
        for target in search.targets(model(gates), asked, student, self.shared()):
            self.out[target.name] = self._made(target)

    def _made(self, target: Target) -> Path:
        folders = {role: self._at(name) for role, name in target.inputs.items()}
        key = self.key(target)
        out = self.root / "store" / key
        if not out.exists():
            working = self.root / "working" / key
            working.mkdir(parents=True)
            callables.resolve(target.recipe.function)(folders, target.params, working)
            out.parent.mkdir(exist_ok=True)
            working.rename(out)
            self.ran.append(target.name)
        return out

    def _at(self, name: str) -> Path:
        return self.out.get(name, self.root / "given" / name)

    def key(self, target: Target) -> str:
        parts = {role: folder_digest(self._at(name)) for role, name in target.inputs.items()}
        told = [target.recipe.function, json.loads(json.dumps(target.params)), parts, target.modules]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:24]

    def read(self, name: str, file: str) -> Any:
        return json.loads((self.out[f"m:{name}"] / file).read_text())

    def table(self, cycle: int) -> dict[str, dict[str, Any]]:
        """The rows of a cycle by name."""
        rows = self.read(f"search.cycle{cycle}", "cycle.json")["candidates"]
        return {row["name"]: row for row in rows}

    def trained(self) -> list[str]:
        """The trainings that ran and were more than a note that there is nothing to train."""
        ran = [
            name for name in self.ran if name.rpartition(".")[2].startswith("cycle") and name.count(".") == 2
        ]
        return [name for name in ran if (self.out[name] / "weights.safetensors").exists()]
