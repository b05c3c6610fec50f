"""The summary for a CI page: text stays text, every finding is named, and it is never too long."""

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt
from test_report import ANY_TEXT, PAYLOADS, every_field, failing, green, platform, target, verdict

from modelbuild.report.markdown import escape, summary
from modelbuild.report.record import Report


def shape(text: str) -> list[str]:
    """The kinds of all tokens, as GitHub's dialect has them; text itself left out."""
    found: list[str] = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        inner = [child.type for child in token.children or []]
        found += [token.type, *(kind for kind in inner if kind not in ("text", "text_special"))]
    return found


HARMLESS = shape(summary(every_field("harmless")))


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload])
def test_no_text_becomes_markup(payload: str) -> None:
    assert shape(summary(every_field(payload))) == HARMLESS


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT)
def test_no_text_at_all_becomes_markup(text: str) -> None:
    assert shape(summary(every_field(text))) == HARMLESS
    summary(every_field(text)).encode()


def test_no_text_becomes_a_link_or_a_mention() -> None:
    assert escape("https://example.org www.example.org @team #12") == (
        r"https\://example.org www\.example.org \@team \#12"
    )
    assert escape('a|b\n<img src="x">&amp;') == r"a\|b &lt;img src=&quot;x&quot;&gt;&amp;amp;"


def test_green() -> None:
    text = summary(green())
    assert text.startswith("## digits: PASS\n\n4 verdicts hold")
    assert r"| reference against teacher | 1 | 0 | agreement +0.0133 |" in text
    assert "Red verdicts" not in text
    assert "Not evidenced" not in text


def test_failing() -> None:
    text = summary(failing())
    assert text.startswith("## digits: FAIL\n")
    assert r"| android 1.32.0 cpu against reference | logits | max\_abs | 0.0312 | ≤ 1.4e-5 |" in text
    assert "| android 1.32.0 cpu against reference | 2 | 2 |" in text
    assert r"| jetson | RuntimeError\: no engine |" in text
    assert "| jetson | tensorrt | **not evidenced** | yes |" in text
    assert "- **jetson**: no NVIDIA GPU is here\n- **browser**: no Chromium" in text


def test_no_evidence_is_never_a_pass() -> None:
    rows = (verdict(evidence="none"), verdict(platform="b", evidence="hearsay"))
    text = summary(Report("m", True, 1.0, (), rows, (platform(evidence="hearsay", required=False),)))
    assert text.startswith("## m: NOTHING CHECKED")
    assert text.count("| 0 | 0 | not evidenced |") == 2
    assert "hearsay" not in text


def test_many_rows_are_counted_rather_than_listed() -> None:
    rows = tuple(verdict(platform=f"p{index}", ok=False, measured=1.0) for index in range(80))
    text = summary(Report("m", False, 1.0, (), rows, ()))
    assert text.count("50 more in the report.") == 2


def test_the_summary_is_never_too_long_to_show() -> None:
    long = "漢" * 400
    rows = tuple(
        verdict(platform=f"{index}{long}", output=long, detail=long, ok=False) for index in range(99)
    )
    targets = tuple(target(f"{index}{long}", state="failed", error=long) for index in range(99))
    platforms = tuple(platform(f"{index}{long}", evidence="none", unavailable=long) for index in range(99))
    text = summary(Report(long, False, 1.0, targets, rows, platforms))
    assert len(text.encode()) < 60_100
    assert text.endswith("|\n\nShortened; the report has the rest.\n")
