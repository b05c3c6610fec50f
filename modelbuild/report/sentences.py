"""What a report says in words: its headline, a verdict's numbers, the next command to type."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, figures, findings
from modelbuild.report.details import Diagnosis
from modelbuild.report.record import Report

_STAGES = {
    "distillation": "from teacher to student",
    "export": "export to ONNX",
    "precision": "lower precision",
    "runtime": "the runtime",
    "optimisation": "its optimisations",
    "artefact": "the file that ships",
}


def headline(report: Report) -> str:
    """`14 verdicts hold, 2 platforms executed`, or what is wrong in the same form."""
    wrong = _wrong(report)
    if wrong:
        return ", ".join(wrong)
    if findings.outcome(report) == "fail":
        return "failed"
    count = len(findings.held(report))
    held = (
        f"{figures.some(count, 'verdict')} {'holds' if count == 1 else 'hold'}"
        if count
        else "no verdict rests on evidence"
    )
    return ", ".join([held, *_evidence(report)])


def red_of(red: int, count: int) -> str:
    """`1 of 7 verdicts is red`."""
    return f"{red} of {figures.some(count, 'verdict')} {'is' if red == 1 else 'are'} red"


def _wrong(report: Report) -> list[str]:
    red, failed, missing = findings.red(report), findings.failed(report), findings.missing(report)
    parts = []
    if red:
        parts.append(red_of(len(red), len(findings.judged(report))))
    if failed:
        parts.append(f"{figures.some(len(failed), 'target')} failed")
    if missing:
        parts.append(f"{figures.some(len(missing), 'required platform')} not evidenced")
    return parts


def _evidence(report: Report) -> list[str]:
    counts = {
        kind: sum(row.evidence == kind for row in report.platforms) for kind in ("executed", "interpreted")
    }
    parts = [f"{figures.some(count, 'platform')} {kind}" for kind, count in counts.items() if count]
    without = sum(not findings.evidenced(row) for row in report.platforms)
    return [*parts, f"{without} not evidenced"] if without else parts


def against(row: Verdict) -> str:
    """`max_abs 0.0031 against a limit of 0.001`, or the metric alone where nothing could be measured."""
    measured, limit = figures.measured_and_limit(row)
    if row.measured is None:
        return clean.line(row.metric)
    return f"{clean.line(row.metric)} {measured}" + (
        f" against a limit of {limit}" if row.limit is not None else ""
    )


def aside(row: Verdict) -> str:
    """What a verdict's detail adds: its figures stand beside it, how its limit came about elsewhere."""
    detail = clean.line(row.detail, 2000)
    rest = re.match(rf"{re.escape(clean.line(row.metric))} \S+, limit \S+ \(", detail)
    if rest is None:
        return clean.line(detail)
    end, depth = rest.end(), 1
    while depth and end < len(detail):
        depth += {"(": 1, ")": -1}.get(detail[end], 0)
        end += 1
    return clean.line(detail[end:].lstrip("; "))


def warnings(report: Report) -> list[str]:
    """What someone should read though all may be well, each once and with the outputs or the platform it is about."""
    said: dict[tuple[str, str], list[str]] = {}
    for row in findings.warnings(report):
        # The way of running it matters where this machine does not have it.
        way = f" {row.backend}" if row.backend and not findings.evidenced(row) else ""
        about = clean.line(f"{row.platform}{way}" if row.platform else "")
        said.setdefault((about, clean.line(row.detail)), []).append(clean.line(row.output))
    return [
        ": ".join(filter(None, (about or ", ".join(filter(None, outputs)), detail)))
        for (about, detail), outputs in said.items()
    ]


def stage(name: str) -> str:
    """`the file that ships` for "artefact"; a stage no one has heard of goes by its name."""
    return _STAGES.get(name, clean.line(name))


def diagnosed(found: Diagnosis) -> str:
    """One sentence: the diagnosis's own without what stands beside it, or the operation; and the stage."""
    where = f" (stage: {stage(found.stage)})" if found.stage else ""
    if found.words.strip():
        again = f"; reproduce it with {found.folder}/{found.script}"
        return clean.line(found.words.removeprefix(f"{found.run}: ").removesuffix(again)) + where
    if found.op is None:
        return (clean.line(found.reason) or "no operation could be named") + where
    module = f" of {clean.line(found.op.module)}" if found.op.module else ""
    return (
        f"first diverging operation: {clean.line(found.op.kind)} {clean.line(found.op.name)}{module}{where}"
    )


def reproduce(report: Report, found: Diagnosis) -> str:
    """What to type to see it again, quoted for a shell; empty where there is nothing."""
    return shlex.join(clean.line(word) for word in findings.reproducer(report.model, found))


def agreements(report: Report, output: str | None = None) -> list[tuple[str, str]]:
    """The outputs on which something is red, or that one alone, and who agrees with whom on them."""
    outputs: dict[str, list[str]] = {}
    known = report.details.matrices
    found = (
        findings.parted(report) if output is None else {name: known[name] for name in known if name == output}
    )
    for name, matrix in found.items():
        if (
            matrix.words.strip() and len(matrix.clusters) != 1
        ):  # all agree where the gate is red for another reason
            outputs.setdefault(clean.line(matrix.words, 1000), []).append(clean.line(name))
    return [(", ".join(names), words) for words, names in outputs.items()]


def on_the_run(report: Report, run: str, output: str | None = None) -> list[str]:
    """What is known of why `run` is red, and how to see it again; of one output where that is given."""
    lines: list[str] = []
    for each in report.details.diagnoses:
        if each.run == run and output in (None, "", each.output):
            typed = reproduce(report, each)
            lines += [diagnosed(each), *([f"reproduce: {typed}"] if typed else [])]
    return [*dict.fromkeys(lines)]


def the_same(rows: Sequence[Verdict], fellows: findings.Fellows) -> list[str]:
    """`the same in android.2, android.3`, of the red rows of one run; nothing where it is alone with them."""
    runs = dict.fromkeys(
        other for row in rows for other in fellows.get((findings.run_of(row), row.output), ())
    )
    return [f"the same in {', '.join(map(clean.line, runs))}"] if runs else []


def command(report: Report) -> str:
    """The next command to type, quoted for a shell."""
    return shlex.join(clean.line(word) for word in findings.next_command(report))


def last_line(error: str) -> str:
    """The last line of an error: where Python, and most tools, say what happened."""
    return clean.line((clean.text(error).strip().splitlines() or ["no reason was given"])[-1])
