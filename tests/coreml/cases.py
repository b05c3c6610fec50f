"""What a case of an operation's test is, and how far from the truth a result may be.

Every case is computed three times independently: by modelbuild, from a program written to disk format; by NumPy or
PyTorch in float64 (`expected`); and by coremltools' own `value_inference`, where it has one. OPERATIONS.md tells
which operations, dtypes and op sets the cases cover; `python tests/coreml/table.py` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mil
import numpy as np

Array = np.ndarray[Any, Any]
FLOATS = ("float32", "float16")
UNIT = {"float32": 2.0**-24, "float16": 2.0**-11}  # half a unit in the last place of 1


@dataclass(frozen=True)
class Case:
    """One operation on one set of inputs.

    `inputs`: float arrays are cast to each of `dtypes` in turn; other arrays stay as they are. `build(f, *vars)`
    makes the program's result(s) from MIL variables, `f` being the NumPy float type under test, for constants.
    `expected(*arrays)` is the truth, given the inputs after the cast with floats widened to float64; its dtype does
    not matter where it is float. `ulps` is how many half units in the last place, relative to the largest expected
    value, a result may be off. `unfolded` is why coremltools' value_inference is not asked: it is wrong, and how.
    """

    op: str
    label: str
    inputs: Mapping[str, Array]
    build: Callable[..., Any]
    expected: Callable[..., Any]
    dtypes: tuple[str, ...] = FLOATS
    targets: tuple[str, ...] = mil.TARGETS
    ulps: float = 4
    unfolded: str = ""
    accumulates: bool = False  # whether "float16" accumulation may differ from "float32"
    stepwise_ulps: float = 64  # how far it may then be off
    open_axes: Mapping[str, tuple[int, ...]] | None = None

    def __str__(self) -> str:
        return f"{self.op}-{self.label}"


def cast(case: Case, dtype: str) -> dict[str, Array]:
    """The inputs as a program of float type `dtype` gets them."""
    floats = dtype if dtype in FLOATS else "float32"
    return {n: a.astype(floats) if a.dtype.kind == "f" else a for n, a in case.inputs.items()}


def truth(case: Case, inputs: Mapping[str, Array]) -> list[Array]:
    wide = [a.astype(np.float64) if a.dtype.kind == "f" else a for a in inputs.values()]
    with np.errstate(all="ignore"):
        result = case.expected(*wide)
    return [np.asarray(each) for each in (result if isinstance(result, (tuple, list)) else [result])]


def compare(got: list[Any], want: list[Array], dtype: str, ulps: float) -> None:
    """Same number, shapes, kinds; equal where whole, within `ulps` where float, NaN and infinity in place."""
    assert len(got) == len(want)
    for have, true in zip(got, want, strict=True):
        have = np.asarray(have)
        assert have.shape == true.shape
        if true.dtype.kind != "f":
            assert have.dtype.kind in "iu" if true.dtype.kind in "iu" else have.dtype.kind == true.dtype.kind
            np.testing.assert_array_equal(have, true)
            continue
        assert have.dtype.kind == "f"
        with np.errstate(over="ignore"):
            rounded = true.astype(have.dtype).astype(np.float64)
        finite = np.isfinite(rounded)
        np.testing.assert_array_equal(have[~finite].astype(np.float64), rounded[~finite])
        scale = float(np.abs(rounded[finite]).max(initial=0.0))
        floor = 2.0**-24 if have.dtype == np.float16 else 2.0**-126
        limit = ulps * max(UNIT.get(str(have.dtype), UNIT["float32"]) * scale, floor)
        np.testing.assert_allclose(have[finite].astype(np.float64), true[finite], rtol=0, atol=limit)
