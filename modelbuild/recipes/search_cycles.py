"""What is decided between the cycles of a search: who goes on, and in the end who it is.

Successive halving: all are trained a little, the better ones some more. Source: Jamieson and Talwalkar,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization", arXiv:1502.07943, section 3. "Better" is two
things here, as the smallest student is wanted that passes the gates: few parameters, and a small shortfall, the
largest relative distance to a limit.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuild import allowance, dataset
from modelbuild.errors import RecipeError

CANDIDATE, ASSESSMENT, CYCLE = "candidate.json", "assessment.json", "cycle.json"
GO, HISTORY = "go.json", "history.json"
TRAINING, COPIED = "training.json", ("network.json", "weights.safetensors")
TRAINED, STOPPED, FAILED, OVER = "trained", "stopped", "failed", "over"
NAMED = 3  # names in one reason
WON = "the smallest that passes every gate on the validation data"

Row = dict[str, Any]
Said = dict[str, dict[str, Any]]  # what is decided, by the candidate's name


def goes_on(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write whether candidate "name" goes on after `cycle`, and nothing else: it is not trained anew for more."""
    rows = _read(inputs["cycle"], CYCLE)["candidates"]
    go = any(row["goes_on"] for row in rows if row["name"] == params["name"])
    dataset.write_json(out_dir / GO, {"go": go})


def history(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write what was drawn and how that did, for every candidate among the inputs, by name."""
    trials = []
    for name, candidate in sorted(_candidates(inputs), key=lambda each: each[0]):
        found = _read(inputs[f"assessment.{name}"], ASSESSMENT)
        figures = {"parameters": candidate["parameters"], "shortfall": found.get("shortfall")}
        trials.append({"drawn": candidate["drawn"], **figures})
    dataset.write_json(out_dir / HISTORY, {"trials": trials})


def cycle(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write the table of all candidates, the smallest first, with who goes on; after the last cycle, who is chosen.

    Roles: candidate.NAME, assessment.NAME, and before, the cycle before. `params`: "cycle" of "cycles", its "steps",
    "keep" (of the next cycle, None after the last), "overrides" by name, and "capacity" where there is one.
    """
    before = _read(inputs["before"], CYCLE)["candidates"] if "before" in inputs else []
    out = {row["name"]: _out(row) for row in before if not row["goes_on"]}
    rows = [
        out.get(name) or _row(name, candidate, _read(inputs[f"assessment.{name}"], ASSESSMENT), params)
        for name, candidate in _candidates(inputs)
    ]
    trained = [row for row in rows if row["state"] == TRAINED]
    chosen = None if params["keep"] is not None else _smallest(trained)
    said = _halved(trained, params["keep"]) if params["keep"] is not None else _compared(trained, chosen)
    table = {
        **{name: params[name] for name in ("cycle", "cycles", "steps", "keep")},
        "chosen": None if chosen is None else chosen["name"],
        "candidates": sorted(({**row, **said.get(row["name"], {})} for row in rows), key=_size),
        "limit": allowance.limit(params.get("capacity")),
    }
    dataset.write_json(out_dir / CYCLE, table)


def _row(name: str, candidate: Row, found: Row, params: Mapping[str, Any]) -> Row:
    """One candidate in the cycle's table; what it has other than the student is listed or was drawn."""
    over, failed = candidate["over"], found.get("failed")
    return {
        "name": name,
        "differs": dict(_flat(params["overrides"].get(name, candidate["drawn"]))),
        "parameters": candidate["parameters"],
        "bytes": candidate["bytes"],
        "state": OVER if over else FAILED if failed else TRAINED,
        "steps": found.get("steps", 0),
        "ok": found.get("ok", False),
        "quality": found.get("quality"),
        "shortfall": found.get("shortfall"),
        "goes_on": False,
        "why": over or failed or found["why"],
    }


def _flat(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    """Dotted paths and the JSON of what is there."""
    if isinstance(value, Mapping) and (value or not at):
        for name, inner in value.items():
            yield from _flat(inner, f"{at}.{name}" if at else name)
    else:
        yield at, json.dumps(value, sort_keys=True)


def _out(row: Row) -> Row:
    """The row of one that went no further than the cycle before."""
    return {**row, "state": STOPPED if row["state"] == TRAINED else row["state"]}


def _halved(rows: Sequence[Row], keep: int) -> Said:
    """Who goes on: none that is larger than one that passes, and of the rest the first `keep` by `_order`."""
    passing = _smallest(rows)
    late = [row for row in rows if passing is not None and row["parameters"] > passing["parameters"]]
    said: Said = {}
    for row in late:
        assert passing is not None
        told = f"{passing['name']} passes every gate with {passing['parameters']:,} parameters"
        said[row["name"]] = {"why": f"larger than needed: {told}"}
    rest = sorted((row for row in rows if row["name"] not in said), key=lambda row: _order(row, rows))
    for at, row in enumerate(rest):
        said[row["name"]] = {"goes_on": True} if at < keep else {"why": _passed_over(row, rest[:keep])}
    return said


def _order(row: Row, rows: Sequence[Row]) -> tuple[bool, float, float, str]:
    """Those on the Pareto front first, then the nearer to the gates, then the smaller; ties go by name."""
    return (any(_dominates(other, row) for other in rows), _shortfall(row), *_size(row))


def _dominates(other: Row, row: Row) -> bool:
    """Whether `other` is as good in both, and better in one."""
    mine, theirs = ((each["parameters"], _shortfall(each)) for each in (row, other))
    return mine != theirs and all(a <= b for a, b in zip(theirs, mine, strict=True))


def _passed_over(row: Row, first: Sequence[Row]) -> str:
    better = next((other["name"] for other in first if _dominates(other, row)), None)
    if better is not None:
        return f"behind {better}, which is no larger and no further from the gates; {row['why']}"
    names = ", ".join(other["name"] for other in first) if len(first) <= NAMED else f"{len(first)} others"
    return f"behind {names}; {row['why']}"


def _compared(rows: Sequence[Row], chosen: Row | None) -> Said:
    """What is said of each after the last cycle, of those that pass at least."""
    said: Said = {
        row["name"]: {"why": f"{row['why']}, and {_named(chosen)} is chosen"} for row in rows if row["ok"]
    }
    return said if chosen is None else {**said, chosen["name"]: {"why": WON}}


def _named(row: Row | None) -> str:
    return "nothing" if row is None else str(row["name"])


def _smallest(rows: Sequence[Row]) -> Row | None:
    return min((row for row in rows if row["ok"]), key=_size, default=None)


def _size(row: Row) -> tuple[float, str]:
    return (math.inf if row["parameters"] is None else row["parameters"], row["name"])


def _shortfall(row: Row) -> float:
    return math.inf if row["shortfall"] is None else float(row["shortfall"])


def choose(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Copy the student that the last `cycle` chose from its folder, role student.NAME.

    Raises RecipeError, with how far the nearest came, when none passes.
    """
    table = _read(inputs["cycle"], CYCLE)
    if table["chosen"] is None:
        raise _nobody(table)
    folder = inputs[f"student.{table['chosen']}"]
    for name in COPIED:
        shutil.copyfile(folder / name, out_dir / name)
    training = _read(folder, TRAINING)
    dataset.write_json(out_dir / TRAINING, {**training, "chosen": {"name": table["chosen"], "why": WON}})


def _nobody(table: Row) -> RecipeError:
    trained = [row for row in table["candidates"] if row["state"] == TRAINED]
    if not trained:
        reasons = "; ".join(f"{row['name']}: {row['why']}" for row in table["candidates"][:3])
        remedy = "Change the candidates; the report shows every cycle."
        return RecipeError("search", f"no candidate could be trained to the end: {reasons}", remedy)
    nearest = min(trained, key=lambda row: (_shortfall(row), *_size(row)))
    fact = (
        f"no candidate passes every gate on the validation data after {table['steps']:,} steps; the nearest, "
        f"{nearest['name']} with {nearest['parameters']:,} parameters: {nearest['why']}"
    )
    remedy = "Give the last cycle more steps, or add larger candidates; the report shows every cycle."
    return RecipeError("search", fact, remedy)


def _candidates(inputs: Mapping[str, Path]) -> Iterator[tuple[str, Row]]:
    for role, folder in inputs.items():
        kind, _, name = role.partition(".")
        if kind == "candidate":
            yield name, _read(folder, CANDIDATE)


def _read(folder: Path, name: str) -> Row:
    found: Row = json.loads((folder / name).read_text(encoding="utf-8"))
    return found
