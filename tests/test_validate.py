"""Where a manifest may name code, each place is looked at; and a hostile manifest does not take for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelbuild.declare import Document
from modelbuild.validate import Manifest, problems

NAMED = "mine.code:gone"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "code.py").write_text("def there(): ...")
    return tmp_path


def said(root: Path, value: Any) -> list[str]:
    return [str(each) for each in problems(Manifest(root, Document("m.json", value), {}))]


def put(steps: tuple[Any, ...], value: Any) -> Any:
    """The value at the end of these steps."""
    if not steps:
        return value
    inner = put(steps[1:], value)
    return [inner] if isinstance(steps[0], int) else {steps[0]: inner}


PLACES = [
    ("teacher", "module"), ("student", "module"), ("source", "module"), ("teacher", "through"),
    ("data", "train", "loader"), ("data", "more", "by"), ("teacher", "task", "kind"),
    ("student", "distil", "task", "kind"), ("student", "distil", "soft", "kind"),
    ("student", "distil", "soft", 0, "kind"), ("gates", "teacher", "metric"), ("gates", "teacher", 0, "metric"),
    ("gates", "task", "metric"), ("gates", "task", 0, "metric"), ("search", "candidates", "wide", "module"),
    ("search", "candidates", "wide", "distil", "task", "kind"),
    ("search", "candidates", "wide", "distil", "soft", "kind"),
    ("search", "candidates", "wide", "distil", "soft", 0, "kind"), ("search", "ranges", "module", "choices", 0),
    ("search", "ranges", "distil.task.kind", "choices", 0), ("search", "ranges", "distil.soft.kind", "choices", 0),
]  # fmt: skip


@pytest.mark.parametrize("steps", PLACES, ids=lambda steps: "/".join(map(str, steps)))
def test_code_is_looked_for_wherever_it_is_named(root: Path, steps: tuple[Any, ...]) -> None:
    place = "m.json#/" + "/".join(map(str, steps))
    words = f'{place}: module "mine.code" has no "gone"'
    assert sum(each.startswith(words) for each in said(root, put(steps, NAMED))) == 1
    assert not any("has no" in each for each in said(root, put(steps, "mine.code:there")))


@pytest.mark.parametrize("steps", [each for each in PLACES if each[-1] in ("kind", "metric")])
def test_a_short_name_is_no_code(root: Path, steps: tuple[Any, ...]) -> None:
    assert not any("package.module:callable. For" in each for each in said(root, put(steps, "cosine")))


@pytest.mark.parametrize("path", ["args.name", "distil.layers.kind"])
def test_what_a_range_chooses_elsewhere_is_no_code(root: Path, path: str) -> None:
    value = put(("search", "ranges", path, "choices", 0), NAMED)
    assert not any(f'has no "{NAMED}"' in each or "mine.code" in each for each in said(root, value))


@pytest.mark.parametrize("gate", ["teacher", "task"])
def test_two_callables_of_one_name_are_refused(root: Path, gate: str) -> None:
    (root / "mine" / "more.py").write_text("def there(): ...")
    listed = [{"metric": f"mine.{name}:there", "max": 1} for name in ("code", "more")]
    (found,) = [each for each in said(root, {"gates": {gate: listed}}) if f"gates/{gate}/" in each]
    assert found.startswith(f'm.json#/gates/{gate}/1/metric: "mine.code:there" before it is called there too')


def test_every_demand_is_reported_and_the_sound_ones_are_still_compared(root: Path) -> None:
    sound = {"metric": "rmse", "max": 1}
    listed = [sound, {"metric": "rsme", "max": 1}, sound, {"metric": "l1"}, 7, {"metric": ["l1"]}]
    found = [each for each in said(root, {"gates": {"task": listed}}) if "gates/task/" in each]
    for place, words in (
        ("1/metric", '"rsme" is not one of'), ("2", "on rmse of the same output"), ("3", 'l1 has no "max"'),
        ("4", "is a whole number"), ("5/metric", "is a list"),
    ):  # fmt: skip
        said_here = [each for each in found if each.startswith(f"m.json#/gates/task/{place}: ")]
        assert [words in each for each in said_here] == [True], place


def test_a_hostile_list_of_demands_is_read_once(root: Path) -> None:
    listed = [{"metric": "mine.code:there", "max": 1, "output": f"y{n}"} for n in range(300)]
    assert not [each for each in said(root, {"gates": {"task": listed}}) if "gates/task" in each]


@pytest.mark.parametrize(
    "value", [None, 3, "x", [], [[]], {"metric": None}, {"metric": {}}, [{"output": []}]]
)
def test_nothing_breaks_whatever_stands_in_a_gate(root: Path, value: Any) -> None:
    waiver = {
        "gate": "task",
        "metric": "l1",
        "limit": 1,
        "reason": "r",
        "link": "https://x.org",
        "expires": "x",
    }
    assert said(
        root, {"gates": {"teacher": value, "task": value}, "waivers": [waiver, {**waiver, "metric": {}}]}
    )
