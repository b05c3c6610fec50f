"""The last lines of a run: what is red, where the report lies, what to type next."""

import dataclasses
import shlex
from typing import Any

import pytest
from test_report import PAYLOADS, every_field, failing, green, platform, target, verdict

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import closing_lines, findings, margins
from modelbuild.report.record import Report


def test_green_is_one_line() -> None:
    assert closing_lines(green()) == [
        "digits: 4 verdicts hold, 1 platform executed, 1 platform interpreted, "
        "report: .cache/out/digits/report.html"
    ]


def test_red_says_what_where_and_what_next() -> None:
    assert closing_lines(failing(), "out/report.html") == [
        "digits: 2 of 6 verdicts are red, 1 target failed, 1 required platform not evidenced",
        "  android 1.32.0 cpu against reference, output logits: decision_flips 4 against a limit of 0",
        "    samples 17, 80, 211, 305",
        "  android 1.32.0 cpu against reference, output logits: max_abs 0.0312 against a limit of 1.4e-5",
        "    largest at sample 211 of 360, class 7",
        "  jetson failed: RuntimeError: no engine",
        "  jetson is required and not evidenced: no NVIDIA GPU is here",
        "report: out/report.html",
        "next: doit why digits:android",
    ]


def test_the_unmeasured_is_said_in_words() -> None:
    bad = verdict(measured=None, limit=None, ok=False, metric="shape", detail="(360, 10) against (360, 11)")
    lines = closing_lines(Report("m", False, 1.0, (), (bad,), ()))
    assert lines[1:3] == [
        "  android 1.32.0 cpu against reference, output logits: shape",
        "    (360, 10) against (360, 11)",
    ]


def test_ten_red_verdicts_are_enough() -> None:
    rows = tuple(verdict(output=f"o{index}", measured=1.0 + index, ok=False) for index in range(13))
    lines = closing_lines(Report("m", False, 1.0, (), rows, ()))
    assert sum("against reference" in line for line in lines) == 10
    assert "  +3 more" in lines
    assert not any("more" in line for line in closing_lines(Report("m", False, 1.0, (), rows[:10], ())))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_text_reaches_the_terminal_as_control_or_the_shell_as_words(payload: str) -> None:
    lines = closing_lines(every_field(payload))
    text = "".join(lines)
    assert all(char.isprintable() for char in text)
    assert all(len(line.splitlines()) == 1 for line in lines)
    text.encode()
    assert len(shlex.split(lines[-1].removeprefix("next: "))) == 3


@pytest.mark.parametrize(
    ("report", "command"),
    [
        (Report("m", False, 1.0, (target("onnx", state="failed"),), (), ()), "doit why m:onnx"),
        (Report("m", False, 1.0, (), (), (platform(evidence="none"),)), "doit status"),
        (Report("m", False, 1.0, (), (verdict(target="m:a b", ok=False),), ()), "doit why 'm:a b'"),
    ],
)
def test_next_command(report: Report, command: str) -> None:
    assert closing_lines(report)[-1] == f"next: {command}"


def test_what_is_not_evidenced_is_named_when_green_too() -> None:
    spare = platform("jetson", required=False, evidence="none")
    lines = closing_lines(Report("m", True, 1.0, (), (verdict(), verdict(evidence="none")), (spare,)))
    assert lines == ["m: 1 verdict holds, 1 not evidenced, report: .cache/out/m/report.html"]
    lines = closing_lines(Report("m", True, 1.0, (), (verdict(evidence="none"),), ()))
    assert lines[0].startswith("m: no verdict rests on evidence")


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        (green(), "pass"),
        (failing(), "fail"),
        (Report("m", False, 1.0, (), (verdict(),), (platform(),)), "fail"),
        (Report("m", True, 1.0, (), (verdict(ok=False),), ()), "fail"),
        (Report("m", True, 1.0, (target("t", state="failed"),), (verdict(),), ()), "fail"),
        (Report("m", True, 1.0, (), (verdict(),), (platform(evidence="none"),)), "fail"),
        (Report("m", True, 1.0, (), (verdict(),), (platform(evidence="none", required=False),)), "pass"),
        (Report("m", True, 1.0, (), (verdict(evidence="none"),), ()), "unchecked"),
        (Report("m", True, 1.0, (), (verdict(evidence="unheard of"),), ()), "unchecked"),
        (Report("m", True, 1.0, (), (), ()), "unchecked"),
    ],
)
def test_outcome_fails_closed(report: Report, outcome: str) -> None:
    assert findings.outcome(report) == outcome


@pytest.mark.parametrize("numbers", [(None, 1.0), (1.0, None), (float("nan"), 1.0), (1.0, float("nan"))])
def test_without_two_numbers_there_is_no_margin(numbers: tuple[float | None, float | None]) -> None:
    row = verdict(measured=numbers[0], limit=numbers[1], ok=False)
    assert margins.bound(row) is None
    assert margins.margin(row) == -2.0


NO_PHONE = verdict(
    version="",
    backend="",
    output="",
    metric="evidence",
    measured=None,
    limit=None,
    ok=False,
    evidence="none",
    detail="not evidenced: no phone. Connect one",
)


def test_no_evidence_is_said_once_and_with_its_remedy() -> None:
    report = Report("m", False, 1.0, (), (verdict(platform="b"), NO_PHONE), (platform(evidence="none"),))
    assert closing_lines(report)[:2] == [
        "m: 1 required platform not evidenced",
        "  android is required and not evidenced: no phone. Connect one",
    ]
    assert findings.red(report) == []
    assert findings.outcome(report) == "fail"
    other = platform("b", evidence="none", unavailable="no browser")
    assert findings.unavailable(report, other) == "no browser"


def test_red_without_evidence_stays_red_where_no_platform_says_it() -> None:
    for platforms in ((), (platform(evidence="none", required=False),), (platform(),)):
        report = Report("m", True, 1.0, (), (verdict(platform="b"), NO_PHONE), platforms)
        assert findings.red(report) == [NO_PHONE]
        assert findings.outcome(report) == "fail"


def test_a_figure_without_a_limit_holds_nothing() -> None:
    report = Report("m", True, 1.0, (), (verdict(limit=None), verdict(metric="rmse", limit=None)), ())
    assert findings.outcome(report) == "unchecked"
    assert (findings.held(report), findings.judged(report)) == ([], [])
    assert len(findings.observed(report)) == 2
    assert findings.red(Report("m", True, 1.0, (), (verdict(limit=None, ok=False),), ())) != []


def test_a_platform_red_for_itself_stands_before_its_pairs() -> None:
    pair = verdict(target="m:android", against="ios", ok=False, measured=9.0)
    own = verdict(target="m:ios", platform="ios", ok=False, measured=1.0)
    report = Report("m", False, 1.0, (), (pair, own), (platform(), platform("ios")))
    assert findings.red(report) == [own, pair]
    assert closing_lines(report)[-1] == "next: doit why m:ios"


def test_verdicts_stand_worst_first() -> None:
    rows = (
        verdict(output="well"),
        verdict(output="identical", measured=None, limit=40.0, metric="sqnr_db"),
        verdict(output="tight", measured=1.39e-5),
        verdict(output="exact", measured=0, limit=0),
        verdict(output="cosine", measured=0.99999, limit=0.999),
        verdict(output="over", measured=2e-5, ok=False),
        verdict(output="far over", measured=1.0, ok=False),
        verdict(output="shape", measured=None, limit=None, ok=False),
        verdict(output="nan", measured=float("nan"), ok=False),
    )
    report = Report("m", False, 1.0, (), rows, ())
    assert [row.output for row in findings.red(report)] == ["shape", "nan", "far over", "over"]
    assert [row.output for row in findings.held(report)] == ["tight", "well", "cosine", "exact", "identical"]
    assert [gate.red for gate in findings.gates(report)] == [4]


def ranged(**changes: Any) -> Verdict:
    """What the pre-flight for float16 says."""
    row = verdict(target="m:preflight", platform="", version="", backend="", output="", metric="range")
    warned = {
        "against": "float16's range",
        "measured": None,
        "limit": None,
        "detail": "overflow in a mul 1e+05",
    }
    return dataclasses.replace(row, **{**warned, **changes})


def test_what_nothing_is_demanded_of_is_warned_of_in_green_and_in_red() -> None:
    warned = Report("m", True, 1.0, (), (verdict(), ranged()), (platform(),))
    first, *rest = closing_lines(warned)
    assert first == "m: 1 verdict holds, 1 platform executed, report: .cache/out/m/report.html"
    assert rest == ["  warning: overflow in a mul 1e+05"]
    assert findings.outcome(warned) == "pass"
    bad = Report("m", False, 1.0, (), (verdict(ok=False, measured=1.0), ranged()), (platform(),))
    assert closing_lines(bad)[1] == "  warning: overflow in a mul 1e+05"
    assert closing_lines(bad)[2].startswith("  android")


def test_figures_that_say_that_all_is_well_are_no_warnings() -> None:
    quiet = (ranged(measured=7.5), verdict(metric="sqnr_db", measured=None, limit=None))
    report = Report("m", True, 1.0, (), (verdict(), *quiet), ())
    assert findings.warnings(report) == []
    assert len(closing_lines(report)) == 1


def test_evidence_short_of_what_was_asked_for_is_warned_of_with_its_platform() -> None:
    short = verdict(platform="ios", metric="evidence", measured=None, limit=None, detail="only interpreted")
    report = Report("m", True, 1.0, (), (verdict(), dataclasses.replace(short, evidence="interpreted")), ())
    assert closing_lines(report)[1:] == ["  warning: ios: only interpreted"]


def test_a_red_verdict_is_told_as_red_and_not_as_a_warning() -> None:
    report = Report("m", False, 1.0, (), (ranged(ok=False),), ())
    assert findings.warnings(report) == []
    assert findings.red(report) == [ranged(ok=False)]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_warning_reaches_the_terminal_as_one_plain_line(payload: str) -> None:
    (_, line) = closing_lines(Report("m", True, 1.0, (), (verdict(), ranged(detail=f"x{payload}")), ()))
    assert line.startswith("  warning: ")
    assert line.isprintable() and len(line.splitlines()) == 1
