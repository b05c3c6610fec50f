from __future__ import annotations

from typing import Any

from modelbuild.equivalence import preflight


def record(*findings: tuple[str, str, str, float]) -> dict[str, Any]:
    keys = ("kind", "module", "operation", "value")
    return {
        "tensors": 12,
        "largest": 7.5,
        "findings": [{**dict(zip(keys, each, strict=True)), "share": 0.1} for each in findings],
    }


def test_nothing_found_is_a_figure() -> None:
    found = preflight.warning("m", record())
    assert (found.target, found.measured, found.limit, found.ok) == ("m:preflight", 7.5, None, True)
    assert "all 12 values inside the model fit, the largest is 7.5" in found.detail


def test_what_was_found_is_a_warning_by_kind_with_module_operation_and_value() -> None:
    many = [("subnormal", f"block.{n}", "mul", 1e-6) for n in range(5)]
    found = preflight.warning("m", record(("overflow", "", "matmul", 123456.0), *many))
    assert found.measured is None
    assert found.ok
    assert "overflow in the model matmul 1.23e+05" in found.detail
    assert "subnormal in block.0 mul 1e-06, block.1 mul 1e-06, block.2 mul 1e-06 and 2 more" in found.detail


def test_a_warning_demands_nothing_of_anybody() -> None:
    for found in (
        preflight.warning("m", record()),
        preflight.warning("m", record(("overflow", "a", "mul", 1e5))),
    ):
        assert (found.metric, found.platform, found.against) == ("range", "", "float16's range")
        assert (found.ok, found.limit, found.evidence, found.output) == (True, None, "executed", "")


def test_three_of_a_kind_are_named_and_none_is_left_over() -> None:
    found = preflight.warning("m", record(*[("sentinel", f"b{n}", "add", 1e31) for n in range(3)]))
    assert (
        found.detail
        == "pre-flight for float16: sentinel in b0 add 1e+31, b1 add 1e+31, b2 add 1e+31" + preflight.REMEDY
    )


def test_each_kind_names_its_own() -> None:
    found = preflight.warning("m", record(("overflow", "a", "mul", 1e5), ("subnormal", "b", "add", 1e-6)))
    assert (
        found.detail
        == "pre-flight for float16: overflow in a mul 1e+05; subnormal in b add 1e-06" + preflight.REMEDY
    )
