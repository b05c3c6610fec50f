"""Whatever names and errors say is text on the page, and the page asks nobody for anything."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from test_report import ANY_TEXT, PAYLOADS, every_field, failing, green, platform, target, verdict

from modelbuild.report.html import page
from modelbuild.report.record import Report

VOID = {"meta", "path", "br", "img", "link", "wbr"}


class Reader(HTMLParser):
    """Tags with the names of their attributes, attribute values, text; complains when tags do not nest."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.shape: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(markup)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))
        self.values += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.shape.append((tag, tuple(name for name, _ in attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


HARMLESS = Reader(page(every_field("harmless"))).shape


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload])
def test_no_text_becomes_markup(payload: str) -> None:
    assert Reader(page(every_field(payload))).shape == HARMLESS


@settings(max_examples=60, deadline=None)
@given(ANY_TEXT)
def test_no_text_at_all_becomes_markup(text: str) -> None:
    markup = page(every_field(text))
    assert Reader(markup).shape == HARMLESS
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", markup)


def test_text_is_shown_as_it_is() -> None:
    text = "".join(Reader(page(every_field("<script>alert(1)</script>"))).text)
    assert text.count("<script>alert(1)</script>") > 20
    assert "${style} $model %s {0}" in "".join(Reader(page(every_field("${style} $model %s {0}"))).text)


@pytest.mark.parametrize("report", [green(), failing(), every_field("x")])
def test_the_page_asks_nobody_for_anything(report: Report) -> None:
    read = Reader(page(report))
    names = {name for name, _ in read.values}
    assert not {tag for tag, _ in read.shape} & {"script", "link", "img", "iframe", "object", "base", "form"}
    assert not names & {"src", "srcset", "style", "action"}
    assert not [name for name in names if name.startswith("on")]
    assert all(value.startswith("#t") for name, value in read.values if name == "href")
    assert not re.search(r"url\(|@import", page(report))


def test_the_policy_admits_the_one_style_sheet_and_nothing_else() -> None:
    markup = page(failing())
    (style,) = re.findall("<style>(.*?)</style>", markup, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    (policy,) = [value for name, value in Reader(markup).values if "default-src" in value]
    assert policy == (f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'")
    assert "prefers-color-scheme: dark" in style


def test_the_page_fits_a_phone() -> None:
    markup = page(green())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in markup
    assert "@media (max-width: 700px)" in markup
    assert "<table>" not in markup
    assert markup.count('<table class="rows">') == markup.count('<div class="scroll"><table class="rows">')


def test_red_stands_first() -> None:
    text = page(failing())
    body = text[text.index('id="verdicts"') :]
    assert body.index(">red<") < body.index(">holds<")
    assert 'class="outcome">FAIL<' in text
    assert "2 of 6 verdicts are red, 1 target failed, 1 required platform not evidenced" in text
    assert "<kbd>doit why digits:android</kbd>" in text


def test_green_says_so() -> None:
    text = page(green())
    assert 'class="outcome">PASS<' in text
    assert "What is wrong" not in text
    assert "4 verdicts hold, 1 platform executed, 1 platform interpreted" in text


def test_what_is_not_evidenced_is_never_green() -> None:
    rows = (verdict(evidence="none", detail="no phone here"), verdict(evidence="someday"))
    spare = platform(evidence="none", required=False, unavailable="no phone here")
    text = page(Report("m", True, 1.0, (), rows, (spare,)))
    assert 'class="outcome">NOTHING CHECKED<' in text
    assert text.count('class="badge none">not evidenced<') == 3
    assert ">holds<" not in text
    assert 'class="badge held"' not in text
    assert "no phone here" in text


def test_many_verdicts_fold_but_none_is_left_out() -> None:
    rows = tuple(verdict(output=f"out{index}") for index in range(200))
    text = page(Report("m", True, 1.0, (), rows, (platform(),)))
    assert all(f"<code>out{index}</code>" in text for index in range(200))
    assert "<summary>More that hold, with more headroom (188)</summary>" in text


def test_figures_without_a_limit_stand_apart() -> None:
    text = page(Report("m", True, 1.0, (), (verdict(), verdict(metric="rmse", limit=None)), (platform(),)))
    assert "<summary>Measured, with no limit set (1)</summary>" in text
    assert text.count(">holds<") == 1
    assert 'class="badge free">no limit<' in text
    assert "1<small> of 1</small>" in text


def test_a_pair_counts_for_both_platforms() -> None:
    rows = (verdict(against="ios", ok=False, measured=1.0), verdict())
    text = page(Report("m", False, 1.0, (), rows, (platform(), platform("ios"))))
    assert "1 hold, <span" in text
    assert "0 hold, <span" in text


def test_an_endless_error_is_cut_to_its_end() -> None:
    text = page(
        Report("m", False, 1.0, (target("t", state="failed", error="x" * 10**6 + "\nthe end"),), (), ())
    )
    assert "the end" in text
    assert len(text) < 100_000


def test_time_tells_what_ran_from_what_was_spared() -> None:
    rows = (target("slow", state="built", seconds=90.0), target("old", state="restored", seconds=30.0))
    assert "1 min 30 s of recipes ran; 30.0 s were spared" in page(Report("m", True, 1.0, rows, (), ()))
    assert "No recipe ran; 30.0 s were spared" in page(Report("m", True, 1.0, rows[1:], (), ()))


def test_a_bare_report_is_a_page() -> None:
    Reader(page(Report("m", True, 0.0, (), (), ())))
    text = page(Report("m", False, 0.0, (), (), ()))
    assert 'class="outcome">FAIL<' in text
    assert "<kbd>doit status</kbd>" in text
