"""The last lines of a run: what is red, where the report lies, what to type next."""

import dataclasses
import shlex
from typing import Any

import pytest
from test_report import PAYLOADS, deep, every_field, failing, green, platform, target, verdict

from modelbuild.equivalence.verdict import Verdict
from modelbuild.report import closing_lines, findings, margins, sentences
from modelbuild.report.html import page
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
    typed = [line.strip() for line in lines if line.strip().startswith(("next: ", "reproduce: "))]
    assert [len(shlex.split(line)) for line in typed] == [3 if payload else 4] * len(typed)
    assert bool(payload) == (len(typed) > 1)


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


RED = verdict(run="android.1", measured=0.5, limit=0.1, ok=False, detail="")


def broken(*rows: Verdict, text: str = "logits") -> Report:
    """A report with `rows`, and what is known in depth of run android.1."""
    platforms = (platform(), platform("ios"))
    return Report("m", False, 1.0, (), rows, platforms, deep(text, "android.1"))


def test_a_red_run_is_told_with_its_operation_its_stage_and_its_reproducer() -> None:
    lines = closing_lines(broken(RED))
    at = next(place for place, line in enumerate(lines) if line.startswith("  android 1.32.0"))
    assert lines[at + 1 : at + 3] == [
        "    logits (stage: logits)",
        "    reproduce: python .cache/out/m/repro/logits/logits",
    ]
    assert lines[-1] == "next: python .cache/out/m/repro/logits/logits"


def test_the_diagnosis_of_another_run_is_not_told_with_this_one() -> None:
    other = dataclasses.replace(RED, run="android.2", platform="b")
    assert sentences.on_the_run(broken(RED, other), "android.2") == []
    lines = closing_lines(broken(other))
    assert not any("reproduce:" in line for line in lines)
    assert lines[-1] == "next: python .cache/out/m/repro/logits/logits"


def test_a_reproducer_for_the_browser_is_run_by_node() -> None:
    known = dataclasses.replace(deep().diagnoses[0], script="reproduce.mjs", folder="web")
    assert findings.reproducer("m", known) == ("node", ".cache/out/m/repro/web/reproduce.mjs")
    assert findings.reproducer("m", dataclasses.replace(known, folder="")) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"words": "r: Conv c differs; reproduce it with r/s.py"},
            "Conv c differs (stage: the file that ships)",
        ),
        ({"words": "Conv c differs"}, "Conv c differs (stage: the file that ships)"),
        ({}, "first diverging operation: Conv c of f.2 (stage: the file that ships)"),
        ({"stage": ""}, "first diverging operation: Conv c of f.2"),
        ({"stage": "unheard of"}, "first diverging operation: Conv c of f.2 (stage: unheard of)"),
        ({"op": None, "reason": "all of it is fused"}, "all of it is fused (stage: the file that ships)"),
        ({"op": None, "reason": " "}, "no operation could be named (stage: the file that ships)"),
    ],
)
def test_a_diagnosis_in_one_sentence(changes: dict[str, Any], said: str) -> None:
    known = deep().diagnoses[0]
    assert known.op is not None
    operation = dataclasses.replace(known.op, kind="Conv", name="c", module="f.2")
    plain = {"run": "r", "folder": "r", "script": "s.py", "stage": "artefact", "op": operation, "words": ""}
    assert sentences.diagnosed(dataclasses.replace(known, **{**plain, **changes})) == said


def test_who_agrees_is_said_once_for_all_outputs_of_which_it_is_true() -> None:
    known = deep("x", "android.1").matrices["x"]
    words = "reference = ios; android.1 differs"
    both = dict.fromkeys(("logits", "boxes", "green"), dataclasses.replace(known, words=words))
    rows = (RED, dataclasses.replace(RED, output="boxes"), dataclasses.replace(RED, output="none"))
    report = dataclasses.replace(broken(*rows), details=dataclasses.replace(deep(), matrices=both))
    assert [line for line in closing_lines(report) if "differs" in line] == [f"  logits, boxes: {words}"]


def test_what_a_red_run_has_to_do_with_the_others_is_counted_and_not_listed() -> None:
    pairs = [
        dataclasses.replace(RED, run=run, against=other)
        for run, other in (("android.1", "ios"), ("b", "android.1"))
    ]
    apart = dataclasses.replace(RED, run="android.2", against="ios", measured=0.2)
    report = broken(RED, *pairs, apart)
    assert findings.told_apart(report) == ([RED, apart], pairs)
    lines = closing_lines(report)
    assert sum("against" in line and "limit" in line for line in lines) == 2
    assert "  +2 verdicts of these runs against others" in lines
    assert lines[0] == "m: 4 of 4 verdicts are red"


def test_a_red_pair_is_told_where_neither_run_is_red_there_against_the_reference() -> None:
    large = verdict(
        run="android.1", against="", output="", metric="mobile", measured=9.0, limit=1.0, ok=False
    )
    boxes = dataclasses.replace(RED, output="boxes")
    pair = dataclasses.replace(RED, against="ios")
    assert findings.told_apart(broken(large, boxes, pair))[1] == []


def test_no_red_run_is_crowded_out_by_another() -> None:
    many = [dataclasses.replace(RED, output=f"o{index}", measured=1.0 + index) for index in range(12)]
    other = dataclasses.replace(RED, run="android.2", version="2", measured=0.2)
    lines = closing_lines(broken(*many, other))
    assert any(line.startswith("  android 2 cpu against reference") for line in lines)
    assert sum("against reference" in line for line in lines) == 10
    assert "  +3 more" in lines


def test_a_pair_with_one_way_of_a_platform_is_a_pair() -> None:
    pair = verdict(run="android.1", against="ios.float16-sums", ok=False, measured=9.0)
    own = verdict(run="ios.float16-sums", platform="ios", ok=False, measured=1.0)
    assert findings.red(broken(pair, own)) == [own, pair]


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        (
            "max_abs 0.5, limit 0.1 (8 x (noise) floor (1e-6)); 5 times over; worst at sample 7",
            "5 times over; worst at sample 7",
        ),
        ("max_abs 0.5, limit 0.1 (from the manifest)", ""),
        ("max_abs 0.5, limit 0.1 (never closed", ""),
        ("rmse 0.5, limit 0.1 (from the manifest); worst", "rmse 0.5, limit 0.1 (from the manifest); worst"),
        ("3 values are NaN (of 10)", "3 values are NaN (of 10)"),
        ("", ""),
    ],
)
def test_a_red_line_repeats_neither_its_figures_nor_where_its_limit_comes_from(
    detail: str, said: str
) -> None:
    assert sentences.aside(dataclasses.replace(RED, detail=detail)) == said


def test_a_failed_verdict_target_hides_none_of_what_is_red() -> None:
    lost = target("m:verdict.runtime", state="failed", error="m:verdict.runtime: no tolerance")
    lines = closing_lines(dataclasses.replace(broken(RED), targets=(lost,)))
    assert lines[0] == "m: 1 of 1 verdict is red, 1 target failed"
    assert any("max_abs 0.5 against a limit of 0.1" in line for line in lines)
    assert "  m:verdict.runtime failed: no tolerance" in lines


@pytest.mark.parametrize("metric", ["noise", "waiver", "range"])
def test_what_has_something_to_say_is_said_once_for_all_its_outputs(metric: str) -> None:
    rows = [ranged(metric=metric, output=output, detail="threads are left out") for output in ("a", "b")]
    report = Report("m", True, 1.0, (), (verdict(), *rows), ())
    assert closing_lines(report)[1:] == ["  warning: a, b: threads are left out"]


def test_how_a_limit_came_about_is_no_warning() -> None:
    report = Report("m", True, 1.0, (), (verdict(), ranged(metric="tolerance")), ())
    assert len(closing_lines(report)) == 1
    assert findings.derivations(report) == [ranged(metric="tolerance")]


def alike(*clusters: tuple[str, ...]) -> Any:
    """What is known in depth, where the runs of a cluster agree on the output."""
    known = deep("logits", "android.1")
    (matrix,) = [dataclasses.replace(each, clusters=clusters) for each in known.matrices.values()][:1]
    return dataclasses.replace(known, matrices={"logits": matrix})


WAYS = tuple(dataclasses.replace(RED, run=f"android.{way}", version=way) for way in "123")


def test_runs_of_a_platform_that_are_red_alike_are_told_once() -> None:
    web = dataclasses.replace(RED, run="browser.wasm", platform="browser")
    known = alike(("reference", "ios"), ("android.1", "android.2", "android.3", "browser.wasm"))
    lines = closing_lines(dataclasses.replace(broken(*WAYS, web), details=known))
    told = [line for line in lines if "against reference" in line]
    assert [line.split()[0] for line in told] == ["android", "browser"], "each platform ships another file"
    assert "    the same in android.2, android.3" in lines
    assert lines[0] == "m: 4 of 4 verdicts are red", "each is red all the same"


@pytest.mark.parametrize(
    "clusters",
    [(("reference",), ("android.1",), ("android.2",)), (("reference", "android.1", "android.2"),)],
    ids=["they disagree", "they agree with the reference"],
)
def test_runs_that_are_red_each_in_its_own_way_are_told_each(clusters: tuple[tuple[str, ...], ...]) -> None:
    lines = closing_lines(dataclasses.replace(broken(*WAYS[:2]), details=alike(*clusters)))
    assert sum("against reference" in line for line in lines) == 2
    assert not any("the same in" in line for line in lines)


def test_the_page_tells_a_shared_fault_once_too() -> None:
    known = alike(("reference", "ios"), ("android.1", "android.2", "android.3"))
    cards = [dataclasses.replace(known.diagnoses[0], run=row.run, output="logits") for row in WAYS]
    report = dataclasses.replace(broken(*WAYS), details=dataclasses.replace(known, diagnoses=tuple(cards)))
    text = page(report)
    assert text.count('<article class="card"><h3>android') == 1
    assert "the same in android.2, android.3" in text


def test_a_reproducer_is_run_by_the_python_that_it_was_seen_with() -> None:
    known = deep("logits", "android.1")
    old = dataclasses.replace(known.diagnoses[0], environment="ab 12")
    report = dataclasses.replace(broken(RED), details=dataclasses.replace(known, diagnoses=(old,)))
    command = "'.cache/environments/ab 12/bin/python' .cache/out/m/repro/logits/logits"
    assert closing_lines(report)[-1] == f"next: {command}"
