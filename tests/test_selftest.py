"""The gate's own test: every fault is seen, a gate that is weakened is found out, and clean runs stay green."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelbuild import dataset, selftest, tensors
from modelbuild.dataset import DataSet
from modelbuild.equivalence import compare, decisions, liveness, noise, pairs
from modelbuild.equivalence.demand import RuntimeDemand
from modelbuild.equivalence.noise import FP64, NUDGED
from modelbuild.errors import CommandError
from modelbuild.runtimes.base import Run

RNG = np.random.default_rng(11)
TRUTH = {name: RNG.standard_normal((40, 5)).astype(np.float32) for name in ("logits", "more")}
FAULTS = {fault.name: fault for fault in liveness.FAULTS}


def moved(by):
    return {name: (array + np.float32(by)).astype(np.float32) for name, array in TRUTH.items()}


@pytest.fixture
def bench():
    measured = noise.measure(TRUTH, {FP64: [moved(1e-6)], NUDGED: [moved(2e-6)]}, {})
    return selftest.Bench(TRUTH, measured, 40, None, RuntimeDemand(), None)


@pytest.fixture
def run(tmp_path):
    tensors.save(tmp_path / "outputs.safetensors", moved(1e-6))
    dataset.write_json(tmp_path / "run.json", {"version": "1", "backend": "cpu", "evidence": "executed"})
    return tmp_path


def test_there_are_at_least_thirty_faults_each_with_a_name_of_its_own():
    assert len(FAULTS) == len(liveness.FAULTS) >= 30


def test_every_fault_turns_the_gate_red(bench, run):
    found = selftest.faults(bench, run)
    assert found.missed == () and found.no_place == ()
    assert found.did == found.tried == len(liveness.FAULTS)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_what_it_is_put_into(bench, run, name):
    """One that changed nothing would be red for another reason, or never."""
    case = liveness.recorded(TRUTH, selftest.read_run(run), bench.limits())
    faulty = FAULTS[name].put(case)
    assert faulty is not None
    before, after = (case.reference, case.run), (faulty.reference, faulty.run)
    assert before[1].evidence != after[1].evidence or not _same(before, after)


def _same(one, other):
    sides = [(a, b) for a, b in zip((one[0], one[1].outputs), (other[0], other[1].outputs), strict=True)]
    return all(a.keys() == b.keys() and all(_equal(a[n], b[n]) for n in a) for a, b in sides)


def _equal(one, other):
    return one.dtype == other.dtype and np.array_equal(one, other)


def but_for(*kinds):
    """The comparison without its eyes for faults of these kinds."""
    whole = compare.faults_between
    return lambda *sides: tuple(fault for fault in whole(*sides) if fault.kind not in kinds)


@pytest.mark.parametrize(
    ("module", "safeguard", "instead", "missed"),
    [
        (pairs, "within", lambda *_: True, "a scaled layer"),
        (compare, "unfit", lambda *_: (), "a constant on both sides"),
        (compare, "faults_between", but_for("extra"), "an output more than there should be"),
        (compare, "faults_between", but_for("missing", "extra"), "an output renamed"),
    ],
    ids=["no limit", "any reference", "outputs too many", "names"],
)
def test_a_gate_that_is_weakened_is_found_out(bench, run, monkeypatch, module, safeguard, instead, missed):
    monkeypatch.setattr(module, safeguard, instead)
    found = selftest.faults(bench, run)
    assert found.did < found.tried and missed in found.missed


def test_a_limit_that_is_too_wide_is_found_out(bench, run):
    """The faults are of the size that the limit, as derived, has to catch."""
    case = liveness.recorded(TRUTH, selftest.read_run(run), bench.limits())
    smallest = FAULTS["one value off, barely beyond the limit"].put(case)
    assert smallest is not None
    assert not all(row.ok for row in bench.judged(smallest.reference, smallest.run))
    wide = replace(bench, demand=RuntimeDemand({"max_abs": 2 * bench.limits()["logits"]}))
    assert all(row.ok for row in wide.judged(smallest.reference, smallest.run))


def test_a_run_that_is_red_already_proves_nothing_and_is_refused(bench, run):
    tensors.save(run / "outputs.safetensors", moved(1.0))
    with pytest.raises(CommandError, match=r"is red already: .*Faults put into it would prove nothing"):
        selftest.faults(bench, run)


def test_a_model_without_real_outputs_for_several_samples_is_refused(bench):
    whole = {"y": np.arange(40).reshape(40, 1)}
    with pytest.raises(LookupError, match="no output holds real numbers"):
        liveness.recorded(whole, Run(whole, "", "", "executed"), {})


def dense_model():
    """y = tanh(x W) V, whose float32 sums differ with the order of the terms and of the samples."""
    rng = np.random.default_rng(2)
    weights = {"w": rng.standard_normal((4, 32)), "v": rng.standard_normal((32, 3))}
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Tanh", ["h"], ["t"]),
        helper.make_node("MatMul", ["t", "v"], ["y"]),
    ]
    ports = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", k]) for n, k in (("x", 4), ("y", 3))
    ]
    held = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "dense", ports[:1], ports[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


@pytest.fixture
def model(tmp_path):
    """A small ONNX model, its data, and the reference's outputs."""
    onnx, data = tmp_path / "onnx", tmp_path / "data"
    onnx.mkdir(), data.mkdir()
    (onnx / "model.onnx").write_bytes(dense_model().SerializeToString())
    inputs = {"x": RNG.standard_normal((70, 4)).astype(np.float32)}
    dataset.write(data, DataSet(inputs, {}))
    truth = selftest.unoptimised.runner((onnx / "model.onnx").read_bytes())(inputs)
    return onnx, data, truth


def clean_bench(truth, floor):
    off = {name: (array + np.float32(floor)).astype(np.float32) for name, array in truth.items()}
    measured = noise.measure(truth, {NUDGED: [off]}, {})
    return selftest.Bench(truth, measured, 70, None, RuntimeDemand(), None)


def test_clean_runs_are_green_and_differ_from_seed_to_seed(model):
    onnx, data, truth = model
    found = selftest.clean(clean_bench(truth, 1e-6), onnx, data, range(20))
    assert (found.tried, found.did, found.missed) == (20, 20, ())
    run = selftest.unoptimised.runner((onnx / "model.onnx").read_bytes())
    inputs = dataset.read(data).inputs
    seen = {selftest.again(run, inputs, np.random.default_rng(seed))["y"].tobytes() for seed in range(5)}
    assert len(seen) == 5
    name = next(iter(truth))
    assert np.allclose(selftest.again(run, inputs, np.random.default_rng(0))[name], truth[name], atol=1e-4)


def test_a_gate_that_is_too_strict_is_found_out(model):
    """A limit below the noise, as a floor that was not measured would give: some clean run is red."""
    onnx, data, truth = model
    strict = replace(clean_bench(truth, 1e-6), demand=RuntimeDemand({"max_abs": 1e-9}))
    found = selftest.clean(strict, onnx, data, range(5))
    assert found.did < found.tried and found.missed[0].startswith("seed 0: ")


def test_decisions_are_judged_too(bench, run):
    """Only a classifier has them, so the faults above must have met the count of flips."""
    outputs = {**TRUTH, "logits": np.roll(TRUTH["logits"], 1, axis=1)}
    rows = bench.judged(TRUTH, Run(outputs, "", "", "executed"))
    assert decisions.decides(TRUTH["logits"])
    assert [row.metric for row in rows if row.metric == "decision_flips" and not row.ok]
