"""The HTML report: one file that needs nothing else, no script, no network, and lets nothing in."""

from __future__ import annotations

import base64
import functools
import hashlib
from html import escape
from pathlib import Path
from string import Template

from modelbuild.report import (
    clean,
    diagnoses,
    drift,
    figures,
    findings,
    heatmap,
    histograms,
    search,
    sentences,
    student,
    tables,
    waterfall,
)
from modelbuild.report.details import Details, Waterfall
from modelbuild.report.graph_svg import draw
from modelbuild.report.record import Report, TargetRow

_SLOWEST = 12
_GATES = 20
_WORDS = {"pass": "PASS", "fail": "FAIL", "unchecked": "NOTHING CHECKED"}
_NOISE = (
    "How far this model's outputs move on these inputs though nothing is wrong. Limits that are derived are "
    "multiples of it."
)
_STEPS = (
    "One thing switched at a time. A bar is what the step adds, the mark the distance to the reference after it; "
    "the ground is red beyond what the gate allows. Scales are logarithmic."
)
_ERRORS = (
    "How many values differ from the reference by how much. Both scales are logarithmic; left of the floor is "
    "what this model's own rounding does, right of the limit is red."
)
_FLIPS = (
    "A sample's lead is how far the reference's first choice stands before the second. Where a run moves it by as "
    "much, the decision may flip; a lead below the noise is a tie, and its flips are not counted. The stronger "
    "the colour, the more samples."
)
_SPENT = ("built", "failed")
_STATES = ("built", "restored", "up-to-date", "failed", "not run")


def page(report: Report) -> str:
    """The whole page. The policy in its head names the style sheet by hash: no other style applies."""
    style = _template("report.css")
    return Template(_template("report.html")).substitute(
        title=clean.html(f"{report.model}: {_WORDS[findings.outcome(report)]}"),
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        outcome=findings.outcome(report),
        word=_WORDS[findings.outcome(report)],
        model=clean.html(report.model),
        headline=clean.html(sentences.headline(report)),
        tiles=_tiles(report),
        sections="\n".join(_sections(report)),
    )


@functools.cache
def _template(name: str) -> str:
    return (Path(__file__).with_name("templates") / name).read_text(encoding="utf-8")


def _sections(report: Report) -> list[str]:
    return [
        _section("wrong", "What is wrong", _wrong(report)),
        _section("warnings", "Worth reading", _warnings(report)),
        _section("operations", "First diverging operation", diagnoses.cards(report)),
        _section("platforms", "Platforms", tables.platforms(report) if report.platforms else ""),
        _section("verdicts", "Verdicts", tables.verdicts(report)),
        _section("student", "Student", student.draw(report.details.student, report.details.search)),
        _section("search", "Search", search.draw(report.details.search)),
        _section("noise", "What is nobody's fault", _said(_NOISE, tables.noise(report) + _derived(report))),
        *_depths(report.details),
        _section("graph", "Task graph", _graph(report) if report.targets else ""),
        _section("time", "Where time went", _time(report)),
        _section("targets", "Targets", tables.targets(report) if report.targets else ""),
    ]


def _depths(details: Details) -> list[str]:
    """What the gate knows beyond its verdicts."""
    return [
        _section("pairs", "Every run against every other", heatmap.draw(details.matrices)),
        _section("steps", "Where the error comes from", _said(_STEPS, waterfall.draw(_falls(details)))),
        _section("errors", "How large the errors are", _said(_ERRORS, histograms.draw(details.matrices))),
        _section("flips", "How far decisions are from flipping", _said(_FLIPS, drift.draw(details.matrices))),
    ]


def _derived(report: Report) -> str:
    rows = findings.derivations(report)
    items = "".join(
        f"<li><code>{clean.html(row.output)}</code> {clean.html(row.detail, 1000)}</li>" for row in rows
    )
    return f'<ul class="derived">{items}</ul>' if items else ""


def _falls(details: Details) -> list[Waterfall]:
    """Those of the platforms, and of the red runs that have none among them."""
    known = {fall.run for fall in details.waterfalls}
    red = {each.run: each.steps for each in details.diagnoses if each.steps.outputs and each.run not in known}
    return [*red.values(), *details.waterfalls]


def _said(words: str, body: str) -> str:
    return f'<p class="said">{words}</p>{body}' if body else ""


def _section(name: str, title: str, body: str) -> str:
    return f'<section id="{name}">\n<h2>{title}</h2>\n{body}\n</section>' if body else ""


def _tiles(report: Report) -> str:
    held, platforms = len(findings.held(report)), report.platforms
    evidenced = sum(map(findings.evidenced, platforms))
    states = [row.state for row in report.targets]
    facts = {
        "Verdicts that hold": f"{held}<small> of {len(findings.judged(report))}</small>",
        "Platforms evidenced": f"{evidenced}<small> of {len(platforms)}</small>",
        "Targets built": f"{states.count('built')}<small> of {len(states)}</small>",
        "This run": figures.duration(report.seconds),
    }
    return "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts.items())


def _wrong(report: Report) -> str:
    if findings.outcome(report) != "fail":
        return ""
    failed = [_item(row.name, "failed", _error(row.error)) for row in findings.failed(report)]
    missing = [
        _item(row.name, f"is required and not evidenced: {findings.unavailable(report, row)}")
        for row in findings.missing(report)
    ]
    own, fellows = findings.foremost(report)
    _, implied = findings.told_apart(report)
    wrong = {findings.pair(row) for row in own}
    red = [_gate(report, gate, fellows) for gate in findings.gates(report) if gate.pair in wrong]
    items = [*failed, *missing, *red[:_GATES], *_between(report, len(implied))]
    more = f"<li>{len(red) - _GATES} more pairs with red verdicts</li>" if len(red) > _GATES else ""
    command = f'<p class="next">Next: <kbd>{clean.html(sentences.command(report))}</kbd></p>'
    return f"<ul>{''.join(items)}{more}</ul>{command}" if items else command


def _warnings(report: Report) -> str:
    items = "".join(f"<li>{clean.html(line)}</li>" for line in sentences.warnings(report))
    return f"<ul>{items}</ul>" if items else ""


def _between(report: Report, implied: int) -> list[str]:
    """What two runs have to do with each other."""
    count = figures.some(implied, "verdict")
    also = [_item("Also red", f"{count} of these runs against others")] if implied else []
    return [*also, *(_item(*said) for said in sentences.agreements(report))]


def _gate(report: Report, gate: findings.Gate, fellows: findings.Fellows) -> str:
    worst = gate.verdicts[0]
    output = f"{worst.output} " if worst.output else ""
    fact = f"{sentences.red_of(gate.red, len(gate.verdicts))}: {output}{sentences.against(worst)}"
    also = sentences.the_same(gate.verdicts, fellows)
    why = "".join(map(tables.note, [*sentences.on_the_run(report, findings.run_of(worst)), *also]))
    return _item(gate.pair, fact, tables.note(sentences.aside(worst)) + why)


def _error(error: str) -> str:
    return f"<pre>{escape(clean.tail(error))}</pre>" if error.strip() else ""


def _item(name: str, fact: str, more: str = "") -> str:
    return f"<li><b>{clean.html(name)}</b> {clean.html(fact)}{more}</li>"


def _graph(report: Report) -> str:
    states = {row.state for row in report.targets}
    legend = "".join(tables.badge(state.replace(" ", "-"), state) for state in _STATES if state in states)
    if findings.red(report):
        legend += tables.badge("ring", "a verdict on it is red")
    return f'<p class="legend">{legend}</p><div class="scroll canvas">{draw(report)}</div>'


def _time(report: Report) -> str:
    took = [row for row in report.targets if row.state != "not run" and row.seconds > 0]
    if not took:
        return ""
    slowest = sorted(took, key=lambda row: -row.seconds)[:_SLOWEST]
    bars = "".join(_bar(report, row, row.seconds / slowest[0].seconds) for row in slowest)
    return f'<p class="said">{_spent(took)}</p><ul class="bars">{bars}</ul>'


def _spent(took: list[TargetRow]) -> str:
    here = sum(row.seconds for row in took if row.state in _SPENT)
    spared = sum(row.seconds for row in took if row.state not in _SPENT)
    ran = f"{figures.duration(here)} of recipes ran" if here else "No recipe ran"
    rest = f"; {figures.duration(spared)} were spared, because their results were at hand" if spared else ""
    return f"{ran}{rest}."


def _bar(report: Report, row: TargetRow, share: float) -> str:
    kind = "" if row.state in _SPENT else " spared"
    fill = f'<rect class="{row.state.replace(" ", "-")}" width="{100 * share:.2f}" height="10"/>'
    bar = f'<svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">{fill}</svg>'
    name = clean.html(findings.short_name(report.model, row.name))
    said = figures.duration(row.seconds) + (f" <small>{row.state}</small>" if kind else "")
    return f'<li class="bar{kind}"><span class="name">{name}</span>{bar}<span class="took">{said}</span></li>'
