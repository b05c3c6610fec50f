from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy import optimize, stats

from modelbuild.equivalence import intervals
from modelbuild.equivalence.intervals import BLOCKS, Blocks, Interval, Table, bootstrap, paired_shares, wilson


def mean(sums: Any) -> Any:
    return sums[..., 0] / sums[..., 1]


def one_each(values: Any) -> Any:
    return np.stack([values, np.ones(len(values))], axis=1)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (0, 10, 0, 0.2775),  # z^2 / (n + z^2)
        (10, 10, 0.7225, 1),
        (1, 10, 0.0179, 0.4042),
        # R. G. Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 0.8830, 1),
    ],
)
def test_wilson_as_published(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-5)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_wilson_as_in_scipy(confidence: float) -> None:
    for n in (1, 2, 17, 540, 10**7):
        for successes in {0, 1, n // 3, n - 1, n}:
            theirs = stats.binomtest(successes, n).proportion_ci(confidence, "wilson")
            assert wilson(successes, n, confidence) == pytest.approx(tuple(theirs), abs=1e-12)


def test_wilson_ends_exactly_at_the_ends_and_is_everything_without_a_sample() -> None:
    for n in range(1, 200):
        assert wilson(0, n).low == 0
        assert wilson(n, n).high == 1
    assert wilson(0, 0) == (0, 1)


def test_wilson_covers() -> None:
    generator = np.random.default_rng(1)
    for share, n in ((0.02, 200), (0.5, 20), (0.97, 540)):
        drawn = generator.binomial(n, share, 4000)
        inside = [low <= share <= high for low, high in (wilson(int(k), n) for k in drawn)]
        assert 0.92 <= np.mean(inside) <= 0.985


@pytest.mark.parametrize(
    ("limit", "measured", "expected"),
    [(0.01, 0, 381), (0.05, 0, 73), (0.001, 0, 3838), (0.99, 1, 381), (0.97, 0.98, 1118), (0.5, 0.25, 16)],
)
def test_samples_for_rate(limit: float, measured: float, expected: int) -> None:
    """By hand: z^2 L (1 - L) / (p - L)^2 with z^2 = 3.8415, rounded up."""
    needed = intervals.samples_for_rate(limit, measured)
    assert needed == expected
    for n, settled in ((needed, True), (needed - 1, False)):
        low, high = wilson(measured * n, n)
        assert (high <= limit if measured < limit else low >= limit) is settled


@pytest.mark.parametrize(("limit", "measured"), [(0, 0), (1, 1), (0, 0.5), (1, 0.5), (0.3, 0.3)])
def test_limits_that_no_number_of_samples_settles(limit: float, measured: float) -> None:
    assert intervals.samples_for_rate(limit, measured) is None


def test_samples_for_a_limit_on_an_error() -> None:
    interval = Interval(0.5, 2.0)
    assert intervals.samples_for_limit(interval, 1.0, 1.5, 100) == 400  # half the way: four times the samples
    assert intervals.samples_for_limit(interval, 1.0, 0.75, 100) == 400
    assert intervals.samples_for_limit(interval, 1.0, 3.0, 100) == 100
    assert intervals.samples_for_limit(interval, 1.0, 1.0, 100) is None


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        # M. W. Fagerland, S. Lydersen, P. Laake, Statistics in Medicine 33 (2014) 2850-2875: Bentur's and Cavo's data
        (Table(1, 7, 21), (-0.517, -0.026)),
        (Table(6, 16, 161), (-0.124, -0.005)),
        (Table(0, 0, 44), (-0.0803, 0.0803)),  # z^2 / (n + z^2) either way
        (Table(10, 0, 10), (0.7225 * 2 - 1, 1)),
        (Table(0, 0, 0), (-1, 1)),
    ],
)
def test_paired_shares_as_published(table: Table, expected: tuple[float, float]) -> None:
    assert paired_shares(table) == pytest.approx(expected, abs=6e-4)
    swapped = paired_shares(Table(table.only_other, table.only_one, table.samples))
    assert swapped == pytest.approx((-expected[1], -expected[0]), abs=6e-4)


@pytest.mark.parametrize("table", [Table(1, 2, 10), Table(30, 4, 90), Table(0, 5, 40)])
def test_paired_shares_end_where_the_score_test_does(table: Table) -> None:
    """The likeliest shares for a difference found by search, not by the formula."""
    one, other, n = table
    for delta in paired_shares(table):
        free = max(0.0, -delta), (1 - delta) / 2

        def unlikely(q: float, delta: float = delta) -> float:
            return -float(
                stats.multinomial.logpmf([one, other, n - one - other], n, [q + delta, q, 1 - 2 * q - delta])
            )

        q = optimize.minimize_scalar(unlikely, bounds=free, method="bounded", options={"xatol": 1e-10}).x
        statistic = (one - other - n * delta) / np.sqrt(n * (2 * q + delta - delta**2))
        assert abs(statistic) == pytest.approx(1.959964, abs=1e-3)


def test_paired_shares_cover_where_hardly_any_sample_differs() -> None:
    """Where a bootstrap of the same tables, which is 0 to 0 in many of them, does not."""
    generator = np.random.default_rng(2)
    one, other, n = 0.02, 0.005, 60
    tables = [
        Table(int(a), int(b), n) for a, b, _ in generator.multinomial(n, [one, other, 1 - one - other], 600)
    ]
    covered = [low <= one - other <= high for low, high in map(paired_shares, tables)]
    assert np.mean(covered) >= 0.94
    assert np.mean([table[:2] == (0, 0) for table in tables]) > 0.15


def test_the_bootstrap_is_that_of_scipy() -> None:
    values = np.random.default_rng(3).exponential(size=40) ** 2
    found = bootstrap(one_each(values), mean)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20000, rng=np.random.default_rng(4))
    percentile = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(4)
    )
    bca, plain = theirs.confidence_interval, percentile.confidence_interval
    assert abs(bca.high - plain.high) > 0.15  # skewed enough to tell the two apart
    assert found == pytest.approx(tuple(bca), abs=0.07)


def test_the_bootstrap_is_the_same_each_time_and_another_with_another_seed() -> None:
    rows = one_each(np.random.default_rng(5).normal(size=50))
    assert bootstrap(rows, mean) == bootstrap(rows, mean)
    assert bootstrap(rows, mean) != bootstrap(rows, mean, seed=1)


def test_the_bootstrap_covers() -> None:
    generator = np.random.default_rng(6)
    inside = []
    for _ in range(250):
        low, high = bootstrap(one_each(generator.exponential(size=40)), mean)
        inside.append(low <= 1 <= high)
    assert 0.90 <= np.mean(inside) <= 0.98


def test_pairs_stay_together() -> None:
    """Two runs that go wrong on the same samples differ far more surely than each is known."""
    base = np.random.default_rng(7).exponential(size=200)
    rows = np.stack([base + 0.01, np.ones(200), base, np.ones(200)], axis=1)
    low, high = bootstrap(rows, lambda sums: mean(sums[..., :2]) - mean(sums[..., 2:]))
    assert (low, high) == pytest.approx((0.01, 0.01), abs=1e-9)
    assert np.ptp(bootstrap(rows[:, :2], mean)) > 0.2


def test_a_figure_that_never_changes_is_its_own_interval() -> None:
    assert bootstrap(one_each(np.full(9, 0.25)), mean) == (0.25, 0.25)
    assert bootstrap(one_each(np.array([0.25])), mean) == (0.25, 0.25)


def test_an_interval_holds_its_figure() -> None:
    generator = np.random.default_rng(8)
    for n in (2, 3, 5, 9):
        for values in (generator.exponential(size=n) ** 4, np.eye(1, n)[0], -np.eye(1, n)[0]):
            low, high = bootstrap(one_each(values), mean)
            assert low <= values.mean() <= high


@pytest.mark.parametrize("step", [1, 7, 4096, 5000, 10000])
def test_blocks_do_not_depend_on_how_the_rows_come(step: int) -> None:
    rows = np.arange(20000.0).reshape(10000, 2)
    blocks = Blocks(2)
    for start in range(0, len(rows), step):
        blocks.add(rows[start : start + step])
    padded = np.zeros((10000 + (-10000 % 4), 2))
    padded[:10000] = rows
    assert blocks.samples == 10000
    assert np.array_equal(blocks.sums, padded.reshape(-1, 4, 2).sum(axis=1))
    assert len(blocks.sums) <= BLOCKS


def test_up_to_as_many_samples_as_blocks_each_is_its_own() -> None:
    rows = np.random.default_rng(9).normal(size=(BLOCKS, 2))
    blocks = Blocks(2)
    for part in np.array_split(rows, 3):
        blocks.add(part)
    assert np.array_equal(blocks.sums, rows)


def test_the_memory_for_long_data_is_constant() -> None:
    rows = np.random.default_rng(10).exponential(size=(50000, 4))
    held = []
    for times in (1, 40):
        blocks = Blocks(4)
        tracemalloc.start()
        for _ in range(times):
            blocks.add(rows)
        bootstrap(blocks.sums, mean)
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert held[1] < 1.1 * held[0] < 64 << 20


def test_blocks_keep_the_interval_of_the_samples() -> None:
    values = np.random.default_rng(11).exponential(size=40000)
    blocks = Blocks(2)
    blocks.add(one_each(values))
    low, high = bootstrap(blocks.sums, mean)
    spread = 1.96 * values.std() / 200
    assert (low, high) == pytest.approx((values.mean() - spread, values.mean() + spread), abs=0.1 * spread)


def test_a_higher_confidence_is_a_wider_interval() -> None:
    rows = one_each(np.random.default_rng(12).normal(size=60))
    for made in (
        [wilson(3, 20, c) for c in (0.5, 0.9, 0.99)],
        [paired_shares(Table(3, 1, 20), c) for c in (0.5, 0.9, 0.99)],
        [bootstrap(rows, mean, c) for c in (0.5, 0.9, 0.99)],
    ):
        assert all(wide.low < narrow.low <= narrow.high < wide.high for narrow, wide in pairwise(made))
