"""One finding: what is red, the operation that did it, and the folder that shows it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from modelbuild import dataset, environments, tensors
from modelbuild.equivalence import localise
from modelbuild.equivalence.localise import Blame, words
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import ModelbuildError, RecipeError
from modelbuild.recipes import identity, reference, repro, repro_folder, values
from modelbuild.recipes.repro import Culprits, Suspect
from modelbuild.recipes.values import Value
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Inside
from modelbuild.tensors import Arrays

Modules = Callable[[Collection[str], str], str]  # of what computes a value from others
UNKNOWN: Mapping[str, Any] = {
    "sample": None,
    "op": None,
    "others": [],
    "region": [],
    "inside": {"metric": "", "measured": None, "limit": None},
    "samples": [],
    "confirmed": 0,
    "folder": "",
    "script": "",
    "environment": "",
}


class Search:
    """Looks into the runs of one model; `inputs` and `params` as `localise.localise` has them."""

    def __init__(self, inputs: Mapping[str, Path], params: Mapping[str, Any]) -> None:
        self._inputs, self._params = inputs, params
        self._truth = lru_cache(self._values)  # runs often are worst on the same samples
        self._whole = cache(self._canonical)

    def finding(
        self, row: Verdict, folder: Path, stage: str, steps: Mapping[str, Any], reason: str = ""
    ) -> dict[str, Any]:
        """The finding on the red verdict `row`, whose `folder` is written; with a `reason` nothing is looked for."""
        red = {name: getattr(row, name) for name in ("run", "output", "metric", "measured", "limit")}
        found = {**red, "stage": stage, **UNKNOWN, "reason": reason, "steps": dict(steps)}
        if not reason:
            try:
                self._look(found, row, folder)
            except ModelbuildError as error:
                found["reason"] = ". ".join(filter(None, (error.fact, error.remedy)))
            except Exception as error:  # whoever wrote the runtime: the verdict is not kept back for it
                found["reason"] = f"{type(error).__name__}: {error}"
        return {**found, "words": words(found)}

    def _look(self, found: dict[str, Any], row: Verdict, folder: Path) -> None:
        """Fill in what is known, as soon as it is."""
        suspect = self._suspect(row)
        due, ran = (self._outputs(role)[row.output] for role in ("reference", f"run.{row.run}"))
        culprits = repro.culprits(suspect, row.output, repro.ranked(due, ran, row.metric), self._truth)
        found |= _named(culprits, self._modules)
        operation = f"{found['op']['kind']} {found['op']['name']}"
        shown = repro_folder.write(folder, suspect, self._inputs["onnx"], culprits, operation)
        found |= {"folder": folder.name, "script": shown.script, "reason": shown.reason}
        found["environment"] = shown.environment
        repro_folder.tell(folder, suspect, shown, {**found, "words": words(found)})

    def _modules(self, reads: Collection[str], value: str) -> str:
        """The modules of the model that compute `value` from `reads`: a fused operation may stand for several."""
        names = identity.read(self._inputs["onnx"]).values
        given = [each for node in localise.between(self._whole(), reads, [value]) for each in node.gives]
        modules = [names[each].module for each in given or [value] if each in names]
        return ", ".join(dict.fromkeys(filter(None, modules)))

    def _canonical(self) -> Inside:
        return repro_folder.reader().inside(self._inputs["onnx"])

    def _outputs(self, role: str) -> Arrays:
        return tensors.load(self._inputs[role] / reference.OUTPUTS)

    def _suspect(self, row: Verdict) -> Suspect:
        told = self._params["runs"][row.run]
        runtime = base.find(told["runtime"])
        if not isinstance(runtime, base.Inspectable):
            raise RecipeError("repro", f"{runtime.name} does not show the values inside an artefact")
        own: dict[str, Any] = {"options": told["options"]}
        locked = self._inputs.get(f"environment.{row.run}")
        if locked is not None:
            own["environment"] = str(environments.ready(locked))
        artifact = self._inputs[f"artifact.{row.platform}"]
        return Suspect(runtime.name, runtime, artifact, own, told["rounds"], row.version, row.backend)

    def _values(self, rows: tuple[int, ...], rounds: str | None) -> tuple[Arrays, Mapping[str, Value]]:
        data = dataset.read(self._inputs["evaluation"]).inputs
        given = {name: array[list(rows)] for name, array in data.items()}
        onnx, student = self._inputs["onnx"], self._inputs.get("student")
        if student is None:
            return given, values.onnx_values(onnx, given)
        asked = [] if rounds is None else [rounds]
        return given, values.torch_values(student, onnx, self._params, given, asked)


def _named(found: Culprits, modules: Modules) -> dict[str, Any]:
    first, worst = found.blames[0], found.worst
    op, *others = (_op(blame, found, modules) for blame in found.blames)
    measured, limits = found.judged[worst][found.row].measured, found.allowed[worst]
    metric = "max_abs" if not measured.max_abs <= limits.max_abs else "rmse"
    return {
        "op": op,
        "others": others,
        "region": [node.name for node in first.region],
        "inside": {
            "metric": metric,
            "measured": getattr(measured, metric) if measured.finite else None,
            "limit": getattr(limits, metric),
        },
        "sample": found.sample,
        "samples": list(found.samples),
        "confirmed": found.confirmed,
    }


def _op(blame: Blame, found: Culprits, modules: Modules) -> dict[str, str]:
    """An operation goes by the value that it gives, or that is made of what it gives."""
    node, known = blame.node, found.identity
    value = next((v for v in node.gives if v in known), blame.bad[0])
    canonical = known[value]
    reads = [known[v] for v in node.reads] if all(v in known for v in node.reads) else [canonical]
    return {
        "name": node.name,
        "kind": node.kind,
        "value": value,
        "canonical": canonical,
        "module": modules(reads, canonical),
    }
