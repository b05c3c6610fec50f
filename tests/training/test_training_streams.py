"""Batches: their order, their halves, and what is held out."""

from __future__ import annotations

import itertools

import pytest
import torch

from modelbuild.errors import RecipeError
from modelbuild.training import streams
from modelbuild.training.batch import Batch
from modelbuild.training.settings import Settings
from modelbuild.training.streams import Stream


def numbered(samples: int, first: int = 0, labelled: bool = True) -> Stream:
    rows = torch.arange(first, first + samples)
    targets = {"teacher.y": rows.float(), **({"label": rows} if labelled else {})}
    return Stream({"x": rows[:, None].float()}, targets)


def taken(
    count: int, labelled: Stream, unlabelled: Stream | None = None, skip: int = 0, **train: object
) -> list[Batch]:
    source = streams.batches(labelled, unlabelled, Settings.of(train, "m"), skip)
    return list(itertools.islice(source, count))


def rows(batches: list[Batch]) -> list[list[int]]:
    return [batch.inputs["x"][:, 0].int().tolist() for batch in batches]


def test_an_epoch_shows_every_sample_once_in_an_order_of_the_seed() -> None:
    def order(seed: int) -> list[int]:
        return [row for batch in rows(taken(6, numbered(12), batch=4, seed=seed)) for row in batch]

    first = order(0)
    assert sorted(first[:12]) == sorted(first[12:]) == list(range(12))
    assert first[:12] != first[12:] and first == order(0) != order(1)


def test_inputs_and_targets_stay_together() -> None:
    (batch,) = taken(1, numbered(12), batch=5)
    assert batch.inputs["x"][:, 0].tolist() == batch.targets["label"].tolist()


def test_a_batch_is_never_larger_than_the_data_nor_a_remainder() -> None:
    assert {len(each) for each in rows(taken(9, numbered(10), batch=4))} == {4}
    assert [len(each) for each in rows(taken(1, numbered(3), batch=64))] == [3]


@pytest.mark.parametrize(
    ("batch", "share", "sizes"),
    [
        (8, 0.5, (4, 4)),
        (8, 0.25, (6, 2)),
        (10, 0.9, (1, 9)),
        (4, 0.01, (3, 1)),
        (4, 0.99, (1, 4)),
        (1, 0.5, (1, 1)),
    ],
)
def test_unlabelled_samples_fill_their_share_behind_the_labelled_ones(
    batch: int, share: float, sizes: tuple[int, int]
) -> None:
    extra = numbered(40, 100, labelled=False)
    for found in taken(3, numbered(40), extra, batch=batch, unlabelled_share=share):
        numbers = found.inputs["x"][:, 0]
        assert len(found.targets["label"]) == sizes[0] and len(numbers) == sum(sizes)
        assert found.targets["label"].tolist() == numbers[: sizes[0]].tolist()
        assert found.targets["teacher.y"].tolist() == numbers.tolist()
        assert (numbers[: sizes[0]] < 40).all() and (numbers[sizes[0] :] >= 100).all()


@pytest.mark.parametrize("skip", [0, 1, 2, 3, 7, 50])
@pytest.mark.parametrize("extra", [None, numbered(9, 100, labelled=False)])
def test_skipped_batches_leave_the_rest_as_it_would_have_been(skip: int, extra: Stream | None) -> None:
    whole = rows(taken(skip + 5, numbered(11), extra, batch=4, seed=3))
    assert rows(taken(5, numbered(11), extra, skip, batch=4, seed=3)) == whole[skip:]


def test_held_out_samples_are_a_share_that_the_seed_chooses_and_nobody_learns_from() -> None:
    learnt, held_out = streams.split(numbered(40), 0.25, seed=1)
    out, kept = held_out.targets["label"].tolist(), learnt.targets["label"].tolist()
    assert len(out) == 10 and sorted(out + kept) == list(range(40)) and out == sorted(out)
    assert held_out.inputs["x"][:, 0].tolist() == out
    again, other = (streams.split(numbered(40), 0.25, seed)[1].targets["label"].tolist() for seed in (1, 2))
    assert again == out != other


@pytest.mark.parametrize(("share", "count"), [(0.001, 1), (0.999, 3)])
def test_one_sample_at_least_is_on_either_side(share: float, count: int) -> None:
    learnt, held_out = streams.split(numbered(4), share, 0)
    assert (learnt.samples, held_out.samples) == (4 - count, count)


def test_a_single_sample_cannot_be_split() -> None:
    with pytest.raises(RecipeError, match="has 1 sample, and none can be held out"):
        streams.split(numbered(1), 0.5, 0)


def test_no_batch_in_turn_is_left_with_a_remainder_of_one() -> None:
    found = rows(streams.in_turn(numbered(9), 4))
    assert found == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert rows(streams.in_turn(numbered(3), 64)) == [[0, 1, 2]]


def test_samples_without_their_target_are_refused() -> None:
    with pytest.raises(RecipeError, match="one number of samples, and has 3 of x, 2 of label"):
        Stream({"x": torch.zeros(3, 1)}, {"label": torch.zeros(2)})
    for inputs in ({}, {"x": torch.zeros(0, 1)}):
        with pytest.raises(RecipeError, match="needs one number of samples"):
            Stream(inputs, {})


def test_unlabelled_data_of_another_kind_is_refused() -> None:
    other = Stream({"z": torch.zeros(3, 1)}, {})
    with pytest.raises(RecipeError, match="the unlabelled inputs are z, the labelled x"):
        taken(1, numbered(4), other)
    more = Stream({"x": torch.zeros(3, 1)}, {"teacher.z": torch.zeros(3)})
    with pytest.raises(RecipeError, match='only unlabelled samples have the target "teacher'):
        taken(1, numbered(4), more)
