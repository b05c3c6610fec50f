from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from modelbuild.equivalence.compare import Fault, Side, faults, reference_faults

LOGITS = np.arange(12, dtype=np.float32).reshape(4, 3)


def found(reference: dict[str, Any], other: dict[str, Any]) -> tuple[Fault, ...]:
    return faults(Side("the reference", reference), Side("ios", other))


def only(reference: dict[str, Any], other: dict[str, Any]) -> Fault:
    (fault,) = found(reference, other)
    return fault


def spoilt(value: float, sample: int) -> Any:
    array = LOGITS.copy()
    array[sample, 1] = value
    return array


def test_equal_sets_have_no_fault() -> None:
    assert found({"logits": LOGITS, "other": LOGITS}, {"other": LOGITS, "logits": LOGITS + 1}) == ()


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf")])
def test_not_a_number_on_either_side(value: float, kind: str) -> None:
    word = {"nan": "NaN", "inf": "Inf"}[kind]
    fault = only({"logits": LOGITS}, {"logits": spoilt(value, 2)})
    assert (fault.output, fault.kind) == ("logits", kind)
    assert fault.words == f'ios has {word} in "logits", first at sample 2 (1 of 4)'
    fault = only({"logits": spoilt(value, 3)}, {"logits": LOGITS})
    assert fault.words == f'the reference has {word} in "logits", first at sample 3 (1 of 4)'


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_same_on_both_sides_is_no_agreement(value: float) -> None:
    assert len(found({"logits": spoilt(value, 1)}, {"logits": spoilt(value, 1)})) == 2


def test_a_missing_output() -> None:
    fault = only({"logits": LOGITS, "boxes": LOGITS}, {"logits": LOGITS})
    assert (fault.kind, fault.words) == ("missing", 'ios has no output "boxes"')


def test_an_extra_output() -> None:
    fault = only({"logits": LOGITS}, {"logits": LOGITS, "boxes": LOGITS})
    assert (fault.kind, fault.words) == ("extra", 'ios has an extra output "boxes"')


@pytest.mark.parametrize("name", ["logit", "Logits", "logits_0"])
def test_a_similar_name_is_never_matched(name: str) -> None:
    kinds = {fault.kind: fault for fault in found({"logits": LOGITS}, {name: LOGITS})}
    assert set(kinds) == {"missing", "extra"}
    assert f"got '{name}', expected 'logits', and names are matched exactly" in kinds["missing"].words
    assert f"got '{name}', expected 'logits'" in kinds["extra"].words


def test_a_name_that_is_taken_is_not_offered() -> None:
    fault = only({"logits": LOGITS, "logits_1": LOGITS}, {"logits": LOGITS})
    assert fault.words == 'ios has no output "logits_1"'


@pytest.mark.parametrize("shape", [(4, 3, 1), (4, 1, 3), (12,), (3, 4)])
def test_another_shape(shape: tuple[int, ...]) -> None:
    fault = only({"logits": LOGITS}, {"logits": LOGITS.reshape(shape)})
    assert fault.kind == "shape"
    assert fault.words == f'ios gives "logits" in shape {shape}, the reference in (4, 3)'


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_another_dtype(dtype: Any) -> None:
    fault = only({"logits": LOGITS}, {"logits": LOGITS.astype(dtype)})
    assert fault.kind == "dtype"
    assert fault.words == f'ios gives "logits" as {np.dtype(dtype)}, the reference as float32'


def test_a_dtype_without_order() -> None:
    array = LOGITS.astype(ml_dtypes.bfloat16)
    assert {fault.kind for fault in found({"logits": array}, {"logits": array})} == {"dtype"}
    assert "no order to compare by" in found({"z": LOGITS * 1j}, {"z": LOGITS * 1j})[0].words


def test_fewer_and_more_samples() -> None:
    fault = only({"logits": LOGITS}, {"logits": LOGITS[:3]})
    assert fault.kind == "samples"
    assert fault.words == 'ios has fewer samples in "logits": 3 where 4 are due'
    assert "more samples" in only({"logits": LOGITS[:3]}, {"logits": LOGITS}).words


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), ()])
def test_empty_arrays(shape: tuple[int, ...]) -> None:
    empty = np.ones(shape, np.float32)
    kinds = [fault.kind for fault in found({"logits": empty}, {"logits": empty})]
    assert kinds == ["empty", "empty"]
    assert [fault.kind for fault in reference_faults(Side("r", {"logits": empty}), 0)] == ["empty"]


def test_no_outputs_at_all() -> None:
    assert only({}, {}).words == "the reference has no outputs: nothing was compared"


@pytest.mark.parametrize(
    ("value", "kind", "words"),
    [(0, "zero", "is all zero"), (0.5, "constant", "is 0.5 everywhere")],
)
def test_a_reference_that_proves_nothing(value: float, kind: str, words: str) -> None:
    (fault,) = reference_faults(Side("the reference", {"logits": np.full_like(LOGITS, value)}), 4)
    assert fault.kind == kind
    assert fault.words == f'the reference {words} in "logits": agreeing with it would prove nothing'


def test_a_reference_of_too_few_samples() -> None:
    (fault,) = reference_faults(Side("the reference", {"logits": LOGITS}), 5)
    assert fault.words == 'the reference has fewer samples in "logits": 4 where 5 are due'
    assert reference_faults(Side("the reference", {"logits": LOGITS}), 4) == ()


def test_without_an_evaluation_set_a_reference_is_as_long_as_it_is() -> None:
    assert reference_faults(Side("the reference", {"logits": LOGITS, "other": LOGITS[:2]}), None) == ()
