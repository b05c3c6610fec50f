import numpy as np
import pytest
from hypothesis import given
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
