"""What a package computes: the operations of its main function, and what their values should equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from modelbuild.runtimes.base import Inside, Node
from modelbuild.runtimes.coreml.converter import identity
from modelbuild.runtimes.coreml.evaluator import mlpackage
from modelbuild.runtimes.coreml.evaluator.evaluate import chosen
from modelbuild.runtimes.coreml.evaluator.liveness import uses
from modelbuild.runtimes.coreml.evaluator.program import (
    DictionaryType,
    Function,
    Operation,
    StateType,
    TensorType,
)
from modelbuild.runtimes.coreml.ports import PACKAGE, Input, Ports

# They move or rename numbers; one that chooses among them (a slice, a look-up) can choose wrongly.
LAYOUT = frozenset(
    (
        *(
            "cast",
            "depth_to_space",
            "expand_dims",
            "flatten2d",
            "identity",
            "pixel_shuffle",
            "pixel_unshuffle",
        ),
        *("reshape", "reshape_like", "space_to_depth", "squeeze", "transpose"),
    )
)
OPEN = 16  # a package that takes all numbers of samples up to so many leaves the number open


def of(artifact: Path) -> Inside:
    """The operations of the artefact's package, one with blocks inside as one.

    What depends on constants alone is a constant. A classifier's scores stand for the dictionary that it makes of
    them, and the name of its best class for nothing. Raises RecipeError where one of the files cannot be read.
    """
    package = mlpackage.read(artifact / PACKAGE)
    function, known = chosen(package, ""), identity.read(artifact)
    scores = _scores(function)
    nodes = tuple(_nodes(function))
    values = {port.name for port in function.inputs} | {name for node in nodes for name in node.gives}
    return Inside(
        nodes,
        tuple(port.name for port in function.inputs if not isinstance(port.type, StateType)),
        tuple(scores.get(name, name) for name in function.body.outputs if name not in _texts(function)),
        {name: other for name, other in known.items() if name in values},
        _batch(Ports.read(artifact).inputs),
    )


def constants(function: Function) -> set[str]:
    """The values of `function` that are the same in every call."""
    found = set[str]()
    for operation in function.body.operations:
        if all(name in found for name in uses(operation)):
            found |= {each.name for each in operation.outputs}
    return found


def _nodes(function: Function) -> Iterator[Node]:
    constant = constants(function)
    for operation in function.body.operations:
        gives = tuple(each.name for each in operation.outputs)
        if not constant.issuperset(gives):
            reads = tuple(dict.fromkeys(name for name in uses(operation) if name not in constant))
            yield Node(operation.name, operation.type, reads, gives, operation.type in LAYOUT)


def _scores(function: Function) -> Mapping[str, str]:
    """Name of a dictionary of classes -> the value that it is made of."""
    made: dict[str, str] = {}
    for operation in function.body.operations:
        for each in operation.outputs:
            if isinstance(each.type, DictionaryType):
                made[each.name] = _argument(operation, "probabilities")
    return made


def _texts(function: Function) -> set[str]:
    made = (each for operation in function.body.operations for each in operation.outputs)
    return {each.name for each in made if isinstance(each.type, TensorType) and each.type.dtype == "string"}


def _argument(operation: Operation, name: str) -> str:
    return "".join(each for each in operation.inputs.get(name, ()) if isinstance(each, str))


def _batch(inputs: tuple[Input, ...]) -> int | None:
    """The largest number of samples of a call that all `inputs` take; None where they leave it open."""
    allowed: set[int] | None = None
    for port in inputs:
        sizes = {shape[0] for shape in port.enumerated} or _span(port)
        allowed = sizes if allowed is None else allowed & sizes
    return None if not allowed or allowed.issuperset(range(1, OPEN + 1)) else max(allowed)


def _span(port: Input) -> set[int]:
    first = port.axes[0]
    low, high = (first, first) if isinstance(first, int) else first
    return set(range(low, high + 1))
