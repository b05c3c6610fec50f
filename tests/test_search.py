"""The targets of a search: what each depends on, and above all what it does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from search_example import CYCLES, GATES, STUDENT, asked, listed, model

import modelbuild
from modelbuild import callables, schemas, search
from modelbuild.closure import ClosureReader
from modelbuild.declare import Search, Student
from modelbuild.errors import ManifestError
from modelbuild.search import Shared
from modelbuild.targets import Target

ROOT = Path(modelbuild.__file__).parent.parent
RANGES = {
    "args.width": {"low": 2, "high": 5},
    "train.lr": {"low": 0.001, "high": 0.1, "log": True},
    "distil.soft.kind": {"choices": ["kl", "my.losses:distance"]},
}
PROPOSING = (
    {"steps": 40},
    {"steps": 80, "keep": 3, "proposals": 2},
    {"steps": 160, "keep": 2, "proposals": 1},
)
CAPACITY = {"capacity": {"budget": 1000, "fraction": 0.65}, "platform": "ios"}


def shared(capacity: Mapping[str, Any] = {}) -> Shared:
    def code(each: Student) -> tuple[str, ...]:
        kind = each.distil["soft"]["kind"]
        return tuple(path.partition(":")[0] for path in (each.module, kind) if ":" in path)

    trained = {"train": "m:data.train", "said.train": "m:teacher.outputs.train"}
    judged = {"data": "m:data.validation", "said": "m:teacher.outputs.validation"}
    return Shared(trained, judged, {"evaluation": "m:data.evaluation"} if capacity else {}, capacity, code)


def laid(
    search_: Search,
    gates: Mapping[str, Any] = GATES,
    capacity: Mapping[str, Any] = {},
    student: Student = STUDENT,
) -> dict[str, Target]:
    found = list(search.targets(model(gates), search_, student, shared(capacity)))
    assert len({target.name for target in found}) == len(found)
    return {target.name.removeprefix("m:"): target for target in found}


def trainings(found: Mapping[str, Target]) -> dict[str, Target]:
    return {name: target for name, target in found.items() if target.recipe == search.TRAIN}


# -- overrides and ranges


def test_overrides_are_merged_deeply_and_null_takes_out() -> None:
    base = {
        "args": {"width": 4, "deep": {"a": 1, "b": 2}},
        "train": {"clip": 1.0, "lr": 0.1},
        "module": "x:Y",
    }
    overrides = {
        "args": {"deep": {"b": 3}, "new": [1]},
        "train": {"clip": None},
        "distil": {"soft": {"kind": "l2"}},
    }
    assert search.merged(base, overrides) == {
        "args": {"width": 4, "deep": {"a": 1, "b": 3}, "new": [1]},
        "train": {"lr": 0.1},
        "module": "x:Y",
        "distil": {"soft": {"kind": "l2"}},
    }
    assert base["train"] == {"clip": 1.0, "lr": 0.1}
    assert search.merged({"task": 0.5}, {"task": {"weight": 1}}) == {"task": {"weight": 1}}
    assert search.merged({"task": {"weight": 1}}, {"task": 0.5}) == {"task": 0.5}


def test_a_value_is_placed_at_a_path_and_the_student_stays_as_it_was() -> None:
    student = search.told(STUDENT)
    before = {**student, "args": {**student["args"]}}
    assert search.placed(student, "distil.soft.temperature", 3)["distil"]["soft"]["temperature"] == 3
    assert search.placed(student, "train.unlabelled_share", 0.2)["train"]["unlabelled_share"] == 0.2
    assert search.placed({"distil": {}}, "distil.soft.weight", 1) == {"distil": {"soft": {"weight": 1}}}
    assert search.placed({"module": "a:B"}, "module", "c:D") == {"module": "c:D"}
    entries = {"distil": {"soft": [{"weight": 1}, {"weight": 2}, {"weight": 3}]}}
    assert search.placed(entries, "distil.soft.1.weight", 9)["distil"]["soft"] == [
        {"weight": 1},
        {"weight": 9},
        {"weight": 3},
    ]
    assert student == before


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("distil.task.weight", 'there is no "weight" to draw: the student has 0.0 there'),
        ("args.list.3", 'there is no "3" to draw: the student has [1, 2] there'),
        ("args.list.last", 'there is no "last" to draw'),
        ("module.name", 'there is no "name" to draw'),
    ],
)
def test_a_path_that_leads_through_a_value_is_refused(path: str, words: str) -> None:
    student = {**search.told(STUDENT), "args": {"list": [1, 2]}}
    with pytest.raises(ManifestError) as caught:
        search.placed(student, path, 1)
    assert caught.value.place == f"search/ranges/{path}" and words in caught.value.fact


def test_a_preset_that_a_candidate_names_is_written_out() -> None:
    student = Student("a:B", {}, None, {"soft": {"weight": 2}}, {})
    found = laid(Search(CYCLES, {"own": {"distil": {"preset": "distilbert"}}}, {}, 0, 0), student=student)
    distil = found["search.own"].params["student"]["distil"]
    assert "preset" not in distil and distil["soft"] == {"kind": "kl", "weight": 2, "temperature": 2}


def test_the_networks_are_those_of_the_candidates_and_of_every_value_that_may_be_drawn() -> None:
    found = search.networks(asked(listed(a=4, b=9), PROPOSING, ranges=RANGES), STUDENT)
    assert [each["args"]["width"] for each in found] == [4, 9, 2, 3, 5]
    assert all(set(each) == {"module", "args"} for each in found)
    assert search.networks(asked(listed(a=9)), STUDENT) == [{"module": STUDENT.module, "args": {"width": 9}}]


@pytest.mark.parametrize(
    ("each", "values"),
    [
        ({"low": 2, "high": 9, "step": 3}, [2, 5, 8]),
        ({"low": 1, "high": 64}, [*range(1, 65)]),
        ({"low": 1, "high": 65}, [1, 65]),
        ({"low": 0.5, "high": 2}, [0.5, 2]),
        ({"low": 1, "high": 2, "step": 0.5}, [1, 2]),
        ({"choices": [1, [2], None]}, [1, [2], None]),
    ],
)
def test_what_stands_for_the_values_of_a_range(each: dict[str, Any], values: list[Any]) -> None:
    found = search.networks(asked({}, ranges={"args.x": each}, samples=1), STUDENT)
    assert [net["args"].get("x", "base") for net in found] == ["base", *values]


def test_the_code_is_that_of_every_network_there_may_be() -> None:
    candidates = {"other": {"module": "b.nets:B"}, "same": {}}
    choices = {"module": {"choices": ["c.nets:C", "a.nets:A"]}}
    assert search.code(asked(candidates), STUDENT) == ("b.nets", "search_example")
    assert search.code(asked({"other": candidates["other"]}), STUDENT) == ("b.nets",)
    drawn = search.code(asked({"other": candidates["other"]}, ranges=choices, samples=1), STUDENT)
    assert drawn == ("a.nets", "b.nets", "c.nets", "search_example")


# -- the layout


def test_inputs_come_before_what_is_made_from_them_and_the_student_last() -> None:
    found = laid(asked(listed(a=2, b=4), PROPOSING, ranges=RANGES, samples=2))
    seen: set[str] = set()
    for name, target in found.items():
        inside = {each for each in target.inputs.values() if each.startswith("m:search.")}
        assert inside <= seen
        seen.add(f"m:{name}")
    assert [*found][-1] == "student"


def test_names_of_targets_cannot_be_those_of_candidates() -> None:
    cycles = schemas.resolved(schemas.MODEL)["properties"]["search"]["properties"]["cycles"]
    assert cycles["maxItems"] == search.MOST_CYCLES
    many = [{"steps": at, "keep": 1, "proposals": 1} for at in range(1, search.MOST_CYCLES + 1)]
    found = laid(asked(listed(a=2), ({"steps": 1}, *many[1:]), ranges=RANGES, samples=2))
    alone = {name.removeprefix("search.") for name in found if name.count(".") == 1}
    described = {n for n in alone if found[f"search.{n}"].recipe in (search.DESCRIBE, search.DRAW)}
    assert alone - described == {each for each in search.RESERVED if each != "history-1"}
    assert described - {"a"} and all(name.startswith(search.DRAWN) for name in described - {"a"})


def test_a_training_knows_its_candidate_the_steps_its_data_and_where_it_stood() -> None:
    found = laid(asked(listed(a=2, b=4)))
    own = {"train": "m:data.train", "said.train": "m:teacher.outputs.train", "candidate": "m:search.a"}
    first, second = found["search.a.cycle1"], found["search.a.cycle2"]
    assert first.inputs == own
    assert first.params == {"until": 40, "steps": 160}
    assert second.inputs == {**own, "go": "m:search.a.on-2", "before": "m:search.a.cycle1"}
    assert second.params == {"until": 80, "steps": 160}
    assert found["search.a.on-2"].inputs == {"cycle": "m:search.cycle1"}
    assert first.modules == ("search_example",) and first.files == {} and first.machine == {}


def test_a_further_candidate_leaves_every_other_target_as_it_is() -> None:
    before = laid(asked(listed(a=2, b=4), PROPOSING, ranges=RANGES, samples=2), capacity=CAPACITY)
    after = laid(asked(listed(a=2, c=3, b=4), PROPOSING, ranges=RANGES, samples=2), capacity=CAPACITY)
    changed = {name for name, target in before.items() if after[name] != target}
    assert changed == {"search.cycle1", "search.cycle2", "search.cycle3", "student"}
    assert {name for name in after if name not in before and not name.startswith("search.c.")} == {"search.c"}


def test_one_more_draw_leaves_the_draws_before_it_as_they_are() -> None:
    before = laid(asked({}, PROPOSING, ranges=RANGES, samples=2))
    after = laid(asked({}, PROPOSING, ranges=RANGES, samples=3))
    assert {name for name in before if after[name] != before[name]} == {
        *(
            "search.history-2",
            "search.history-3",
            "search.cycle1",
            "search.cycle2",
            "search.cycle3",
            "student",
        )
    }


def test_gates_and_budgets_train_nobody_anew() -> None:
    plain = asked(listed(a=2), PROPOSING, ranges=RANGES, samples=1)
    other = {"task": {"metric": "accuracy", "min": 0.5}}
    more = {**CAPACITY, "capacity": {"budget": 2000, "fraction": 0.65}}
    assert trainings(laid(plain)) == trainings(laid(plain, gates=other))
    assert trainings(laid(plain, capacity=CAPACITY)) == trainings(laid(plain, capacity=more))


def test_a_proposal_is_drawn_from_what_is_known_of_drawn_ones_alone() -> None:
    found = laid(asked(listed(a=2), PROPOSING, ranges=RANGES, samples=1))
    assert found["search.draw-1"].inputs == {}
    assert found["search.proposal-2-2"].inputs == {"history": "m:search.history-2"}
    assert found["search.history-3"].inputs == {
        **{f"candidate.{name}": f"m:search.{name}" for name in ("draw-1", "proposal-2-1", "proposal-2-2")},
        "assessment.draw-1": "m:search.draw-1.assessment-1",
        "assessment.proposal-2-1": "m:search.proposal-2-1.assessment-2",
        "assessment.proposal-2-2": "m:search.proposal-2-2.assessment-2",
    }
    assert "search.proposal-3-1.cycle2" not in found and "search.proposal-3-1.on-3" not in found
    assert found["search.proposal-3-1.cycle3"].inputs.keys() == {"train", "said.train", "candidate"}
    assert found["search.proposal-3-1"].params["draw"] == {"seed": 0, "cycle": 3, "index": 1}


def test_a_cycle_knows_everyone_so_far_and_how_many_go_on() -> None:
    found = laid(asked(listed(a=2), PROPOSING, ranges=RANGES, samples=1), capacity=CAPACITY)
    assert set(found["search.cycle2"].inputs) == {
        "before",
        *(f"{kind}.{name}" for kind in ("candidate", "assessment") for name in ("a", "draw-1")),
        *(f"{kind}.proposal-2-{at}" for kind in ("candidate", "assessment") for at in (1, 2)),
    }
    told = {
        name: found[f"search.cycle{at}"].params for at, name in ((1, "first"), (2, "second"), (3, "last"))
    }
    assert [told[name]["keep"] for name in ("first", "second", "last")] == [3, 2, None]
    assert told["first"]["capacity"] == CAPACITY["capacity"]
    assert found["student"].inputs["student.a"] == "m:search.a.cycle3"
    assert found["student"].inputs["cycle"] == "m:search.cycle3"


def test_the_size_is_measured_where_there_is_a_capacity() -> None:
    described = laid(asked(listed(a=2)), capacity=CAPACITY)["search.a"]
    assert described.inputs == {"evaluation": "m:data.evaluation"}
    assert described.params["capacity"] == CAPACITY["capacity"] and described.params["platform"] == "ios"
    assert laid(asked(listed(a=2)))["search.a"].inputs == {}


def test_code_is_that_of_the_network_its_losses_and_the_metrics_of_the_gates() -> None:
    gates = {"teacher": [{"metric": "my.metrics:far", "max": 1}], "task": {"metric": "l1", "max": 1}}
    found = laid(asked({"own": {"module": "b.nets:B"}}, ranges=RANGES, samples=1), gates=gates)
    assert found["search.own.cycle1"].modules == ("b.nets",)
    assert found["search.draw-1.cycle1"].modules == ("my.losses", "search_example")
    assert found["search.own.assessment-1"].modules == ("b.nets", "my.metrics")
    assert found["search.draw-1"].modules == ("search_example",)
    assert found["search.own.assessment-1"].params["gates"] == gates


def test_an_assessment_reads_the_data_it_judges_on() -> None:
    found = laid(asked(listed(a=2)), gates={"task": GATES["task"]})["search.a.assessment-2"]
    assert found.inputs == {**shared().judged, "student": "m:search.a.cycle2"}
    assert found.params == {"gates": {"task": GATES["task"]}, "outputs": {}}


# -- what cannot be


def test_a_search_without_a_gate_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ManifestError) as caught:
        laid(asked(listed(a=2)), gates={})
    assert caught.value.place == "manifests/m.json#/search" and "no gate says" in caught.value.fact


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (asked({"long": {"train": {"steps": 900}}}), "candidates/long/train/steps"),
        (asked({}, ranges={"train.steps": {"low": 1, "high": 9}}, samples=1), "ranges/train.steps"),
    ],
)
def test_the_cycles_alone_say_how_long_is_trained(found: Search, place: str) -> None:
    with pytest.raises(ManifestError) as caught:
        laid(found)
    assert caught.value.place == f"manifests/m.json#/search/{place}"


# -- code


def test_code_that_judges_draws_or_decides_trains_nobody_anew() -> None:
    reader = ClosureReader(ROOT, lambda path: path.read_text(), {})
    found = {
        recipe: {name for name, _ in reader.closure((recipe.module,)).files}
        for recipe in (search.TRAIN, search.DESCRIBE, search.CYCLE)
    }
    training = found[search.TRAIN]
    assert "modelbuild.training.loop" in training
    assert not {
        name for name in training if ".equivalence" in name or ".report" in name or "search" in name
    } - {search.TRAIN.module}
    assert "optuna" not in reader.closure((search.DESCRIBE.module,)).external
    assert "optuna" in reader.closure((search.DRAW.module,)).external
    assert "torch" not in reader.closure((search.CYCLE.module,)).external


def test_every_recipe_is_there() -> None:
    recipes = {
        target.recipe for target in laid(asked(listed(a=2), PROPOSING, ranges=RANGES, samples=1)).values()
    }
    assert all(callable(callables.resolve(recipe.function)) for recipe in recipes)
    assert len(recipes) == 8
