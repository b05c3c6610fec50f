"""The processor, as far as it decides what integer arithmetic gives.

x86 without VNNI multiplies 8-bit numbers in pairs and adds them up in 16 bits, which saturates: the same INT8 file
gives other numbers there than on a processor with VNNI, on ARM, or in WebAssembly. So a run of such a file says on
what it ran.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

# What decides how 8-bit products are added up, of x86 and of ARM.
FLAGS = (
    "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8",
    "asimd", "asimddp", "i8mm", "sve",
)  # fmt: skip
WIDE = {"avx512_vnni", "avx_vnni", "avx_vnni_int8", "amx_int8", "asimddp", "i8mm"}
INTEGER = ("QuantizeLinear", "DequantizeLinear", "ConvInteger", "MatMulInteger", "DynamicQuantizeLinear")


def describe(cpuinfo: Path = Path("/proc/cpuinfo")) -> dict[str, Any]:
    """`machine`, the `flags` of it that matter, and whether sums of 8-bit products may saturate.

    `saturates` is None where the flags cannot be read.
    """
    flags = _flags(cpuinfo)
    found = [flag for flag in FLAGS if flag in flags]
    saturates = "avx2" in flags and not flags & WIDE if flags else None
    return {"machine": platform.machine(), "flags": found, "saturates": saturates}


def _flags(cpuinfo: Path) -> set[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:  # not Linux
        return set()
    named = (line.partition(":") for line in lines)
    return {f for name, _, told in named if name.strip() in ("flags", "Features") for f in told.split()}


def quantised_kinds(model: Any) -> list[str]:
    """The operators of an ONNX model, subgraphs and functions too, that compute in 8-bit integers or go to them."""
    nodes = [*_nodes(model.graph), *(node for each in model.functions for node in _inside(each.node))]
    return sorted({node.op_type for node in nodes if node.op_type in INTEGER or "QLinear" in node.op_type})


def _nodes(graph: Any) -> Any:
    return _inside(graph.node)


def _inside(nodes: Any) -> Any:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph)
