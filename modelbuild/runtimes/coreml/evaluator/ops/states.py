"""State that outlives a call: read_state and write_state (a converter's coreml_update_state is the two in turn).

Neither is pure, and neither gives memory of its own: what is written is kept as it is and read as it is, so no
operation may take it over.
"""

from __future__ import annotations

from torch import Tensor

from modelbuild.runtimes.coreml.evaluator.kernels import kernel
from modelbuild.runtimes.coreml.evaluator.state import Cell


def _kept(cell: Cell) -> Tensor:
    if not isinstance(cell, Cell):
        raise ValueError('"input" is no state of the function')
    if cell.name not in cell.state:
        raise ValueError(f'the state that was given has no "{cell.name}"; start from fresh_state()')
    return cell.state[cell.name]


@kernel("read_state", pure=False)
def read_state(input: Cell) -> Tensor:  # noqa: A002 - MIL's name
    """What was written last."""
    return _kept(input)


@kernel("write_state", pure=False)
def write_state(input: Cell, data: Tensor) -> None:  # noqa: A002 - MIL's name
    """Replace the content by `data`, which must be of the same type."""
    kept = _kept(input)
    if data.dtype != kept.dtype or data.shape != kept.shape:
        fact = f"{data.dtype}{list(data.shape)} into {kept.dtype}{list(kept.shape)}"
        raise ValueError(f'state "{input.name}" keeps its type, and this writes {fact}'.replace("torch.", ""))
    input.state[input.name] = data
