"""Where ONNX Runtime Web put each node, read from what it logs: JavaScript is not told in any other way."""

from __future__ import annotations

import re
from collections.abc import Iterable

CPU = "CPUExecutionProvider"
SPEAKER = "VerifyEachNodeIsAssignedToAnEp] "
# Names are listed only when there are several providers, each below the line of its own.
ALL = re.compile(r" All nodes placed on \[(\w+)\]\. Number of nodes: (\d+)")
SOME = re.compile(r" Node\(s\) placed on \[(\w+)\]\. Number of nodes: \d+")
NODE = re.compile(r"  (\S+) \((.*)\)")


def read(log: Iterable[str]) -> dict[str, str]:
    """Node -> execution provider; empty when the log of a session does not say.

    Nodes are those of the optimised graph, with copies between devices. One without a name goes by its operator.
    Where all of them are in one place their names are not told: then that is one entry, such as "all 7 nodes".
    """
    found: dict[str, str] = {}
    provider = ""
    for line in log:
        said = line.partition(SPEAKER)[2]
        if whole := ALL.fullmatch(said):
            return {f"all {whole[2]} nodes": whole[1]}
        if some := SOME.fullmatch(said):
            provider = some[1]
        elif provider and (node := NODE.fullmatch(said)):
            found[_free(node[2] or node[1], found)] = provider
    return found


def _free(name: str, taken: dict[str, str]) -> str:
    """`name`, numbered when it is taken: names in the branches of an `If` need not differ."""
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
