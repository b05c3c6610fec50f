"""What a package says of its inputs to an app: shapes that Core ML lets in, and no others.

The program behind it may be able to compute more; an app never gets there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from modelbuild.errors import RecipeError
from modelbuild.runtimes.coreml.evaluator.mlpackage import Package

Shape = tuple[int, ...]


def check(package: Package, inputs: Mapping[str, NDArray[Any]]) -> None:
    """Raises RecipeError for an input whose shape the package's description does not allow."""
    for feature in package.spec.description.input:
        if feature.type.WhichOneof("Type") == "multiArrayType" and feature.name in inputs:
            shape = tuple(inputs[feature.name].shape)
            allowed = _allowed(feature.type.multiArrayType)
            if allowed and not any(_fits(shape, each) for each in allowed):
                fact = (
                    f'input "{feature.name}" has shape {list(shape)}, and the package takes {_shown(allowed)}'
                )
                raise RecipeError(package.path.name, fact, "Core ML would refuse it too")


def _allowed(described: Any) -> list[list[tuple[int, int]]]:
    """The shapes allowed, each axis as (least, most); none where the description leaves them open."""
    flexible = described.WhichOneof("ShapeFlexibility")
    if flexible == "enumeratedShapes":
        return [[(size, size) for size in each.shape] for each in described.enumeratedShapes.shapes]
    if flexible == "shapeRange":
        ends = [(axis.lowerBound, axis.upperBound) for axis in described.shapeRange.sizeRanges]
        return [[(low, high if high >= 0 else 2**63) for low, high in ends]]
    return [[(size, size) for size in described.shape]] if described.shape else []


def _fits(shape: Shape, allowed: list[tuple[int, int]]) -> bool:
    return len(shape) == len(allowed) and all(a <= n <= b for n, (a, b) in zip(shape, allowed, strict=True))


def _shown(allowed: list[list[tuple[int, int]]]) -> str:
    def axis(low: int, high: int) -> str:
        return str(low) if low == high else f"{low} to {'any' if high == 2**63 else high}"

    return " or ".join(f"[{', '.join(axis(*ends) for ends in each)}]" for each in allowed[:5])
