"""Which module of PyTorch a value inside a package comes from, as far as that is known."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_SUFFIX = re.compile(r"(_cast_u?int\d+|_cast_fp\d+|_to_u?int\d+|_to_fp\d+)+$")


def module_paths(package: Any, graph: Mapping[str, str]) -> dict[str, str]:
    """Value name -> path of its module ("" for the outermost), for a coremltools MLModel fresh from conversion.

    `graph` is the same for the nodes of a torch.export graph, whose names coremltools keeps, up to the suffix of
    a cast; of a traced module, coremltools records the path itself. What a pass made anew has no entry.
    """
    found = {}
    for operation in _operations(package._mil_program.functions["main"]):
        for value in operation.outputs:
            known = _path(value.name, operation, graph)
            if known is not None and operation.op_type != "const":
                found[value.name] = known
    return dict(sorted(found.items()))


def module_of(operation: Any, graph: Mapping[str, str]) -> str | None:
    """The path of the module that a coremltools operation belongs to, as in `module_paths`; None where unknown."""
    return _path(operation.outputs[0].name, operation, graph)


def plain_name(name: str) -> str:
    """The name of a value without the suffix that a cast gave it."""
    return _SUFFIX.sub("", name)


def _path(name: str, operation: Any, graph: Mapping[str, str]) -> str | None:
    return graph.get(name, graph.get(plain_name(name), _recorded(operation)))


def _operations(block: Any) -> Iterator[Any]:
    for operation in block.operations:
        yield operation
        for inner in operation.blocks:
            yield from _operations(inner)


def _recorded(operation: Any) -> str | None:
    """The path that a trace left: module names from the outermost in, then the value's own name."""
    for source, names in operation.scopes.items():
        if source.name == "TORCHSCRIPT_MODULE_NAME":
            return ".".join(str(name) for name in names[1:-1])
    return None
