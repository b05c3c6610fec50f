"""State of a stateful program: buffers that outlive a call, by name."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

State = dict[str, Tensor]


class Cell(NamedTuple):
    """What a program's state variable stands for: the buffer `name` of `state`, to be read and replaced."""

    state: State
    name: str
