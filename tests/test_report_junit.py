"""JUnit XML that parses whatever the names are, and never counts no evidence as passed."""

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from test_report import ANY_TEXT, PAYLOADS, every_field, failing, green, platform, verdict

from modelbuild.report.junit import document
from modelbuild.report.record import Report


def suite(report: Report) -> ElementTree.Element:
    root = ElementTree.fromstring(document(report))
    (found,) = root
    assert (root.tag, found.tag) == ("testsuites", "testsuite")
    return found


def shape(report: Report) -> list[str]:
    return [element.tag for element in suite(report).iter()]


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload])
def test_no_text_becomes_markup(payload: str) -> None:
    assert shape(every_field(payload)) == shape(every_field("harmless"))


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT)
def test_no_text_at_all_becomes_markup(text: str) -> None:
    assert shape(every_field(text)) == shape(every_field("harmless"))
    document(every_field(text)).encode()


def test_a_green_model() -> None:
    found = suite(green())
    assert found.attrib == {
        "name": "digits",
        "tests": "4",
        "failures": "0",
        "errors": "0",
        "skipped": "0",
        "time": "42.400",
    }
    assert found[0].attrib["classname"] == "digits.android"
    assert found[0].attrib["name"] == "android 1.32.0 cpu against reference: logits max_abs"
    assert len({(case.get("classname"), case.get("name")) for case in found}) == 4


def test_a_failing_model() -> None:
    found = suite(failing())
    counts = {name: found.get(name) for name in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "9", "failures": "3", "errors": "1", "skipped": "1"}
    message = "android 1.32.0 cpu against reference: logits max_abs 0.0312 against a limit of 1.4e-5"
    (failure,) = [child for child in found.findall("*/failure") if child.get("message") == message]
    assert (failure.text or "").splitlines() == [
        "pair: android 1.32.0 cpu against reference",
        "output: logits",
        "max_abs 0.0312 against a limit of 1.4e-5",
        "largest at sample 211 of 360, class 7",
    ]


def test_a_failed_target_is_an_error_with_its_text() -> None:
    error = suite(failing()).find("*/error")
    assert error is not None
    assert error.get("message") == "RuntimeError: no engine"
    assert error.text == "Traceback\n  line\nRuntimeError: no engine"


def test_no_evidence_is_skipped_or_failed() -> None:
    rows = (
        platform("a", evidence="none", unavailable="no phone"),
        platform("b", evidence="x", required=False),
    )
    found = suite(Report("m", False, 1.0, (), (verdict(evidence="none"),), rows))
    assert [[child.tag for child in case] for case in found] == [["skipped"], ["failure"], ["skipped"]]
    assert [case[0].get("message") for case in found[1:]] == [
        "not evidenced: no phone",
        "not evidenced: it was not run",
    ]


def test_no_evidence_is_one_case() -> None:
    row = verdict(metric="evidence", evidence="none", ok=False, detail="not evidenced: no phone. Connect one")
    found = suite(Report("m", False, 1.0, (), (row,), (platform(evidence="none"),)))
    assert [case[0].attrib for case in found] == [{"message": "not evidenced: no phone. Connect one"}]


def test_a_failed_run_without_a_finding_is_still_red() -> None:
    found = suite(Report("m", False, 1.0, (), (), ()))
    assert found.get("failures") == "1"
