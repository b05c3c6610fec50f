"""Samples in memory, and the batches that are made of them in an order that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice, repeat

import torch
from torch import Tensor

from modelbuild.errors import RecipeError
from modelbuild.training.batch import Batch
from modelbuild.training.settings import Settings


@dataclass(frozen=True, slots=True)
class Stream:
    """Inputs in the order of `forward` and targets, by name; one row a sample in each.

    Raises RecipeError where they do not have one number of rows, or none.
    """

    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        rows = {name: len(each) for name, each in [*self.inputs.items(), *self.targets.items()]}
        if len(set(rows.values())) != 1 or not self.samples:
            told = ", ".join(f"{count} of {name}" for name, count in rows.items())
            raise RecipeError("training data", f"needs one number of samples, and has {told or 'no input'}")

    @property
    def samples(self) -> int:
        return len(next(iter(self.inputs.values()), ()))

    def take(self, rows: Tensor) -> Batch:
        """The samples at `rows`, in that order."""
        inputs = {name: each.index_select(0, rows) for name, each in self.inputs.items()}
        return Batch(inputs, {name: each.index_select(0, rows) for name, each in self.targets.items()})


def batches(
    labelled: Stream, unlabelled: Stream | None, settings: Settings, skip: int = 0
) -> Iterator[Batch]:
    """Batches without end, from the one after the first `skip`.

    Every sample comes once before any comes again, less the remainder that fills no batch. With unlabelled samples
    a batch holds the share `unlabelled_share` of them, and at least one of each kind, the labelled ones first;
    their targets must be among those of the labelled ones. A batch is never larger than what there is.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    if unlabelled is None:
        rows = islice(_rows(labelled.samples, settings.batch, generator), skip, None)
        yield from map(labelled.take, rows)
        return
    _check(labelled, unlabelled)
    second = max(1, round(settings.batch * settings.unlabelled_share))
    first = max(1, settings.batch - second)
    sizes = ((labelled.samples, first), (unlabelled.samples, second))
    both = zip(*(_rows(samples, size, generator) for samples, size in sizes), strict=True)
    for a, b in islice(both, skip, None):
        yield _joined(labelled.take(a), unlabelled.take(b))


def _rows(samples: int, batch: int, generator: torch.Generator) -> Iterator[Tensor]:
    size = min(batch, samples)
    whole = samples - samples % size
    orders = (torch.randperm(samples, generator=generator)[:whole] for _ in repeat(None))
    return chain.from_iterable(torch.split(order, size) for order in orders)


def _check(labelled: Stream, unlabelled: Stream) -> None:
    if list(labelled.inputs) != list(unlabelled.inputs):
        names = f"{', '.join(unlabelled.inputs)}, the labelled {', '.join(labelled.inputs)}"
        raise RecipeError("training data", f"the unlabelled inputs are {names}", "They must be the same.")
    if extra := [name for name in unlabelled.targets if name not in labelled.targets]:
        raise RecipeError("training data", f'only unlabelled samples have the target "{extra[0]}"')


def _joined(labelled: Batch, unlabelled: Batch) -> Batch:
    inputs = {name: torch.cat((each, unlabelled.inputs[name])) for name, each in labelled.inputs.items()}
    both = {name: torch.cat((labelled.targets[name], each)) for name, each in unlabelled.targets.items()}
    return Batch(inputs, {**labelled.targets, **both})


def split(stream: Stream, share: float, seed: int) -> tuple[Stream, Stream]:
    """The samples to learn from and the `share` of them that is held out, both in their first order.

    At least one sample is on either side; raises RecipeError for a single sample.
    """
    count = stream.samples
    if count < 2:
        raise RecipeError("training data", f"has {count} sample, and none can be held out", "Add samples.")
    held = min(max(1, round(count * share)), count - 1)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    parts = (stream.take(rows.sort().values) for rows in (order[held:], order[:held]))
    learnt, out = (Stream(part.inputs, part.targets) for part in parts)
    return learnt, out


def in_turn(stream: Stream, batch: int) -> list[Batch]:
    """All samples in order, in batches of at most `batch` and of nearly one size: none is left with a single one."""
    count = -(-stream.samples // batch)
    return [stream.take(rows) for rows in torch.arange(stream.samples).tensor_split(count)]
