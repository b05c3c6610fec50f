"""Every kernel that says its results are its own is held to it, in every test that evaluates one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from modelbuild.runtimes.coreml.evaluator.ops import KERNELS


@pytest.fixture(autouse=True, scope="session")
def fresh_results_share_no_memory() -> None:
    """`liveness` lets operations write into what a fresh kernel gave, so a wrong mark is a wrong result elsewhere."""
    for name, kernel in KERNELS.items():
        if kernel.fresh:
            KERNELS[name] = kernel._replace(function=guarded(name, kernel.function))


def guarded(name: str, function: Any) -> Any:
    def call(*arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        if not more.get("owned"):
            given = {each.untyped_storage().data_ptr() for each in tensors((*arguments, *more.values()))}
            for each in tensors(result):
                assert each.untyped_storage().data_ptr() not in given, (
                    f"{name} is not fresh: it shares memory"
                )
                spread = any(
                    step == 0 and size > 1 for step, size in zip(each.stride(), each.shape, strict=True)
                )
                assert not spread, f"{name} is not fresh: one number stands for several"
        return result

    return call


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors of `value` that have memory."""
    if isinstance(value, torch.Tensor):
        yield from (value,) if value.numel() else ()
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from tensors(each)
