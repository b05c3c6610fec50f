"""The search in the report: every cycle in words, tables and drawings, also where it found nobody."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from html import unescape
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from test_report import PAYLOADS, deep, failing, green, target
from test_report_browser import OVERLAPS, TEXTS, Shown, browser, contrast  # noqa: F401 (a fixture among them)
from test_report_html import Reader

from modelbuild.errors import RecipeError
from modelbuild.report import axis, details, from_json, pareto, search, to_json, write
from modelbuild.report.html import page
from modelbuild.report.markdown import summary
from modelbuild.report.pareto import Point
from modelbuild.report.record import Report
from modelbuild.report.student_record import (
    Candidate,
    Capacity,
    Chosen,
    Cycle,
    Figure,
    Stopping,
    Student,
    Training,
)

TEACHER = Figure("agreement", "teacher", "logits", 0.91, 0.95, True)
AT_LEAST = "\N{GREATER-THAN OR EQUAL TO}"


def candidate(name: str, parameters: int | None, measured: float | None, **more: Any) -> Candidate:
    quality = None if measured is None else dataclasses.replace(TEACHER, measured=measured)
    ok = measured is not None and measured >= TEACHER.limit
    shortfall = None if measured is None else max(0.0, (TEACHER.limit - measured) / TEACHER.limit)
    known = Candidate(
        *(name, {"args.width": "8"}, parameters, 4096, "trained", 600, ok, quality, shortfall, False, "why")
    )
    return dataclasses.replace(known, **more)


OUT = candidate("huge", 90_000, None, state="over", steps=0, why="takes 400,000 bytes")
STOPPED = candidate("tiny", 120, 0.5, state="stopped", steps=150, why="behind small")


def cycles(chosen: str | None = "small") -> tuple[Cycle, ...]:
    """Three of them: one candidate is over its capacity, one is stopped, one runs away, one is chosen."""
    first = [candidate("tiny", 120, 0.5), candidate("small", 480, 0.8, goes_on=True), OUT]
    first += [
        candidate("large", 4800, 0.9, goes_on=True),
        candidate("wild", 500, None, state="failed", steps=0),
    ]
    second = [
        STOPPED,
        candidate("small", 480, 0.9, goes_on=True),
        candidate("large", 4800, 0.96, goes_on=True),
    ]
    second += [candidate("proposal-2-1", 700, 0.7)]
    low = 0.94 if chosen is None else 0.9501
    last = [
        STOPPED,
        candidate("small", 480, low),
        candidate("large", 4800, 0.93 if chosen is None else 0.97),
        OUT,
    ]
    return (
        Cycle(1, 3, 150, 2, 212_992, None, tuple(first)),
        Cycle(2, 3, 300, 2, 212_992, None, tuple(second)),
        Cycle(3, 3, 600, None, 212_992, chosen, tuple(last)),
    )


TRAINED = Training(
    *(480, 600, "cuda", 0.0312, "bfloat16", "NVIDIA H100", 0.999),
    *(Stopping(450, True), Chosen("small", "the smallest that passes")),
)


def report(found: tuple[Cycle, ...] = (), student: Student | None = None) -> Report:
    known = dataclasses.replace(deep(), search=found or cycles(), student=student or Student(TRAINED))
    return dataclasses.replace(green(), details=known)


def section(markup: str, name: str) -> str:
    found = re.search(rf'<section id="{name}">(.*?)</section>', markup, re.DOTALL)
    return found.group(1) if found else ""


def text(markup: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", markup)))


def tables(markup: str) -> list[dict[str, str]]:
    """Each table, the text of its rows by candidate."""
    found = []
    for table in re.findall(r"<tbody>(.*?)</tbody>", section(markup, "search"), re.DOTALL):
        rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
        found.append({re.findall("<b>(.*?)</b>", row)[0]: text(row) for row in rows})
    return found


def test_every_cycle_has_a_table_of_those_it_is_about() -> None:
    first, second, last = tables(page(report()))
    assert [*first] == ["tiny", "small", "huge", "large", "wild"]
    assert [*second] == ["small", "large", "proposal-2-1"]
    assert [*last] == ["small", "large"]
    assert (
        "args.width 8" in first["small"]
        and f"480 4.0 KiB 0.8 {AT_LEAST} 0.95 600 goes on why" in first["small"]
    )
    assert "stops here" in first["tiny"] and "out takes 400,000 bytes" in first["huge"]
    assert "failed" in first["wild"] and "90,000" in first["huge"]
    assert "chosen" in last["small"] and "passes" in last["large"]
    assert f"0.9501 {AT_LEAST} 0.95" in last["small"]


def test_a_search_that_found_nobody_is_shown_as_well() -> None:
    broken = target("student", state="failed", error="search: no candidate passes", digests={}, bytes=0)
    base = failing()
    known = details.Details(search=cycles(None))
    found = dataclasses.replace(
        base, targets=(*base.targets, broken), verdicts=(), platforms=(), details=known
    )
    markup = page(found)
    last = tables(markup)[-1]
    assert "short of the gates" in last["small"] and "short of the gates" in last["large"]
    assert '<tr class="red">' in section(markup, "search") and 'class="ring"' not in markup
    assert section(markup, "student") == ""
    assert "short of the gates" in summary(found)


def test_who_lost_to_one_that_passes_is_not_red() -> None:
    last = dataclasses.replace(cycles()[-1], candidates=(candidate("a", 10, 0.96), candidate("b", 20, 0.9)))
    chosen = dataclasses.replace(last, chosen="a")
    assert search.state(last.candidates[1], chosen) == ("off", "short of the gates")
    assert search.state(last.candidates[1], dataclasses.replace(last, chosen=None))[0] == "red"


def test_a_cycle_is_named_by_all_there_are_though_the_rest_was_not_reached() -> None:
    assert "Cycle 1 of 3, up to step 150" in text(section(page(report(cycles()[:1])), "search"))


def test_words_say_what_quality_is_and_what_room_there_is() -> None:
    said = text(section(page(report()), "search"))
    assert "Quality is agreement on logits against the teacher, at least 0.95." in said
    assert "Each may take 208.0 KiB of memory." in said
    less = dataclasses.replace(TEACHER, metric="l1", output="", more_is_better=False, measured=0.2, limit=0.1)
    one = dataclasses.replace(
        cycles()[0], limit=None, candidates=(candidate("a", 10, 0.2, quality=less, bytes=None),)
    )
    found = section(page(report((one,))), "search")
    assert "Quality is l1 against the teacher, at most 0.1." in text(found)
    assert "memory" not in text(found) and "Memory" not in found
    assert "\N{LESS-THAN OR EQUAL TO} 0.1" in text(found) and "l1, less is better" in text(found)


def test_without_a_search_there_is_no_section() -> None:
    markup = page(green())
    assert section(markup, "search") == section(markup, "student") == ""
    assert "### Search" not in summary(green())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("0.28454074244413063", "0.2845"),
        ("8", "8"),
        ('"sgd"', "sgd"),
        ('{"kind": "l2"}', '{"kind": "l2"}'),
        ("true", "true"),
        ("1e999", "1e999"),
        ("not JSON", "not JSON"),
        ("[" * 100_000, clean := "[" * 100_000),
    ],
)
def test_what_differs_is_told_as_people_read_it(value: str, shown: str) -> None:
    found = search.differs(candidate("a", 1, 0.5, differs={"args.x": value}))
    assert found == f"args.x {shown}" or (len(found) == 400 and shown == clean)


# -- drawings


def drawings(found: tuple[Cycle, ...]) -> list[str]:
    return re.findall(r'<svg class="plot".*?</svg>', section(page(report(found)), "search"), re.DOTALL)


def dots(drawing: str) -> dict[str, tuple[float, float, str]]:
    pattern = r'<circle class="dot ([a-z]+)" cx="([\d.]+)" cy="([\d.]+)" r="5.0"><title>(.*?):'
    return {name: (float(x), float(y), kind) for kind, x, y, name in re.findall(pattern, drawing)}


def test_a_drawing_has_those_that_were_measured_at_their_size_and_quality() -> None:
    first, second, last = drawings(cycles())
    found = dots(first)
    assert [*found] == ["tiny", "small", "large"]
    xs, ys = ([found[name][at] for name in found] for at in (0, 1))
    assert all(a < b for a, b in pairwise(xs)) and all(a > b for a, b in pairwise(ys))
    decade = (xs[2] - xs[1]) / math.log10(4800 / 480)
    assert (xs[1] - xs[0]) / math.log10(480 / 120) == pytest.approx(decade, abs=0.3)
    assert {kind for _, _, kind in found.values()} == {"off", "built"}
    assert dots(second)["small"][0] == found["small"][0]  # the same axes in all of them
    assert [*dots(last)] == ["large", "small"]  # the chosen one lies on top


def test_the_chosen_one_has_a_ring_and_the_limit_a_line() -> None:
    first, _, last = drawings(cycles())
    x, y, kind = dots(last)["small"]
    assert f'<circle class="ring" cx="{x}" cy="{y}"' in last and kind == "held"
    assert "ring" not in first
    (limit,) = re.findall(r'<path class="limit" d="M50.0 ([\d.]+)H284.0"', first)
    assert dots(last)["small"][1] <= float(limit) < dots(first)["large"][1]
    assert ">limit</text>" in first


def test_the_line_is_the_pareto_front() -> None:
    found = [Point(n, p, dataclasses.replace(TEACHER, measured=m), "off", "") for n, p, m in (
        *(("a", 10, 0.5), ("b", 20, 0.7), ("c", 20, 0.6)),
        *(("d", 30, 0.7), ("e", 40, 0.8), ("f", 5, 0.4), ("g", 10, 0.5)),
    )]  # fmt: skip
    assert [each.name for each in pareto.front(found)] == ["a", "b", "e", "f", "g"]
    less = [each._replace(quality=dataclasses.replace(each.quality, more_is_better=False)) for each in found]
    assert [each.name for each in pareto.front(less)] == ["f"]
    _, second, _ = drawings(cycles())
    (line,) = re.findall(r'<path class="front" d="M(.*?)"', second)
    at = dots(second)
    assert line == "L".join(f"{at[name][0]} {at[name][1]}" for name in ("small", "large"))
    assert (
        'class="front"'
        not in drawings(
            (dataclasses.replace(cycles()[0], candidates=(OUT, STOPPED, candidate("a", 9, 0.5))),)
        )[0]
    )


def test_a_dot_says_all_of_it_in_words() -> None:
    assert (
        "<title>small: 480 parameters, agreement 0.9501 against a limit of 0.95, chosen</title>"
        in drawings(cycles())[-1]
    )


def test_many_candidates_keep_their_names_apart() -> None:
    many = tuple(candidate(f"candidate-{at}", 400 + at, 0.8 + at / 500, goes_on=True) for at in range(40))
    (drawing,) = drawings((dataclasses.replace(cycles()[0], candidates=many),))
    assert len(dots(drawing)) == 40
    names = re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name">(.*?)</text>', drawing)
    assert 2 <= len(names) < 40
    boxes = [(float(x), float(y) - 10, float(x) + 7.2 * len(words), float(y) + 3) for x, y, words in names]
    for at, (left, top, right, bottom) in enumerate(boxes):
        assert left >= 50 and right <= 300
        assert not any(left < r and x < right and top < b and y < bottom for x, y, r, b in boxes[at + 1 :])


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([0.65, 0.9, 0.95], [0.6, 0.7, 0.8, 0.9, 1.0]),
        ([0.5, 0.5], [0.5, 0.6]),
        ([0.0], [0.0, 0.2]),
        ([], [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        ([-3.0, 12.0], [-5.0, 0.0, 5.0, 10.0, 15.0]),
        ([7.6, 21.2, 9.0], [5.0, 10.0, 15.0, 20.0, 25.0]),
        ([1e-7, 3e-7], [1e-7, 1.5e-7, 2e-7, 2.5e-7, 3e-7]),
    ],
)
def test_a_linear_axis_has_round_marks_around_what_it_holds(values: list[float], ticks: list[float]) -> None:
    found = axis.linear(values, 200, 20)
    assert found.ticks() == pytest.approx(ticks)
    assert all(found.low <= value <= found.high or value == pytest.approx(found.low) for value in values)
    assert (found.at(found.low), found.at(found.high)) == (200, 20)
    assert found.at(found.high + 1) == 20


@pytest.mark.parametrize(
    ("exponent", "words"),
    [(0, "1"), (2, "100"), (3, "1k"), (5, "100k"), (6, "1M"), (9, "1G"), (16, "1e16"), (-1, "1e-1")],
)
def test_sizes_on_the_axis_are_short(exponent: int, words: str) -> None:
    assert pareto._power(exponent) == words


# -- the student


def test_the_student_in_a_few_facts() -> None:
    said = text(section(page(report()), "student"))
    for words in (
        "Chosen small , the smallest that passes",
        "Parameters 480",
        "Steps 600",
        "Device cuda (NVIDIA H100)",
        "Precision bfloat16",
        "Final loss 0.0312",
        "Weights averaged, with a decay of 0.999",
        "Early stopping the weights of step 450; ended early",
        "Memory 4.0 KiB",
        "May take 208.0 KiB",
    ):
        assert words in said


def test_what_it_takes_and_may_take_is_that_of_the_capacity() -> None:
    capacity = Capacity(1920, 512, 2432, 2662, 4096, 0.65, "ios")
    plain = Training(480, 600, "cpu", None)
    known = details.Details(student=Student(plain, capacity))
    said = text(section(page(dataclasses.replace(green(), details=known)), "student"))
    assert "Memory 2.4 KiB: 1.9 KiB of weights and 512 B of activations at their peak" in said
    assert "May take 2.6 KiB, 0.65 of the 4.0 KiB of ios" in said
    assert "Weights" not in said and "Early stopping" not in said and "Final loss \N{EN DASH}" in said


# -- from the disk, and to JSON


def folders(root: Path, **files: Any) -> dict[str, Any]:
    for name, value in files.items():
        (root / name).mkdir()
        (root / name / f"{name.rstrip('123')}.json").write_text(json.dumps(value))
    return {name: root / name for name in files}


def test_it_is_read_from_the_folders_of_the_targets(tmp_path: Path) -> None:
    known = to_json(report())["details"]["search"]
    training = {
        "parameters": 480,
        "steps": 600,
        "device": "cpu",
        "final_loss": 0.1,
        "curve": [{"step": 1, "loss": 2.0}],
    }
    capacity = {
        "module": "a:B",
        "args": {},
        "parameters": 480,
        "weight_bytes": 1,
        "activation_bytes": 2,
        "total": 3,
    }
    found = folders(
        *(tmp_path,),
        cycle1={**known[0], "other": 1},
        cycle2=known[1],
        training=training,
        capacity={**capacity, "limit": None, "platform": ""},
    )
    read = details.read(
        cycles=[found["cycle1"], found["cycle2"], tmp_path / "cycle3"],
        student=found["training"],
        capacity=found["capacity"],
    )
    assert read.search == cycles()[:2]
    assert read.student == Student(Training(480, 600, "cpu", 0.1), Capacity(1, 2, 3, None))


def test_a_student_whose_weights_were_given_has_no_training(tmp_path: Path) -> None:
    (tmp_path / "student").mkdir()
    assert details.read(student=tmp_path / "student").student == Student()
    assert details.read().search == ()


def test_a_table_that_is_none_is_refused_with_its_place(tmp_path: Path) -> None:
    broken = to_json(report())["details"]["search"][0]
    broken["candidates"][1]["steps"] = "many"
    found = folders(tmp_path, cycle1=broken)
    with pytest.raises(RecipeError, match=r"cycle1/cycle\.json/candidates/1/steps: it is not a whole number"):
        details.read(cycles=[found["cycle1"]])


def test_what_a_search_writes_is_what_the_report_reads(tmp_path: Path) -> None:
    from search_example import Chain, asked, listed

    chain = Chain(tmp_path)
    chain.build(asked(listed(a=2, b=4)), gates={"teacher": {"metric": "agreement", "min": 0.5}})
    read = details.read(
        cycles=[chain.out[f"m:search.cycle{at}"] for at in (1, 2, 3)], student=chain.out["m:student"]
    )
    assert [each.cycle for each in read.search] == [1, 2, 3]
    assert read.student.training is not None and read.student.training.chosen is not None
    assert read.student.training.chosen.name == read.search[-1].chosen
    markup = page(dataclasses.replace(green(), details=read))
    assert "chosen" in tables(markup)[-1][read.search[-1].chosen or ""]


def test_json_gives_it_back() -> None:
    for student in (Student(), Student(TRAINED, Capacity(1, 2, 3, 4, 5, 0.65, "ios"))):
        known = report(student=student)
        assert from_json(json.loads(json.dumps(to_json(known), allow_nan=False))) == known


def test_the_markdown_has_the_last_cycle_with_everyone_in_it() -> None:
    text_ = summary(report())
    assert "### Search" in text_
    assert f"| small | 480 | 0.9501 | {AT_LEAST} 0.95 | 600 | chosen | why |" in text_
    assert "| tiny | 120 | 0.5 |" in text_ and "| stopped |" in text_ and "| out |" in text_
    assert "| proposal" not in text_


def hostile(payload: str) -> Report:
    figure = Figure(payload, payload, payload, 0.5, 0.9, True)
    one = candidate(payload, 10, 0.5, quality=figure, differs={payload: payload}, why=payload)
    other = dataclasses.replace(one, name="x" + payload, parameters=30, state=payload, steps=3)
    trained = Training(480, 600, payload, 0.1, payload, payload, 0.9, None, Chosen(payload, payload))
    known = Student(trained, Capacity(1, 2, 3, 4, 5, 0.5, payload))
    return report((Cycle(1, 3, 10, None, None, payload, (one, other)),), known)


HARMLESS = Reader(page(hostile("harmless"))).shape


@pytest.mark.parametrize("payload", [payload for payload in PAYLOADS if payload])
def test_no_text_becomes_markup(payload: str) -> None:
    shape = Reader(page(hostile(payload))).shape
    named = [each for each in shape if each[0] != "text"]  # a name for which there is no room is left out
    assert named == [each for each in HARMLESS if each[0] != "text"]
    assert from_json(json.loads(json.dumps(to_json(hostile(payload))))) == hostile(payload)
    assert "<script" not in summary(hostile(payload))


# -- in a browser


@pytest.fixture(scope="module", params=[(360, "light"), (360, "dark"), (1280, "dark")], ids=str)
def seen(browser: Any, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:  # noqa: F811
    width, scheme = request.param
    many = tuple(
        candidate(f"candidate-{at}", 400 + 90 * at, 0.8 + at / 300, goes_on=True) for at in range(30)
    )
    crowded = (dataclasses.replace(cycles()[0], candidates=many), *cycles()[1:])
    path = write(report(crowded), tmp_path_factory.mktemp("report"))[0]
    sheet = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    yield Shown(sheet, path.as_uri())
    sheet.close()


def test_on_a_telephone_nothing_is_cut_off_or_on_top_of_anything_else(seen: Shown) -> None:
    assert seen.complaints == []
    assert seen.folded <= seen.page.viewport_size["width"]
    assert seen.page.evaluate("document.querySelectorAll('#search .plot text').length") > 30
    assert seen.page.evaluate(OVERLAPS) == []
    wide = (
        "[...document.querySelectorAll('#search figure')].filter(f => f.scrollWidth > f.clientWidth).length"
    )
    assert seen.page.evaluate(wide) == 0


def test_text_is_large_and_dark_enough(seen: Shown) -> None:
    texts = [each for each in seen.page.evaluate(TEXTS) if not each["node"]]
    assert [each for each in texts if each["size"] < 10.99] == []
    assert [each for each in texts if contrast(each["colour"], each["ground"]) < 4.5] == []


def test_dots_stand_out_and_those_that_go_on_are_filled(seen: Shown) -> None:
    assert seen.page.evaluate("document.querySelectorAll('#search .ring').length") == 1
    styles = """[...document.querySelectorAll('#search .dot')].map(dot => [dot.classList[1],
        getComputedStyle(dot).fill, getComputedStyle(dot).stroke,
        getComputedStyle(dot.closest('figure')).backgroundColor])"""
    found = seen.page.evaluate(styles)
    assert {kind for kind, *_ in found} == {"built", "held", "off"}
    for kind, fill, stroke, ground in found:
        assert contrast(stroke, ground) >= 3
        assert (fill == ground) == (kind == "off")
