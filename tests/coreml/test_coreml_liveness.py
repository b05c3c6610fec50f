"""Memory is taken over where nothing else holds it, and nowhere else."""

from __future__ import annotations

import mil
import numpy as np
import pytest
from mil import mb

from modelbuild.runtimes.coreml.evaluator.evaluate import Evaluator
from modelbuild.runtimes.coreml.evaluator.kernels import KERNELS
from modelbuild.runtimes.coreml.evaluator.liveness import lives, owned_loop_inputs, uses
from modelbuild.runtimes.coreml.evaluator.program import Block, Named, Operation, TensorType

DATA = np.arange(6, dtype=np.float32).reshape(3, 2)
ROW = np.array([[7.0, 8.0]], np.float32)
WRITTEN = np.array([[0, 1], [7, 8], [4, 5]], np.float32)


class Watcher:
    """What a kernel was called for: whether it took its first argument over, and where its results lie."""

    def __init__(self, monkeypatch, name: str) -> None:
        self.owned: list[bool] = []
        self.places: list[int] = []
        self._kernel = KERNELS[name]
        monkeypatch.setitem(KERNELS, name, self._kernel._replace(function=self))

    def __call__(self, *arguments, **more):
        result = self._kernel.function(*arguments, **more)
        self.owned.append(more.get("owned", False))
        self.places.append(result.data_ptr())
        return result


@pytest.fixture
def scatter(monkeypatch):
    return Watcher(monkeypatch, "scatter")


def put(data, value=ROW, index=1):
    return mb.scatter(data=data, indices=np.array([index], np.int32), updates=value, mode="update")


def doubled(x):
    return mb.mul(x=x, y=np.float32(2))


def run(tmp_path, build, inputs, watch=(), calls=1):
    evaluator = Evaluator(mil.package(build, inputs, tmp_path), watch=watch)
    for _ in range(calls):
        found = evaluator(inputs)
    return [found[name] for name in evaluator.function.body.outputs], evaluator.watched


# -- in a line of operations


def test_a_value_that_dies_is_overwritten(tmp_path, scatter):
    (got,), _ = run(tmp_path, lambda x: put(doubled(x)), {"x": DATA})
    np.testing.assert_array_equal(got, [[0, 2], [7, 8], [8, 10]])
    assert scatter.owned == [True]


@pytest.mark.parametrize("op", ["scatter", "scatter_nd", "scatter_along_axis", "slice_update"])
def test_every_operation_that_writes_a_part_takes_over_what_dies(tmp_path, monkeypatch, op):
    watcher = Watcher(monkeypatch, op)
    builds = {
        "scatter": put,
        "scatter_nd": lambda x: mb.scatter_nd(data=x, indices=[[1]], updates=ROW, mode="update"),
        "scatter_along_axis": lambda x: mb.scatter_along_axis(
            data=x, indices=[[1, 1]], updates=ROW, mode="update"
        ),
        "slice_update": lambda x: mb.slice_update(x=x, update=ROW, begin=[1, 0], end=[2, 2]),
    }
    evaluator = Evaluator(
        mil.package(lambda x: (builds[op](mb.add(x=x, y=x)), builds[op](x)), {"x": DATA}, tmp_path, "iOS18")
    )
    before = DATA.copy()
    got = list(evaluator({"x": DATA}).values())
    assert watcher.owned == [True, False]
    np.testing.assert_array_equal(DATA, before)
    np.testing.assert_array_equal(got[0], [[0, 2], [7, 8], [8, 10]])
    np.testing.assert_array_equal(got[1], WRITTEN)


# Each gives what must still be the double of the input after the write, in the input's shape.
NEEDED_LATER = {
    "used again": lambda b: (put(b), mb.sub(x=doubled(b), y=b)),
    "an output": lambda b: (put(b), b),
    "an output twice over": lambda b: (put(b), mb.identity(x=b)),
    "a slice before": lambda b: _after(mb.slice_by_index(x=b, begin=[0, 0], end=[3, 2]), b),
    "a slice by size before": lambda b: _after(mb.slice_by_size(x=b, begin=[0, 0], size=[3, -1]), b),
    "a transpose before": lambda b: _after(mb.transpose(x=mb.transpose(x=b, perm=[1, 0]), perm=[1, 0]), b),
    "a squeeze before": lambda b: _after(mb.squeeze(x=mb.expand_dims(x=b, axes=[0]), axes=[0]), b),
    "a reshape before": lambda b: _after(mb.reshape(x=mb.reshape(x=b, shape=[6]), shape=[3, 2]), b),
    "flattened before": lambda b: _after(mb.flatten2d(x=b), b),
    "a part before": lambda b: _after(mb.concat(values=mb.split(x=b, axis=1, num_splits=2), axis=1), b),
    "a band before": lambda b: _after(mb.band_part(x=b), b),
    "windows before": lambda b: _after(mb.squeeze(x=mb.sliding_windows(x=b, axis=0, size=1), axes=[1]), b),
    "a list before": lambda b: _after_list(b),
    "a cond": lambda b: _after(_either(b), b),
    "a cond that looks in later": lambda b: (put(b), _either(b)),
    "a loop that starts with it": lambda b: _after(_once(b)[1], b),
    "a loop that reads it": lambda b: _after(_reading(b)[1], b),
}


def _after(view, b):
    """Written only after `view` was made, which is read only after the write."""
    written = put(b)
    return written, mb.add(x=view, y=mb.mul(x=written, y=np.float32(0)))


def _after_list(b):
    held = mb.list_write(ls=mb.make_list(init_length=1, elem_shape=(3, 2)), index=0, value=b)
    written = put(b)
    return written, mb.list_read(ls=held, index=0)


def _either(b):
    true = mb.less(x=mb.reduce_min(x=b), y=np.float32(1e9))
    return mb.cond(pred=true, _true_fn=lambda: mb.identity(x=b), _false_fn=lambda: doubled(b))


def _once(b):
    return mb.while_loop(
        _cond=lambda i, x: mb.less(x=i, y=np.float32(1)),
        _body=lambda i, x: (mb.add(x=i, y=np.float32(1)), mb.identity(x=x)),
        loop_vars=(np.float32(0), b),
    )


def _reading(b):
    return mb.while_loop(
        _cond=lambda i, x: mb.less(x=i, y=np.float32(1)),
        _body=lambda i, x: (mb.add(x=i, y=np.float32(1)), mb.identity(x=b)),
        loop_vars=(np.float32(0), np.zeros((3, 2), np.float32)),
    )


@pytest.mark.parametrize("name", NEEDED_LATER)
def test_a_value_that_is_still_needed_is_not_overwritten(tmp_path, scatter, name):
    (written, kept), _ = run(tmp_path, lambda x: NEEDED_LATER[name](doubled(x)), {"x": DATA})
    np.testing.assert_array_equal(kept, DATA * 2)
    np.testing.assert_array_equal(written, [[0, 2], [7, 8], [8, 10]])
    assert scatter.owned == [False]


def test_a_watched_value_is_not_overwritten(tmp_path, scatter):
    def build(x):
        return put(mb.mul(x=x, y=np.float32(2), name="seen"))

    _, watched = run(tmp_path, build, {"x": DATA}, watch=["seen"])
    np.testing.assert_array_equal(watched["seen"], DATA * 2)
    assert scatter.owned == [False]


def test_what_is_written_and_what_is_written_into_may_be_the_same_value(tmp_path, scatter):
    def build(x):
        buffer = doubled(x)
        return mb.scatter(data=buffer, indices=[2, 1, 0], updates=buffer, mode="update")

    (got,), _ = run(tmp_path, build, {"x": DATA})
    np.testing.assert_array_equal(got, DATA[::-1] * 2)
    assert scatter.owned == [False]


def test_a_constant_is_the_same_in_every_call(tmp_path, scatter):
    def build(x):
        return put(mb.fill(shape=[3, 2], value=np.float32(1)), x), put(mb.add(x=DATA, y=DATA), x)

    (first, second), _ = run(tmp_path, lambda x: build(x), {"x": ROW}, calls=1)
    evaluator = Evaluator(mil.package(build, {"x": ROW}, tmp_path / "again"))
    for value in (ROW, ROW + 1):
        got = list(evaluator({"x": value}).values())
        np.testing.assert_array_equal(got[0], [[1, 1], value[0], [1, 1]])
        np.testing.assert_array_equal(got[1], [[0, 2], value[0], [8, 10]])
    np.testing.assert_array_equal(first[0], [1, 1])
    np.testing.assert_array_equal(second[2], [8, 10])
    assert not any(scatter.owned)


# -- in loops


def filling(x, more=lambda i, buffer: buffer, count=3):
    """Row i of `x` becomes i + 1 in round i."""

    def body(i, buffer):
        value = mb.add(x=np.ones((1, 2), np.float32), y=mb.cast(x=i, dtype="fp32"))
        written = mb.scatter(data=buffer, indices=i, updates=value, mode="update")
        return mb.add(x=i, y=np.array([1], np.int32)), more(i, written)

    def under(i, buffer):
        return mb.squeeze(x=mb.less(x=i, y=np.array([count], np.int32)))

    return mb.while_loop(_cond=under, _body=body, loop_vars=(np.zeros(1, np.int32), x))[1]


def test_a_loop_fills_one_buffer_and_leaves_what_it_starts_from_alone(tmp_path, scatter):
    before = DATA.copy()

    def build(x):
        start = doubled(x)
        return filling(x), filling(start), start

    (from_input, from_value, start), _ = run(tmp_path, build, {"x": DATA}, calls=2)
    for got in (from_input, from_value):
        np.testing.assert_array_equal(got, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(start, DATA * 2)
    np.testing.assert_array_equal(DATA, before)
    assert all(scatter.owned) and len(scatter.owned) == 12
    assert len(set(scatter.places[:3])) == len(set(scatter.places[3:6])) == 1


def test_a_loop_that_starts_from_a_constant_starts_from_it_again(tmp_path, scatter):
    evaluator = Evaluator(
        mil.package(lambda x: (filling(np.zeros((4, 2), np.float32)), x), {"x": DATA}, tmp_path)
    )
    for _ in range(2):
        got = next(iter(evaluator({"x": DATA}).values()))
        np.testing.assert_array_equal(got, [[1, 1], [2, 2], [3, 3], [0, 0]])
    assert all(scatter.owned)


def test_a_loop_without_rounds_gives_its_start(tmp_path, scatter):
    def build(x):
        start = doubled(x)
        return put(filling(start, count=0)), start

    (written, start), _ = run(tmp_path, build, {"x": DATA})
    np.testing.assert_array_equal(start, DATA * 2)
    np.testing.assert_array_equal(written, [[0, 2], [7, 8], [8, 10]])
    assert scatter.owned == [False]


def two(x, y, body, count=3):
    """A loop over a counter and two buffers."""
    return mb.while_loop(
        _cond=lambda i, a, b: mb.less(x=i, y=np.float32(count)),
        _body=lambda i, a, b: (mb.add(x=i, y=np.float32(1)), *body(i, a, b)),
        loop_vars=(np.float32(0), x, y),
    )[1:]


def at(i):
    return mb.expand_dims(x=mb.cast(x=i, dtype="int32"), axes=[0])


def row(i):
    return mb.add(x=np.full((1, 2), 10, np.float32), y=i)


def wrote(data, index, value):
    data = data.copy()
    data[index] = value
    return data


def swapped_views(i, a, b):
    return b, mb.scatter(data=a, indices=at(i), updates=row(i), mode="update")


def swapped_views_truth(i, a, b):
    return b, wrote(a, i, 10 + i)


def swapped(i, a, b):
    return doubled(b), mb.scatter(data=a, indices=at(i), updates=row(i), mode="update")


def swapped_truth(i, a, b):
    return b * 2, wrote(a, i, 10 + i)


def given_twice(i, a, b):
    written = mb.scatter(data=a, indices=at(i), updates=row(i), mode="update")
    return written, written


def given_twice_truth(i, a, b):
    return (wrote(a, i, 10 + i),) * 2


def given_as_a_view(i, a, b):
    written = mb.scatter(data=a, indices=at(i), updates=row(i), mode="update")
    return written, mb.squeeze(x=mb.expand_dims(x=written, axes=[0]), axes=[0])


def given_through_cond(i, a, b):
    written = mb.scatter(data=a, indices=at(i), updates=row(i), mode="update")
    odd = mb.less(x=i, y=np.float32(1))
    return written, mb.cond(
        pred=odd, _true_fn=lambda: mb.identity(x=written), _false_fn=lambda: mb.identity(x=b)
    )


def given_through_cond_truth(i, a, b):
    written = wrote(a, i, 10 + i)
    return written, written if i < 1 else b


def reset(i, a, b):
    written = mb.scatter(data=a, indices=at(i), updates=row(i), mode="update")
    five = np.float32(5)  # by an operation that coremltools does not fold, or it refuses the loop
    constant = mb.one_hot(indices=[0, 1, 0], one_hot_vector_size=2, on_value=five, off_value=five)
    return constant, mb.add(x=b, y=written)


def reset_truth(i, a, b):
    return np.full((3, 2), 5.0), b + wrote(a, i, 10 + i)


def handed_on(i, a, b):
    return mb.add(x=b, y=i), mb.scatter(data=mb.identity(x=a), indices=at(i), updates=row(i), mode="update")


def handed_on_truth(i, a, b):
    return b + i, wrote(a, i, 10 + i)


def kept_and_written(i, a, b):
    return mb.scatter(data=a, indices=at(i), updates=row(i), mode="update"), a


def kept_and_written_truth(i, a, b):
    return wrote(a, i, 10 + i), a


BODIES = {
    "swapped unchanged": (swapped_views, swapped_views_truth),
    "swapped": (swapped, swapped_truth),
    "given twice": (given_twice, given_twice_truth),
    "given as a view": (given_as_a_view, given_twice_truth),
    "given through cond": (given_through_cond, given_through_cond_truth),
    "a constant": (reset, reset_truth),
    "handed on": (handed_on, handed_on_truth),
    "kept and written": (kept_and_written, kept_and_written_truth),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("same", [False, True], ids=["two starts", "one start"])
def test_loop_variables_do_not_write_into_one_another(tmp_path, scatter, name, same):
    body, truth = BODIES[name]

    def build(x):
        start = doubled(x)
        return (*two(start, start if same else x, body), start)

    a, b = DATA * 2, DATA * 2 if same else DATA
    for i in range(3):
        a, b = truth(i, a, b)
    (got_a, got_b, start), _ = run(tmp_path, build, {"x": DATA}, calls=2)
    np.testing.assert_array_equal(got_a, a)
    np.testing.assert_array_equal(got_b, b)
    np.testing.assert_array_equal(start, DATA * 2)


def test_a_view_that_is_watched_in_a_loop_is_of_its_round(tmp_path):
    def more(i, written):
        mb.squeeze(x=mb.expand_dims(x=written, axes=[0]), axes=[0], name="seen")
        return mb.add(x=written, y=np.float32(0))

    (got,), watched = run(tmp_path, lambda x: filling(x, more), {"x": DATA}, watch=["seen"])
    np.testing.assert_array_equal(got, [[1, 1], [2, 2], [3, 3]])
    np.testing.assert_array_equal(watched["seen"], got)


def test_a_loop_in_a_loop_fills_a_buffer_of_its_own(tmp_path, scatter):
    def body(i, a, b):
        filled = filling(a)
        return mb.add(x=filled, y=b), mb.add(x=b, y=np.float32(1))

    (a, b), _ = run(tmp_path, lambda x: two(x, x, body, 2), {"x": DATA})
    np.testing.assert_array_equal(a, np.array([[1, 1], [2, 2], [3, 3]]) + DATA + 1)
    np.testing.assert_array_equal(b, DATA + 2)
    assert all(scatter.owned) and len(scatter.owned) == 6


# -- the rules by themselves

ANY = TensorType("float32", (None,))


def named(*names):
    return tuple(Named(name, ANY) for name in names)


def op(kind, outputs, blocks=(), **inputs):
    bindings = {key: tuple(value.split()) for key, value in inputs.items()}
    return Operation(
        kind, outputs.split()[0] if outputs else kind, bindings, {}, named(*outputs.split()), tuple(blocks)
    )


def block(inputs, operations, outputs):
    return Block(named(*inputs.split()), tuple(operations), tuple(outputs.split()))


def test_what_inner_blocks_read_from_outside_counts_as_read():
    inner = block("c", [op("add", "d", x="c", y="outer"), op("exp", "e", x="d")], "e far")
    assert sorted(uses(op("while_loop", "r", [inner], loop_vars="start"))) == ["far", "outer", "start"]


def test_the_last_use_and_what_is_never_used():
    operations = [
        op("exp", "a", x="i"),
        op("exp", "b", x="a"),
        op("add", "c", x="a", y="b"),
        op("exp", "out", x="c"),
    ]
    life = lives(block("i", [*operations, op("exp", "unused", x="out")], "out"), frozenset("b"))
    assert life.last == {"i": 0, "a": 2, "c": 3, "unused": -1}
    assert life.dying(2, operations[2]) == {"a"}
    assert life.dying(4, op("exp", "unused", x="out")) == {"unused"}


def gives_up(operations, outputs="s", kept=(), inputs="i", owned=()):
    """Whether the operation that makes s may write over its data."""
    made = block(inputs, operations, outputs)
    life = lives(made, frozenset(kept), frozenset(owned))
    number = next(n for n, each in enumerate(operations) if each.outputs and each.outputs[0].name == "s")
    return life.gives_up("data", number, operations[number])


FRESH, WRITE = op("exp", "a", x="i"), op("scatter", "s", data="a", indices="j", updates="u")


def test_a_fresh_value_that_dies_is_given_up_and_no_other():
    assert gives_up([FRESH, WRITE])
    assert not gives_up([FRESH, WRITE], kept=["a"])
    assert not gives_up([FRESH, WRITE], outputs="s a")
    assert not gives_up([FRESH, WRITE, op("exp", "b", x="a")])
    assert not gives_up([FRESH, op("squeeze", "v", x="a"), WRITE])
    assert not gives_up([op("squeeze", "a", x="i"), WRITE])
    assert not gives_up([op("const", "a"), WRITE])
    assert not gives_up([FRESH, op("scatter", "s", data="a", indices="j", updates="a")])
    assert not gives_up([FRESH, op("cond", "v", [block("", [], "a")], pred="p"), WRITE])
    assert not gives_up([op("topk", "a b", x="i"), WRITE])
    assert not gives_up([op("scatter", "s", data="i", indices="j", updates="u")])
    assert gives_up([op("scatter", "s", data="i", indices="j", updates="u")], owned=["i"])
    assert not gives_up([op("squeeze", "v", x="i"), op("scatter", "s", data="i", indices="j")], owned=["i"])
    assert not gives_up([op("scatter", "s", data="outer", indices="j", updates="u")])


TEST = block("n m", [op("exp", "ok", x="n")], "ok")


def owned(operations, outputs, test=TEST):
    return sorted(owned_loop_inputs(test, block("a b", operations, outputs)))


def test_a_loop_owns_what_its_body_makes_anew_and_hands_to_one_place():
    both = [op("exp", "x", x="a"), op("scatter", "y", data="b", indices="x", updates="x")]
    assert owned(both, "x y") == ["a", "b"]
    assert owned(both, "y y") == []
    assert owned(both, "x b") == ["a"]
    assert owned(both, "b x") == ["b"]
    assert owned([*both, op("squeeze", "v", x="y")], "x y") == ["a"]
    assert owned([*both, op("squeeze", "v", x="y")], "v y") == []
    assert owned([*both, op("write_state", "", input="state", data="y")], "x y") == ["a"]
    assert owned([*both, op("cond", "v", [block("", [], "y")], pred="p")], "x y") == ["a"]
    assert owned([op("topk", "x y", x="a")], "x y") == []
    assert owned([both[0], op("fill", "y", shape="outer")], "x y") == ["a"]
    assert owned(both, "x y", block("n m", [op("squeeze", "ok", x="m")], "ok")) == ["a"]
