"""A metric of the project: one finite number a sample, its mean held to a limit that no constant meets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelbuild import job
from modelbuild.equivalence import demand
from modelbuild.equivalence.quality import task_gate, teacher_gate
from modelbuild.equivalence.verdict import Verdict, passed
from modelbuild.errors import ManifestError, RecipeError

GENERATOR = np.random.default_rng(5)
MEL = GENERATOR.normal(size=(40, 6)).astype(np.float32)
LONG = np.tile([1, 8, 8, 7, 4], 8)  # their mean, 5.6, is nearer to 6 than to 5
STUDENT = {"mel": MEL + np.float32(0.1), "long": LONG}
TEACHER = {"mel": MEL, "spectrum": MEL, "long": LONG}
Arrays = Mapping[str, Any]


# -- the metrics of a project


def distance(outputs: Arrays, truth: Arrays, scale: float = 1.0) -> Any:
    return scale * np.abs(outputs["mel"] - truth["mel"]).mean(axis=1)


def likeness(outputs: Arrays, truth: Arrays) -> Any:
    return -distance(outputs, truth)


def length(outputs: Arrays, truth: Arrays) -> Any:
    return distance(outputs, truth)


def lengths(outputs: Arrays, truth: Arrays) -> Any:
    return np.abs(outputs["long"] - truth["long"]).astype(np.float32)


def flawed(outputs: Arrays, truth: Arrays, value: float, at: int = 3) -> Any:
    found = distance(outputs, truth)
    found[at:] = value
    return found


def huge(outputs: Arrays, truth: Arrays) -> Any:
    return np.full(len(LONG), 1e308 if np.ptp(outputs["mel"], axis=0).any() else -1.0)


def shaped(outputs: Arrays, truth: Arrays, shape: str) -> Any:
    found = distance(outputs, truth)
    return {
        "matrix": found[:, None], "fewer": found[:-1], "one": found.mean(), "integers": found.astype(int),
        "booleans": found > 0.5, "list": found.tolist(), "none": None, "objects": found.astype(object),
    }[shape]  # fmt: skip


def writes(outputs: Arrays, truth: Arrays, into: str) -> Any:
    {"outputs": outputs, "truth": truth}[into]["mel"][0] = 0
    return distance(outputs, truth)


def correlation(outputs: Arrays, truth: Arrays) -> Any:
    a, b = (each["mel"] - each["mel"].mean(axis=0) for each in (outputs, truth))
    with np.errstate(invalid="ignore"):
        return (a * b).sum(axis=1) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))


def breaks(outputs: Arrays, truth: Arrays) -> Any:
    return outputs["mal"]


def breaks_on_constants(outputs: Arrays, truth: Arrays) -> Any:
    if np.ptp(outputs["mel"], axis=0).max() == 0:
        raise ValueError("no contour to align")
    return distance(outputs, truth)


def speaks(outputs: Arrays, truth: Arrays) -> Any:
    raise RecipeError("metric", "the pitch tracker has no voice", "Sing")


def easy(outputs: Arrays, truth: Arrays) -> Any:
    return np.minimum(np.abs(outputs["mel"] - truth["mel"]).mean(axis=1), 0.5)


NUMBER = 3


# -- judging


def asked(name: str, **more: Any) -> dict[str, Any]:
    return {"metric": f"{__name__}:{name}", **({"max": 0.5} if "min" not in more else {}), **more}


def teach(
    name: str, student: Arrays = STUDENT, teacher: Arrays = TEACHER, **more: Any
) -> tuple[Verdict, ...]:
    outputs = demand.outputs(more.pop("outputs", {}))
    gate = demand.qualities(asked(name, **more), "teacher")
    return teacher_gate("m:reference", dict(student), dict(teacher), gate, outputs)


def test_the_figure_is_the_mean_and_has_an_interval() -> None:
    student = {"mel": MEL + GENERATOR.normal(scale=0.1, size=MEL.shape).astype(np.float32)}
    (found,) = teach("distance", student)
    each = np.abs(student["mel"] - MEL).mean(axis=1).astype(np.float64)
    assert (found.metric, found.output, found.against, found.limit) == ("distance", "", "teacher", 0.5)
    assert found.measured == found.needed == pytest.approx(each.mean())
    assert found.ok
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * each.std() / np.sqrt(40), rel=0.2)
    worst = int(each.argmax())
    assert f"on 40 samples (95 %: {found.low:.4g} to {found.high:.4g}), at most 0.5" in found.detail
    assert f"worst at sample {worst}: {each[worst]:.4g}" in found.detail
    assert found.more_is_better is False


@pytest.mark.parametrize(("limit", "ok"), [(0.1001, True), (0.0999, False)])
def test_max_is_the_most_that_passes(limit: float, ok: bool) -> None:
    (found,) = teach("distance", max=limit)
    assert found.ok is ok
    assert found.measured == pytest.approx(0.1, rel=1e-5)


@pytest.mark.parametrize(("limit", "ok"), [(-0.1001, True), (-0.0999, False)])
def test_min_is_the_least_that_passes(limit: float, ok: bool) -> None:
    (found,) = teach("likeness", min=limit)
    assert (found.ok, found.more_is_better) == (ok, True)
    assert f"at least {limit:g} is due" in found.detail


def test_it_is_called_with_its_arguments_and_named_as_an_output_says() -> None:
    (found,) = teach("distance", args={"scale": 2}, output="mel")
    assert found.output == "mel"
    assert found.measured == pytest.approx(0.2, rel=1e-5)


def test_the_task_gate_gives_it_the_labels_by_name() -> None:
    truths = {"label": MEL, "label.long": LONG}
    gate = demand.qualities([asked("on_labels"), asked("of_lengths", max=0.3)], "task")
    mel, long = task_gate("m:reference", STUDENT, truths, gate)
    assert (mel.against, mel.ok, mel.measured) == ("label", True, pytest.approx(0.1, rel=1e-5))
    assert (long.ok, long.measured) == (True, 0)


def on_labels(outputs: Arrays, truth: Arrays) -> Any:
    assert sorted(truth) == ["label", "label.long"]
    return np.abs(outputs["mel"] - truth["label"]).mean(axis=1)


def of_lengths(outputs: Arrays, truth: Arrays) -> Any:
    return np.abs(outputs["long"] - truth["label.long"]).astype(np.float64)


def test_the_teacher_need_not_have_the_outputs_of_the_student() -> None:
    (found,) = teach("distance", {**STUDENT, "own": MEL})
    assert found.ok


def test_whole_numbers_stay_whole_where_they_are_replaced_by_their_mean() -> None:
    (found,) = teach("lengths", {"long": LONG, "mel": MEL}, max=0.5)
    assert found.constant == pytest.approx(np.abs(LONG - 6).mean())


def test_past_its_length_an_output_is_blank_on_both_sides() -> None:
    n = np.array([2, 3] * 20)
    noisy = np.where(np.arange(6) < n[:, None], MEL, np.float32(np.nan))
    found = teach(
        "distance", {"mel": noisy, "n": n}, {"mel": noisy, "n": n}, outputs={"mel": {"lengths": "n"}}, max=0.2
    )
    assert [(v.metric, v.measured, v.ok) for v in found] == [("distance", 0, True)]


# -- what is refused


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "inf")])
@pytest.mark.parametrize("bound", [{"min": -9}, {"max": 9}])
def test_a_number_that_is_none_is_red_and_named(value: float, kind: str, bound: dict[str, Any]) -> None:
    (found,) = teach("flawed", args={"value": value}, **bound)
    assert (found.metric, found.measured, found.ok) == (kind, None, False)
    assert "at sample 3 (37 of 40 are no numbers)" in found.detail


def test_a_mean_beyond_all_numbers_is_red() -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        (found,) = teach("huge", min=0)
    assert (found.measured, found.ok) == (None, False)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("matrix", r"gave numbers of shape \(40, 1\), not one for each of 40 samples"),
        ("fewer", r"gave numbers of shape \(39,\), not one for each of 40"),
        ("one", "gave float32, not a NumPy array"),
        ("integers", "gave an array of int64, not a NumPy array of floating numbers"),
        ("booleans", "gave an array of bool"),
        ("objects", "gave an array of object"),
        ("list", "gave list, not a NumPy array"),
        ("none", "gave NoneType"),
    ],
)
def test_what_is_not_one_number_a_sample_is_an_error(shape: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        teach("shaped", args={"shape": shape})
    assert caught.value.place == "gates/teacher/metric"
    assert caught.value.remedy.startswith("Return one number for each sample")


@pytest.mark.parametrize("into", ["outputs", "truth"])
def test_what_it_is_given_cannot_be_written_to(into: str) -> None:
    before = {name: each.copy() for name, each in STUDENT.items()}
    with pytest.raises(RecipeError, match="read-only"):
        teach("writes", args={"into": into})
    assert all((STUDENT[name] == each).all() for name, each in before.items())


def test_what_it_raises_is_told_with_the_names_it_was_given() -> None:
    with pytest.raises(RecipeError, match="breaks failed: KeyError: 'mal'") as caught:
        teach("breaks")
    assert caught.value.remedy == "It is given the outputs mel, long and as truth mel, spectrum, long."
    with pytest.raises(RecipeError) as caught:
        teach("speaks")
    assert str(caught.value) == "metric: the pitch tracker has no voice. Sing"
    with pytest.raises(RecipeError, match="unexpected keyword argument 'scael'"):
        teach("distance", args={"scael": 1})


def test_it_has_to_bear_outputs_that_are_all_the_same() -> None:
    words = "its outputs all replaced by their mean, failed: ValueError: no contour to align"
    with pytest.raises(RecipeError, match=words):
        teach("breaks_on_constants")


def test_no_figure_of_constants_is_none_that_they_meet() -> None:
    (found,) = teach("correlation", min=0.9)
    assert (found.ok, found.constant) == (True, None)
    assert found.needed == found.measured


def test_a_limit_that_constant_outputs_meet_is_vacuous() -> None:
    words = (
        "gates/teacher/max: 0.5 would pass a model that always gives the mean of its outputs, which reaches"
    )
    with pytest.raises(RecipeError, match=words) as caught:
        teach("easy", max=0.5)
    assert caught.value.remedy.startswith("Demand less than 0.")
    with pytest.raises(RecipeError, match=r"Demand more than -0\."):
        teach("likeness", min=-2)
    assert passed(teach("easy", max=0.3))


def test_a_student_that_always_says_the_same_never_passes() -> None:
    same = np.broadcast_to(MEL[0], MEL.shape).copy()
    (found,) = teach("distance", {"mel": same}, max=0.5)
    assert not found.ok
    assert found.needed is None
    with pytest.raises(RecipeError, match="would pass a model"):
        teach("distance", {"mel": same}, max=9)


@pytest.mark.parametrize(
    ("student", "teacher", "kind"),
    [
        ({**STUDENT, "mel": STUDENT["mel"] * np.float32(np.nan)}, TEACHER, "nan"),
        ({**STUDENT, "mel": STUDENT["mel"] * np.float32(np.inf)}, TEACHER, "inf"),
        (STUDENT, {**TEACHER, "spectrum": MEL * np.float32(np.nan)}, "nan"),
        ({**STUDENT, "mel": STUDENT["mel"][:-1]}, TEACHER, "samples"),
        (STUDENT, {**TEACHER, "spectrum": MEL[:-1]}, "samples"),
        (
            {name: each[:0] for name, each in STUDENT.items()},
            {n: each[:0] for n, each in TEACHER.items()},
            "empty",
        ),
        ({**STUDENT, "mel": STUDENT["mel"] * 0}, TEACHER, "zero"),
        ({}, TEACHER, "empty"),
        (STUDENT, {}, "samples"),
    ],
)
@pytest.mark.parametrize("name", ["distance", "breaks"])
def test_outputs_that_cannot_be_judged_are_red_and_reach_no_metric(
    student: Any, teacher: Any, kind: str, name: str
) -> None:
    found = teach(name, student, teacher)
    assert not passed(found)
    assert kind in {v.metric for v in found}
    assert all(v.measured is None for v in found)


def test_a_truth_may_be_the_same_everywhere() -> None:
    (found,) = teach("distance", teacher={**TEACHER, "mask": np.ones(40), "none": np.zeros(40)})
    assert found.ok


def test_an_output_that_is_not_there() -> None:
    with pytest.raises(RecipeError, match=r'the student has no output "mal"\. Did you mean "mel"') as caught:
        teach("distance", output="mal")
    assert caught.value.place == "gates/teacher/output"


def test_what_is_no_function_or_has_a_name_that_is_taken() -> None:
    with pytest.raises(RecipeError, match="NUMBER is int, not a function"):
        teach("NUMBER")
    with pytest.raises(RecipeError, match='has no "distanse"'):
        teach("distanse")
    with pytest.raises(ManifestError, match='"length" is the name of another verdict'):
        teach("length")


def test_the_line_that_failed_reaches_whoever_waits_for_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[1])
    given = job.Job("m:x", f"{__name__}:recipe", {}, {"metric": "breaks"}, str(tmp_path), "the log")
    place, fact, remedy = job._attempt(given)["failed"]
    line = next(
        n for n, text in enumerate(Path(__file__).read_text().splitlines(), 1) if 'outputs["mal"]' in text
    )
    assert place == "gates/teacher/metric"
    assert fact.endswith(f"breaks failed: KeyError: 'mal' (tests/{Path(__file__).name}:{line})")
    assert remedy.endswith("The whole traceback is in the log.")
    assert json.dumps([place, fact, remedy])


def recipe(inputs: Any, params: Any, out: Any) -> None:
    teach(params["metric"])
