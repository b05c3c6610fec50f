"""JUnit XML for CI: one suite a model, one case a verdict, a failed target or a platform without evidence."""

from __future__ import annotations

from xml.etree import ElementTree

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import clean, findings, sentences
from modelbuild.report.record import Report, TargetRow


def document(report: Report) -> str:
    """The whole XML document. What XML 1.0 cannot write is replaced, never passed on."""
    suite = ElementTree.Element("testsuite", name=clean.line(report.model))
    _cases(suite, report)
    if findings.outcome(report) == "fail" and not _unhappy(suite):
        _told(_case(suite, report.model, "run"), "failure", "the run failed", "")
    counts = {
        "tests": str(len(suite)),
        "failures": str(len(suite.findall("*/failure"))),
        "errors": str(len(suite.findall("*/error"))),
        "skipped": str(len(suite.findall("*/skipped"))),
        "time": f"{report.seconds:.3f}",
    }
    suite.attrib.update(counts)
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    body = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="utf-8"?>\n{body}\n'


def _cases(suite: ElementTree.Element, report: Report) -> None:
    for target in findings.failed(report):
        _failed(_case(suite, report.model, f"target {target.name}", target.seconds), target)
    for row in findings.judged(report):
        _judged(_case(suite, f"{report.model}.{row.platform or row.target}", _verdict_name(row)), report, row)
    for platform in report.platforms:
        if not findings.evidenced(platform):
            reason = f"not evidenced: {findings.unavailable(report, platform)}"
            case = _case(suite, f"{report.model}.{platform.name}", "evidence")
            _told(case, "failure" if platform.required else "skipped", reason, "")


def _unhappy(suite: ElementTree.Element) -> bool:
    return suite.find("*/failure") is not None or suite.find("*/error") is not None


def _case(suite: ElementTree.Element, group: str, name: str, seconds: float = 0.0) -> ElementTree.Element:
    attributes = {"classname": clean.line(group), "name": clean.line(name), "time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", attributes)


def _told(case: ElementTree.Element, tag: str, message: str, body: str) -> None:
    child = ElementTree.SubElement(case, tag, message=clean.line(message))
    child.text = clean.tail(body) or None


def _failed(case: ElementTree.Element, target: TargetRow) -> None:
    _told(case, "error", sentences.last_line(target.error), target.error)


def _judged(case: ElementTree.Element, report: Report, row: Verdict) -> None:
    if not row.ok:
        facts = [f"pair: {findings.pair(row)}", f"output: {row.output}", sentences.against(row), row.detail]
        facts += sentences.on_the_run(report, findings.run_of(row), row.output)
        facts += [words for _, words in sentences.agreements(report, row.output)]
        _told(
            case,
            "failure",
            f"{findings.pair(row)}: {row.output} {sentences.against(row)}",
            "\n".join(filter(None, facts)),
        )
    elif not findings.evidenced(row):
        _told(case, "skipped", row.detail or "not evidenced", "")


def _verdict_name(row: Verdict) -> str:
    return f"{findings.pair(row)}: {' '.join(part for part in (row.output, row.metric) if part)}"
