"""Every case of every operation, in every op set and dtype it is for, against two independent computations."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

import mil
import pytest
from cases import Case, cast, compare, truth

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
def test_an_operation_is_computed_as_an_independent_computation_does(case: Case, target: str, dtype: str) -> None:
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
