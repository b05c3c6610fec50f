"""The tensors that make up a module: its parameters and buffers by name, each once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Tensors = dict[str, Tensor]


class Weights:
    """The parameters and buffers of `module` by name, also those that its state dict leaves out.

    They are looked up where they are registered every time: a module may put another tensor in a buffer's place.
    """

    def __init__(self, module: nn.Module) -> None:
        self._slots: dict[str, tuple[dict[str, Tensor | None], str]] = {}
        seen: set[int] = set()
        for path, part in module.named_modules():
            for owner in (part._parameters, part._buffers):
                for key, each in owner.items():
                    if each is not None and id(each) not in seen:
                        seen.add(id(each))
                        self._slots[f"{path}.{key}".lstrip(".")] = (owner, key)

    def live(self, names: Iterable[str] | None = None) -> Tensors:
        """The tensors themselves, all of them or those of `names`."""
        wanted = self._slots if names is None else names
        return {name: _of(*self._slots[name]) for name in wanted}

    def copy(self) -> Tensors:
        """What they hold now."""
        return {name: each.detach().clone() for name, each in self.live().items()}

    @torch.no_grad()
    def put(self, values: Mapping[str, Tensor]) -> None:
        """Write `values`, by name, into the tensors, wherever either lie."""
        for name, each in self.live(values).items():
            each.copy_(values[name])

    @contextmanager
    def replaced(self, values: Mapping[str, Tensor]) -> Iterator[None]:
        """Have the module hold `values` for a while."""
        before = {name: each.detach().clone() for name, each in self.live(values).items()}
        self.put(values)
        try:
            yield
        finally:
            self.put(before)

    def fitting(self, values: Mapping[str, Tensor], names: Iterable[str] | None = None) -> bool:
        """Whether `values` are as many, named, shaped and typed as the tensors, all of them or those of `names`."""
        own = {name: (each.shape, each.dtype) for name, each in self.live(names).items()}
        return own == {name: (each.shape, each.dtype) for name, each in values.items()}


def _of(owner: dict[str, Tensor | None], key: str) -> Tensor:
    found = owner[key]
    assert found is not None, key
    return found
