"""A pre-flight for float16: which values of the model, run once in float32, would not survive the narrower type.

float16 holds magnitudes up to 65504 and, with full precision, down to 2**-14 (IEEE 754-2019, binary16). Found, for
every operation and the module it belongs to: values beyond or close to the largest; values below the smallest normal
one where all values are faint; float32's lowest number used as "minus infinity" in a mask; and the two functions that
leave the range soonest, an exponential of a large number and a logarithm or reciprocal of a small one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from modelbuild import dataset, network
from modelbuild.dataset import Array
from modelbuild.deterministic import deterministic
from modelbuild.recipes import inference
from modelbuild.recipes.plain import plain

LARGEST, SMALLEST = 65504.0, 2.0**-14
NEAR = 4.0  # "close to the largest" is within this factor
SENTINEL = 1e30  # no activation is that large; masks are
# A value below the smallest normal one is off by 2**-25 at most, which beside a value of 2**-8 is nothing.
FAINT = 2.0**-8
NOTICEABLE = 0.01  # the share of values below the smallest normal one from which it is worth a word
EXPONENTIALS, INVERSES = (
    ("exp", "expm1", "exp2", "sinh", "cosh"),
    ("log", "log2", "log10", "reciprocal", "rsqrt"),
)
LOW = ("subnormal", "logarithm")  # the kinds of which the smallest value is the worst


@dataclass(slots=True)
class Finding:
    """The worst that one operation of one module did, over all samples; `share` is of its values."""

    kind: str
    module: str
    operation: str
    value: float
    share: float


def examine(inputs: Mapping[str, Path], params: Mapping[str, Any], out_dir: Path) -> None:
    """Write preflight.json, what `examined` finds of the student on the evaluation inputs."""
    data = dataset.read(inputs["evaluation"]).inputs
    with deterministic():
        module = network.restore(inputs["student"])
        dataset.write_json(out_dir / "preflight.json", examined(module, data))


def examined(module: nn.Module, data: Mapping[str, Array]) -> dict[str, Any]:
    """{"tensors", "largest", "findings": [{"kind", "module", "operation", "value", "share"}]}, worst first.

    A kind is "overflow", "near overflow", "sentinel", "subnormal", "exponential" or "logarithm".
    """
    watch = _Watch()
    with plain(), _named(module, watch), watch:
        inference.outputs(module, data)
    order = ("overflow", "exponential", "sentinel", "near overflow", "logarithm", "subnormal")
    found = sorted(watch.found.values(), key=lambda f: (order.index(f.kind), -f.value, f.module, f.operation))
    return {
        "tensors": len(watch.seen),
        "largest": watch.largest,
        "findings": [asdict(each) for each in found],
    }


class _Watch(TorchDispatchMode):
    """Looks at what every operation takes and gives; `module` is the path of the module that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says nothing of it
        self.module: list[str] = [""]
        self.found: dict[tuple[str, str, str], Finding] = {}
        self.seen: set[tuple[str, str]] = set()
        self.largest = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::").rstrip("_")
        for value in () if _is_view(func) else _floats(result):
            self._look(name, value)
        for value in _floats(args[:1]):
            self._look_at_argument(name, value)
        return result

    def _look(self, operation: str, value: Tensor) -> None:
        self.seen.add((self.module[-1], operation))
        size = value.abs()
        masked = size >= SENTINEL
        if bool(masked.any()):
            self._note("sentinel", operation, float(size.max()), masked)
            size = size[~masked]
        largest = float(size.max()) if size.numel() else 0.0
        self.largest = max(self.largest, largest)
        if largest > LARGEST:
            self._note("overflow", operation, largest, size > LARGEST)
        elif largest > LARGEST / NEAR:
            self._note("near overflow", operation, largest, size > LARGEST / NEAR)
        small = (size > 0) & (size < SMALLEST)
        if largest < FAINT and float(small.sum()) > NOTICEABLE * value.numel():
            self._note("subnormal", operation, float(size[small].min()), small)

    def _look_at_argument(self, operation: str, value: Tensor) -> None:
        if operation in EXPONENTIALS and float(value.max()) > math.log(LARGEST):
            self._note("exponential", operation, float(value.max()), value > math.log(LARGEST))
        if operation in INVERSES and bool((value.abs() < SMALLEST).any()):
            self._note("logarithm", operation, float(value.abs().min()), value.abs() < SMALLEST)

    def _note(self, kind: str, operation: str, value: float, where: Tensor) -> None:
        share = float(where.sum()) / max(1, where.numel())
        value = value if math.isfinite(value) else torch.finfo(torch.float32).max
        key = (kind, self.module[-1], operation)
        found = self.found.setdefault(key, Finding(kind, *key[1:], value, share))
        found.value = min(found.value, value) if kind in LOW else max(found.value, value)
        found.share = max(found.share, share)


def _is_view(func: Any) -> bool:
    """Whether an operation gives its argument's values again, which have been looked at."""
    aliases = [each.alias_info for each in func._schema.returns if each.alias_info is not None]
    return any(not alias.is_write for alias in aliases)


def _floats(values: Any) -> Iterator[Tensor]:
    for value in tree_leaves(values):
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            yield value


@contextmanager
def _named(module: nn.Module, watch: _Watch) -> Iterator[None]:
    """Tell `watch` which module is running."""
    hooks = []
    for path, each in module.named_modules():
        hooks.append(each.register_forward_pre_hook(_entering(watch, path)))
        hooks.append(each.register_forward_hook(_leaving(watch)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _entering(watch: _Watch, path: str) -> Callable[..., None]:
    return lambda *_: watch.module.append(path)


def _leaving(watch: _Watch) -> Callable[..., None]:
    def leave(*_: object) -> None:
        watch.module.pop()

    return leave
