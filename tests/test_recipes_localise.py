"""From a red verdict to the operation to blame and a folder that shows it, on artefacts of a few operations."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import planted
import pytest
from runtime_conformance import dense, dense_inputs, installed

from modelbuild import nodejs
from modelbuild.equivalence import verdict
from modelbuild.equivalence.localise import NO_NUMBER, SAME
from modelbuild.equivalence.noise import Spread
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import RecipeError
from modelbuild.recipes import localise, repro, repro_folder
from modelbuild.recipes.repro import Suspect
from modelbuild.recipes.values import Value
from modelbuild.runtimes import base
from modelbuild.runtimes.base import Inside, Node

Array = np.ndarray[Any, Any]
HEALTHY: Mapping[str, Callable[[Array], Array]] = {
    "double": lambda v: v * 2,
    "more": lambda v: v + 1,
    "square": lambda v: v * v,
    "out": lambda v: v - 3,
}


@dataclass
class Chain:
    """x -> double -> more -> square -> out; `faults` replace an operation, `unseen` values have no counterpart.

    Of the values in `fused` to ask for one undoes the faults. `asked` lists the names of every call.
    """

    faults: Mapping[str, Callable[[Array], Array]] = field(default_factory=dict)
    unseen: tuple[str, ...] = ()
    fused: tuple[str, ...] = ()
    batch: int | None = None
    asked: list[tuple[str, ...]] = field(default_factory=list)
    calls: list[Array] = field(default_factory=list)

    def inside(self, artifact: Path) -> Inside:
        reads = ["x", *HEALTHY]
        nodes = tuple(Node(n, n.upper(), (r,), (n,)) for n, r in zip(HEALTHY, reads, strict=False))
        identity = {name: name for name in ("x", *HEALTHY) if name not in self.unseen}
        return Inside(nodes, ("x",), ("out",), identity, self.batch)

    def intermediates(self, artifact: Path, inputs: Any, names: tuple[str, ...], params: Any) -> Any:
        self.asked.append(names)
        self.calls.append(inputs["x"])
        undone = bool({*names} & {*self.fused})
        value, found = inputs["x"], {}
        for name, healthy in HEALTHY.items():
            value = found[name] = (healthy if undone else self.faults.get(name, healthy))(value)
        return {name: found[name] for name in names}

    def excerpt(self, artifact: Path, out: Path, reads: tuple[str, ...], gives: tuple[str, ...]) -> str:
        raise RecipeError("chain", "has no parts")


DATA = np.arange(1, 31, dtype=np.float32).reshape(10, 3)


def truth(rows: tuple[int, ...], rounds: str | None) -> tuple[Any, Any]:
    value = DATA[list(rows)]
    found = {"x": Value(value, SAME, {})}
    for name, healthy in HEALTHY.items():
        value = healthy(value)
        found[name] = Value(value, SAME, {})
    return {"x": DATA[list(rows)]}, found


def search(chain: Chain, ranked: list[int] | None = None) -> repro.Culprits:
    suspect = Suspect("chain", chain, Path(), {"options": {}}, None, "1", "cpu")
    return repro.culprits(suspect, "out", [9, 0, 5] if ranked is None else ranked, truth)


# -- the search


def test_the_operation_is_found_in_one_call() -> None:
    chain = Chain({"more": lambda v: v + 1.5})
    found = search(chain)
    assert [each.node.name for each in found.blames] == ["more"]
    assert (found.samples, found.sample, found.confirmed) == ((9, 0, 5), 9, 3)
    assert found.judged["more"][found.row].measured == Spread(0.5, 0.5)
    assert chain.asked == [("double", "more", "square", "out")]


def test_samples_are_called_in_their_own_order_and_named_in_that_of_their_error() -> None:
    chain = Chain({"more": lambda v: v + 1.5})
    search(chain)
    assert np.array_equal(chain.calls[0], DATA[[0, 5, 9]])


def test_no_more_samples_are_looked_at_than_it_takes() -> None:
    assert len(search(Chain({"more": lambda v: v + 2}), [*range(10)]).samples) == repro.SAMPLES


def test_a_fixed_batch_is_filled_up() -> None:
    chain = Chain({"more": lambda v: v + 2}, batch=4)
    found = search(chain)
    assert np.array_equal(chain.calls[0], DATA[[0, 5, 9, 9]])
    assert (found.samples, found.confirmed) == ((9, 0, 5), 3)
    assert len(search(Chain({"more": lambda v: v + 2}, batch=2), [*range(10)]).samples) == 2


def test_a_fault_of_one_sample_alone_is_found_there() -> None:
    found = search(Chain({"square": lambda v: np.where(v > 50, 0, v * v)}), [0, 5, 9])
    assert [each.node.name for each in found.blames] == ["square"]
    assert (found.sample, found.confirmed, found.samples) == (9, 1, (0, 5, 9))


def test_two_faults_are_both_named_where_the_second_is_seen_by_itself() -> None:
    """The value between them passes: what the first did wrong, another operation undid."""
    found = search(Chain({"double": lambda v: v * 3, "more": lambda v: v / 3 * 2 + 1, "out": lambda v: v}))
    assert [each.node.name for each in found.blames] == ["double", "out"]


def test_no_number_fails_and_is_the_worst() -> None:
    found = search(Chain({"square": lambda v: v * np.float32("nan")}))
    assert (found.blames[0].node.name, found.worst) == ("square", "square")
    assert found.judged["square"][0].measured == NO_NUMBER


def test_values_without_a_counterpart_make_a_region() -> None:
    found = search(Chain({"more": lambda v: v + 2}, unseen=("double", "more")))
    assert [node.name for node in found.blames[0].region] == ["double", "more", "square"]
    assert found.blames[0].good == ("x",)


def test_a_fault_that_looking_at_all_undoes_is_cornered_one_by_one() -> None:
    """`more` and `square` were fused: asked for `more`, they are not, and all is right."""
    chain = Chain({"square": lambda v: v * v + 1}, fused=("more",))
    found = search(chain)
    assert [node.name for node in found.blames[0].region] == ["more", "square"]
    assert found.blames[0].node.name == "square"
    assert found.confirmed == 3
    assert all(len({*names} - {"out"}) <= 1 for names in chain.asked[1:])


def test_what_is_off_by_no_more_than_noise_is_said() -> None:
    with pytest.raises(RecipeError, match="no more than noise explains on the samples 9, 0, 5"):
        search(Chain())


def test_an_output_that_nothing_is_known_of_is_said() -> None:
    with pytest.raises(RecipeError, match='no operation of the artefact is known to give "out"'):
        search(Chain({"more": lambda v: v + 2}, unseen=("out",)))


def test_samples_are_ranked_by_their_largest_error() -> None:
    due = np.zeros((4, 2), np.float32)
    ran = np.array([[0, 1], [3, 0], [np.nan, 0], [2, 2]], np.float32)
    assert repro.ranked(due, ran) == [2, 1, 3, 0]
    assert repro.ranked(due, ran[:2]) == [1, 0]
    assert repro.ranked(due, ran[:, :1]) == [0, 1, 2, 3]


def test_of_what_is_red_on_rmse_the_samples_are_ranked_by_theirs() -> None:
    ran = np.array([[0, 3], [2.5, 2.5], [np.nan, 0]], np.float32)
    assert repro.ranked(np.zeros_like(ran), ran, "rmse") == [2, 1, 0]
    assert repro.ranked(np.zeros_like(ran), ran, "max_abs") == [2, 0, 1]


# -- the target

ROW = Verdict(
    "m:a", "a", "1.0", "cpu", "reference", "logits", "max_abs", 2.0, 1.0, False, "executed", "detail", "a"
)


def findings(folder: Path, *rows: Verdict, **params: Any) -> list[dict[str, Any]]:
    (folder / "verdict").mkdir()
    verdict.write(folder / "verdict" / "verdicts.json", rows)
    runs = {row.run: {"runtime": "onnxruntime", "options": {}, "rounds": None} for row in rows}
    (folder / "out").mkdir()
    localise.localise({"verdict": folder / "verdict"}, {"runs": runs, **params}, folder / "out")
    found: list[dict[str, Any]] = json.loads((folder / "out" / "findings.json").read_text())["findings"]
    return found


def test_green_finds_nothing_and_loads_nothing(tmp_path: Path) -> None:
    verdict.write(tmp_path / "verdicts.json", [replace(ROW, ok=True)])
    code = (
        "import sys, pathlib; from modelbuild.recipes import localise;"
        "folder = pathlib.Path(sys.argv[1]);"
        "localise.localise({'verdict': folder}, {'runs': {'a': {}}}, folder);"
        "print(*({'numpy', 'torch', 'onnx', 'onnxruntime', 'coremltools'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
    assert json.loads((tmp_path / "findings.json").read_text()) == {"findings": []}


def test_what_has_no_numbers_is_told_in_words(tmp_path: Path) -> None:
    row = replace(ROW, metric="missing", measured=None, limit=None, detail='a has no output "logits"')
    (one,) = findings(tmp_path, row)
    assert (one["op"], one["reason"], one["folder"]) == (None, 'a has no output "logits"', "")
    assert one["words"] == 'a: no operation to blame: a has no output "logits"'


def test_only_what_is_red_against_the_reference_in_a_run_of_its_own_is_looked_into(tmp_path: Path) -> None:
    other = replace(ROW, against="b")
    budget = replace(ROW, run="", against="budget")
    assert findings(tmp_path, replace(ROW, ok=True), other, budget) == []
    (tmp_path / "verdicts.json").unlink(missing_ok=True)
    verdict.write(tmp_path / "verdicts.json", [replace(ROW, run="", metric="evidence")])
    localise.localise({"verdict": tmp_path}, {"runs": {"a": {}}}, tmp_path)
    assert json.loads((tmp_path / "findings.json").read_text()) == {"findings": []}


def test_of_a_run_one_verdict_is_looked_into_and_the_others_without_numbers_are_told(tmp_path: Path) -> None:
    rows = [
        replace(ROW, metric="rmse", measured=900.0),
        replace(ROW, measured=2.0),
        replace(ROW, measured=9.0, output="other"),
        replace(ROW, metric="missing", measured=None, limit=None, output="third"),
    ]
    found = findings(tmp_path, *rows)
    assert [(one["metric"], one["output"]) for one in found] == [("missing", "third"), ("max_abs", "other")]


def test_what_is_no_number_comes_before_what_is_a_large_one(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, metric="nan", measured=None, limit=None), replace(ROW, metric="decision_flips")]
    assert [one["metric"] for one in findings(tmp_path, *rows)] == ["nan"]


def test_at_most_five_runs_are_looked_into(tmp_path: Path) -> None:
    found = findings(tmp_path, *[replace(ROW, run=f"a.{index}") for index in range(7)])
    left = [one["run"] for one in found if one["reason"] == "not looked into, as 5 other runs are red"]
    assert (len(found), left) == (7, ["a.5", "a.6"])


def test_a_trouble_on_the_way_is_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = findings(tmp_path, ROW)
    assert one["reason"].startswith("KeyError: 'artifact.a'")
    assert one["words"].startswith("a: no operation to blame: KeyError")

    class Blind:
        name = "blind"

    monkeypatch.setattr(base, "find", lambda name: Blind())
    shutil.rmtree(tmp_path / "verdict")
    shutil.rmtree(tmp_path / "out")
    (one,) = findings(tmp_path, ROW)
    assert one["reason"] == "blind does not show the values inside an artefact"


def test_stage_and_steps_come_from_who_knows_them(tmp_path: Path) -> None:
    verdict.write(tmp_path / "verdicts.json", [replace(ROW, metric="missing")])
    runs = {"a": {"runtime": "onnxruntime", "options": {}, "rounds": None}}
    localise.localise(
        {"verdict": tmp_path}, {"runs": runs}, tmp_path, lambda row: ("artefact", {"run": row.run})
    )
    (one,) = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert (one["stage"], one["steps"]) == ("artefact", {"run": "a"})


# -- the folder, with ONNX Runtime


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> planted.Made:
    root = tmp_path_factory.mktemp("dense")
    onnx.save(dense(), root / "dense.onnx")
    return planted.third_party(root / "made", root / "dense.onnx", dense_inputs())


def scaled(folder: Path) -> None:
    model = onnx.load(folder / "model.onnx")
    planted.scaled_weight(model, "second")
    onnx.save(model, folder / "model.onnx")


@pytest.fixture(scope="module")
def shown(made: planted.Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of a finding, and the finding."""
    folder = tmp_path_factory.mktemp("shown")
    _, (one,) = planted.found(made, folder, "onnxruntime", {}, scaled)
    return folder / "repro" / one["folder"], one


def start(folder: Path, *arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-I", str(folder / "reproduce.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/")
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_finding_names_all_there_is_to_know(shown: tuple[Path, dict[str, Any]]) -> None:
    folder, one = shown
    assert one["op"] == {"name": "second", "kind": "MatMul", "value": "raw", "canonical": "raw", "module": ""}
    assert one["region"] == ["second"]
    assert one["inside"]["measured"] > one["inside"]["limit"] > 0
    assert one["confirmed"] == len(one["samples"])
    assert one["sample"] == one["samples"][0]
    assert one["reason"] == ""
    names = {"finding.json", "README.txt", "reproduce.py", "shipped.onnx", "reference.onnx"}
    assert {path.name for path in folder.iterdir()} == names | {"inputs.npz", "expected.npz"}
    told = json.loads((folder / "finding.json").read_text())
    del told["reproduce"]
    assert told == one


def test_the_excerpt_is_the_operation_alone_on_one_sample(shown: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = shown
    for file in ("shipped.onnx", "reference.onnx"):
        assert [node.name for node in onnx.load(folder / file).graph.node] == ["second"]
    with np.load(folder / "inputs.npz") as kept:
        assert kept["value_0"].shape == (1, 8)


def test_the_script_shows_the_fault_and_that_the_reference_has_none(
    shown: tuple[Path, dict[str, Any]],
) -> None:
    folder, one = shown
    code, said = start(folder)
    assert code == 1
    assert said.splitlines()[0] == f"MatMul second in shipped.onnx, onnxruntime {version('onnxruntime')}"
    assert f"limit {one['inside']['limit']:.6g}" in said
    assert said.splitlines()[-1] == "reproduced"
    code, said = start(folder, "reference")
    assert (code, said.splitlines()[-1]) == (0, "not reproduced")


def test_the_readme_says_how(shown: tuple[Path, dict[str, Any]]) -> None:
    folder, one = shown
    text = (folder / "README.txt").read_text()
    assert text.startswith(one["words"])
    assert f"pip install numpy onnxruntime=={version('onnxruntime')}\n    python reproduce.py\n" in text
    assert str(folder.parent) not in text


def altered(folder: Path, to: Path, **about: Any) -> Path:
    shutil.copytree(folder, to)
    told = json.loads((to / "finding.json").read_text())
    told["reproduce"] |= about
    (to / "finding.json").write_text(json.dumps(told))
    return to


LIMITS = [({"max_abs": 9, "rmse": 9}, 0), ({"max_abs": 9, "rmse": 0}, 1), ({"max_abs": 0, "rmse": 9}, 1)]


def limited(folder: Path, limits: Mapping[str, float]) -> list[dict[str, Any]]:
    """The values of a finding, held to other limits."""
    told = json.loads((folder / "finding.json").read_text())["reproduce"]["values"]
    return [{**value, "limits": limits} for value in told]


@pytest.mark.parametrize(("limits", "code"), LIMITS)
def test_the_script_holds_a_value_to_both_limits(
    shown: tuple[Path, dict[str, Any]], tmp_path: Path, limits: Mapping[str, float], code: int
) -> None:
    folder = altered(shown[0], tmp_path / "copy", values=limited(shown[0], limits))
    assert start(folder)[0] == code


def test_another_version_is_not_tried_unless_asked(
    shown: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = altered(shown[0], tmp_path / "copy", version="1.2.3")
    code, said = start(folder)
    assert (code, "pip install numpy onnxruntime==1.2.3" in said) == (2, True)
    assert start(folder, "--any-version")[0] == 1


def test_what_cannot_be_tried_ends_with_2_and_words(
    shown: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder = altered(shown[0], tmp_path / "copy", reference="")
    for arguments, words in [
        (("reference",), "has no reference model"),
        (("other",), "usage: python reproduce.py"),
    ]:
        code, said = start(folder, *arguments)
        assert (code, words in said) == (2, True)
    (folder / "shipped.onnx").write_bytes(b"no model")
    code, said = start(folder)
    assert (code, said.startswith("cannot be tried here: ONNX Runtime does not run shipped.onnx")) == (
        2,
        True,
    )


def test_the_reference_goes_by_names_of_its_own(shown: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    told = json.loads((shown[0] / "finding.json").read_text())["reproduce"]
    (port,), (value,) = told["inputs"], told["values"]
    assert (port["name"], port["reference"], value["reference"]) == ("hidden", "hidden", "raw")
    inputs, outputs = [{**port, "reference": "h"}], [{**value, "reference": "r"}]
    folder = altered(shown[0], tmp_path / "copy", inputs=inputs, values=outputs)
    model = onnx.load(folder / "reference.onnx")
    (node,) = model.graph.node
    node.input[0] = model.graph.input[0].name = "h"
    node.output[0] = model.graph.output[0].name = "r"
    onnx.save(model, folder / "reference.onnx")
    assert [start(folder)[0], start(folder, "reference")[0]] == [1, 0]


def test_an_operation_that_the_model_does_not_have_is_shown_by_itself(
    made: planted.Made, tmp_path: Path
) -> None:
    plant = planted.in_onnx(planted.half_precision, "first")
    _, (one,) = planted.found(made, tmp_path, "onnxruntime", {}, plant)
    assert (one["op"]["name"], one["script"]) == ("first (down)", "reproduce.py")
    assert one["reason"].startswith("the same part of the model that it was made from cannot be shown: ")
    text = (tmp_path / "repro" / "p" / "README.txt").read_text()
    assert "reproduce.py reference" not in text
    assert start(tmp_path / "repro" / "p", "reference")[0] == 2


def test_a_script_that_shows_nothing_is_not_handed_over(
    made: planted.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repro_folder, "_tried", lambda *_: (0, "not reproduced"))
    _, (one,) = planted.found(made, tmp_path, "onnxruntime", {}, scaled)
    assert (one["op"]["name"], one["script"]) == ("second", "")
    assert one["reason"] == "reproduce.py does not show it: the fault needs the rest of the model"
    assert "does not show it" in (tmp_path / "repro" / "p" / "README.txt").read_text()


def test_a_script_that_could_not_be_tried_is_handed_over_with_a_note(
    made: planted.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repro_folder, "_tried", lambda *_: (2, "there is no Mac"))
    _, (one,) = planted.found(made, tmp_path, "onnxruntime", {}, scaled)
    assert (one["script"], one["reason"]) == ("reproduce.py", "reproduce.py was not tried: there is no Mac")


def test_a_fault_that_needs_several_samples_keeps_them_all(
    made: planted.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def tried(folder: Path, *_: Any) -> tuple[int, str]:
        with np.load(folder / "inputs.npz") as kept:
            tries.append(len(kept["value_0"]))
        return int(len(tries) > 1), ""

    monkeypatch.setattr(repro_folder, "_tried", tried)
    _, (one,) = planted.found(made, tmp_path, "onnxruntime", {}, scaled)
    assert one["script"] == "reproduce.py"
    assert tries == [1, len(one["samples"])]


def test_node_shows_what_python_does_not(
    made: planted.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fault of WebAssembly alone is at hand: Python is kept from showing this one."""
    node = nodejs.find()
    if node is None:
        pytest.skip(nodejs.REMEDY)
    tried = repro_folder._tried
    monkeypatch.setattr(
        repro_folder, "_tried", lambda *given: tried(*given) if given[2].name.endswith(".mjs") else (0, "")
    )
    options = {"hosts": ["node"]}
    (way,) = base.find("onnxruntime-web").runs(options).values()
    _, (one,) = planted.found(made, tmp_path, "onnxruntime-web", options, scaled, ways=("node-wasm",))
    assert (one["script"], one["op"]["name"]) == ("reproduce.mjs", "second")
    folder = tmp_path / "repro" / one["folder"]
    dist = Path(installed(way.environment)["environment"]) / "node_modules" / "onnxruntime-web" / "dist"
    for arguments, code, last in [
        ((str(dist),), 1, "reproduced"),
        ((str(dist), "reference"), 0, "not reproduced"),
        (("other",), 2, "cannot be tried here: usage: node reproduce.mjs [shipped|reference]"),
    ]:
        done = subprocess.run(
            [str(node), str(folder / "reproduce.mjs"), *arguments], capture_output=True, text=True
        )
        assert (done.returncode, done.stdout.splitlines()[-1]) == (code, last)
    for number, (limits, code) in enumerate(LIMITS):
        held = altered(folder, tmp_path / str(number), values=limited(folder, limits))
        done = subprocess.run([str(node), str(held / "reproduce.mjs"), str(dist)], capture_output=True)
        assert done.returncode == code
    bare = altered(folder, tmp_path / "copy", reference="")
    done = subprocess.run(
        [str(node), str(bare / "reproduce.mjs"), "reference"], capture_output=True, text=True
    )
    words = "cannot be tried here: this folder has no reference model\n"
    assert (done.returncode, done.stdout) == (2, words)
    assert "npm install onnxruntime-web@" in (folder / "README.txt").read_text()


def test_an_excerpt_in_onnx_of_a_runtime_nobody_knows_is_run_by_onnx_runtime(tmp_path: Path) -> None:
    suspect = Suspect("other", object(), tmp_path, {"options": {}}, None, "7", "cpu")
    (program,) = repro_folder.programs(suspect, "shipped.onnx")
    assert program.install == f"pip install numpy onnxruntime=={version('onnxruntime')}"
    assert repro_folder.programs(suspect, "shipped.bin") == ()


def test_too_few_samples_behind_a_rate_are_no_operations_fault(tmp_path: Path) -> None:
    row = replace(ROW, metric="flip_rate", measured=0.0, limit=0.01, detail="too few samples")
    (one,) = findings(tmp_path, row)
    assert (one["op"], one["reason"], one["folder"]) == (None, "too few samples", "")


def test_the_steps_of_runs_that_are_not_looked_into_are_not_measured(tmp_path: Path) -> None:
    measured: list[str] = []

    def attributed(red: Verdict) -> tuple[str, Mapping[str, Any]]:
        measured.append(red.run)
        return "artefact", {}

    rows = [replace(ROW, run=f"a.{number}", metric="missing") for number in range(localise.MOST + 2)]
    (tmp_path / "verdict").mkdir()
    verdict.write(tmp_path / "verdict" / "verdicts.json", rows)
    runs = {row.run: {"runtime": "onnxruntime", "options": {}, "rounds": None} for row in rows}
    localise.localise({"verdict": tmp_path / "verdict"}, {"runs": runs}, tmp_path, attributed)
    told = json.loads((tmp_path / "findings.json").read_text())["findings"]
    assert len(measured) == localise.MOST
    assert [one["stage"] for one in told] == ["artefact"] * localise.MOST + ["", ""]
