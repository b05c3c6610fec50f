"""Budgets: an artefact beyond its size is a red verdict, and an absent budget is none."""

from __future__ import annotations

import pytest

from modelbuild.equivalence.budget import verdicts

RECORD = {"version": "1.0", "backend": "cpu", "evidence": "executed", "bytes": 1000}


@pytest.mark.parametrize(("limit", "ok"), [(999, False), (1000, True), (1001, True)])
def test_an_artefact_is_held_to_its_size(limit, ok):
    (found,) = verdicts("m:p", "p", RECORD, {"bytes": limit})
    assert (found.ok, found.measured, found.limit, found.metric) == (ok, 1000.0, float(limit), "bytes")
    assert (found.target, found.platform, found.against, found.evidence) == ("m:p", "p", "budget", "executed")
    assert f"at most {limit}" in found.detail


def test_no_budget_no_verdict():
    assert list(verdicts("m:p", "p", RECORD, {})) == []
