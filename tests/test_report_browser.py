"""The report as a browser shows it, on a telephone and on a desk, light and dark: it can be read, all of it."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import report_example

from modelbuild.report import write
from modelbuild.runtimes.onnxruntime_web import chromium

SIZES = ((390, 844), (1280, 900))
SCHEMES = ("light", "dark")
VIEWS = [(size, scheme) for size in SIZES for scheme in SCHEMES]

# Text as a reader meets it: every text node that is shown, with the size, colours and box it is drawn with.
TEXTS = """() => {
  const shown = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, holder = node.parentElement;
    if (!node.data.trim() || holder.closest("title, style, caption")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    const box = range.getBoundingClientRect();
    if (!box.width) continue;
    const style = getComputedStyle(holder), svg = holder.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.width.baseVal.value : 1;
    let behind = holder, ground = "rgba(0, 0, 0, 0)";
    for (; behind && ground === "rgba(0, 0, 0, 0)"; behind = behind.parentElement)
      ground = getComputedStyle(behind).backgroundColor;
    shown.push({
      text: node.data.trim().slice(0, 40), size: parseFloat(style.fontSize) * scale, ground,
      colour: svg ? style.fill : style.color, node: !!holder.closest(".node"), cell: holder.matches("td.cell"),
    });
  }
  return shown;
}"""

# Pairs of boxes that should be apart and are not, by the text they hold.
OVERLAPS = """() => {
  const found = [], meet = (a, b) =>
    a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
  const apart = (boxes, where) => boxes.forEach((one, at) => boxes.slice(at + 1).forEach(other => {
    if (meet(one.getBoundingClientRect(), other.getBoundingClientRect()))
      found.push([where, one.textContent, other.textContent]);
  }));
  for (const plot of document.querySelectorAll(".plot")) {
    const inside = plot.getBoundingClientRect(), texts = [...plot.querySelectorAll("text")];
    apart(texts, "plot");
    for (const text of texts) {
      const box = text.getBoundingClientRect();
      if (box.left < inside.left - 0.5 || box.right > inside.right + 0.5) found.push(["cut off", text.textContent]);
    }
  }
  for (const step of document.querySelectorAll(".steps li")) apart([...step.children], "step");
  for (const row of document.querySelectorAll(".heat tr")) apart([...row.children], "row");
  for (const cell of document.querySelectorAll(".heat td, .heat th")) {
    if (!cell.textContent) continue;
    const range = document.createRange(), outside = cell.getBoundingClientRect();
    range.selectNodeContents(cell);
    const box = range.getBoundingClientRect();
    if (box.left < outside.left || box.right > outside.right || box.top < outside.top || box.bottom > outside.bottom)
      found.push(["cell", cell.textContent]);
  }
  return found;
}"""

# What a reader who scrolls a heat map to its end sees of every row: its name, and its last cell.
SCROLLED = """() => [...document.querySelectorAll(".narrow")].map(box => {
  box.scrollLeft = 1e6;
  box.scrollIntoView();
  const outside = box.getBoundingClientRect();
  return [...box.querySelectorAll("tbody tr")].map(row => {
    const name = row.firstElementChild.getBoundingClientRect(), last = row.lastElementChild.getBoundingClientRect();
    row.scrollIntoView({block: "center"});
    const at = row.firstElementChild.getBoundingClientRect();
    const top = document.elementFromPoint((at.left + at.right) / 2, (at.top + at.bottom) / 2);
    return {
      inside: name.left >= outside.left - 1 && last.right <= outside.right + 1, apart: name.right <= last.left,
      opaque: /^rgb\\(/.test(getComputedStyle(row.firstElementChild).backgroundColor),
      named: !!top && row.firstElementChild.contains(top),
    };
  });
}).flat()"""


def required(found: object, reason: str) -> str:
    """`found`; where it is None the test is skipped, or fails where MODELBUILD_TEST_REQUIRE names the browser."""
    if found is None:
        if "chromium" in os.environ.get("MODELBUILD_TEST_REQUIRE", ""):
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return str(found)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    required(importlib.util.find_spec("playwright"), "there is no Playwright: pip install playwright")
    executable = required(chromium.find(), chromium.missing())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return write(report_example.report(folder / "targets"), folder / "out")[0]


class Shown:
    """The page as one reader has it, all of it unfolded; what it asked for and complained of."""

    def __init__(self, page: Any, address: str) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(address)
        self.folded = page.evaluate("document.documentElement.scrollWidth")
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")


@pytest.fixture(scope="module", params=VIEWS, ids=lambda view: f"{view[0][0]}-{view[1]}")
def shown(browser: Any, written: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    (width, height), scheme = request.param
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    yield Shown(page, written.as_uri())
    page.close()


def test_the_page_asks_for_nothing_and_complains_of_nothing(shown: Shown, written: Path) -> None:
    assert shown.requests == [written.as_uri()]
    assert shown.complaints == []


def test_the_page_is_no_wider_than_the_screen(shown: Shown) -> None:
    width = shown.page.viewport_size["width"]
    assert shown.folded <= width
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_nothing_lies_over_anything_else(shown: Shown) -> None:
    assert shown.page.evaluate("document.querySelectorAll('.plot text').length") > 150
    assert shown.page.evaluate("document.querySelectorAll('.heat td').length") == 2 * 12 * 12
    assert shown.page.evaluate(OVERLAPS) == []


def test_text_is_large_enough_to_read(shown: Shown) -> None:
    texts = shown.page.evaluate(TEXTS)
    assert len(texts) > 1000
    assert [each for each in texts if each["size"] < 10.99] == []


def test_text_stands_out_from_its_ground(shown: Shown) -> None:
    texts = [each for each in shown.page.evaluate(TEXTS) if not each["node"]]
    assert sum(each["cell"] for each in texts) == 2 * 12 * 11
    faint = [each for each in texts if contrast(each["colour"], each["ground"]) < 4.5]
    assert faint == []


def test_a_heat_map_scrolls_to_its_end_beside_the_names_of_its_runs(shown: Shown) -> None:
    rows = shown.page.evaluate(SCROLLED)
    assert len(rows) == 2 * 12
    assert all(all(row.values()) for row in rows), rows


def test_cells_differ_in_more_than_colour(shown: Shown) -> None:
    cells = shown.page.evaluate(
        "[...document.querySelectorAll('.heat td')].map(c => [c.className, c.textContent])"
    )
    said: dict[str, set[str]] = {}
    for kinds, text in cells:
        said.setdefault(kinds.split()[1], set()).add(text)
    red, green = (
        said["r0"] | said["r1"],
        set().union(*(said[kind] for kind in said if kind[0] == "s" and kind != "self")),
    )
    assert red and green and not red & green


def contrast(one: str, other: str) -> float:
    """As the Web Content Accessibility Guidelines define it, of two colours as `rgb(1, 2, 3)`."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_contrast_is_that_of_the_guidelines() -> None:
    assert contrast("rgb(0, 0, 0)", "rgb(255, 255, 255)") == pytest.approx(21)
    assert contrast("rgb(118, 118, 118)", "rgb(255, 255, 255)") == pytest.approx(4.54, abs=0.01)
