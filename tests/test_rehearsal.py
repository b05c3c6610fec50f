"""Which of two versions is worse, where the first different one is, and what may be rehearsed at all."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelbuild import rehearsal, tensors
from modelbuild.environments import node, python
from modelbuild.equivalence.verdict import Verdict
from modelbuild.errors import BuildError, CommandError, ManifestError, RecipeError
from modelbuild.examine import Status
from modelbuild.rehearsal import Found
from modelbuild.runtimes.base import Environment, Way

ROW = ("", "logits", "max_abs")


def judged(version: str, ok: bool, row: tuple[str, str, str] = ROW) -> Found:
    _, output, metric = row
    verdict = Verdict("m:p", "p", version, "cpu", "reference", output, metric, 0.5, 1.0, ok, "executed", "")
    return Found(version, {row: verdict}, {})


def broken(version: str, way: str = "") -> Found:
    return Found(version, {}, {}, {way: f"version {version} does not load the model"})


class Known:
    """A stage whose versions have been tried; `asked` lists those that were asked for."""

    def __init__(self, found: Mapping[str, Found]) -> None:
        self.found, self.asked = found, list[str]()

    def under(self, version: str) -> Found:
        self.asked.append(version)
        return self.found[version]


def searched(*found: Found) -> tuple[tuple[Found, Found] | None, list[str], list[str]]:
    stage, said = Known({each.version: each for each in found}), list[str]()
    result = rehearsal.first_different(stage, [each.version for each in found], said.append)  # type: ignore[arg-type]
    return result, stage.asked, said


# -- the search


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(("count", "first"), [(n, i) for n in (2, 3, 4, 7, 16) for i in range(1, n)])
def test_the_first_version_that_differs_is_found_in_few_probes(count: int, first: int, before: bool) -> None:
    versions = [judged(f"1.0.{i}", before if i < first else not before) for i in range(count)]
    result, asked, said = searched(*versions)
    assert result == (versions[first - 1], versions[first])
    assert len(asked) == len(set(asked)) <= 2 + (count - 1).bit_length()
    assert [line.split(":")[0].strip() for line in said] == asked


def test_ends_that_are_alike_are_all_that_is_tried() -> None:
    result, asked, _ = searched(judged("1", True), judged("2", False), judged("3", True))
    assert result is None
    assert asked == ["1", "3"]


def test_the_first_one_that_differs_need_not_be_as_the_last() -> None:
    red = judged("3", False, ("", "logits", "rmse"))
    versions = judged("1", True), judged("2", True), red, judged("4", False)
    assert searched(*versions)[0] == versions[1:3]


def test_to_not_run_is_one_verdict_in_whatever_words() -> None:
    assert searched(broken("1"), broken("2"))[0] is None
    one, two, three = judged("1", True), broken("2"), broken("3")
    assert searched(one, two, three)[0] == (one, two)
    assert searched(broken("1", "wasm"), broken("2", "webgpu"))[0] is not None


def test_a_probe_says_what_is_wrong() -> None:
    assert rehearsal.probe(judged("1.2.3", True)) == "  1.2.3: every verdict holds"
    red = judged("1.2.3", False, ("node", "logits", "rmse"))
    assert rehearsal.probe(red) == "  1.2.3: RED: node logits rmse"
    both = red._replace(errors={"webgpu": "no adapter"})
    assert rehearsal.probe(both) == "  1.2.3: does not run (webgpu): no adapter; RED: node logits rmse"


# -- worse


@pytest.mark.parametrize(
    ("current", "other", "expected"),
    [
        (judged("1", True), judged("2", True), False),
        (judged("1", True), judged("2", False), True),
        (judged("1", False), judged("2", False), False),
        (judged("1", False), judged("2", True), False),
        (judged("1", False), judged("2", False, ("", "logits", "rmse")), True),
        (judged("1", True), broken("2"), True),
        (broken("1"), broken("2"), False),
        (broken("1"), judged("2", True), False),
        (broken("1", "wasm"), broken("2", "webgpu"), True),
        (broken("1"), judged("2", False), True),
    ],
)
def test_what_is_worse(current: Found, other: Found, expected: bool) -> None:
    assert rehearsal.worse(current, other) is expected


# -- the outputs


def differ(folder: Path, one: dict[str, Any], other: dict[str, Any]) -> float | None:
    for name, arrays in (("one", one), ("other", other)):
        (folder / name).mkdir()
        tensors.save(folder / name / "outputs.safetensors", arrays)
    return rehearsal.largest_difference(folder / "one", folder / "other")


def floats(*values: float) -> np.ndarray[Any, Any]:
    return np.array(values, np.float32)


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": floats(1, NAN, INF)}, {"a": floats(1, NAN, INF)}, None),
        ({"a": floats(1, 2), "b": floats(3)}, {"a": floats(1.5, 2), "b": floats(1)}, 2.0),
        ({"a": floats(0.0)}, {"a": floats(-0.0)}, 0.0),
        ({"a": floats(NAN), "b": floats(1)}, {"a": floats(1), "b": floats(2)}, INF),
        ({"a": floats(INF)}, {"a": floats(1)}, INF),
        ({"a": floats(INF, 1)}, {"a": floats(INF, 2)}, INF),
        ({"a": floats(1)}, {"b": floats(1)}, INF),
        ({"a": floats(1)}, {"a": floats(1, 1)}, INF),
        ({"a": floats(1)}, {"a": np.array([1.0])}, INF),
        ({"a": np.array([1, 5])}, {"a": np.array([1, 2])}, 3.0),
        ({"a": floats()}, {"a": floats()}, None),
    ],
)
def test_the_largest_difference(
    tmp_path: Path, one: dict[str, Any], other: dict[str, Any], expected: float | None
) -> None:
    assert differ(tmp_path, one, other) == expected


# -- what may be rehearsed


class Runtime:
    """Runs in versions, or in one."""

    def __init__(self, name: str, versions: bool) -> None:
        self.name, self._versions = name, versions

    def runs(self, options: Mapping[str, Any]) -> Mapping[str, Way]:
        if "versions" in options and not self._versions:
            raise ManifestError("options/versions", "there is no such option", "")
        bad = [each for each in options.get("versions", ()) if each.count(".") != 2]
        if bad:
            raise ManifestError("options/versions", f"{bad[0]} is no version", "")
        return {each: Way(environment=Environment(each, "python", ())) for each in options["versions"]}


RUNTIMES = {"ort": Runtime("ort", True), "coreml": Runtime("coreml", False)}


def session(monkeypatch: pytest.MonkeyPatch, state: Any = "up-to-date", **models: dict[str, str]) -> Any:
    """Models by name: which runtime each of their platforms has."""

    def shipped(model: Any, platform: Any) -> Any:
        runtime = RUNTIMES[model.runtimes[platform.name]]
        return SimpleNamespace(platform=platform, runtime=runtime, ways={}, unavailable=None)

    monkeypatch.setattr(rehearsal.platforms, "shipped", shipped)
    declared = [
        SimpleNamespace(
            name=name,
            runtimes=runtimes,
            platforms={each: SimpleNamespace(name=each, options={}) for each in runtimes},
        )
        for name, runtimes in models.items()
    ]
    examiner = SimpleNamespace(status=lambda name: Status(state, reason="code changed"))
    return SimpleNamespace(project=SimpleNamespace(models=declared), examiner=examiner)


def staged(session: Any, name: str) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return [each.name for each in rehearsal.stages(session, name, said.append)], said


def test_a_platform_is_that_of_every_model_or_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    project = session(monkeypatch, a={"phone": "ort"}, b={"phone": "ort", "web": "ort"})
    assert staged(project, "phone") == (["a:phone", "b:phone"], [])
    assert staged(project, "b:phone") == (["b:phone"], [])
    with pytest.raises(CommandError, match=r'there is no such platform\. Did you mean "phone"'):
        staged(project, "phon")
    with pytest.raises(CommandError, match=r'there is no such platform\. Did you mean "b:web"'):
        staged(project, "a:web")


def test_a_runtime_of_one_version_is_left_out_aloud_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    project = session(monkeypatch, a={"phone": "ort", "ios": "coreml"}, b={"phone": "coreml"})
    left_out = "b:phone is left out: its runtime, coreml, runs in one version"
    assert staged(project, "phone") == (["a:phone"], [left_out])
    for name in ("ios", "b:phone"):
        with pytest.raises(CommandError, match=f"{name}: its runtime, coreml, runs in one version"):
            staged(project, name)


def test_what_is_not_up_to_date_is_not_rehearsed(monkeypatch: pytest.MonkeyPatch) -> None:
    project = session(monkeypatch, state="stale", a={"phone": "ort"})
    with pytest.raises(BuildError, match=r"a:phone: is not up to date \(code changed\). Run `doit a` first"):
        staged(project, "phone")


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> rehearsal.Stage:
    """1.9.0, 1.10.0 and 2.0.0 are released, and one that the runtime does not take."""
    monkeypatch.setattr(python, "versions", lambda package: ["1.9.0", "1.10.0", "1.10.0.post1", "2.0.0"])
    return rehearsal.stages(session(monkeypatch, a={"phone": "ort"}), "phone", str)[0]


@pytest.mark.parametrize(
    ("named", "expected"), [([], rehearsal.INSTALLED), (["1.9.0", "1.10.0", "1.2.0"], "1.10.0")]
)
def test_the_current_version_is_the_newest_that_is_named(
    stage: rehearsal.Stage, named: list[str], expected: str
) -> None:
    stage.ships.platform.options.update({"versions": named} if named else {})  # type: ignore[attr-defined]
    assert stage.current == expected


def test_the_versions_between_two_are_those_that_can_be_run(stage: rehearsal.Stage) -> None:
    assert rehearsal.between(stage, "1.9.0", "2.0.0") == ["1.9.0", "1.10.0", "2.0.0"]
    assert rehearsal.between(stage, "1.9.0", "1.10.0") == ["1.9.0", "1.10.0"]


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        ("1.10.0", "1.9.0", "is not the older one. Write 1.9.0..1.10.0."),
        ("1.9.0", "1.9.0", "1.9.0..1.9.0: the first version is not the older one"),
        ("1.9.1", "2.0.0", '1.9.1: is no released version of ort. Did you mean "1.9.0"?'),
        ("1.9.0", "2.0.1", "2.0.1: is no released version of ort"),
        ("new", "2.0.0", "new is no version"),
        ("1.9.0", "new", "new is no version"),
    ],
)
def test_a_range_that_is_none(stage: rehearsal.Stage, first: str, last: str, words: str) -> None:
    with pytest.raises(CommandError) as caught:
        rehearsal.between(stage, first, last)
    assert words in str(caught.value)
    assert caught.value.exit_code == 3


# -- released versions of npm


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["1.9.0", "1.10.0-dev.20260101", "1.10.0"], ["1.9.0", "1.10.0"]),
        ("1.9.0", ["1.9.0"]),
    ],
)
def test_released_versions_are_those_that_npm_finds(
    monkeypatch: pytest.MonkeyPatch, said: Any, expected: list[str]
) -> None:
    done = subprocess.CompletedProcess([], 0, json.dumps(said), "")
    monkeypatch.setattr(node, "_npm", lambda *_: done)
    assert node.versions("tiny-thing") == expected


@pytest.mark.parametrize(("code", "said"), [(1, '{"error": {}}'), (0, ""), (1, "[]"), (0, "{}")])
def test_what_npm_cannot_find_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch, code: int, said: str
) -> None:
    monkeypatch.setattr(node, "_npm", lambda *_: subprocess.CompletedProcess([], code, said, "E404"))
    with pytest.raises(RecipeError, match="the node environment of tiny-thing: cannot be looked up: E404"):
        node.versions("tiny-thing")


@pytest.mark.parametrize(
    ("rounds", "told"), [("float16", {"phone.way": "float16"}), ("int8", {}), (None, {})]
)
def test_a_way_is_held_to_its_arithmetic_where_its_noise_is_known(
    stage: rehearsal.Stage, rounds: str | None, told: dict[str, str]
) -> None:
    usual = SimpleNamespace(
        inputs={
            "reference": "a:reference",
            "noise": "a:noise",
            "run.phone": "a:phone.run",
            "preflight": "a:p",
        },
        params={"platforms": {"phone": {}, "web": {}}, "rounds": {"web": "float16"}},
    )
    stage.session.plan = SimpleNamespace(targets={"a:verdict.runtime": usual})
    made = stage._verdict("1.9.0", "way", Way(rounds=rounds))
    assert made.params["rounds"] == told
    assert made.params["platforms"].keys() == {"phone"}
    assert made.inputs == {
        "reference": "a:reference",
        "noise": "a:noise",
        "run.phone.way": "a:rehearsal.phone.1.9.0.way.run",
    }
