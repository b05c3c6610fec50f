"""The file of accepted figures, `manifests/MODEL.lock.json`: what ships, from what, and how good it was found.

It is committed and reviewed, so it is sorted and has one line a figure; and it is read as a stranger's input.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from modelbuild import digest, strictjson
from modelbuild.declare import Waiver
from modelbuild.errors import ManifestError, did_you_mean
from modelbuild.wording import at, quote

Key = tuple[str, str, str, str]  # subject, against, output, metric
REMEDY = "Write the file by `doit accept`."


class Figure(NamedTuple):
    """`subject` is a run, "android.1.18.1", or a target, "digits:reference".

    `noise`, in the unit of the metric, is how far beyond `accepted` rounding may take it. `waived` is what a waiver
    let pass in place of it when it was written, None where none had to.
    """

    subject: str
    against: str
    output: str
    metric: str
    accepted: float
    noise: float
    evidence: str
    waived: float | None = None

    @property
    def key(self) -> Key:
        return self[:4]

    @property
    def named(self) -> str:
        return " ".join(filter(None, (self.subject, self.output, self.metric)))


class Kept(NamedTuple):
    """A target as it was accepted: its key and the digest of every file."""

    key: str
    outputs: Mapping[str, str]


class Lock(NamedTuple):
    """What the file holds."""

    model: str
    targets: Mapping[str, Kept]
    figures: Mapping[Key, Figure]


def place(model: str) -> str:
    """The file, as messages name it."""
    return f"manifests/{model}.lock.json"


def fingerprint(root: Path, model: str, waivers: Sequence[Waiver], today: date) -> str:
    """Digest of all beside the verdicts that decides how they are read: another one means to read them again."""
    try:
        lock = digest.of_bytes((root / place(model)).read_bytes())
    except FileNotFoundError:
        lock = ""
    except OSError as error:
        lock = f"unreadable: {error.strerror}"
    return digest.of_bytes(json.dumps([lock, [(*each, each.expired(today)) for each in waivers]]).encode())


def read(root: Path, model: str) -> Lock | None:
    """The lock file of `model`, None where there is none. Raises ManifestError for one that is not well formed."""
    path, where = root / place(model), place(model)
    if not os.path.lexists(path):
        return None
    return _lock(strictjson.read(path, where), model, where)


def _lock(value: Any, model: str, where: str) -> Lock:
    _fields(value, {"model": str, "targets": dict, "figures": list}, (), where)
    if value["model"] != model:
        fact = f"is of the model {quote(value['model'])}"
        raise ManifestError(_under(where, "model"), fact, f"Remove it, and run `doit accept {model}`.")
    targets = {}
    for name, kept in value["targets"].items():
        _fields(kept, {"key": str, "outputs": dict}, (), _under(where, "targets", name))
        outputs = kept["outputs"]
        _fields(outputs, dict.fromkeys(outputs, str), (), _under(where, "targets", name, "outputs"))
        targets[name] = Kept(kept["key"], outputs)
    figures: dict[Key, Figure] = {}
    for index, row in enumerate(value["figures"]):
        figure = _figure(row, _under(where, "figures", index))
        if figure.key in figures:
            fact = f"a line before it is on the same figure, {figure.named}"
            raise ManifestError(_under(where, "figures", index), fact, "Keep one of the two.")
        figures[figure.key] = figure
    return Lock(model, targets, figures)


_REQUIRED = {"against": str, "output": str, "metric": str, "accepted": float, "evidence": str}
_LEFT_OUT = {"run": str, "target": str, "noise": float, "waived": float}


def _figure(row: Any, where: str) -> Figure:
    _fields(row, _REQUIRED, _LEFT_OUT, where)
    if ("run" in row) == ("target" in row):
        raise ManifestError(where, "names not exactly one of a run and a target", REMEDY)
    subject = row.get("run", row.get("target"))
    if (":" in subject) != ("target" in row):
        raise ManifestError(where, f"{quote(subject)} is no {'target' if 'target' in row else 'run'}")
    noise = float(row.get("noise", 0.0))
    if noise < 0:
        raise ManifestError(_under(where, "noise"), f"{quote(row['noise'])} is less than 0")
    waived = None if "waived" not in row else float(row["waived"])
    told = (row["against"], row["output"], row["metric"], float(row["accepted"]), noise, row["evidence"])
    return Figure(subject, *told, waived)


def _under(where: str, *steps: str | int) -> str:
    """The place below `where`, which may have a pointer already."""
    file, _, above = where.partition("#")
    return f"{file}#{above}{at('', steps).removeprefix('#')}"


def _fields(
    value: Any, required: Mapping[str, type], more: Mapping[str, type] | tuple[()], where: str
) -> None:
    """Raises ManifestError for what is no object of these fields."""
    if not isinstance(value, dict):
        raise ManifestError(where, f"{quote(value)} is no object", REMEDY)
    known = {**required, **dict(more)}
    for name in required:
        if name not in value:
            raise ManifestError(where, f'"{name}" is missing', REMEDY)
    for name, each in value.items():
        if name not in known:
            raise ManifestError(_under(where, name), "unknown key", did_you_mean(name, list(known)))
        kinds = (int, float) if known[name] is float else (known[name],)
        if isinstance(each, bool) or not isinstance(each, kinds):
            kind = {str: "text", dict: "an object", list: "a list", float: "a number"}[known[name]]
            raise ManifestError(_under(where, name), f"{quote(each)} is not {kind}")


def text(lock: Lock) -> str:
    """The file: sorted, and one line a figure, so that a review reads what changed."""
    targets = {name: {"key": kept.key, "outputs": dict(kept.outputs)} for name, kept in lock.targets.items()}
    head = json.dumps({"model": lock.model, "targets": targets}, indent=1, sort_keys=True)
    lines = [json.dumps(_line(lock.figures[key]), allow_nan=False) for key in sorted(lock.figures)]
    return f"{head[:-2]},\n" + ' "figures": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n"


def _line(figure: Figure) -> dict[str, Any]:
    said = figure._asdict()
    row = {"target" if ":" in figure.subject else "run": said.pop("subject"), **said}
    if not figure.noise:
        del row["noise"]
    if figure.waived is None:
        del row["waived"]
    return row
