"""Verdicts, accepted figures and waivers of a model `m` as tests of them want them."""

from dataclasses import replace
from datetime import date

from modelbuild.accepted import Figure, Lock
from modelbuild.declare import Waiver
from modelbuild.equivalence.verdict import Verdict
from modelbuild.ratchet import Known, Terms

TODAY = date(2026, 3, 1)


def row(run="ios", metric="max_abs", measured=1e-5, **more):
    given = {
        "target": f"m:{run.partition('.')[0]}", "platform": run.partition(".")[0], "version": "1", "backend": "cpu",
        "against": "reference", "output": "y", "metric": metric, "measured": measured, "limit": 1.0, "ok": True,
        "evidence": "executed", "detail": "as measured", "run": run,
        "floor": 0.0, **more,
    }  # fmt: skip
    return Verdict(**given)


def share(measured, low=None, high=None, metric="accuracy", **more):
    told = {"run": "", "platform": "", "target": "m:reference", "against": "label", "limit": 0.5, **more}
    return replace(row("", metric, measured), floor=None, low=low, high=high, **told)


def terms(*figures, waivers=(), known=None, whole=True, today=TODAY):
    lock = Lock("m", {}, {each.key: each for each in figures}) if figures else None
    return Terms("m", "manifests/m.json", lock, tuple(waivers), today, known or Known(), whole)


def figure(subject="ios", metric="max_abs", held=1e-5, noise=0.0, against="reference", output="y", **more):
    return Figure(subject, against, output, metric, held, noise, more.pop("evidence", "executed"), **more)


def waiver(**more):
    given = {
        "platform": "ios", "gate": None, "output": None, "metric": "max_abs", "limit": 0.1, "reason": "half",
        "link": "https://x.org/1", "expires": "2026-03-01", **more,
    }  # fmt: skip
    return Waiver(**given)
