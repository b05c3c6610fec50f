"""An exported program of PyTorch's, run node by node: what each of its nodes gives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.export.graph_signature import InputKind
from torch.fx import Interpreter, Node
from torch.utils._pytree import tree_map_only

from modelbuild.dataset import Array

Held = Callable[[Tensor], Tensor]
# A view was traced of memory in an order that another arithmetic may not leave it in.
VIEWS = {torch.ops.aten.view.default: torch.ops.aten.reshape.default}


def values(
    program: Any,
    inputs: Sequence[Tensor],
    wanted: Collection[str],
    held: Held | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> dict[str, Array]:
    """What the nodes of `program` called `wanted` give, by name, those that are no tensor of real numbers left out.

    `held` makes the weights and inputs what the arithmetic in use holds them as; `weights` are others than its own,
    by their names in the module. Raises what the nodes raise.
    """
    recorder = _Recorder(program.graph_module, wanted)
    return _run(program, inputs, recorder, held or _as_it_is, weights or {})


def wide_values(program: Any, inputs: Sequence[Tensor], wanted: Collection[str]) -> dict[str, Array]:
    """`values` in float64, weights, constants and types that a node asks for included."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return _run(program, inputs, _Widener(program.graph_module, wanted), _wide, {})
    finally:
        torch.set_default_dtype(before)


class _Recorder(Interpreter):
    """Keeps what the nodes called `wanted` give."""

    def __init__(self, module: nn.Module, wanted: Collection[str]) -> None:
        super().__init__(module)
        self._wanted = frozenset(wanted)
        self.found: dict[str, Array] = {}

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.name in self._wanted and isinstance(result, Tensor) and not result.is_complex():
            self.found[n.name] = result.numpy().copy()
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        return super().call_function(VIEWS.get(target, target), args, kwargs)


class _Widener(_Recorder):
    """A node that asks for float32 gets float64."""

    def fetch_args_kwargs_from_env(self, n: Node) -> Any:
        return tree_map_only(torch.dtype, _wide_dtype, super().fetch_args_kwargs_from_env(n))


def _run(
    program: Any, inputs: Sequence[Tensor], recorder: _Recorder, held: Held, weights: Mapping[str, Tensor]
) -> dict[str, Array]:
    known = {**program.constants, **program.state_dict, **weights}
    waiting = iter(inputs)
    with torch.no_grad():
        fed = [
            held(next(waiting) if spec.kind == InputKind.USER_INPUT else known[spec.target].detach().clone())
            for spec in program.graph_signature.input_specs
        ]
        recorder.run(*fed)
    return recorder.found


def _as_it_is(value: Tensor) -> Tensor:
    return value


def _wide(value: Tensor) -> Tensor:
    return value.double() if value.dtype == torch.float32 else value


def _wide_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float32 else dtype
