"""Heat map, histograms, drifts, waterfalls and operations: what they show, in words that need no colour."""

import dataclasses
import re
from html import unescape
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from test_report import PAYLOADS, deep, green, platform, verdict
from test_report_html import Reader

from modelbuild.report import axis, details, diagnoses, drift, heatmap, histograms, waterfall
from modelbuild.report.details import Details, Histogram, Margins, Matrix, Quality, Step, Waterfall
from modelbuild.report.html import page
from modelbuild.report.junit import document
from modelbuild.report.markdown import summary
from modelbuild.report.record import Report

TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"


def report(known: Details, **changes: object) -> Report:
    red = verdict(run="android", measured=0.5, limit=0.1, ok=False, output="x")
    return Report("m", False, 1.0, (), (dataclasses.replace(red, **changes),), (platform(),), known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "largest", "ok", "label", "kind"),
    [
        (0.0, 0.0, True, "=", "same"),
        (1e-9, 1e-12, True, "<.01", "s0"),
        (0.0, 1e-9, True, "<.01", "s0"),
        (0.16, 1e-6, True, ".16", "s2"),
        (0.999, 1e-6, True, ".99", "s5"),
        (1.0, 1e-6, True, "1", "s5"),
        (None, 1e-6, True, "ok", "s0"),
        (1.0001, 1e-6, False, f"1.1{TIMES}", "r0"),
        (1.44, 1e-6, False, f"1.4{TIMES}", "r0"),
        (9.96, 1e-6, False, f"10{TIMES}", "r0"),
        (32.0, 1e-6, False, f"32{TIMES}", "r1"),
        (99.6, 1e-6, False, f">99{TIMES}", "r1"),
        (1e6, None, False, f">99{TIMES}", "r1"),
        (None, None, False, "red", "r1"),
        (0.5, 1e-6, False, "red", "r0"),
        (0.0, 0.0, False, "red", "r0"),
        (None, None, None, DASH, "blank"),
        (0.5, 0.1, None, DASH, "blank"),
    ],
)
def test_a_cell_says_in_text_what_its_colour_says(
    share: float | None, largest: float | None, ok: bool | None, label: str, kind: str
) -> None:
    assert (heatmap.label(share, largest, ok), heatmap.kind(share, largest, ok)) == (label, kind)


def square(value: object, count: int) -> tuple[tuple[object, ...], ...]:
    return ((value,) * count,) * count


def test_runs_that_agree_stand_together_and_every_pair_is_there() -> None:
    runs = ("reference", "a", "b.x", "c")
    share = ((0.0, 0.1, 9.0, 0.3), (0.1, 0.0, 8.0, 0.2), (9.0, 8.0, 0.0, 7.0), (0.3, 0.2, 7.0, 0.0))
    ok = tuple(tuple(value <= 1 for value in row) for row in share)
    groups = (("reference", "a", "c"), ("b.x",))
    matrix = Matrix(runs, share, share, ok, groups, "reference = a = c; b.x differs")
    markup = heatmap.draw({"logits": matrix})
    rows = re.findall(r'<th scope="row"><span class="at">(\d)</span> (.*?)</th>', markup)
    assert [(at, re.sub("<wbr>", "", name)) for at, name in rows] == [
        ("1", "reference"),
        ("2", "a"),
        ("3", "c"),
        ("4", "b.x"),
    ]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in markup.split('scope="row"')[1:]]
    assert cells[3] == [f"9.0{TIMES}", f"8.0{TIMES}", f"7.0{TIMES}", ""]
    assert [row[3] for row in cells[:3]] == cells[3][:3]
    assert 'title="a against b.x: max_abs 8, 8 of the limit, over the limit"' in markup
    assert "reference = a = c; b.x differs" in markup
    assert markup.count('class="end"') == 1


def test_a_run_in_no_cluster_is_not_lost() -> None:
    matrix = Matrix(("reference", "a"), square(0.5, 2), square(0.5, 2), square(True, 2), (("a",),), "")  # type: ignore[arg-type]
    assert heatmap.draw({"x": matrix}).count('scope="row"') == 2
    assert heatmap.draw({}) == heatmap.draw({"x": Matrix((), (), (), (), (), "")}) == ""


HISTOGRAM = Histogram(-4, 2, (3, 0, 4, 2, 1), 7, 1e-4, 1e-2)


@pytest.mark.parametrize(
    ("limit", "count"), [(None, 0), (1e-2, 1), (1e-3, 7), (9e-4, 7), (1.1e-3, 3), (0.0, 10), (1.0, 0)]
)
def test_values_over_the_limit_are_those_of_bins_wholly_over_it(limit: float | None, count: int) -> None:
    assert histograms.beyond(dataclasses.replace(HISTOGRAM, limit=limit)) == count


def drawn(known: dict[str, Histogram]) -> str:
    return histograms.draw({"x": Matrix(("reference",), ((0.0,),), ((0.0,),), ((True,),), (), "", known)})


def test_a_histogram_has_its_values_its_floor_and_its_limit() -> None:
    markup = drawn({"a": HISTOGRAM})
    assert "1 of 17 over the limit</span>, 7 equal to the bit" in markup
    assert 'aria-label="Errors of a: 17 values, 7 equal, 1 over the limit"' in markup
    assert "floor 0.0001" in markup and "limit 0.01" in markup
    blue, red = re.findall(r'<path class="(bin(?: over)?)" d="(.*?)"', markup)
    assert (blue[0], blue[1].count("M"), red[0], red[1].count("M")) == ("bin", 3, "bin over", 1)
    (floor,), (limit,) = (re.findall(rf'class="{name}" d="M([0-9.]+)', markup) for name in ("floor", "limit"))
    (bar,) = re.findall(r'class="bin over" d="M([0-9.]+)', markup)
    assert float(floor) < float(limit) == float(bar)


def test_runs_with_the_same_errors_share_a_drawing_and_those_without_have_none() -> None:
    other = dataclasses.replace(HISTOGRAM, counts=(9,))
    equal = dataclasses.replace(HISTOGRAM, counts=(0, 0), zero=17)
    markup = drawn({"a": other, "b": HISTOGRAM, "c": other, "d": equal})
    assert re.findall("<b>(.*?)</b>", markup) == ["b", "a, c"]
    assert "The same as the reference to the bit: d." in markup


def test_many_drawings_fold_but_none_is_left_out() -> None:
    markup = drawn({f"r{at}": dataclasses.replace(HISTOGRAM, zero=at) for at in range(20)})
    assert "<summary>More runs (14)</summary>" in markup
    assert markup.count("<figure>") == 20


MARGINS = Margins(-2, 1, ((2, 1, 0), (120, 5, 0), (1, 0, 1)), 3, None)


@pytest.mark.parametrize(
    ("margin", "count"), [(None, 9), (0.0, 9), (0.02, 9), (0.1, 6), (0.5, 6), (1.0, 1), (99.0, 0)]
)
def test_a_drift_as_large_as_the_lead_may_flip_unless_the_lead_is_noise(
    margin: float | None, count: int
) -> None:
    assert drift.at_risk(dataclasses.replace(MARGINS, margin=margin)) == count


def drifted(known: dict[str, Margins]) -> str:
    return drift.draw({"x": Matrix(("reference",), ((0.0,),), ((0.0,),), ((True,),), (), "", {}, known)})


def test_the_region_where_a_decision_may_flip_is_marked_and_counted() -> None:
    markup = drifted({"a": dataclasses.replace(MARGINS, margin=0.1)})
    assert "6 of 133 samples may flip" in markup
    assert markup.count('<rect class="risk"') == 2
    assert markup.count("<rect") == 6
    for mark in ("flips", "edge", "ties", "floor"):
        assert f'<path class="{mark}"' in markup
    assert "noise 0.1" in markup


def test_runs_close_to_a_flip_stand_first_and_the_rest_waits() -> None:
    calm = [Margins(-3, 1, ((0,), (0,), (0,), (at + 1,)), 0, None) for at in range(5)]
    markup = drifted({**{f"c{at}": each for at, each in enumerate(calm)}, "risky": MARGINS})
    assert re.findall("<b>(.*?)</b>", markup)[0] == "risky"
    assert "<summary>Runs further from a flip (3)</summary>" in markup
    assert "No lead of still moved at all." in drifted({"still": Margins(0, 1, (), 9, None)})


def step(stage: str, **changes: object) -> Step:
    plain = Step(stage, "before", "after", 1e-6, 1e-7, 1e-6, 1e-4, True)
    return dataclasses.replace(plain, **changes)  # type: ignore[arg-type]


STEPS = (
    step("distillation", max_abs=3.0, total=0.0, limit=None, ok=None),
    step("export"),
    step("runtime", max_abs=0.0),
    step("optimisation", max_abs=0.2, total=0.2, ok=False),
    step("artefact", max_abs=0.0, total=0.2, ok=False),
)


def test_the_step_that_turns_a_run_red_is_marked_and_no_other() -> None:
    assert waterfall.turning(STEPS) is STEPS[3]
    assert waterfall.turning(STEPS[:3]) is None
    markup = waterfall.draw([Waterfall("a", {"x": STEPS})])
    names = re.findall('<span class="name"><b>(.*?)</b>(.*?)</span><span class="took">(.*?)</span>', markup)
    assert [name for name, mark, _ in names if "turns red here" in mark] == ["its optimisations"]
    assert names[0] == ("from teacher to student", "", "+3")
    assert names[2] == ("the runtime", "", "the same bits, total 1e-6")
    assert markup.count('class="turns"') == 1
    assert "max_abs, logarithmic; limit 0.0001" in markup


@pytest.mark.parametrize(
    ("origin", "whose"),
    [("teacher", "the teacher"), ("student", "the student"), ("onnx", "the ONNX file")],
)
def test_the_figure_of_the_task_goes_by_its_metric_at_each_step_and_before_the_first(
    origin: str, whose: str
) -> None:
    tasks = tuple(Quality(stage, 0.25, "token_error_rate") for stage in (origin, "export"))
    markup = waterfall.draw([Waterfall("a", {"x": STEPS[1:]}, {"x": tasks})])
    assert f"<span>{whose}'s token_error_rate: 0.25</span>" in markup
    assert "total 1e-6, token_error_rate 0.25</span>" in markup and markup.count("token_error_rate") == 2


def test_red_waterfalls_stand_first_and_a_step_that_could_not_be_run_says_why() -> None:
    lost = step("runtime", max_abs=None, rmse=None, total=None, ok=None, note="no environment")
    falls = [Waterfall("calm", {"x": (STEPS[1], lost)}), Waterfall("bad", {"x": STEPS})]
    markup = waterfall.draw(falls)
    assert re.findall("<figcaption><b>(.*?)</b>", markup) == ["bad", "calm"]
    assert "no environment" in markup


def test_the_steps_of_a_red_run_without_a_waterfall_of_its_own_are_shown_once() -> None:
    known = deep()
    assert page(report(known)).count('<ol class="steps">') == 1
    other = dataclasses.replace(known, waterfalls=())
    assert page(report(other)).count('<ol class="steps">') == 1


@pytest.mark.parametrize(
    ("values", "low", "high"),
    [([], -9, 0), ([0.0, None], -9, 0), ([3e-5], -5, -4), ([1e-3, 1e-3], -3, -2), ([1e-45, 1.0], -18, 0)],
)
def test_an_axis_holds_all_its_values(values: list[float | None], low: int, high: int) -> None:
    found = axis.spanning(values, 0.0, 100.0)
    assert (found.low, found.high) == (low, high)
    assert found.at(0.0) == found.at(1e-300) == 0.0
    assert found.at(1e9) == 100.0


def test_an_axis_has_few_labels_and_equal_ones() -> None:
    ticks = axis.spanning([1e-12, 1e5], 0.0, 100.0).ticks()
    assert len(ticks) <= 7
    assert {b - a for a, b in pairwise(ticks)} == {3}
    assert [axis.power(tick) for tick in (-3, 0, 1, 2)] == ["1e-3", "1", "10", "1e2"]


def test_an_operation_is_shown_with_all_that_is_known_of_it() -> None:
    known = deep("x").diagnoses[0]
    assert known.op is not None
    operation = dataclasses.replace(known.op, name="conv_5", kind="Conv", value="v7", canonical="getitem_3")
    found = dataclasses.replace(known, op=operation, stage="artefact", others=(), region=("one", "two"))
    text = "".join(Reader(diagnoses.cards(report(Details(diagnoses=(found,))))).text)
    for said in (
        *("Conv conv_5", "v7, in the canonical file getitem_3", "the file that ships", "17, 3; 1 of 2 agree"),
        *("0.4 against a limit of 0.1", "x 0.5 against a limit of 0.1", "one, two"),
        "Reproduce: python .cache/out/m/repro/x/x",
    ):
        assert said in text


def test_without_an_operation_the_reason_stands_there() -> None:
    found = dataclasses.replace(deep("x").diagnoses[1], reason="everything is fused", stage="", sample=4)
    text = "".join(Reader(diagnoses.cards(report(Details(diagnoses=(found,))))).text)
    assert "everything is fused" in text and "Operation" not in text
    assert "4 is the worst" in text
    assert "Reproduce" not in text


@pytest.mark.parametrize(
    ("measured", "limit", "said"),
    [
        (None, None, "At the outputnanSamples"),
        (None, 0.1, "At the outputnan no number against a limit of 0.1Samples"),
        (0.5, None, "At the outputnan 0.5Samples"),
    ],
)
def test_what_has_no_number_says_so(measured: float | None, limit: float | None, said: str) -> None:
    found = dataclasses.replace(
        deep("x").diagnoses[1], metric="nan", measured=measured, limit=limit, stage=""
    )
    assert said in "".join(Reader(diagnoses.cards(report(Details(diagnoses=(found,))))).text)


def test_the_page_has_a_section_for_each_and_none_without() -> None:
    sections = set(re.findall('<section id="(.*?)">', page(report(deep()))))
    assert {"operations", "noise", "pairs", "steps", "errors", "flips"} <= sections
    bare = set(re.findall('<section id="(.*?)">', page(green())))
    assert not {"operations", "noise", "pairs", "steps", "errors", "flips"} & bare


def test_the_noise_is_said_once_with_what_was_not_counted() -> None:
    text = page(report(deep("src")))
    rows = text[text.index('id="noise"') :].split("</section>")[0]
    assert re.findall('data-head="Counts as">(.*?)<', rows) == [
        "noise of this model",
        "lower precision",
        "not counted",
    ]


def test_how_limits_came_about_is_said_beside_the_noise_and_nowhere_else() -> None:
    row = verdict(
        platform="", metric="tolerance", measured=None, limit=None, detail="android may differ by 1e-5: 8 x"
    )
    text = page(Report("m", True, 1.0, (), (verdict(), row), (platform(),), deep()))
    assert text.count("android may differ by 1e-5: 8 x") == 1
    assert "android may differ" in text[text.index('id="noise"') :].split("</section>")[0]
    assert "with no limit set" not in text


def test_warnings_stand_on_the_page() -> None:
    row = verdict(
        platform="", metric="noise", measured=None, limit=None, detail="threads are left out", output="x"
    )
    text = page(Report("m", True, 1.0, (), (verdict(), row), (platform(),)))
    assert "<li>x: threads are left out</li>" in text[text.index('id="warnings"') :]


def test_verdicts_have_floor_interval_and_the_limit_that_would_pass() -> None:
    row = verdict(
        floor=5.7e-6, needed=7.2e-6, low=1e-6, high=3e-6, detail="max_abs 1, limit 2 (8 x the floor)"
    )
    text = page(Report("m", True, 1.0, (), (row,), (platform(),)))
    cells = dict(re.findall(r'<td data-head="(.*?)"[^>]*>(.*?)</td>', text[text.index('id="verdicts"') :]))
    assert (cells["Floor"], cells["Would pass"], cells["95 % interval"]) == (
        "5.7e-6",
        "7.2e-6",
        "1e-6 to 3e-6",
    )
    assert 'title="max_abs 1, limit 2 (8 x the floor)"' in cells["Limit"]
    assert 'data-head="Floor"' not in page(Report("m", True, 1.0, (), (verdict(),), (platform(),)))


def test_red_pairs_that_follow_from_a_red_run_wait_behind_a_click() -> None:
    own = verdict(run="android", measured=0.5, limit=0.1, ok=False)
    pair = dataclasses.replace(own, against="ios")
    text = page(Report("m", False, 1.0, (), (own, pair), (platform(), platform("ios"))))
    assert "<summary>Red because of these (1)</summary>" in text
    assert "<b>Also red</b> 1 verdict of these runs against others" in text


def test_a_pair_counts_for_the_platform_of_a_way() -> None:
    row = verdict(against="ios.float16-sums", ok=False, measured=1.0)
    text = page(Report("m", False, 1.0, (), (row,), (platform(), platform("ios"))))
    assert text.count("0 hold, <span") == 2


def test_junit_carries_the_words_of_the_terminal() -> None:
    known = deep("x")
    failure = ElementTree.fromstring(document(report(known))).find(".//failure")
    assert failure is not None and failure.text is not None
    assert failure.text.splitlines()[3:] == [
        *("largest at sample 17 of 360", "x (stage: x)", "reproduce: python .cache/out/m/repro/x/x", "x"),
    ]
    other = ElementTree.fromstring(document(report(known, output="y"))).find(".//failure")
    assert other is not None and "reproduce" not in (other.text or "")


def test_the_summary_carries_the_words_of_the_terminal() -> None:
    known = deep("x")
    text = summary(report(dataclasses.replace(known, diagnoses=known.diagnoses[:1])))
    assert r"- **android** x \(stage\: x\)<br>reproduce: python .cache/out/m/repro/x/x" in unescape(text)
    assert "### Who agrees\n\n- **x** x\n" in text


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload])
def test_no_name_of_a_run_becomes_markup(payload: str) -> None:
    def shape(text: str) -> object:
        return Reader(page(report(deep(text, text)))).shape

    assert shape(payload) == shape("harmless")


def test_numbers_without_end_are_drawn() -> None:
    huge = Histogram(290, 1, (1,), 0, 1e300, 1e-300)
    wide = Margins(-290, 1, tuple((0,) * 500 + (1,) for _ in range(3)), 0, 1e300)
    matrix = dataclasses.replace(deep().matrices["x"], histograms={"a": huge}, margins={"a": wide})
    known = Details({"x": matrix})
    assert details.from_json(details.to_json(known)) == known
    Reader(page(report(known)))
