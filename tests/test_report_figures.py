"""How numbers and text read."""

import pytest
from test_report import verdict

from modelbuild.report import clean, figures


@pytest.mark.parametrize(
    ("measured", "limit", "ok", "said"),
    [
        (2e-6, 1.6e-5, True, "8.0\N{MULTIPLICATION SIGN}"),
        (0.00999, 0.01, True, "1.001\N{MULTIPLICATION SIGN}"),
        (1e-9, 1.0, True, "> 1000\N{MULTIPLICATION SIGN}"),
        (0.0, 1.0, True, "> 1000\N{MULTIPLICATION SIGN}"),
        (0, 0, True, "exact"),
        (0.5, 0.5, True, "at the limit"),
        (0.97, 0.95, True, "+0.02"),
        (52.5, 40.0, True, "+12.5"),
        (0.9, 0.95, False, "0.05 short"),
        (0.12, 0.01, False, "12.0\N{MULTIPLICATION SIGN} over"),
        (4, 0, False, "4 over"),
        (None, 0.1, False, figures.NOTHING),
        (0.1, None, True, figures.NOTHING),
        (float("nan"), 0.1, False, figures.NOTHING),
        (float("inf"), 0.1, False, figures.NOTHING),
    ],
)
def test_headroom(measured: float | None, limit: float | None, ok: bool, said: str) -> None:
    assert figures.headroom(verdict(measured=measured, limit=limit, ok=ok)) == said


@pytest.mark.parametrize(
    ("measured", "limit", "ok", "sign"),
    [(1, 2, True, "≤"), (2, 1, False, "≤"), (2, 1, True, "≥"), (1, 2, False, "≥"), (None, 1, False, "")],
)
def test_the_side_of_the_limit_follows_from_colour_and_numbers(
    measured: float | None, limit: float, ok: bool, sign: str
) -> None:
    assert figures.limit_sign(verdict(measured=measured, limit=limit, ok=ok)) == sign


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3.4e-8, "3.4e-8"),
        (0.9705, "0.9705"),
        (0, "0"),
        (4, "4"),
        (None, figures.NOTHING),
        (1e12, "1e12"),
        (-1.5, "-1.5"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert figures.number(value) == text


def test_two_numbers_that_differ_never_read_the_same() -> None:
    row = verdict(measured=0.9499999, limit=0.95, ok=False)
    assert figures.measured_and_limit(row) == ("0.9499999", "0.95")
    row = verdict(measured=0.1 + 0.2, limit=0.3, ok=False)
    assert len(set(figures.measured_and_limit(row))) == 2


def test_colours_of_a_terminal_are_taken_out() -> None:
    assert clean.text("\x1b[1;31mred\x1b[0m\r\nplain\x07") == "red\nplain\ufffd"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.04 s"),
        (12.34, "12.3 s"),
        (59.96, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3599.7, "1 h 00 min"),
        (3900, "1 h 05 min"),
        (float("nan"), figures.NOTHING),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (421_313, "411.4 KiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 60, "1048576.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert figures.size(count) == text
