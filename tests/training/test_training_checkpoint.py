"""Checkpoints on disk: whole or not there, and passed over when they are not what they were."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import files

from modelbuild import checkpoints
from modelbuild.errors import RecipeError
from modelbuild.training import checkpoint
from modelbuild.training.checkpoint import Keeper, State


def state(step: int = 7, value: float = 1.0) -> State:
    tensors = {
        "learner": {
            "a.b": torch.full((3, 2), value),
            "n": torch.tensor(step),
            "half": torch.ones(2).bfloat16(),
        },
        "best": {},
        "generators": {"torch": torch.arange(5, dtype=torch.uint8)},
    }
    return State(step, tensors, {"loss": 0.1 + 0.2, "looks": [{"step": 1}], "none": None})


def same(a: State, b: State) -> bool:
    flat = [
        {(group, name): each for group, part in s.tensors.items() for name, each in part.items()}
        for s in (a, b)
    ]
    equal = flat[0].keys() == flat[1].keys() and all(
        each.dtype == flat[1][key].dtype and torch.equal(each, flat[1][key]) for key, each in flat[0].items()
    )
    return equal and a.step == b.step and a.facts == b.facts


def latest(folder: Path) -> State | None:
    return Keeper(folder, 1).latest(lambda _: "")


def keep(folder: Path, *steps: int) -> None:
    keeper = Keeper(folder, 1)
    for step in steps:
        keeper.keep(state(step, float(step)))


def test_a_state_comes_back_bit_by_bit_and_its_bytes_are_those_of_its_content(tmp_path: Path) -> None:
    for name in ("a", "b"):
        checkpoint.write(tmp_path / name, state())
    assert same(checkpoint.read(tmp_path / "a"), state())
    assert set(files(tmp_path / "a")) == {"state.json", "state.safetensors"}
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_tensors_that_share_memory_are_written_each(tmp_path: Path) -> None:
    one = torch.arange(6.0)
    parts = {"all": one, "part": one[2:4], "spread": one[:1].expand(3), "turned": one.view(2, 3).T}
    checkpoint.write(tmp_path, State(1, {"learner": parts}, {}))
    found = checkpoint.read(tmp_path).group("learner")
    assert all(torch.equal(found[name], each) for name, each in parts.items())


def test_a_folder_without_a_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no state of a training.*Build it again"):
        checkpoint.read(tmp_path)


def damaged(data: bytes) -> list[bytes]:
    """`data` cut short at many places, with single bits turned, with bytes put in and taken out, and replaced."""
    draw = random.Random(0)
    cuts = sorted({0, 1, 7, 8, 9, len(data) - 1, *(draw.randrange(len(data)) for _ in range(60))})
    made = [data[:cut] for cut in cuts]
    for place in (0, 3, len(data) - 2, *(draw.randrange(len(data)) for _ in range(120))):
        turned = bytes([data[place] ^ (1 << draw.randrange(8))])
        made.append(data[:place] + turned + data[place + 1 :])
    return [
        *made,
        data + b"\0",
        data[:20] + data[21:],
        b"\0" * len(data),
        b"[]",
        b'{"state": 1}',
        b"[" * 10**5,
    ]


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_damaged_state_is_never_read_as_another(tmp_path: Path, ending: str) -> None:
    checkpoint.write(tmp_path, state())
    path = tmp_path / f"state{ending}"
    whole = path.read_bytes()
    refused = 0
    for data in damaged(whole):
        path.write_bytes(data)
        try:
            assert same(checkpoint.read(tmp_path), state()), (
                data
            )  # white space may change and nothing with it
        except RecipeError:
            refused += 1
    assert refused > 180 if ending == ".safetensors" else refused > 150


@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_damaged_checkpoint_is_passed_over_for_the_earlier_one(
    tmp_path: Path, ending: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, 5, 10)
    path = tmp_path / f"000000010{ending}"
    path.write_bytes(path.read_bytes()[:-3])
    found = latest(tmp_path)
    assert found is not None and same(found, state(5, 5.0))
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("training: the checkpoint of step 10 is passed over: ") and "damaged" in said[0]
    assert said[1] == "training: goes on after step 5, from a checkpoint"
    assert set(files(tmp_path)) == {"000000005.json", "000000005.safetensors"}


def test_tensors_of_one_step_and_facts_of_another_are_no_checkpoint(tmp_path: Path) -> None:
    keep(tmp_path, 5, 10)
    (tmp_path / "000000005.safetensors").replace(tmp_path / "000000010.safetensors")
    assert latest(tmp_path) is None


def test_where_nothing_is_whole_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    keep(tmp_path, 5, 10)
    for path in tmp_path.glob("*.json"):
        path.write_bytes(b"")
    assert latest(tmp_path) is None
    assert latest(tmp_path / "never") is None and Keeper(None, 1).latest(lambda _: "") is None


def test_what_is_refused_is_said_and_removed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, 5, 10)
    found = Keeper(tmp_path, 1).latest(lambda s: "not mine" if s.step == 10 else "")
    assert found is not None and found.step == 5
    assert "step 10 is passed over: not mine" in capsys.readouterr().err
    assert len(files(tmp_path)) == 2


def test_the_newest_two_are_kept_by_number(tmp_path: Path) -> None:
    keep(tmp_path, 1, 2, 9, 10, 999_999_999, 1_000_000_000, 1_000_000_001)
    stems = {name.partition(".")[0] for name in files(tmp_path)}
    assert stems == {"1000000000", "1000000001"} and len(files(tmp_path)) == 4


def test_what_a_killed_run_left_half_written_is_swept_and_never_read(tmp_path: Path) -> None:
    keep(tmp_path, 5)
    for name in ("000000009.safetensors", "000000008.json.tmp", "000000008.safetensors.tmp"):
        (tmp_path / name).write_bytes(b"half")
    found = latest(tmp_path)
    assert found is not None and found.step == 5
    keep(tmp_path, 6)
    assert sorted(files(tmp_path)) == [f"00000000{n}.{e}" for n in (5, 6) for e in ("json", "safetensors")]


class Killed(BaseException):
    """Stands for a signal: nothing in the code under test catches it."""


def events(monkeypatch: pytest.MonkeyPatch, stop: int | None) -> list[str]:
    """Note what is done to the disk; at event `stop` the process "dies" instead."""
    seen: list[str] = []

    def noted(owner: Any, name: str, told: Any) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            seen.append(told(args))
            if len(seen) == stop:
                raise Killed
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    def of_handle(args: tuple[int]) -> str:
        return f"sync {Path(os.readlink(f'/proc/self/fd/{args[0]}')).name}"

    noted(os, "fsync", of_handle)
    noted(Path, "replace", lambda args: f"name {Path(args[1]).name}")
    noted(Path, "unlink", lambda args: f"remove {args[0].name}")
    return seen


def test_a_name_is_given_when_the_bytes_are_on_the_disk_and_the_vouching_file_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(tmp_path, 1, 2)
    with monkeypatch.context() as patch:
        seen = events(patch, None)
        keep(tmp_path, 3)
    names = ("000000003.safetensors", "000000003.json")
    written = [each for n in names for each in (f"sync {n}.tmp", f"name {n}", f"sync {tmp_path.name}")]
    assert seen[:6] == written
    removed = [each.removeprefix("remove ") for each in seen[6:]]
    assert removed.index("000000001.json") < removed.index("000000001.safetensors")


def test_death_at_any_moment_leaves_the_checkpoint_before_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_steps = []
    for stop in range(1, 30):
        folder = tmp_path / str(stop)
        keep(folder, 1, 2)
        with monkeypatch.context() as patch:
            seen = events(patch, stop)
            with contextlib.suppress(Killed):
                keep(folder, 3)
        found = latest(folder)
        assert found is not None and same(found, state(found.step, float(found.step)))
        found_steps.append(found.step)
        if len(seen) < stop:
            break
    assert set(found_steps) == {2, 3} and sorted(found_steps) == found_steps and len(found_steps) > 8


def test_a_full_disk_costs_the_checkpoint_and_not_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keep(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        keep(tmp_path, 2)
    assert "training: no checkpoint of step 2: [Errno 28] No space left on device" in capsys.readouterr().err
    assert sorted(files(tmp_path)) == ["000000001.json", "000000001.safetensors"]


def test_a_checkpoint_is_due_by_steps_or_else_by_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    assert [step for step in range(1, 10) if Keeper(tmp_path, 4).due(step)] == [4, 8]
    assert not any(Keeper(None, 4).due(step) for step in range(1, 10))
    by_time, due = Keeper(tmp_path, None), []
    for step in range(1, 8):
        now[0] += 9.0
        if by_time.due(step):
            due.append(step)
            by_time.keep(state(step))
    assert due == [3, 6] and checkpoint.SECONDS == 20


def test_a_state_of_numbers_that_json_does_not_have_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        checkpoint.write(tmp_path, State(1, {}, {"loss": float("nan")}))
    assert not list(tmp_path.iterdir())


def test_the_seal_is_over_all_of_the_facts(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, state())
    path = tmp_path / "state.json"
    sealed = json.loads(path.read_text())
    sealed["state"]["step"] += 1
    path.write_text(json.dumps(sealed))
    with pytest.raises(RecipeError, match="its JSON file is damaged"):
        checkpoint.read(tmp_path)


def test_without_a_build_there_is_no_folder(tmp_path: Path) -> None:
    assert checkpoints.folder() is None
    checkpoints.set_folder(tmp_path)
    assert checkpoints.folder() == tmp_path
    checkpoints.set_folder(None)
    assert checkpoints.folder() is None
