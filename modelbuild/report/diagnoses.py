"""The first operation that diverges in each red run, as a card: what it is, what was seen, how to see it again."""

from __future__ import annotations

from collections.abc import Sequence

from modelbuild.report import clean, figures, findings, sentences
from modelbuild.report.details import Diagnosis, Operation
from modelbuild.report.record import Report

_NAMES = 8
_SAMPLES = 12
_SHOWN = 20


def cards(report: Report) -> str:
    """One card for each red run and output, the worst run first; of several that share a fault, for one of them."""
    _, fellows = findings.foremost(report)
    followers = {(run, output) for (_, output), runs in fellows.items() for run in runs}
    found = [each for each in findings.diagnoses(report) if (each.run, each.output) not in followers]
    more = len(found) - _SHOWN
    rest = f'<p class="said">{more} more are in findings.json.</p>' if more > 0 else ""
    shown = (_card(report, each, fellows.get((each.run, each.output), ())) for each in found[:_SHOWN])
    return "".join(shown) + rest


def _card(report: Report, found: Diagnosis, fellows: Sequence[str]) -> str:
    known = [*_facts(found), ("The same in", _listed([_code(run) for run in fellows], _NAMES))]
    facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in known if value)
    typed = sentences.reproduce(report, found)
    shown = f'<p class="next">Reproduce: <kbd>{clean.html(typed)}</kbd></p>' if typed else ""
    output = f" {_code(found.output)}" if found.output else ""
    return (
        f'<article class="card"><h3>{clean.html(found.run)}{output}</h3>'
        f'<p>{clean.html(sentences.diagnosed(found))}</p><dl class="facts">{facts}</dl>{shown}</article>'
    )


def _facts(found: Diagnosis) -> list[tuple[str, str]]:
    operation = found.op
    return [
        ("Operation", _named(operation) if operation else ""),
        ("Module", _code(operation.module) if operation else ""),
        ("Value", _value(found)),
        ("Stage", clean.html(sentences.stage(found.stage))),
        (
            "Measured there",
            _against(found.inside.measured, found.inside.limit) if operation and found.inside else "",
        ),
        ("At the output", f"{clean.html(found.metric)} {_against(found.measured, found.limit)}".strip()),
        ("Samples", _samples(found)),
        ("Beside it", _listed([_named(each) for each in found.others], _NAMES)),
        (
            "Lies among",
            _listed([_code(name) for name in found.region], _NAMES) if len(found.region) > 1 else "",
        ),
    ]


def _named(operation: Operation) -> str:
    return f"<b>{clean.html(operation.kind)}</b> {_code(operation.name)}"


def _value(found: Diagnosis) -> str:
    if found.op is None:
        return ""
    same = found.op.canonical in ("", found.op.value)
    return _code(found.op.value) + ("" if same else f", in the canonical file {_code(found.op.canonical)}")


def _against(measured: float | None, limit: float | None) -> str:
    if limit is None:
        return figures.number(measured) if measured is not None else ""
    said = "no number" if measured is None else figures.number(measured)
    return f"{said} against a limit of {figures.number(limit)}"


def _samples(found: Diagnosis) -> str:
    if not found.samples:
        return "" if found.sample is None else f"{found.sample} is the worst"
    agree = f"; {found.confirmed} of {len(found.samples)} agree" if found.op else ""
    return _listed([str(sample) for sample in found.samples], _SAMPLES) + agree


def _listed(items: list[str], most: int) -> str:
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def _code(name: str) -> str:
    return f"<code>{clean.html(name)}</code>" if name.strip() else ""
