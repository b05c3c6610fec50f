"""The suite every runtime's tests inherit: `class TestX(RuntimeConformance): name = "x"`.

The models are tiny and their answers are computed here in NumPy, so that no runtime is its own witness. Each stands
here twice, as an ONNX graph and as a torch module: `convert` is given the targets that the runtime says it needs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, get_args

import numpy as np
import onnx
import pytest
import torch
from nets import targets as student_targets
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from modelbuild import environments
from modelbuild.errors import BuildError, ModelbuildError, RecipeError
from modelbuild.recipes import rounded
from modelbuild.runtimes import base

SAMPLES = 70
HEAVY = "numpy torch onnx onnxruntime coremltools tensorrt jsonschema rich"


@dataclass(frozen=True)
class Case:
    """A model in both its forms, its inputs, and its outputs as NumPy gives them."""

    build: Callable[[int | str], onnx.ModelProto]
    module: type[nn.Module]
    inputs: Callable[[], dict[str, np.ndarray[Any, Any]]]
    answer: Callable[[Mapping[str, np.ndarray[Any, Any]]], dict[str, np.ndarray[Any, Any]]]


def weights() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        "table": rng.standard_normal((11, 6)).astype(np.float32),
        "w1": rng.standard_normal((6, 8)).astype(np.float32),
        "w2": rng.standard_normal((8, 3)).astype(np.float32),
        "b2": rng.standard_normal(3).astype(np.float32),
    }


def _model(nodes: list[Any], inputs: list[Any], outputs: list[Any], used: list[str]) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(weights()[name], name) for name in used]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def dense(batch: int | str = "batch") -> onnx.ModelProto:
    """x [batch, 6] -> hidden = relu(x w1) [batch, 8], logits = hidden w2 + b2 [batch, 3]."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["product"], name="first"),
        helper.make_node("Relu", ["product"], ["hidden"], name="relu"),
        helper.make_node("MatMul", ["hidden", "w2"], ["raw"], name="second"),
        helper.make_node("Add", ["raw", "b2"], ["logits"], name="bias"),
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 6])]
    results = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3]),
        helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [batch, 8]),
    ]
    return _model(nodes, ports, results, ["w1", "w2", "b2"])


class Dense(nn.Module):
    """`dense` as a module; its outputs are named by a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        _parameters(self, "w1", "w2", "b2")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        hidden = torch.relu(x @ self.w1)
        return {"logits": hidden @ self.w2 + self.b2, "hidden": hidden}


def _parameters(module: nn.Module, *names: str) -> None:
    for name in names:
        module.register_parameter(name, nn.Parameter(torch.tensor(weights()[name])))


def dense_answer(inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    w = weights()
    hidden = np.maximum(inputs["x"] @ w["w1"], 0)
    return {"logits": hidden @ w["w2"] + w["b2"], "hidden": hidden}


def dense_inputs() -> dict[str, np.ndarray[Any, Any]]:
    return {"x": np.random.default_rng(1).standard_normal((SAMPLES, 6)).astype(np.float32)}


def tokens(batch: int | str = "batch") -> onnx.ModelProto:
    """ids int64 [batch, 5], scale float32 [batch, 1] -> logits [batch, 6] = mean(table[ids]) * scale."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look-up"),
        helper.make_node("ReduceSum", ["rows", "axes"], ["sum"], keepdims=0, name="sum"),
        helper.make_node("Mul", ["sum", "scale"], ["logits"], name="scale"),
    ]
    ports = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, [batch, 5]),
        helper.make_tensor_value_info("scale", TensorProto.FLOAT, [batch, 1]),
    ]
    results = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 6])]
    model = _model(nodes, ports, results, ["table"])
    model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
    return model


class Tokens(nn.Module):
    """`tokens` as a module; its output is named by `output_names`."""

    output_names = ("logits",)

    def __init__(self) -> None:
        super().__init__()
        _parameters(self, "table")

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        return nn.functional.embedding(ids, self.table).sum(1) * scale


def tokens_answer(inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    return {"logits": weights()["table"][inputs["ids"]].sum(axis=1) * inputs["scale"]}


def tokens_inputs() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(2)
    ids = rng.integers(0, 11, (SAMPLES, 5), dtype=np.int64)
    return {"ids": ids, "scale": rng.uniform(0.1, 0.3, (SAMPLES, 1)).astype(np.float32)}


CASES = {
    "dense": Case(dense, Dense, dense_inputs, dense_answer),
    "tokens": Case(tokens, Tokens, tokens_inputs, tokens_answer),
}


def write_onnx(folder: Path, model: onnx.ModelProto) -> Path:
    """The output folder of an `onnx` target."""
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, folder / "model.onnx")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def as_a_job(work: Callable[[], None]) -> None:
    """Run `work` as the build runs a recipe: in a fork of its own, which leaves no state behind for the next."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@cache
def _installed(kind: str, pins: tuple[str, ...], lock: tuple[tuple[str, str], ...]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        environments.lock(kind, pins, {role: Path(path) for role, path in lock}, Path(folder))
        return str(environments.ready(Path(folder)))


def installed(environment: base.Environment | None) -> dict[str, str]:
    """The parameter that names the installed environment, where one is asked for."""
    if environment is None:
        return {}
    lock = tuple(environment.lock.items())
    return {"environment": _installed(environment.kind, environment.pins, lock)}


class RuntimeConformance:
    name: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    cases: ClassVar[tuple[str, ...]] = tuple(CASES)
    atol: ClassVar[float] = 1e-5

    @pytest.fixture
    def runtime(self) -> base.Runtime:
        return base.find(self.name)

    @pytest.fixture(params=tuple(CASES))
    def case(self, request: pytest.FixtureRequest, runtime: base.Runtime) -> Case:
        reason = runtime.available()
        if reason is not None:
            pytest.skip(reason)
        if request.param not in self.cases:
            pytest.skip(f"{self.name} has no {request.param}")
        return CASES[request.param]

    @classmethod
    def params(cls, case: Case, **options: Any) -> dict[str, Any]:
        conversion = base.find(cls.name).conversion({**cls.options, **options})
        return {
            "runtime": cls.name,
            "options": dict(conversion.options),
            **installed(conversion.environment),
            "export": {"dynamic": {"batch": [1, 64]}},
        }

    @classmethod
    def told(cls, way: base.Way | None = None) -> dict[str, Any]:
        """What `run` is given: for the first way that there is, unless told which."""
        if way is None:
            ways = base.find(cls.name).runs(cls.options).values()
            way = next(each for each in ways if each.unavailable is None)
        return {"runtime": cls.name, "options": dict(way.options), **installed(way.environment)}

    @classmethod
    def targets(cls, case: Case, folder: Path, batch: int | str = "batch") -> dict[str, Path]:
        """What `convert` is given: of the targets that there are, those that the runtime needs."""
        made = {
            "onnx": write_onnx(folder / "onnx", case.build(batch)),
            **student_targets(folder, case.module(), case.inputs()),
        }
        return {name: made[name] for name in base.find(cls.name).conversion(cls.options).needs}

    @pytest.fixture(scope="class")
    @classmethod
    def artifacts(cls, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Path]:
        """The artefact of a case; it is converted once, however many tests look at it."""
        made: dict[type[nn.Module], Path] = {}

        def artifact(case: Case) -> Path:
            if case.module not in made:
                folder = tmp_path_factory.mktemp(cls.name)
                (folder / "artifact").mkdir()
                targets = cls.targets(case, folder)
                base.find(cls.name).convert(targets, folder / "artifact", cls.params(case))
                made[case.module] = folder / "artifact"
            return made[case.module]

        return artifact

    @pytest.fixture
    def artifact(self, artifacts: Callable[[Case], Path], case: Case) -> Path:
        return artifacts(case)

    def test_is_found_by_its_name(self, runtime: base.Runtime) -> None:
        assert runtime.name == self.name
        assert self.name in base.known()
        assert isinstance(runtime, base.Runtime)

    def test_answers_the_graph_without_loading_heavy_packages(self) -> None:
        code = (
            "import sys; from modelbuild.runtimes import base; base.known();"
            f"r = base.find({self.name!r}); r.available(); r.toolchain(); r.modules();"
            f"r.conversion({dict(self.options)!r}); r.runs({dict(self.options)!r});"
            f"print(*(set({HEAVY!r}.split()) & sys.modules.keys()))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""

    def test_toolchain_names_distributions(self, runtime: base.Runtime) -> None:
        assert runtime.toolchain()
        if runtime.available() is None:
            assert all(importlib.metadata.version(name) for name in runtime.toolchain())

    def test_available_is_a_reason_or_none(self, runtime: base.Runtime) -> None:
        assert runtime.available() is None or len(str(runtime.available())) > 10

    def test_needs_known_targets(self, runtime: base.Runtime) -> None:
        needs = runtime.conversion(self.options).needs
        assert needs
        assert set(needs) <= set(get_args(base.Target))

    def test_modules_exist(self, runtime: base.Runtime) -> None:
        assert all(importlib.util.find_spec(name) for name in runtime.modules())

    def test_names_its_ways_of_running(self, runtime: base.Runtime) -> None:
        ways = runtime.runs(self.options)
        assert ways
        for name, way in ways.items():
            assert re.fullmatch(r"([a-z0-9.]+(-[a-z0-9.]+)*)?", name)
            assert json.loads(json.dumps(dict(way.options), allow_nan=False)) == dict(way.options)
            assert way.rounds is None or rounded.known(way.rounds)
            assert all(Path(path).is_file() for path in way.machine.values())
            assert way.unavailable is None or len(way.unavailable) > 10

    def test_refuses_an_unknown_option(self, runtime: base.Runtime) -> None:
        with pytest.raises(ModelbuildError, match="no_such_option"):
            runtime.conversion({**self.options, "no_such_option": 1})

    def test_converts_to_the_same_bytes_and_leaves_its_inputs_alone(
        self, runtime: base.Runtime, case: Case, tmp_path: Path
    ) -> None:
        targets = self.targets(case, tmp_path)
        before = {role: contents(folder) for role, folder in targets.items()}
        made = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            as_a_job(lambda name=name: runtime.convert(targets, tmp_path / name, self.params(case)))
            made.append(contents(tmp_path / name))
        assert made[0]
        assert made[0].keys() == made[1].keys()
        assert [name for name in made[0] if made[0][name] != made[1][name]] == []
        assert before == {role: contents(folder) for role, folder in targets.items()}
        assert not any(str(tmp_path).encode() in data for data in made[0].values())

    def test_runs_what_it_converted_in_every_way(
        self, runtime: base.Runtime, case: Case, artifact: Path
    ) -> None:
        inputs = case.inputs()
        for way in runtime.runs(self.options).values():
            if way.unavailable is not None:
                continue  # the build says "not evidenced" of it
            run = runtime.run(artifact, inputs, self.told(way))
            self.check(run.outputs, case.answer(inputs))
            assert run.version
            assert run.backend
            assert run.evidence in ("executed", "interpreted")
            json.dumps(dict(run.placement), allow_nan=False)
            assert all(isinstance(provider, str) for provider in run.placement.values())

    def check(self, outputs: Mapping[str, Any], answer: Mapping[str, np.ndarray[Any, Any]]) -> None:
        assert set(outputs) == set(answer)
        for name, array in answer.items():
            assert outputs[name].dtype == array.dtype
            np.testing.assert_allclose(outputs[name], array, rtol=0, atol=self.atol)

    def test_runs_the_same_twice(self, runtime: base.Runtime, case: Case, artifact: Path) -> None:
        one, two = (runtime.run(artifact, case.inputs(), self.told()).outputs for _ in range(2))
        assert all(np.array_equal(one[name], two[name]) for name in one)

    def test_order_of_samples_is_kept(self, runtime: base.Runtime, case: Case, artifact: Path) -> None:
        inputs = {name: array[::-1].copy() for name, array in case.inputs().items()}
        run = runtime.run(artifact, inputs, self.told())
        self.check({name: array[::-1] for name, array in run.outputs.items()}, case.answer(case.inputs()))

    @pytest.mark.parametrize("fault", ["missing", "extra", "renamed", "dtype", "rank", "samples", "none"])
    def test_refuses_inputs_that_do_not_fit(
        self, fault: str, runtime: base.Runtime, case: Case, artifact: Path
    ) -> None:
        inputs = dict(case.inputs())
        name = next(iter(inputs))
        spoilt = {
            "missing": {n: a for n, a in inputs.items() if n != name},
            "extra": {**inputs, "stray": inputs[name]},
            "renamed": {f"{n}_" if n == name else n: a for n, a in inputs.items()},
            "dtype": {**inputs, name: inputs[name].astype(np.float64)},
            "rank": {**inputs, name: inputs[name][..., None]},
            "samples": {**inputs, name: inputs[name][:0]},
            "none": {},
        }[fault]
        shown = {"extra": "stray", "renamed": f"{name}_", "samples": "samples"}.get(fault, name)
        with pytest.raises(RecipeError, match=shown):
            runtime.run(artifact, spoilt, self.told())

    def test_a_file_that_is_no_model_is_refused_in_words(
        self, runtime: base.Runtime, case: Case, tmp_path: Path
    ) -> None:
        targets = self.targets(case, tmp_path)
        for path in (path for folder in targets.values() for path in folder.rglob("*") if path.is_file()):
            path.write_bytes(b"no model")
        (tmp_path / "out").mkdir()
        with pytest.raises(BuildError):
            runtime.convert(targets, tmp_path / "out", self.params(case))

    @pytest.fixture
    def inspectable(self, runtime: base.Runtime) -> base.Inspectable:
        if not isinstance(runtime, base.Inspectable):
            pytest.skip(f"{self.name} does not show values inside")
        return runtime

    @staticmethod
    def one_call(case: Case, inside: base.Inside) -> dict[str, np.ndarray[Any, Any]]:
        """As many samples as one call takes; a few where that is free."""
        return {name: array[: inside.batch or 5] for name, array in case.inputs().items()}

    def test_shows_what_it_computes_in_an_order_that_runs(
        self, inspectable: base.Inspectable, case: Case, artifact: Path
    ) -> None:
        inputs = case.inputs()
        inside = inspectable.inside(artifact)
        assert set(inside.inputs) == set(inputs)
        assert set(inside.outputs) == set(case.answer(inputs))
        there = list(inside.inputs)
        for node in inside.nodes:
            assert node.name
            assert node.kind
            assert node.gives
            assert set(node.reads) <= set(there), node
            there += node.gives
        assert len(set(there)) == len(there)
        assert set(inside.outputs) <= set(there)
        assert set(inside.identity) <= set(there)
        assert {name: inside.identity[name] for name in inside.outputs} == {n: n for n in inside.outputs}
        assert inside.batch is None or inside.batch > 0
        computed = [node for node in inside.nodes if not node.layout]
        assert 2 <= len(computed) <= 8  # neither case has more, and one operation alone gives neither answer
        assert inspectable.inside(artifact) == inside

    def test_shows_every_value_inside_as_one_call_leaves_it(
        self, inspectable: base.Inspectable, case: Case, artifact: Path
    ) -> None:
        inside = inspectable.inside(artifact)
        inputs = self.one_call(case, inside)
        names = tuple(name for node in inside.nodes for name in node.gives)
        found = inspectable.intermediates(artifact, inputs, names, self.told())
        assert set(found) == set(names)
        self.check({name: found[name] for name in inside.outputs}, case.answer(inputs))
        for name in names[:2]:  # and each alone; what rounds is not fused by being shown
            alone = inspectable.intermediates(artifact, inputs, (name,), self.told())
            assert list(alone) == [name]
            np.testing.assert_allclose(alone[name], found[name], rtol=0, atol=self.atol)

    def test_a_value_that_no_operation_gives_is_refused(
        self, inspectable: base.Inspectable, case: Case, artifact: Path
    ) -> None:
        inputs = self.one_call(case, inspectable.inside(artifact))
        with pytest.raises(RecipeError, match="logit_"):
            inspectable.intermediates(artifact, inputs, ("logits", "logit_"), self.told())

    def test_cuts_out_a_part_with_its_weights(
        self, inspectable: base.Inspectable, case: Case, artifact: Path, tmp_path: Path
    ) -> None:
        """Each operation that reads something, and the whole; the same bytes every time."""
        inside = inspectable.inside(artifact)
        parts = [(node.reads, node.gives) for node in inside.nodes if node.reads]
        assert parts
        for number, (reads, gives) in enumerate([*parts, (inside.inputs, inside.outputs)]):
            made = []
            for again in ("one", "two"):
                out = tmp_path / f"{number}-{again}"
                out.mkdir()
                name = inspectable.excerpt(artifact, out, reads, gives)
                assert (out / name).exists()
                made.append(contents(out))
            assert made[0] == made[1]
            assert all(made[0].values())

    def test_a_part_that_needs_more_is_refused(
        self, inspectable: base.Inspectable, case: Case, artifact: Path, tmp_path: Path
    ) -> None:
        node = next(node for node in inspectable.inside(artifact).nodes if node.reads)
        with pytest.raises(RecipeError, match=re.escape(node.reads[0])):
            inspectable.excerpt(artifact, tmp_path, node.reads[1:], node.gives)
        assert list(tmp_path.iterdir()) == []
