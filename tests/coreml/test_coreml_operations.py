"""Every case of every operation, in every op set and dtype it is for, against two independent computations."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from pathlib import Path

import mil
import numpy as np
import pytest
from cases import Case, cast, compare, truth

from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.widen import widened

FAMILIES = sorted(path.stem for path in Path(__file__).parent.glob("cases_*.py"))
CASES: list[Case] = [case for name in FAMILIES for case in importlib.import_module(name).CASES]
# Half precision is a matter of arithmetic, not of the op set: once a case is enough.
RUNS = [
    (case, target, dtype)
    for case in CASES
    for dtype in case.dtypes
    for target in (case.targets[-1:] if dtype == "float16" else case.targets)
]


@pytest.mark.parametrize(("case", "target", "dtype"), RUNS, ids=lambda each: str(each))
def test_an_operation_is_computed_as_an_independent_computation_does(
    case: Case, target: str, dtype: str
) -> None:
    inputs = cast(case, dtype)
    f = {"float16": "float16"}.get(dtype, "float32")

    def build(*variables):
        return case.build(mil.np.dtype(f).type, *variables)

    want = truth(case, inputs)
    got = mil.evaluate(build, inputs, target, open_axes=case.open_axes)
    compare(got, want, dtype, case.ulps)
    if dtype == "float16" and case.accumulates:
        compare(mil.evaluate(build, inputs, target, "float16"), want, dtype, case.stepwise_ulps)
    if not case.unfolded and dtype != "float16":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            witness = mil.folded(build, inputs, target)
        if all(each is not None for each in witness):
            compare(witness, want, dtype, max(case.ulps, 16))


def some_of_each(cases: list[Case], count: int = 3) -> list[Case]:
    """The first cases of each operation that computes in floats; `cast` names its result's dtype itself."""
    floats = [c for c in cases if "float32" in c.dtypes and c.op != "cast"]
    floats = [c for c in floats if any(array.dtype.kind == "f" for array in c.inputs.values())]
    return [
        c for op in dict.fromkeys(c.op for c in floats) for c in [c for c in floats if c.op == op][:count]
    ]


@pytest.mark.parametrize("case", some_of_each(CASES), ids=str)
def test_a_widened_program_gives_the_same_in_float64(case: Case) -> None:
    inputs = cast(case, "float32")
    with tempfile.TemporaryDirectory() as folder:
        build = lambda *variables: case.build(np.float32, *variables)  # noqa: E731
        made = mil.package(build, inputs, Path(folder), case.targets[-1], case.open_axes)
        evaluator = Evaluator(widened(made))
        wide = {n: a.astype(np.float64) if a.dtype.kind == "f" else a for n, a in inputs.items()}
        found = evaluator(wide)
    for name, true in zip(evaluator.function.body.outputs, truth(case, inputs), strict=True):
        finite = np.isfinite(true)
        limit = 1e-6 * np.abs(true[finite]).max(initial=0)
        np.testing.assert_allclose(found[name][finite], true[finite], rtol=0, atol=limit)
        assert (found[name].dtype == np.float64) == (true.dtype.kind == "f")
