"""The example that all tests of the report share, and the one function that writes it to disk."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import StoreError
from modelbuild.report import PlatformRow, Report, TargetRow, from_json, to_json, write
from modelbuild.report.details import (
    Details,
    Diagnosis,
    Histogram,
    Inside,
    Margins,
    Matrix,
    Operation,
    OutputNoise,
    Quality,
    Spread,
    Step,
    Waterfall,
)

NEEDS = {
    "data.train": [],
    "data.unlabelled": [],
    "data.evaluation": [],
    "data.calibration": ["data.train"],
    "teacher": ["data.train"],
    "teacher.outputs": ["teacher", "data.train", "data.unlabelled", "data.evaluation"],
    "student": ["data.train", "teacher.outputs", "data.unlabelled"],
    "reference": ["student", "data.evaluation"],
    "onnx": ["student", "data.evaluation"],
    "ios": ["onnx", "student", "data.evaluation"],
    "android": ["onnx"],
    "browser": ["onnx"],
    "jetson": ["onnx", "data.calibration"],
    "ios.run": ["ios", "data.evaluation"],
    "android.run": ["android", "data.evaluation"],
    "browser.run": ["browser", "data.evaluation"],
    "verdict.teacher": ["reference", "teacher.outputs"],
    "verdict.task": ["reference", "data.evaluation"],
    "verdict.runtime": ["reference", "data.evaluation", "ios.run", "android.run", "browser.run"],
}


def target(name: str, **changes: Any) -> TargetRow:
    row = TargetRow(
        name=name,
        key="0123456789abcdef" * 2,
        state="restored",
        seconds=float(len(name)) / 4,
        reason="an action record has its key",
        digests={"": "00ff" * 8, "model.onnx": "11ee" * 8},
        bytes=421_313,
        needs=tuple(NEEDS.get(name.removeprefix("digits:"), ())),
        error="",
    )
    return dataclasses.replace(row, **changes)


def verdict(**changes: Any) -> Verdict:
    row = Verdict(
        target="digits:android",
        platform="android",
        version="1.32.0",
        backend="cpu",
        against="reference",
        output="logits",
        metric="max_abs",
        measured=2.1e-6,
        limit=1.4e-5,
        ok=True,
        evidence="executed",
        detail="largest at sample 17 of 360",
    )
    return dataclasses.replace(row, **changes)


def platform(name: str = "android", **changes: Any) -> PlatformRow:
    return dataclasses.replace(PlatformRow(name, "onnxruntime", True, "executed", ""), **changes)


def green() -> Report:
    verdicts = (
        verdict(),
        verdict(metric="decision_flips", measured=0, limit=0),
        verdict(target="digits:ios", platform="ios", version="9.0", backend="", evidence="interpreted"),
        verdict(
            target="digits:reference",
            platform="",
            version="",
            backend="",
            against="teacher",
            metric="agreement",
            measured=0.9833,
            limit=0.97,
        ),
    )
    platforms = (platform(), platform("ios", runtime="coreml", evidence="interpreted"))
    return Report("digits", True, 42.4, tuple(target(name) for name in NEEDS), verdicts, platforms)


def failing() -> Report:
    bad = verdict(measured=0.0312, ok=False, detail="largest at sample 211 of 360, class 7")
    flips = verdict(metric="decision_flips", measured=4, limit=0, ok=False, detail="samples 17, 80, 211, 305")
    jetson = platform("jetson", runtime="tensorrt", evidence="none", unavailable="no NVIDIA GPU is here")
    browser = platform(
        "browser", runtime="onnxruntime-web", required=False, evidence="none", unavailable="no Chromium"
    )
    base = green()
    broken = target(
        "jetson", state="failed", error="Traceback\n  line\nRuntimeError: no engine", digests={}, bytes=0
    )
    targets = (*(row for row in base.targets if row.name != "jetson"), broken)
    return Report(
        "digits", False, 61.0, targets, (*base.verdicts, bad, flips), (*base.platforms, jetson, browser)
    )


def deep(text: str = "x", run: str = "android") -> Details:
    """What the gate knows in depth of one red run, and every string of it is `text`."""
    steps = Waterfall(
        run,
        {
            text: (
                Step(text, text, text, 0.5, 0.1, 0.5, 0.1, False, text),
                Step(text, text, text, *[None] * 5),
            )
        },
        {text: (Quality(text, 0.9), Quality("teacher", 0.95))},
    )
    operation = Operation(text, text, text, text, text)
    known = Diagnosis(
        *(run, text, text, 0.5, 0.1, 17, text, operation, (text, text), Inside(0.4, 0.1), (17, 3), 1, text),
        *(text, text, steps, (operation,), text),
    )
    nameless = dataclasses.replace(known, op=None, folder="", words="", samples=(), steps=Waterfall())
    matrix = Matrix(
        runs=("reference", run),
        max_abs=((0.0, 0.5), (0.5, 0.0)),
        share=((0.0, 5.0), (5.0, 0.0)),
        ok=((True, False), (False, True)),
        clusters=(("reference",), (run,)),
        words=text,
        histograms={run: Histogram(-3, 2, (4, 0, 0, 0, 1), 7, 0.01, 0.1)},
        margins={run: Margins(-2, 1, ((2, 1), (120, 0), (1, 0)), 3, 0.02)},
    )
    spread = Spread(0.01, 0.001)
    noise = OutputNoise("float32", 2, 20, -1.0, 1.0, {text: spread}, {text: spread}, {text: text})
    return Details({text: matrix}, (steps,), {text: noise}, (known, nameless))


def every_field(payload: str) -> Report:
    """A failing report in which every string that a report can hold is `payload`."""
    return Report(
        model=payload,
        ok=False,
        seconds=1.0,
        targets=(
            target(
                payload,
                key=payload,
                seconds=9.0,
                state="failed",
                reason=payload,
                error=payload,
                digests={payload: payload},
            ),
            target("other", seconds=5.0, needs=(payload,), error=payload, reason=payload),
        ),
        verdicts=tuple(
            verdict(
                target=payload,
                platform=payload,
                version=payload,
                backend=payload,
                against=payload,
                output=payload,
                metric=payload,
                detail=payload,
                run=payload,
                ok=ok,
                evidence=evidence,
            )
            for ok, evidence in ((False, "executed"), (True, "executed"), (True, "none"), (True, payload))
        ),
        platforms=(
            PlatformRow(payload, payload, True, "none", payload),
            PlatformRow(payload, payload, False, payload, payload),
            PlatformRow(payload, payload, False, "executed", payload),
        ),
        details=deep(payload, payload),
    )


PAYLOADS = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "]]><x>&amp;&lt;",
    "</title></style></textarea><svg onload=alert(1)>",
    "one\ntwo\r\nthree\rfour\u2028five",
    "\x00\x01\x08\x0b\x1b[31mred\x1b[0m\x7f\x9b",
    "\u202egnp.exe\u2066\ufffe\uffff",
    "\ud800 half \udfff",
    "| a | b |\n|---|---|",
    "[x](https://example.org) ![y](https://example.org) `z` **b** www.example.org <https://example.org>",
    "${style} $model %s {0}",
    "",
    "x" * 5000,
)

# Any text at all, half surrogates and controls included, that is not blank.
ANY_TEXT = st.text(st.characters(exclude_categories=())).map(lambda text: "a" + text)


def test_json_has_exactly_these_fields() -> None:
    document = to_json(failing())
    assert list(document) == ["model", "ok", "seconds", "targets", "verdicts", "platforms", "details"]
    assert list(document["targets"][0]) == [
        *("name", "key", "state", "seconds", "reason", "digests", "bytes", "needs", "error")
    ]
    assert list(document["verdicts"][0]) == [
        *("target", "platform", "version", "backend", "against", "output", "metric"),
        *("measured", "limit", "ok", "evidence", "detail", "run", "floor", "needed", "low", "high"),
        *("constant", "more_is_better"),
    ]
    assert list(document["platforms"][0]) == ["name", "runtime", "required", "evidence", "unavailable"]
    assert list(document["details"]) == [
        *("matrices", "waterfalls", "noise", "diagnoses", "search", "student")
    ]


@pytest.mark.parametrize("report", [green(), failing(), *map(every_field, PAYLOADS)])
def test_json_round_trip(report: Report) -> None:
    assert from_json(json.loads(json.dumps(to_json(report), allow_nan=False))) == report


@given(ANY_TEXT)
def test_json_round_trip_of_any_text(text: str) -> None:
    assert from_json(json.loads(json.dumps(to_json(every_field(text))))) == every_field(text)


def test_json_says_null_for_what_is_no_number() -> None:
    rows = (verdict(measured=float("nan"), limit=float("inf"), ok=False),)
    rows = (dataclasses.replace(rows[0], floor=float("nan"), needed=float("inf")),)
    document = to_json(Report("m", False, float("inf"), (target("t", seconds=float("nan")),), rows, ()))
    said = document["verdicts"][0]
    assert [said[name] for name in ("measured", "limit", "floor", "needed")] == [None] * 4
    assert (document["seconds"], document["targets"][0]["seconds"]) == (0.0, 0.0)
    json.dumps(document, allow_nan=False)


def test_write_returns_the_paths_of_whole_files(tmp_path: Path) -> None:
    folder = tmp_path / "out" / "digits"
    paths = write(failing(), folder)
    assert [path.name for path in paths] == ["report.html", "report.json", "report.xml"]
    assert sorted(folder.iterdir()) == sorted(paths)
    assert from_json(json.loads(paths[1].read_text())) == failing()
    assert b"\r" not in b"".join(path.read_bytes() for path in paths)


def test_write_is_repeatable_and_replaces_read_only_files(tmp_path: Path) -> None:
    before = [path.read_bytes() for path in write(failing(), tmp_path)]
    for path in tmp_path.iterdir():
        path.chmod(0o444)
    assert [path.read_bytes() for path in write(failing(), tmp_path)] == before


@pytest.mark.parametrize("payload", PAYLOADS)
def test_write_takes_any_text(tmp_path: Path, payload: str) -> None:
    for path in write(every_field(payload), tmp_path, tmp_path / "summary.md"):
        path.read_bytes().decode()


def test_write_appends_the_summary(tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    write(green(), tmp_path / "a", summary)
    write(failing(), tmp_path / "b", summary)
    text = summary.read_text()
    assert text.startswith("before\n## digits: PASS")
    assert "\n## digits: FAIL" in text


def test_write_that_breaks_off_leaves_the_old_report_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.read_bytes() for path in write(green(), tmp_path)}

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match=r"the report cannot be written: No space left on device\."):
        write(failing(), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_page_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    replace = Path.replace

    def watched(source: Path, target: Path) -> Path:
        seen.append(target.name)
        assert source.parent == target.parent
        assert source.stat().st_size > 0
        return replace(source, target)

    monkeypatch.setattr(Path, "replace", watched)
    write(green(), tmp_path)
    assert seen == ["report.html", "report.json", "report.xml"]


def test_write_into_what_is_no_folder_is_an_error_with_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="the report cannot be written"):
        write(green(), tmp_path / "file")


def test_the_package_is_light_to_import() -> None:
    code = "import modelbuild.report, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"numpy", "torch", "onnx", "onnxruntime", "jsonschema", "rich", "jinja2"}
