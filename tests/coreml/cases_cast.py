"""Cases of casts."""

from __future__ import annotations

import numpy as np
from cases import Case
from mil import mb

NEW = ("iOS17", "iOS18")
LAST = ("iOS18",)
SHORT = {"float32": "fp32", "float16": "fp16"}
OLD_TYPES = ("float32", "float16", "int32", "bool")
NEW_TYPES = ("int8", "uint8", "int16", "uint16")


def cast_case(source: str, target: str, targets: tuple[str, ...]) -> Case:
    values = [0, 1, 5, 100] if source.startswith(("u", "b")) else [0, -1, 5, 100, -7]
    array = np.array(values).astype(source)
    if source.startswith("f"):
        array = np.array([0.0, -0.0, 1.0, 0.75, 2.5, 99.9, *([-1.2, -3.6, -0.5] if target[0] != "u" else [])])
    return Case(
        "cast",
        f"{source}-to-{target}",
        {"x": array},
        lambda f, x: mb.cast(x=x, dtype=SHORT.get(target, target)),
        lambda x: (
            (x != 0) if target == "bool" else x.astype(target) if target[0] in "iu" else x.astype(np.float64)
        ),
        (source,),
        targets,
    )


CASES = [cast_case(a, b, ("iOS15", "iOS16")) for a in OLD_TYPES for b in OLD_TYPES]
CASES += [
    cast_case(a, b, NEW)
    for a in (*OLD_TYPES, *NEW_TYPES)
    for b in (*OLD_TYPES, *NEW_TYPES)
    if not (a == "int32" and b[0] == "u") and not (a in ("int8", "int16") and b[0] == "u")
]
CASES += [
    Case(
        "cast",
        f"beyond-{target}-{label}",
        {"x": np.array(values)},
        lambda f, x, target=target: mb.cast(x=x, dtype=target),
        lambda x, low=low, high=high: np.where(np.isnan(x), 0, np.clip(x, low, high)).astype(np.int64),
        ("float32",),
        targets,
        unfolded="NumPy's conversion of floats beyond the range is undefined: it differs between processors",
    )
    for target, low, high, targets in (
        ("int32", -(2**31), 2**31 - 1, ("iOS15", "iOS18")),
        ("uint16", 0, 2**16 - 1, LAST),
        ("int8", -128, 127, LAST),
    )
    for label, values in (
        ("both", [1e5, -1e5, np.inf, -np.inf, np.nan, 3e9]),
        ("above", [1e5, 3.0, 3e9]),
        ("below", [-1e5, 3.0, -3e9]),
        ("nan", [np.nan, 3.0]),
    )
]
CASES += [
    Case(
        "cast",
        "too-large-for-half",
        {"x": np.array([65504.0, 65519.0, 65521.0, -1e6, 1e-9])},
        lambda f, x: mb.cast(x=x, dtype="fp16"),
        lambda x: np.array([65504, 65504, np.inf, -np.inf, 0.0]),
        ("float32",),
        LAST,
        ulps=1,
    ),
    Case(
        "cast",
        "nan-to-bool",
        {"x": np.array([np.nan, 1e-7, 0.0])},
        lambda f, x: mb.cast(x=x, dtype="bool"),
        lambda x: np.array([True, True, False]),
        ("float32",),
        LAST,
    ),
]
