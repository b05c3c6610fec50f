"""Silence while a block runs, and everything as it was after it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator

import pytest

from modelbuild.quiet import quietly


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    logging.disable(7)
    yield
    logging.disable(logging.NOTSET)


def test_nothing_is_heard_of_the_block(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with quietly():
        sys.stdout.write("out")
        sys.stderr.write("err")
        logging.getLogger("framework").critical("log")
        warnings.warn("about itself", stacklevel=1)
    assert (capfd.readouterr(), caplog.records) == (("", ""), [])


def test_all_is_as_it_was_also_after_an_error() -> None:
    streams, filters = (sys.stdout, sys.stderr), list(warnings.filters)
    with pytest.raises(ZeroDivisionError), quietly():
        raise ZeroDivisionError
    with quietly():
        assert logging.root.manager.disable == logging.CRITICAL
    assert (sys.stdout, sys.stderr) == streams
    assert warnings.filters == filters
    assert logging.root.manager.disable == 7
