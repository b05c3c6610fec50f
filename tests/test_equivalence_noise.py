"""What the noise of a model is made of, and what is left out of it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from modelbuild import tensors
from modelbuild.equivalence import metrics, noise
from modelbuild.equivalence.demand import OutputDemand
from modelbuild.equivalence.noise import FP64, NUDGED, OPTIMISATION, THREADS, Noise, Spread, describe, measure
from modelbuild.errors import RecipeError

Y = np.array([[1.0, -2.0], [0.5, 4.0]], np.float32)
DTYPES = ["f2", "f4", "f8", "i1", "u1", "i2", "i4", "i8", "u8", "?"]


def numbers(dtype: str, count: int) -> Any:
    values = np.random.default_rng(count).standard_normal((count, 3)) * 50
    return (np.abs(values) if dtype[0] == "u" else values).astype(dtype)


@pytest.mark.parametrize("count", [1, 2, 5, 334])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_is_described_as_numpy_would(
    dtype: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "CHUNK", 7)
    array = numbers(dtype, count)
    found, values = describe(array), array.astype(np.float64)
    assert found is not None
    assert (found.dtype, found.samples, found.values) == (array.dtype.name, count, 3 * count)
    assert (found.least, found.most, found.constant) == (values.min(), values.max(), np.ptp(values) == 0)
    assert found.mean == pytest.approx(values.mean())
    assert found.rms == pytest.approx(np.sqrt((values**2).mean()))
    assert found.deviation == pytest.approx(values.std())
    assert found.median == np.sort(values.ravel())[(values.size - 1) // 2]
    assert found.about_median == pytest.approx(np.abs(values - np.median(values)).mean())


@given(
    arrays(
        np.float32, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False, width=32)
    )
)
def test_the_median_of_any_numbers(array: Any) -> None:
    assert noise.median(tensors.Held(array)) == np.sort(array)[(array.size - 1) // 2]


def test_a_small_deviation_beside_a_large_mean_is_not_lost() -> None:
    array = np.array([[2.0**40], [2.0**40 + 1]])
    found = describe(array)
    assert found is not None and found.deviation == 0.5


@pytest.mark.parametrize(
    "array", [np.array([[1, np.nan]]), np.array([[np.inf, 1]]), np.zeros((0, 3)), np.float32(1)]
)
def test_what_has_no_numbers_to_describe_is_not_measured(array: Any) -> None:
    assert describe(np.asarray(array)) is None
    whole = measure({"y": np.asarray(array), "z": Y}, {NUDGED: {"z": Y}}, {})
    assert set(whole.outputs) == {"z"}
    with pytest.raises(RecipeError, match='nothing was measured of output "y"'):
        whole.of("y")


def moved(by: float) -> dict[str, Any]:
    other = Y.astype(np.float64)
    other[0, 1] += by
    return {"y": other}


def test_every_source_is_measured_in_its_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "CHUNK", 3)
    found = measure({"y": Y}, {FP64: moved(0.25), NUDGED: moved(0.5)}, {"float16": moved(1)}).of("y")
    assert found.sources == {FP64: Spread(0.25, 0.125), NUDGED: Spread(0.5, 0.25)}
    assert found.rounded == {"float16": Spread(1.0, 0.5)}
    assert not found.uncounted


def test_of_several_directions_the_largest_counts() -> None:
    found = measure({"y": Y}, {NUDGED: [moved(0.25), moved(0.5), moved(0)]}, {}).of("y")
    assert found.sources == {NUDGED: Spread(0.5, 0.25)}


@pytest.mark.parametrize("given", [{}, {"y": Y[:1]}])
@pytest.mark.parametrize("kind", [FP64, "float16"])
def test_a_source_that_is_not_there(given: Any, kind: str) -> None:
    each = {kind: given}
    with pytest.raises(RecipeError, match=f'no "y" of the same shape for the noise floor "{kind}"'):
        measure({"y": Y}, each if kind == FP64 else {}, each if kind != FP64 else {})


@pytest.mark.parametrize(
    ("spread", "counts"),
    [
        (Spread(1.0, 0.5), True),
        (Spread(1.01, 0.1), False),
        (Spread(0.1, 0.51), False),
        (Spread(np.inf, np.inf), False),
        (Spread(np.nan, 0.1), False),
    ],
)
def test_a_runtime_beyond_what_rounding_explains_does_not_count(spread: Spread, counts: bool) -> None:
    """The floor is 0.125 and half of that: eight of it are 1 and 0.5."""
    runtime = {OPTIMISATION: {"y": spread}, THREADS: {"y": Spread(0.1, 0.1)}}
    found = measure({"y": Y}, {FP64: moved(0.125)}, {}, runtime).of("y")
    assert (OPTIMISATION in found.sources) is counts
    assert (OPTIMISATION in found.uncounted) is not counts
    assert THREADS in found.sources and THREADS not in found.uncounted


def test_where_nothing_is_rounded_a_few_ulp_count_and_no_more() -> None:
    for ulps, counts in ((4, True), (5, False)):
        each = Spread(ulps * 2.0**-21, 0.0)
        found = measure({"y": Y}, {FP64: moved(0)}, {}, {THREADS: {"y": each}}).of("y")
        assert (THREADS in found.sources) is counts


def test_an_output_that_the_runtime_does_not_give_is_said() -> None:
    found = measure({"y": Y}, {FP64: moved(0)}, {}, {THREADS: {}}, {FP64: "why"}).of("y")
    assert found.uncounted == {THREADS: "the runtime does not give this output", FP64: "why"}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_movement_without_end_is_kept_as_such(value: float, tmp_path: Path) -> None:
    whole = measure({"y": Y}, {FP64: moved(value)}, {"float16": moved(value)})
    found = whole.of("y")
    assert found.sources[FP64] == found.rounded["float16"] == Spread(np.inf, np.inf)
    assert found.largest("max_abs", (FP64,)) == 0
    noise.write(tmp_path / "noise.json", whole)
    record = json.loads((tmp_path / "noise.json").read_text())
    assert record["outputs"]["y"]["sources"][FP64] == {"max_abs": None, "rmse": None}
    assert noise.read(tmp_path / "noise.json") == whole


SAID = {"y": OutputDemand(lengths="n")}
ENDS = np.array([3, 1], np.int64)


def cut(junk: float, ends: Any = ENDS, dtype: str = "f4") -> dict[str, Any]:
    """y [2, 3, 2], 1 to the end of a sample and `junk` past it, and each sample's length."""
    kept = np.arange(3) < ends[:, None]
    return {"y": np.where(kept[:, :, None], 1, junk * np.ones(2)).astype(dtype), "n": ends}


@pytest.mark.parametrize("junk", [np.nan, np.inf, 5.0])
@pytest.mark.parametrize("chunk", [1, 5, 1 << 20])
def test_past_a_samples_length_there_is_nothing_to_measure(
    junk: float, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noise, "CHUNK", chunk)
    moved = cut(-junk, dtype="f8")
    moved["y"][0, 0, 0] += 0.5
    found = measure(cut(junk), {FP64: moved}, {"float16": cut(7)}, asked=SAID).of("y")
    assert (found.values, found.least, found.most, found.mean) == (12, 0.0, 1.0, pytest.approx(8 / 12))
    assert found.sources == {FP64: Spread(0.5, pytest.approx(0.5 / 12**0.5))}
    assert found.rounded == {"float16": Spread(0, 0)}
    unsaid = measure(cut(junk), {FP64: moved}, {})
    assert ("y" in unsaid.outputs) is (junk == 5.0)


def test_of_two_lengths_the_shorter_counts() -> None:
    """A sample that ends elsewhere is a fault by itself, of its length."""
    for mine, theirs in ((ENDS, ENDS - 1), (ENDS, ENDS + 1)):
        found = measure(cut(3, mine), {FP64: cut(np.nan, theirs)}, {}, asked=SAID)
        assert found.of("y").sources[FP64] == Spread(0, 0)


def test_a_source_without_such_lengths_is_cut_to_the_references() -> None:
    for ends in (None, ENDS.astype(np.float32), ENDS[:1]):
        other = {"y": cut(9)["y"], **({} if ends is None else {"n": ends})}
        sums = noise.between("y", cut(np.nan), other, SAID)
        assert noise.spread(sums) == Spread(0, 0)


def test_what_has_no_lengths_or_positions_is_read_to_the_end() -> None:
    told = {**moved(0.25), "n": Y}
    for asked in ({}, {"y": OutputDemand(lengths="none")}, {"y": OutputDemand(kind="regression")}):
        assert noise.spread(noise.between("y", {"y": Y, "n": Y}, told, asked)) == Spread(0.25, 0.125)
    flat = {"y": Y[:, 0], "n": ENDS}
    assert noise.between("y", flat, flat, SAID).count == 2


def test_lengths_of_the_reference_that_are_none_are_refused() -> None:
    with pytest.raises(RecipeError, match='"n" gives lengths, and is float32'):
        measure({"y": cut(1)["y"], "n": ENDS.astype(np.float32)}, {}, {}, asked=SAID)


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    whole = measure({"y": Y, "n": Y.astype(np.int64)}, {FP64: {**moved(0.25), "n": Y.astype(np.int64)}}, {})
    noise.write(tmp_path / "noise.json", whole)
    assert noise.read(tmp_path / "noise.json") == whole
    noise.write(tmp_path / "empty.json", Noise({}))
    assert noise.read(tmp_path / "empty.json") == Noise({})


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"outputs": {"y": {}}}', '{"outputs": {"y": {"sources": 1}}}']
)
def test_what_is_no_noise_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "noise.json").write_text(text)
    with pytest.raises(RecipeError, match=r"noise\.json: holds no noise"):
        noise.read(tmp_path / "noise.json")


def test_a_spread_is_that_of_all_its_batches() -> None:
    s = metrics.sums(Y[:1], Y[:1] + 1) + metrics.sums(Y[1:], Y[1:] + 3)
    assert noise.spread(s) == Spread(3.0, np.sqrt(5.0))


@pytest.mark.parametrize("asked", [{}, {"y": OutputDemand(lengths="n")}])
def test_arrays_are_read_in_pieces(tmp_path: Path, asked: Any) -> None:
    """Of 32 MB in a file a few pieces of 8 MB in float64 are held at a time, whatever the file's size."""
    array = np.random.default_rng(0).random((8, 1 << 20), dtype=np.float32)
    tensors.save(tmp_path / "y.safetensors", {"y": array})
    held = []
    for copies in (1, 8):
        tensors.save(tmp_path / "y.safetensors", {"y": array[:copies], "n": np.full(copies, 9)})
        y = tensors.opened(tmp_path / "y.safetensors")
        tracemalloc.start()
        measure(y, {FP64: tensors.opened(tmp_path / "y.safetensors")}, {}, asked=asked)
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert held[1] < 1.2 * held[0]
