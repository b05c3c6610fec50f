import gc
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelbuild import tensors

DTYPES = st.sampled_from(
    [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int32, np.int64, np.bool_]
)
ARRAYS = DTYPES.flatmap(
    lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)


@given(arrays=st.dictionaries(st.sampled_from(["a", "b/c", "é", "x.y"]), ARRAYS, max_size=3))
def test_what_was_saved_is_loaded(tmp_path_factory, arrays):
    path = tmp_path_factory.mktemp("t") / "f.safetensors"
    tensors.save(path, arrays)
    found = tensors.load(path)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[::-1], lambda a: a[:, ::2], np.asfortranarray],
    ids=["T", "rev", "step", "F"],
)
def test_memory_order_does_not_reach_the_file(tmp_path, view):
    array = view(np.arange(24, dtype=np.float32).reshape(4, 6))
    tensors.save(tmp_path / "f", {"a": array})
    np.testing.assert_array_equal(tensors.load(tmp_path / "f")["a"], array)


def test_bytes_do_not_depend_on_the_order_of_names(tmp_path):
    a, b = np.ones(3, np.float32), np.zeros((2, 2), np.int64)
    tensors.save(tmp_path / "1", {"a": a, "b": b})
    tensors.save(tmp_path / "2", {"b": b, "a": a})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


@settings(deadline=None)
@given(
    arrays=st.dictionaries(st.sampled_from(["a", "b/c", "é", "x.y"]), ARRAYS, max_size=3),
    start=st.integers(0, 8),
    count=st.integers(0, 100),
)
def test_what_was_saved_is_read_in_pieces(tmp_path_factory, arrays, start, count):
    path = tmp_path_factory.mktemp("t") / "f.safetensors"
    tensors.save(path, arrays)
    found, whole = tensors.opened(path), tensors.load(path)
    assert found.keys() == whole.keys()
    assert len(found) == len(whole)
    for name, array in whole.items():
        for source in (found[name], tensors.Held(array), tensors.held({name: found[name]})[name]):
            assert (source.dtype, source.shape) == (array.dtype, array.shape)
            expected = array.reshape(-1)[start : start + count]
            assert source.read(start, start + count).tobytes() == expected.tobytes()


def test_a_piece_is_read_into_the_same_memory_again(tmp_path):
    tensors.save(tmp_path / "f", {"a": np.arange(8.0)})
    source = tensors.opened(tmp_path / "f")["a"]
    first = source.read(0, 4)
    assert np.shares_memory(first, source.read(4, 8))
    assert source.read(6, 20).tolist() == [6.0, 7.0]


def test_the_file_is_closed_when_nobody_holds_it_and_not_before(tmp_path):
    tensors.save(tmp_path / "f", {"a": np.arange(8.0)})
    found = tensors.opened(tmp_path / "f")
    source, file = found["a"], found.file
    del found
    assert source.read(0, 2).tolist() == [0.0, 1.0]
    del source
    gc.collect()
    with pytest.raises(OSError):
        os.fstat(file)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"", "no safetensors"),
        (lambda data: b"\xff" * 8 + data[8:], "no safetensors"),
        (lambda data: data[:-1], "cut short"),
        (lambda data: data.replace(b"[0,64]", b"[0,60]"), "two things"),
        (lambda data: data.replace(b'"F64"', b'"F8X"'), "which NumPy does not know"),
        (lambda data: data[:8] + b"[]" + b" " * (int.from_bytes(data[:8], "little") - 2), "no JSON object"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, spoil, words):
    tensors.save(tmp_path / "f", {"a": np.arange(8.0)})
    (tmp_path / "f").write_bytes(spoil((tmp_path / "f").read_bytes()))
    with pytest.raises(ValueError, match=words):
        tensors.opened(tmp_path / "f")


def test_a_file_that_is_cut_while_it_is_read_is_no_shorter_array(tmp_path):
    tensors.save(tmp_path / "f", {"a": np.arange(8.0)})
    source = tensors.opened(tmp_path / "f")["a"]
    os.truncate(tmp_path / "f", os.path.getsize(tmp_path / "f") - 8)
    assert source.read(0, 7)[-1] == 6
    with pytest.raises(ValueError, match='ends before "a" does'):
        source.read(0, 8)
