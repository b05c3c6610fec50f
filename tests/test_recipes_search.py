"""A search from end to end on tiny networks: who is trained, who goes on, who is chosen, and what a failure says."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import search_example
import torch
from search_example import CYCLES, GATES, STUDENT, Chain, asked, folder_digest, listed

from modelbuild import dataset, network, tensors
from modelbuild.errors import ManifestError, RecipeError
from modelbuild.recipes import distil, search, search_cycles, search_draws, search_quality, search_training

torch.set_num_threads(1)
WIDTHS = {"tiny": 1, "small": 4, "middle": 8, "large": 48}
LONG = ({"steps": 40}, {"steps": 160, "keep": 3}, {"steps": 320, "keep": 3})
RANGES: dict[str, Any] = {
    "args.width": {"low": 2, "high": 40, "step": 3},
    "distil.soft.temperature": {"low": 1.0, "high": 4.0},
    "train.lr": {"low": 0.01, "high": 0.1, "log": True},
}
PROPOSING = (
    {"steps": 20},
    {"steps": 40, "keep": 2, "proposals": 2},
    {"steps": 60, "keep": 2, "proposals": 1},
)
EASY = {"teacher": {"metric": "agreement", "min": 0.5}}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    chain = Chain(tmp_path_factory.mktemp("searched"))
    chain.build(asked(listed(**WIDTHS), LONG))
    return chain


def folder(path: Path, **files: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        dataset.write_json(path / f"{name}.json", value)
    return path


# -- the whole of it


def test_the_smallest_that_passes_wins_over_a_larger_one_that_is_better(searched: Chain) -> None:
    last, first = searched.table(3), searched.table(1)
    passing = {name for name, row in last.items() if row["ok"] and row["state"] == "trained"}
    chosen = searched.read("student", "training.json")["chosen"]["name"]
    assert chosen == min(passing, key=lambda name: last[name]["parameters"]) == "middle"
    assert last["large"]["quality"]["measured"] > last["middle"]["quality"]["measured"] >= 0.9
    assert last["large"]["why"] == "larger than needed: middle passes every gate with 51 parameters"
    assert {name for name in first if first[name]["ok"]} == set()


def test_the_student_is_the_very_one_that_was_trained(searched: Chain) -> None:
    student, trained = (searched.out[f"m:{name}"] for name in ("student", "search.middle.cycle3"))
    for name in ("network.json", "weights.safetensors"):
        assert (student / name).read_bytes() == (trained / name).read_bytes()
    assert sorted(path.name for path in student.iterdir()) == [
        *("network.json", "training.json", "weights.safetensors")
    ]
    told = searched.read("student", "training.json")
    assert told.pop("chosen")["why"] == "the smallest that passes every gate on the validation data"
    assert told == searched.read("search.middle.cycle3", "training.json")
    assert network.described(student)["args"] == {"width": 8}


def test_the_hopeless_is_stopped_and_nothing_more_is_done_for_it(searched: Chain) -> None:
    assert searched.table(1)["tiny"]["goes_on"] is False
    assert searched.read("search.tiny.on-2", "go.json") == {"go": False}
    for cycle in (2, 3):
        stopped = searched.out[f"m:search.tiny.cycle{cycle}"]
        assert [path.name for path in stopped.iterdir()] == ["training.json"]
        assert json.loads((stopped / "training.json").read_text()) == {"stopped": True}
    row = searched.table(3)["tiny"]
    assert (row["state"], row["steps"]) == ("stopped", 40)
    assert row["why"] == searched.table(1)["tiny"]["why"]


def test_cycles_together_are_one_training(searched: Chain, tmp_path: Path) -> None:
    """Cut into cycles it ends with the same bytes; so the schedule is that of the last cycle's steps."""
    candidate = searched.read("search.middle", "candidate.json")
    inputs = {role: searched.root / "given" / name for role, name in searched.shared().trained.items()}
    whole = {**candidate, "train": {**candidate["train"], "steps": LONG[-1]["steps"]}}
    distil.train_candidate(inputs, whole, folder(tmp_path / "whole"))
    parts = searched.out["m:search.middle.cycle3"]
    assert (tmp_path / "whole/weights.safetensors").read_bytes() == (
        parts / "weights.safetensors"
    ).read_bytes()


def test_a_further_candidate_trains_that_one_alone(searched: Chain) -> None:
    before = {name: folder_digest(path) for name, path in searched.out.items() if ".cycle" in name}
    searched.build(asked(listed(**WIDTHS, more=2), LONG))
    again = searched.trained()
    searched.build(asked(listed(**WIDTHS), LONG))
    assert again == ["m:search.more.cycle1"]
    trainings = [name for name in before if name.count(".") == 2]
    assert all(folder_digest(searched.out[name]) == before[name] for name in trainings)
    assert searched.ran == []


def test_another_gate_judges_anew_and_trains_nobody(searched: Chain) -> None:
    gates = {**GATES, "teacher": {"metric": "agreement", "min": 0.91}}
    searched.build(asked(listed(**WIDTHS), LONG), gates=gates)
    assert searched.trained() == [] and "m:search.small.assessment-1" in searched.ran


def test_none_that_passes_fails_with_how_far_the_nearest_came(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    with pytest.raises(RecipeError) as caught:
        chain.build(asked(listed(tiny=1, two=2, three=3)))
    nearest = min(chain.table(3).values(), key=lambda row: row["shortfall"])
    measured = nearest["quality"]["measured"]
    assert caught.value.fact == (
        "no candidate passes every gate on the validation data after 160 steps; the nearest, "
        f"{nearest['name']} with {nearest['parameters']} parameters: agreement {measured:.4g} on output against the "
        "teacher, at least 0.9 is due"
    )
    assert caught.value.remedy == (
        "Give the last cycle more steps, or add larger candidates; the report shows every cycle."
    )
    assert chain.read("search.cycle3", "cycle.json")["chosen"] is None


def test_what_is_judged_on_is_the_validation_data(searched: Chain) -> None:
    folder_ = searched.out["m:search.middle.cycle3"]
    x = tensors.load(searched.root / "given/data.validation/data.safetensors")["x"]
    with torch.no_grad():
        said = network.restore(folder_)(torch.tensor(x)).argmax(1).numpy()
    share = float((said == search_example.taught(x).argmax(1)).mean())
    assert searched.table(3)["middle"]["quality"]["measured"] == pytest.approx(share)


# -- size


ROOM = {"capacity": {"budget": 1000, "fraction": 0.65}, "platform": "ios"}


def test_what_is_over_the_capacity_is_out_and_never_trained(tmp_path: Path) -> None:
    chain = Chain(tmp_path, capacity=ROOM)
    chain.build(asked(listed(small=4, middle=8, large=26), CYCLES), gates=EASY)
    row = chain.table(1)["large"]
    assert (row["state"], row["parameters"], row["goes_on"], row["steps"]) == ("over", 159, False, 0)
    assert row["why"].startswith(f"takes {row['bytes']:,} bytes") and "the limit is 650" in row["why"]
    assert chain.read("search.cycle1", "cycle.json")["limit"] == 650 < row["bytes"]
    assert chain.read("search.large.cycle1", "training.json") == {"stopped": True}
    assert chain.table(3)["large"]["state"] == "over"
    assert not [name for name in chain.trained() if ".large." in name]

    chain.capacity = {**ROOM, "capacity": {"budget": 1200, "fraction": 0.65}}
    chain.build(asked(listed(small=4, middle=8, large=26), CYCLES), gates=EASY)
    assert chain.trained() == [] and "m:search.small" in chain.ran
    chain.capacity = {**ROOM, "capacity": {"budget": 10_000, "fraction": 0.65}}
    chain.build(asked(listed(small=4, middle=8, large=26), CYCLES), gates=EASY)
    assert chain.trained() == ["m:search.large.cycle1"]


def test_when_all_are_out_the_failure_says_why(tmp_path: Path) -> None:
    chain = Chain(tmp_path, capacity=ROOM)
    with pytest.raises(
        RecipeError, match=r"no candidate could be trained to the end: huge: takes 1,\d+ bytes"
    ):
        chain.build(asked(listed(huge=40)))


def test_a_listed_one_that_cannot_be_built_is_a_mistake_and_a_drawn_one_is_out(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    with pytest.raises(RecipeError, match="failed when called with") as caught:
        chain.build(asked({"wrong": {"args": {"breadth": 4}}}))
    assert caught.value.place == "search_example:Mlp"
    ranges = {"args.width": {"choices": ["wide", 8]}}
    chain.build(asked(listed(small=4), CYCLES, ranges=ranges, samples=6), gates=EASY)
    rows = {name: row for name, row in chain.table(1).items() if name.startswith("draw")}
    assert {row["state"] for row in rows.values()} == {"over", "trained"}
    out = next(row for row in rows.values() if row["state"] == "over")
    assert out["why"].startswith("cannot be built: search_example:Mlp: failed when called with")
    assert (out["parameters"], out["differs"]) == (None, {"args.width": '"wide"'})
    assert [*chain.table(1)][-1] in rows and chain.table(3)


def test_a_range_of_an_argument_that_the_class_does_not_take_is_a_mistake(tmp_path: Path) -> None:
    ranges = {"args.widht": {"low": 2, "high": 4}}
    with pytest.raises(RecipeError, match='takes no argument "widht"') as caught:
        Chain(tmp_path).build(asked(listed(small=4), CYCLES, ranges=ranges, samples=1), gates=EASY)
    assert (caught.value.place, caught.value.remedy) == ("search.ranges.args.widht", 'Did you mean "width"?')


# -- trainings that break


def test_a_training_that_runs_away_is_out_and_the_others_go_on(tmp_path: Path) -> None:
    wild = {
        "train": {"optimiser": "sgd", "lr": 1e30},
        "distil": {"soft": {"kind": "l2", "temperature": None}},
    }
    chain = Chain(tmp_path)
    chain.build(asked({**listed(small=4), "wild": wild}), gates=EASY)
    row = chain.table(1)["wild"]
    assert row["state"] == "failed" and row["goes_on"] is False and row["shortfall"] is None
    assert "at step" in row["why"] and ("nan" in row["why"] or "inf" in row["why"])
    assert chain.read("search.wild.cycle2", "training.json") == {"stopped": True}
    assert chain.table(3)["wild"]["state"] == "failed"
    assert chain.read("student", "training.json")["chosen"]["name"] == "small"


def test_any_other_error_of_a_training_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RecipeError(
            "train.device", "there is no cuda on this machine", 'Use "auto": it takes what is there.'
        )

    monkeypatch.setattr(distil, "train_candidate", broken)
    with pytest.raises(RecipeError) as caught:
        Chain(tmp_path).build(asked(listed(small=4)))
    assert caught.value.place == "train.device"


def test_a_training_is_given_what_it_goes_on_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def train(inputs: Mapping[str, Path], candidate: Any, out: Path, until: int, start: Path | None) -> None:
        seen.append((candidate["train"]["steps"], candidate["args"], until, start))

    monkeypatch.setattr(distil, "train_candidate", train)
    candidate = {"args": {"width": 4}, "train": {"steps": 7, "lr": 1}, "over": None}
    inputs = {"candidate": folder(tmp_path / "candidate", candidate=candidate)}
    params = {"until": 40, "steps": 160}
    search_training.train(inputs, params, tmp_path)
    inputs |= {"go": folder(tmp_path / "go", go={"go": True}), "before": tmp_path / "before"}
    search_training.train(inputs, params, tmp_path)
    inputs["go"] = folder(tmp_path / "no", go={"go": False})
    search_training.train(inputs, params, folder(tmp_path / "out"))
    assert seen == [(160, {"width": 4}, 40, None), (160, {"width": 4}, 40, tmp_path / "before")]


# -- draws and proposals


@pytest.mark.parametrize(
    ("each", "allowed"),
    [
        ({"low": 2, "high": 9, "step": 3}, {2, 5, 8}),
        ({"low": 1, "high": 4}, {1, 2, 3, 4}),
        ({"low": 1, "high": 4, "log": True}, {1, 2, 3, 4}),
        ({"low": 0.0, "high": 1.0, "step": 0.3}, {0.0, 0.3, 0.6, 0.9}),
        ({"choices": [1, "a", None, True, {"kind": "l2"}, [1]]}, None),
    ],
)
def test_values_are_of_the_range_and_all_of_it_is_reached(
    each: dict[str, Any], allowed: set[Any] | None
) -> None:
    found = [search_draws.draw({"args.x": each}, [0, 1, at])["args.x"] for at in range(60)]
    if allowed is None:
        assert {json.dumps(value) for value in found} == {json.dumps(value) for value in each["choices"]}
    else:
        assert {round(value, 6) for value in found} == allowed
        assert {type(value) for value in found} == {type(each["low"])}


def test_numbers_of_a_range_are_spread_over_it_evenly_or_by_their_logarithm() -> None:
    plain, log = {"low": 1e-4, "high": 1.0}, {"low": 1e-4, "high": 1.0, "log": True}
    for each, middle in ((plain, 0.5), (log, 1e-2)):
        found = [search_draws.draw({"train.lr": each}, [7, 1, at])["train.lr"] for at in range(80)]
        assert all(1e-4 <= value <= 1.0 for value in found)
        assert 25 < sum(value < middle for value in found) < 55


def test_a_range_has_steps_or_a_logarithm() -> None:
    with pytest.raises(RecipeError, match=r'search/ranges/args\.x: there is "step" beside "log"'):
        search_draws.draw({"args.x": {"low": 1, "high": 8, "step": 2, "log": True}}, [0, 1, 1])


def test_a_draw_depends_on_its_place_and_the_seed_and_on_nothing_else(tmp_path: Path) -> None:
    few, many, other = Chain(tmp_path / "a"), Chain(tmp_path / "b"), Chain(tmp_path / "c")
    few.build(asked({}, CYCLES, ranges=RANGES, samples=2), gates=EASY)
    many.build(asked(listed(small=4), CYCLES, ranges=dict(reversed(RANGES.items())), samples=4), gates=EASY)
    other.build(asked({}, CYCLES, ranges=RANGES, samples=2, seed=1), gates=EASY)

    def drawn(chain: Chain, at: int) -> Any:
        return chain.read(f"search.draw-{at}", "candidate.json")

    assert [drawn(few, at) for at in (1, 2)] == [drawn(many, at) for at in (1, 2)]
    assert len({json.dumps(drawn(many, at)["drawn"]) for at in (1, 2, 3, 4)}) == 4
    assert drawn(few, 1)["drawn"] != drawn(other, 1)["drawn"]


def test_what_is_drawn_is_what_is_trained(tmp_path: Path) -> None:
    chain = Chain(tmp_path)
    ranges = {
        **RANGES,
        "train.optimiser": {"choices": ["sgd", "adamw"]},
        "distil.task": {"low": 0.1, "high": 0.9},
    }
    chain.build(asked({}, CYCLES, ranges=ranges, samples=1), gates=EASY)
    found = chain.read("search.draw-1", "candidate.json")
    drawn = found["drawn"]
    assert set(drawn) == set(ranges)
    assert found["args"]["width"] == drawn["args.width"]
    assert found["distil"]["soft"] == {
        "kind": "kl",
        "weight": 1.0,
        "temperature": drawn["distil.soft.temperature"],
    }
    assert found["train"] == {
        **STUDENT.train,
        "lr": drawn["train.lr"],
        "optimiser": drawn["train.optimiser"],
    }
    assert found["distil"]["task"] == drawn["distil.task"]
    built = network.described(chain.out["m:search.draw-1.cycle1"])
    assert built["args"] == {"width": drawn["args.width"]}


def test_a_longer_path_goes_into_what_a_shorter_one_gave(tmp_path: Path) -> None:
    student = {**{name: getattr(STUDENT, name) for name in ("module", "args", "distil", "train")}}
    drawn = {"distil.soft.temperature": 3, "distil.soft": {"kind": "kl", "weight": 2}}
    search.write({}, {"student": student}, drawn, tmp_path)
    found = json.loads((tmp_path / "candidate.json").read_text())
    assert found["distil"]["soft"] == {"kind": "kl", "weight": 2, "temperature": 3}


def test_proposals_are_the_same_twice_and_no_listed_candidate_moves_them(tmp_path: Path) -> None:
    def candidates(root: Path, **widths: int) -> dict[str, Any]:
        chain = Chain(root)
        chain.build(asked(listed(**widths), PROPOSING, ranges=RANGES, samples=4), gates=EASY)
        return {
            name.removeprefix("m:search."): chain.read(name.removeprefix("m:"), "candidate.json")["drawn"]
            for name in chain.out
            if name.startswith("m:search.proposal") and name.count(".") == 1
        }

    one, two = candidates(tmp_path / "a"), candidates(tmp_path / "b", small=2, large=30)
    assert one == two
    assert [*one] == ["proposal-2-1", "proposal-2-2", "proposal-3-1"]
    assert len({json.dumps(each) for each in one.values()}) == 3


def trials(good: int) -> list[dict[str, Any]]:
    """Twelve draws: those near `good` are small and pass, the others are neither."""
    return [
        {
            "drawn": {"args.width": width, "train.optimiser": "sgd" if width == good else "adamw"},
            "parameters": 10 + abs(width - good),
            "shortfall": abs(width - good) / 10,
        }
        for width in range(1, 13)
    ]


def test_proposals_go_where_it_was_good() -> None:
    ranges = {"args.width": {"low": 1, "high": 12}, "train.optimiser": {"choices": ["adamw", "sgd"]}}
    for good in (2, 11):
        found = [search_draws.propose(ranges, [0, 2, at], trials(good)) for at in range(20)]
        assert abs(np.mean([each["args.width"] for each in found]) - good) < 2.5
        assert sum(each["train.optimiser"] == "sgd" for each in found) > 10
    blind = [search_draws.draw(ranges, [0, 2, at]) for at in range(20)]
    assert 4 < np.mean([each["args.width"] for each in blind]) < 9


def test_what_has_no_figures_counts_as_worse_than_all() -> None:
    ranges = {"args.width": {"low": 1, "high": 12}}
    known = [{**each, "drawn": {"args.width": each["drawn"]["args.width"]}} for each in trials(2)]
    lost = [
        {**each, "parameters": None, "shortfall": None} if each["shortfall"] > 0.2 else each for each in known
    ]
    found = [search_draws.propose(ranges, [0, 2, at], lost)["args.width"] for at in range(20)]
    assert np.mean(found) < 5


def test_a_proposal_without_any_history_is_a_draw() -> None:
    assert 2 <= search_draws.propose(RANGES, [0, 2, 1], [])["args.width"] <= 38


def test_choices_that_look_alike_are_told_apart() -> None:
    ranges = {"args.x": {"choices": [1, True, 1.0, "1"]}}
    indices = [
        search_draws._indices({"args.x": each}, ranges)["args.x"] for each in ranges["args.x"]["choices"]
    ]
    assert indices == [0, 1, 2, 3]


def test_without_optuna_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(RecipeError) as caught:
        search_draws.draw(RANGES, [0, 1, 1])
    assert caught.value.remedy == "Run: pip install 'modelbuild[search]'"


def test_listed_candidates_need_no_optuna(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    Chain(tmp_path).build(asked(listed(small=4)), gates=EASY)


def test_drawing_says_nothing() -> None:
    import optuna

    said: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = said.append  # type: ignore[method-assign]
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logging.getLogger("optuna").addHandler(listener)
    try:
        optuna.create_study()
        assert said
        said.clear()
        search_draws.draw(RANGES, [0, 1, 1])
        search_draws.propose({"args.width": {"low": 1, "high": 12}}, [0, 2, 1], [])
        assert said == []
    finally:
        logging.getLogger("optuna").removeHandler(listener)


def test_the_history_is_in_the_order_of_names(tmp_path: Path) -> None:
    told = []
    for names in ("ab", "ba"):
        inputs = {}
        for name in names:
            candidate = {"parameters": 3, "drawn": {"args.width": name}}
            inputs[f"candidate.{name}"] = folder(tmp_path / f"c.{name}", candidate=candidate)
            inputs[f"assessment.{name}"] = folder(tmp_path / f"a.{name}", assessment={"shortfall": 0.1})
        search_cycles.history(inputs, {}, folder(tmp_path / names))
        told.append((tmp_path / names / "history.json").read_text())
    assert told[0] == told[1]
    assert [each["drawn"]["args.width"] for each in json.loads(told[0])["trials"]] == ["a", "b"]


def test_a_path_through_a_value_is_said_as_such(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"distil\.task\.weight"):
        Chain(tmp_path).build(asked({}, ranges={"distil.task.weight": {"low": 0.1, "high": 1.0}}, samples=1))


# -- who goes on


class Table:
    """Rows as one cycle finds them, and what it decides."""

    def __init__(self, root: Path) -> None:
        self.root, self.inputs = root, dict[str, Path]()

    def add(self, name: str, parameters: int, shortfall: float | None) -> Table:
        candidate = {"parameters": parameters, "bytes": None, "over": None, "drawn": {}}
        found = {"ok": shortfall == 0, "shortfall": shortfall, "why": f"{shortfall} off", "steps": 10}
        self.inputs[f"candidate.{name}"] = folder(self.root / f"c.{name}", candidate=candidate)
        self.inputs[f"assessment.{name}"] = folder(
            self.root / f"a.{name}", assessment={**found, "quality": None, "rows": []}
        )
        return self

    def decide(self, keep: int | None) -> dict[str, Any]:
        params = {"cycle": 1, "cycles": 3, "steps": 10, "keep": keep, "overrides": {}}
        search_cycles.cycle(self.inputs, params, self.root)
        table: dict[str, Any] = json.loads((self.root / "cycle.json").read_text())
        return table

    def going(self, keep: int) -> list[str]:
        return [row["name"] for row in self.decide(keep)["candidates"] if row["goes_on"]]


@pytest.fixture
def table(tmp_path: Path) -> Iterator[Table]:
    yield Table(tmp_path)


def test_none_larger_than_one_that_passes_goes_on(table: Table) -> None:
    table.add("a", 10, 0.3).add("b", 20, 0.0).add("c", 30, 0.0).add("d", 40, 0.1).add("e", 20, 0.2)
    assert table.going(9) == ["a", "b", "e"]
    rows = {row["name"]: row["why"] for row in table.decide(9)["candidates"]}
    assert rows["c"] == rows["d"] == "larger than needed: b passes every gate with 20 parameters"


def test_the_pareto_front_goes_first_then_the_nearer_to_the_gates(table: Table) -> None:
    table.add("a", 10, 0.9).add("b", 20, 0.2).add("c", 30, 0.3).add("d", 40, 0.1).add("e", 50, 0.15)
    assert table.going(3) == ["a", "b", "d"]  # c and e are behind others, though nearer than a
    assert table.going(4) == ["a", "b", "d", "e"]
    assert table.going(2) == ["b", "d"]  # of the front, the nearer to the gates
    rows = {row["name"]: row["why"] for row in table.decide(3)["candidates"]}
    assert rows["c"] == "behind b, which is no larger and no further from the gates; 0.3 off"
    assert rows["e"] == "behind d, which is no larger and no further from the gates; 0.15 off"
    assert {row["name"]: row["why"] for row in table.decide(2)["candidates"]}["a"] == "behind d, b; 0.9 off"


def test_ties_go_by_size_and_then_by_name(table: Table) -> None:
    table.add("b", 10, 0.2).add("a", 10, 0.2).add("c", 10, 0.2)
    assert table.going(2) == ["a", "b"]
    assert [row["name"] for row in table.decide(2)["candidates"]] == ["a", "b", "c"]


def test_what_could_not_be_measured_goes_last(table: Table) -> None:
    table.add("a", 10, None).add("b", 20, 3.0)
    assert table.going(1) == ["b"]


def test_after_the_last_cycle_the_smallest_that_passes_is_chosen(table: Table) -> None:
    table.add("a", 10, 0.1).add("d", 20, 0.0).add("c", 20, 0.0).add("e", 30, 0.0)
    found = table.decide(None)
    assert found["chosen"] == "c"
    assert not any(row["goes_on"] for row in found["candidates"])
    whys = {row["name"]: row["why"] for row in found["candidates"]}
    assert whys["c"] == "the smallest that passes every gate on the validation data"
    assert whys["d"] == "0.0 off, and c is chosen" and whys["a"] == "0.1 off"


def test_one_that_went_no_further_keeps_its_figures_and_its_reason(table: Table, tmp_path: Path) -> None:
    table.add("a", 10, 0.1).add("b", 20, 0.05).add("c", 30, 0.5)
    first = table.decide(2)
    table.inputs["before"] = folder(tmp_path / "before", cycle=first)
    table.inputs["assessment.c"] = folder(tmp_path / "stopped", assessment={"stopped": True})
    rows = {row["name"]: row for row in table.decide(None)["candidates"]}
    before = {row["name"]: row for row in first["candidates"]}
    assert rows["c"] == {**before["c"], "state": "stopped"}


def test_whether_it_goes_on_is_all_that_is_said(table: Table, tmp_path: Path) -> None:
    table.add("a", 10, 0.1).add("b", 20, 0.2).decide(1)
    for name, go in (("a", True), ("b", False), ("c", False)):
        search_cycles.goes_on({"cycle": tmp_path}, {"name": name}, folder(tmp_path / "go"))
        assert json.loads((tmp_path / "go/go.json").read_text()) == {"go": go}


def test_what_a_candidate_has_of_its_own_is_told_by_paths(table: Table) -> None:
    table.add("a", 10, 0.1)
    own = {"args": {"width": 4, "deep": {}}, "distil": {"soft": {"kind": "l2"}}, "train": {"clip": None}}
    params = {"cycle": 1, "cycles": 3, "steps": 10, "keep": 1, "overrides": {"a": own}}
    search_cycles.cycle(table.inputs, params, table.root)
    (row,) = json.loads((table.root / "cycle.json").read_text())["candidates"]
    assert row["differs"] == {
        "args.width": "4",
        "args.deep": "{}",
        "distil.soft.kind": '"l2"',
        "train.clip": "null",
    }


# -- how good one is


def assessed(
    root: Path, gates: Mapping[str, Any], said: np.ndarray[Any, Any], outputs: Mapping[str, Any] = {}
) -> dict[str, Any]:
    """What is said of the identity, as a linear layer, where the teacher says `said` of the same values."""
    x = np.linspace(-1, 1, 40, dtype=np.float32).reshape(20, 2)
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(2))
        layer.bias.zero_()
    student, data, teacher = (folder(root / name) for name in ("student", "data", "said"))
    network.save(student, layer, {"module": "torch.nn:Linear", "args": {"in_features": 2, "out_features": 2}})
    dataset.write_json(student / "training.json", {"steps": 7, "parameters": 6})
    dataset.write(data, dataset.DataSet({"x": x}, {"label": x.astype(np.float32)}))
    tensors.save(teacher / "outputs.safetensors", {"output": said(x)})
    inputs = {"student": student, "data": data, "said": teacher}
    search_quality.assess(inputs, {"gates": gates, "outputs": outputs}, root)
    found: dict[str, Any] = json.loads((root / "assessment.json").read_text())
    return found


def moved(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x + np.array([0.1, -0.1], np.float32)


def test_the_shortfall_is_the_largest_share_that_a_demand_lacks(tmp_path: Path) -> None:
    gates = {
        "teacher": [{"metric": "l1", "max": 0.08}, {"metric": "max_abs", "max": 0.05}],
        "task": {"metric": "rmse", "max": 0.1},
    }
    found = assessed(tmp_path, gates, moved)
    assert found["shortfall"] == pytest.approx(1.0, rel=1e-3)
    assert not found["ok"]
    assert found["why"] == "max_abs 0.1 on output against the teacher, at most 0.05 is due"
    assert found["quality"]["metric"] == "l1" and not found["quality"]["more_is_better"]
    assert found["quality"]["measured"] == pytest.approx(0.1, rel=1e-3)
    assert (found["quality"]["limit"], found["quality"]["against"]) == (0.08, "teacher")
    assert [(row["metric"], row["ok"]) for row in found["rows"]] == [
        *(("l1", False), ("max_abs", False), ("rmse", True))
    ]
    assert (found["steps"], found["parameters"]) == (7, 6)
    assert found["bytes"] == (tmp_path / "student/weights.safetensors").stat().st_size


def test_a_demand_of_which_more_is_better_lacks_a_share_of_its_limit(tmp_path: Path) -> None:
    def half(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.where(np.arange(20)[:, None] < 5, x[:, ::-1], x).astype(np.float32)

    found = assessed(tmp_path, {"teacher": {"metric": "agreement", "min": 0.9}}, half)
    assert found["quality"]["measured"] == 0.75 and found["quality"]["more_is_better"]
    assert found["shortfall"] == pytest.approx(0.15 / 0.9)
    assert found["why"] == "agreement 0.75 on output against the teacher, at least 0.9 is due"


def test_who_meets_all_demands_lacks_nothing(tmp_path: Path) -> None:
    found = assessed(tmp_path, {"task": {"metric": "l1", "max": 0.01}}, moved)
    assert (found["ok"], found["shortfall"], found["why"]) == (True, 0.0, "passes every gate")
    assert found["quality"]["against"] == "label"


def test_what_has_no_number_has_no_shortfall(tmp_path: Path) -> None:
    def other(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.repeat(x, 2, axis=1)

    found = assessed(tmp_path, {"teacher": {"metric": "l1", "max": 0.01}}, other)
    assert (found["ok"], found["shortfall"], found["quality"]["measured"]) == (False, None, None)
    assert found["quality"]["limit"] == 0.01 and found["why"] == found["rows"][0]["detail"]


def test_without_a_gate_nobody_is_better_than_another(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no gate says what the student must reach"):
        assessed(tmp_path, {}, moved)


def test_figures_are_told_apart_from_their_limits() -> None:
    assert search_quality._apart(0.94999999, 0.95) == ("0.94999999", "0.95")
    assert search_quality._apart(0.5, 0.9) == ("0.5", "0.9")
