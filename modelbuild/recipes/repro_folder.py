"""A folder that shows one fault by itself: the operations to blame, what feeds them, what is due, and a program.

It needs nothing of this project and not the whole model. The program is tried once before it is handed over.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from modelbuild import nodejs
from modelbuild.errors import RecipeError
from modelbuild.recipes.repro import Culprits, Suspect
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Inspectable

FINDING, README = "finding.json", "README.txt"
SECONDS = 600
HERE = Path(__file__).parent
REPRODUCED, CANNOT_TRY = 1, 2


class Program(NamedTuple):
    """`source` is copied as `name`; `install` and `start` are what README.txt says of it."""

    name: str
    source: Path
    install: str
    start: str


class Shown(NamedTuple):
    """The `script` that shows the fault, "" where none does; `about` is what it reads; `reason`, what else to say.

    `environment` is the name of the locked environment whose Python ran it, "" for the one that is installed.
    """

    script: str
    about: Mapping[str, Any]
    reason: str
    environment: str = ""


def write(folder: Path, suspect: Suspect, onnx: Path, found: Culprits, operation: str) -> Shown:
    """Fill `folder`, but for what `tell` writes. `onnx` is the target folder with the canonical file.

    Raises RecipeError where the operations cannot be cut out.
    """
    folder.mkdir(parents=True)
    blame = found.blames[0]
    shipped = suspect.runtime.excerpt(suspect.artifact, folder, blame.good, blame.bad)
    reference, why = _reference(folder, onnx, found)
    about = {**_described(suspect, found), "operation": operation, "shipped": shipped, "reference": reference}
    reasons = [f"the same part of the model that it was made from cannot be shown: {why}"] if why else []
    _keep(folder, found, few=False)
    for program in programs(suspect, shipped):
        shutil.copyfile(program.source, folder / program.name)
        for few in (True, False) if found.open_batch else (False,):
            _keep(folder, found, few)
            _write_json(folder / FINDING, {"reproduce": about})
            code, said = _tried(folder, suspect, program)
            if code == REPRODUCED:
                return Shown(program.name, about, "; ".join(reasons), _environment(suspect, program))
        if code == CANNOT_TRY:
            return Shown(program.name, about, "; ".join([*reasons, f"{program.name} was not tried: {said}"]))
        reasons.append(f"{program.name} does not show it: the fault needs the rest of the model")
    if not programs(suspect, shipped):
        reasons.append(f"there is no program that runs {shipped} as {suspect.name} does")
    return Shown("", about, "; ".join(reasons))


def tell(folder: Path, suspect: Suspect, shown: Shown, finding: Mapping[str, Any]) -> None:
    """Write finding.json and README.txt."""
    _write_json(folder / FINDING, {**finding, "reproduce": shown.about})
    (folder / README).write_text(_readme(suspect, shown, finding), encoding="utf-8")


def _reference(folder: Path, onnx: Path, found: Culprits) -> tuple[str, str]:
    """The same operations of the canonical file; "" and why where it has no such part."""
    blame = found.blames[0]
    named = [tuple(dict.fromkeys(_canonical(found, v) for v in side)) for side in (blame.good, blame.bad)]
    scratch = folder / "scratch"
    scratch.mkdir()
    try:
        part = scratch / reader().excerpt(onnx, scratch, named[0], named[1])
        part.replace(folder / "reference.onnx")
    except RecipeError as error:
        return "", error.fact
    finally:
        shutil.rmtree(scratch)
    return "reference.onnx", ""


def reader() -> Inspectable:
    """What looks into the canonical file, and cuts parts out of it."""
    runtime = base.find("onnxruntime")
    assert isinstance(runtime, Inspectable)
    return runtime


def _canonical(found: Culprits, value: str) -> str:
    """An input goes by its own name."""
    return found.identity.get(value, value)


def _due(found: Culprits, value: str) -> Any:
    name = _canonical(found, value)
    if name in found.values:
        return found.values[name].array
    if name in found.data:
        return found.data[name]
    raise RecipeError("repro", f'nothing is known of the value "{name}", which feeds the operation')


def _keep(folder: Path, found: Culprits, few: bool) -> None:
    """Write inputs.npz and expected.npz: of the `few`, one sample, where all of them have the samples first."""
    blame = found.blames[0]
    sides = {"inputs.npz": blame.good, "expected.npz": blame.bad}
    arrays = {file: [_due(found, value) for value in values] for file, values in sides.items()}
    count = len(next(iter(found.data.values())))
    one = few and all(a.ndim and len(a) == count for side in arrays.values() for a in side)
    rows = slice(found.row, found.row + 1) if one else slice(None)
    for file, side in arrays.items():
        kept = {f"value_{number}": array[rows] if one else array for number, array in enumerate(side)}
        np.savez(folder / file, **kept)


def _described(suspect: Suspect, found: Culprits) -> dict[str, Any]:
    blame, options = found.blames[0], suspect.params["options"]
    inputs = [{"name": value, "reference": _canonical(found, value)} for value in blame.good]
    values = [
        {"name": value, "reference": _canonical(found, value), "limits": asdict(found.allowed[value])}
        for value in blame.bad
    ]
    return {
        "version": suspect.version if suspect.name in ("onnxruntime", "coreml") else version("onnxruntime"),
        "optimisation": options.get("optimisation", "all"),
        "threads": options.get("threads", 1),
        "options": dict(options),
        "inputs": inputs,
        "values": values,
    }


def programs(suspect: Suspect, shipped: str) -> tuple[Program, ...]:
    """Those that may show a fault of this runtime, the plainest first; of an unknown one, what the excerpt is."""
    onnx = Program("reproduce.py", HERE / "repro_onnxruntime.py", "", "python reproduce.py")
    usual = onnx._replace(install=f"pip install numpy onnxruntime=={version('onnxruntime')}")
    if suspect.name == "onnxruntime":
        return (onnx._replace(install=f"pip install numpy onnxruntime=={suspect.version}"),)
    if suspect.name == "onnxruntime-web":
        node = Program("reproduce.mjs", HERE / "repro_web.mjs", "", "node reproduce.mjs")
        return usual, node._replace(install=f"npm install onnxruntime-web@{suspect.version}")
    if suspect.name == "coreml":
        install = f"pip install numpy torch onnxruntime coremltools=={version('coremltools')}"
        return (Program("reproduce.py", HERE / "repro_coreml.py", install, "python reproduce.py"),)
    return (usual,) if shipped.endswith(".onnx") else ()


def _tried(folder: Path, suspect: Suspect, program: Program) -> tuple[int, str]:
    """The exit code of the program, and the last line it said."""
    environment = Path(suspect.params.get("environment", ""))
    if program.name.endswith(".mjs"):
        node = nodejs.find()
        if node is None:
            return CANNOT_TRY, "there is no Node on this machine"
        command = [str(node), program.name, str(environment / "node_modules" / "onnxruntime-web" / "dist")]
    else:
        own = environment / "bin" / "python" if _environment(suspect, program) else sys.executable
        command = [str(own), "-I", "-B", program.name]
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return CANNOT_TRY, str(error)
    said = (done.stdout + done.stderr).strip().splitlines()
    code = done.returncode if done.returncode in (0, REPRODUCED) and done.stdout else CANNOT_TRY
    return code, said[-1] if said else f"it ended with exit code {done.returncode}"


def _environment(suspect: Suspect, program: Program) -> str:
    """The name of the environment whose Python runs the program, where the run has one."""
    environment = Path(suspect.params.get("environment", ""))
    own = environment / "bin" / "python"
    return environment.name if own.exists() and program.name.endswith(".py") else ""


def _readme(suspect: Suspect, shown: Shown, finding: Mapping[str, Any]) -> str:
    options = json.dumps(shown.about["options"], sort_keys=True)
    parts = [finding["words"], _contents(shown.about)]
    parts += [
        _started(each, shown.about)
        for each in programs(suspect, shown.about["shipped"])
        if each.name == shown.script
    ]
    parts += [f"Note: {shown.reason}."] if shown.reason else []
    parts.append(f"Seen with {suspect.name} {suspect.version} ({suspect.backend}), options {options}.")
    return "\n\n".join(parts) + "\n"


def _started(program: Program, about: Mapping[str, Any]) -> str:
    lines = ["To see it, in this folder:", "", f"    {program.install}", f"    {program.start}"]
    ends = "It must end with exit code 1 (reproduced)."
    if about["reference"]:
        lines.append(f"    {program.start} reference")
        ends = "The first must end with exit code 1 (reproduced), the second, the same of the model, with 0."
    return "\n".join([*lines, "", f"{ends} 2 says that it cannot be tried, and why."])


def _contents(about: Mapping[str, Any]) -> str:
    span = f"from {_names(about['inputs'])} to {_names(about['values'])}"
    lines = [
        f"{about['shipped']}: the operations {span}, as they ship",
        *([f"{about['reference']}: the same of the model they were made from"] if about["reference"] else []),
        "inputs.npz: what the reference feeds them, in the order of finding.json",
        "expected.npz: what the reference gives for that",
    ]
    return "\n".join(lines)


def _names(ports: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f'"{port["name"]}"' for port in ports)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
