import contextlib
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import RECIPES, InProcess, Lab, bring, chain, close, overwrite, target

from modelbuild import witness
from modelbuild.digest import of_folder
from modelbuild.errors import (
    BuildError,
    InputChangedError,
    JobCrashedError,
    ModelbuildError,
    RecipeError,
    StoreError,
)


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path / "project") as lab:
        yield lab


def objects(lab):
    return list(lab.at.objects.glob("??/*"))


# -- what is up to date


def test_a_first_build_runs_everything_in_order(lab):
    outcomes = lab.build(chain())
    assert next((o.state, o.reason) for o in outcomes.values()) == ("built", "first build")
    assert lab.executor.ran == ["m:a", "m:b", "m:c"]
    assert lab.text("m:c") == "a+a"
    assert outcomes["m:c"].digest == of_folder(lab.at.out("m:c")).digest


def test_a_second_build_runs_nothing(lab):
    lab.build(chain())
    before = of_folder(lab.at.out("m:c"))
    assert set(lab.states(chain()).values()) == {"up-to-date"}
    assert len(lab.executor.ran) == 3
    assert of_folder(lab.at.out("m:c")) == before


def test_a_changed_value_rebuilds_what_depends_on_it(lab):
    lab.build(chain("a"))
    outcomes = lab.build(chain("b"))
    assert [o.state for o in outcomes.values()] == ["built"] * 3
    assert outcomes["m:a"].reason == '/text: "a" -> "b"'
    assert outcomes["m:b"].reason == "input changed: m:a"
    assert lab.text("m:c") == "b+b"


def test_the_same_bytes_again_stop_the_rebuild_there(lab):
    lab.build(chain())
    (lab.root / "lab.py").write_text(RECIPES + "\n# edited\n")
    lab.executor.ran.clear()
    only_a = [chain()[0]._replace(recipe=chain()[0].recipe._replace(tools=("pytest",))), *chain()[1:]]
    lab.build(chain())
    lab.executor.ran.clear()
    assert lab.states(only_a) == {"m:a": "built", "m:b": "up-to-date", "m:c": "up-to-date"}
    assert lab.executor.ran == ["m:a"]


def test_going_back_restores_without_running(lab):
    lab.build(chain("a"))
    lab.build(chain("b"))
    lab.executor.ran.clear()
    assert set(lab.states(chain("a")).values()) == {"restored"}
    assert lab.executor.ran == []
    assert lab.text("m:c") == "a+a"


def test_a_removed_or_altered_copy_is_restored_with_the_reason(lab):
    lab.build(chain())
    shutil.rmtree(lab.at.out("m:a"))
    overwrite(lab.at.out("m:b") / "text", b"tampered")
    outcomes = lab.build(chain())
    assert [o.state for o in outcomes.values()] == ["restored", "restored", "up-to-date"]
    assert "is missing" in outcomes["m:a"].reason
    assert outcomes["m:b"].reason == "text was changed on disk"
    assert lab.text("m:b") == "a"
    assert lab.executor.ran == ["m:a", "m:b", "m:c"]


def test_a_target_whose_input_must_be_built_waits(lab):
    lab.build(chain("a"))
    builder = lab.builder(chain("b"))
    status = builder.known.status("m:b")
    assert (status.state, status.key, status.reason) == ("waiting", "", "input may change: m:a")
    with pytest.raises(BuildError, match=r"m:b: input may change: m:a\. Build its inputs first"):
        builder.build("m:b", lambda *_: None)
    assert builder.known.outcomes["m:b"].state == "failed"
    bring(builder, "m:a")
    bring(builder, "m:b")
    close(builder)
    assert lab.text("m:b") == "b"


def test_the_same_work_under_two_names_is_done_once(lab):
    twins = [target("m:one", params={"text": "x"}), target("n:two", params={"text": "x"})]
    assert lab.states(twins) == {"m:one": "built", "n:two": "restored"}
    assert lab.executor.ran == ["m:one"]
    assert lab.text("n:two") == "x"


def test_a_journal_that_is_gone_costs_a_restore_and_no_recipe(lab):
    lab.build(chain())
    for path in lab.at.cache.glob("state.db*"):
        path.unlink()
    assert set(lab.states(chain()).values()) == {"restored"}
    assert len(lab.executor.ran) == 3


def test_a_record_that_is_gone_runs_the_recipe_only_where_the_copy_is_gone_too(lab):
    lab.build(chain())
    shutil.rmtree(lab.at.records)
    assert set(lab.states(chain()).values()) == {"up-to-date"}
    shutil.rmtree(lab.at.out("m:b"))
    lab.executor.ran.clear()
    assert lab.states(chain())["m:b"] == "built"
    assert lab.executor.ran == ["m:b"]


# -- what a recipe may do


def recipe(lab, body):
    """A recipe of the given body, and its target."""
    (lab.root / "lab.py").write_text(
        f"import os\n{RECIPES}\n\ndef odd(inputs, params, out_dir):\n    {body}\n"
    )
    return [target("m:a", params={"text": "a"}), target("m:odd", "lab:odd", inputs={"data": "m:a"})]


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("pass", RecipeError, "m:odd: its recipe wrote nothing"),
        ("(out_dir / 'empty').mkdir()", RecipeError, "m:odd: its recipe wrote nothing"),
        ("out_dir.rmdir()", RecipeError, "m:odd: its recipe wrote nothing"),
        ("out_dir.rmdir(); out_dir.write_text('x')", RecipeError, "m:odd: its recipe wrote nothing"),
        (
            "(out_dir / 'l').symlink_to('gone')",
            RecipeError,
            "its output cannot be kept: l is neither a regular file",
        ),
        (
            "(out_dir / 'l').symlink_to(inputs['data'])",
            RecipeError,
            "its output cannot be kept: l is neither",
        ),
        ("os.mkfifo(out_dir / 'p')", RecipeError, "its output cannot be kept: p is neither"),
        ("(out_dir / os.fsdecode(b'\\xff')).write_text('x')", RecipeError, "its output cannot be kept"),
        (
            "(out_dir / 'x').write_text('x'); p = inputs['data'] / 'text'; p.chmod(0o644); p.write_text('changed')",
            InputChangedError,
            "m:odd: its recipe changed its input data/text",
        ),
        (
            "(out_dir / 'x').write_text('x'); (inputs['data'] / 'text').unlink()",
            InputChangedError,
            "its input data/text",
        ),
    ],
)
def test_a_result_that_cannot_be_trusted_is_refused(lab, body, error, words):
    targets = recipe(lab, body)
    with pytest.raises(error, match=words):
        lab.build(targets)
    assert not lab.at.out("m:odd").exists()
    builder = lab.builder(targets)
    assert builder.known.status("m:odd").state == "stale"
    assert lab.text("m:a") == "a"
    close(builder)
    assert list(lab.at.tmp.iterdir()) == []


def test_folders_in_folders_and_executables_are_kept(lab):
    targets = recipe(
        lab,
        "p = out_dir / 'a' / 'b'; p.mkdir(parents=True); (p / 'run').write_text('x'); (p / 'run').chmod(0o755)",
    )
    lab.build(targets)
    run = lab.at.out("m:odd") / "a" / "b" / "run"
    assert run.read_text() == "x"
    assert run.stat().st_mode & 0o777 == 0o555
    shutil.rmtree(lab.at.out("m:odd"))
    lab.build(targets)
    assert run.stat().st_mode & 0o777 == 0o555


def test_a_recipe_reads_copies_that_are_read_only_and_writes_into_an_empty_folder(lab):
    seen = {}

    def look(job):
        place = seen["place"] = lab.root / job.inputs["a"] / "text"
        seen["mode"] = place.stat().st_mode & 0o777
        seen["out"] = os.listdir(job.out)

    lab.build(chain()[:1])
    lab.executor.before = look
    lab.build(chain()[:2])
    assert seen["mode"] == 0o444
    assert seen["out"] == []
    assert not seen["place"].is_relative_to(lab.at.out("m:a"))
    assert not seen["place"].exists()


def test_a_job_says_everything_a_process_needs(lab):
    (lab.root / "w.bin").write_text("w")
    one = target("m:a", "lab:copy_file", params={"n": 1}, files={"source": "w.bin"})
    lab.build([one])
    job = lab.executor.jobs[0]
    assert (job.target, job.function, job.params) == ("m:a", "lab:copy_file", {"n": 1})
    assert job.inputs["source"].endswith("/w.bin")
    assert job.log.endswith(".cache/logs/m/a.log")
    assert lab.text("m:a") == "w"


# -- what may change meanwhile


def test_an_input_that_changes_during_the_build_is_named_and_nothing_accepted(lab):
    (lab.root / "w.bin").write_text("w")
    one = target("m:a", "lab:copy_file", files={"source": "w.bin"})
    lab.executor.after = lambda job: (lab.root / "w.bin").write_text("W")
    with pytest.raises(
        InputChangedError, match=r"an input changed while it was being built \(file changed: w.bin\)"
    ):
        lab.build([one])
    assert not lab.at.out("m:a").exists()
    lab.executor.after = lambda job: None
    assert lab.states([one]) == {"m:a": "built"}
    assert lab.text("m:a") == "W"


def test_code_that_changes_during_the_build_is_named(lab):
    lab.executor.after = lambda job: (lab.root / "lab.py").write_text(RECIPES + "# edited\n")
    with pytest.raises(InputChangedError, match=r"\(code changed: lab\)"):
        lab.build(chain()[:1])
    assert list(lab.at.records.glob("*/*")) == []


def test_a_file_that_is_gone_is_a_failure_of_its_target(lab):
    one = target("m:a", "lab:copy_file", files={"source": "w.bin"})
    builder = lab.builder([one])
    with pytest.raises(BuildError, match=r"m:a: cannot read w\.bin"):
        builder.build("m:a", lambda *_: None)
    assert builder.known.outcomes["m:a"].state == "failed"
    assert "cannot read w.bin" in builder.known.outcomes["m:a"].error
    close(builder)


@pytest.mark.parametrize(
    "error",
    [
        RecipeError("m:a", "diverged", "Lower lr."),
        JobCrashedError("m:a", "died"),
        StoreError("x", "full"),
        ValueError("y"),
    ],
)
def test_a_failed_outcome_is_noted_with_key_reason_and_words(lab, error):
    def fail(job):
        raise error

    lab.executor.before = fail
    builder = lab.builder(chain())
    with pytest.raises(type(error)):
        builder.build("m:a", lambda *_: None)
    outcome = builder.known.outcomes["m:a"]
    assert (outcome.state, outcome.reason, outcome.error) == ("failed", "first build", str(error))
    assert len(outcome.key) == 32
    assert outcome.digest == ""
    assert builder.known.status("m:b").state == "waiting"
    close(builder)
    lab.executor.before = lambda job: None
    assert set(lab.states(chain()).values()) == {"built"}


def test_a_failure_leaves_the_last_good_output_where_it_is(lab):
    lab.build(chain("a"))
    lab.executor.before = lambda job: (_ for _ in ()).throw(RecipeError("m:a", "no"))
    with pytest.raises(RecipeError):
        lab.build(chain("b"))
    assert lab.text("m:a") == "a"


# -- a store that lost something


def test_contents_lost_from_the_store_come_back_from_the_copy(lab):
    lab.build(chain("a")[:1])
    for path in objects(lab):
        path.unlink()
    assert lab.states(chain("a")) == {"m:a": "up-to-date", "m:b": "built", "m:c": "built"}
    assert lab.executor.ran == ["m:a", "m:b", "m:c"]
    assert lab.text("m:c") == "a+a"


def test_damaged_contents_are_put_aside_and_healed(lab):
    lab.build(chain("a")[:1])
    for path in objects(lab):
        overwrite(path, b"?")
    lab.build(chain("a"))
    assert lab.text("m:c") == "a+a"
    assert len(list(lab.at.quarantine.iterdir())) == 1


def test_damaged_contents_count_as_missing_when_restored(lab):
    lab.build(chain("a"))
    for path in objects(lab):
        overwrite(path, b"?")
    shutil.rmtree(lab.at.cache / "out")
    outcomes = lab.build(chain("a"))
    assert outcomes["m:a"].state == "built"
    assert lab.text("m:c") == "a+a"


def test_contents_lost_with_their_copy_are_built_again(lab):
    lab.build(chain("a")[:1])
    for path in objects(lab):
        path.unlink()
    shutil.rmtree(lab.at.out("m:a"))
    lab.executor.ran.clear()
    assert lab.states(chain("a"))["m:a"] == "built"
    assert lab.executor.ran == ["m:a", "m:b", "m:c"]


def lose(lab, name):
    """Take the contents of a target away behind the back of a running build."""
    for path in objects(lab):
        path.unlink()
    shutil.rmtree(lab.at.out(name))


def test_contents_lost_in_the_middle_of_a_build_are_built_again(lab):
    lab.build(chain("a")[:1])
    builder = lab.builder(chain("a"))
    bring(builder, "m:a")
    lose(lab, "m:a")
    bring(builder, "m:b")
    close(builder)
    assert lab.text("m:b") == "a"
    assert lab.executor.ran == ["m:a", "m:a", "m:b"]


RANDOM = (
    RECIPES
    + "\n\ndef dice(inputs, params, out_dir):\n    import uuid\n    (out_dir / 'text').write_text(uuid.uuid4().hex)\n"
)


def dice():
    return [
        target("m:dice", "lab:dice"),
        target("m:b", "lab:join", inputs={"a": "m:dice"}),
        target("m:c", "lab:join", inputs={"a": "m:dice"}, params={"other": 1}),
    ]


def lost_dice(lab):
    (lab.root / "lab.py").write_text(RANDOM)
    lab.build(dice()[:1])
    builder = lab.builder(dice())
    bring(builder, "m:dice")
    lose(lab, "m:dice")
    return builder


def test_a_recipe_that_does_not_repeat_cannot_heal_and_the_next_build_recovers(lab):
    builder = lost_dice(lab)
    with pytest.raises(
        BuildError, match="was lost from the store, and its recipe did not give the same bytes again"
    ):
        bring(builder, "m:b")
    close(builder)
    assert set(lab.states(dice())) == {"m:dice", "m:b", "m:c"}
    assert lab.text("m:b") == lab.text("m:c") == lab.text("m:dice")


def test_after_a_heal_that_failed_nothing_is_built_from_the_other_bytes(lab):
    """A key that names one input and a record made from another would be wrong for ever."""
    builder = lost_dice(lab)
    for name in ("m:b", "m:c"):
        with pytest.raises(BuildError, match="did not give the same bytes again"):
            bring(builder, name)
    close(builder)
    known = {r.key: r for _, key in builder.store.records() if (r := builder.store.record(key))}
    assert [r.target for r in known.values()] == ["m:dice"]


def test_an_input_rebuilt_by_someone_else_is_not_taken_for_the_one_in_the_key(lab):
    (lab.root / "lab.py").write_text(RANDOM)
    lab.build(dice()[:1])
    builder = lab.builder(dice())
    bring(builder, "m:dice")
    key = builder.known.status("m:dice").key
    builder.store.forget(key)
    shutil.rmtree(lab.at.out("m:dice"))
    second = lab.builder(dice())
    second.journal.forget("m:dice")
    bring(second, "m:dice")
    close(second)
    with contextlib.suppress(BuildError):
        bring(builder, "m:b")
    close(builder)
    known = {r.target: r for _, k in builder.store.records() if (r := builder.store.record(k))}
    if "m:b" in known:
        claimed = dict(known["m:b"].parts)["input a"]
        assert claimed == known["m:dice"].tree.digest


def test_a_journal_that_is_wrong_about_a_digest_costs_one_build(lab):
    lab.build(chain()[:1])
    builder = lab.builder(chain())
    builder.journal.remember("m:a", builder.journal.built("m:a")._replace(digest="0" * 32))
    bring(builder, "m:a")
    with pytest.raises(BuildError, match="m:a was lost from the store"):
        bring(builder, "m:b")
    close(builder)
    assert lab.states(chain())["m:b"] == "built"
    assert lab.text("m:c") == "a+a"


# -- several builders


class Slow(InProcess):
    """Holds a recipe until every builder has asked for the target."""

    def run(self, job, sink):
        threading.Event().wait(0.05)
        return super().run(job, sink)


def test_two_builders_of_one_target_run_its_recipe_once(lab):
    lab.executor = Slow(lab.root)
    builders = [lab.builder(chain()[:1]) for _ in range(3)]
    start = threading.Barrier(3)

    def work(builder):
        start.wait()
        return builder.build("m:a", lambda *_: None).state

    with ThreadPoolExecutor(3) as pool:
        states = sorted(pool.map(work, builders))
    for builder in builders:
        close(builder)
    assert states == ["built", "restored", "restored"]
    assert lab.executor.ran == ["m:a"]
    assert lab.text("m:a") == "a"


def test_threads_of_one_builder_run_a_recipe_once(lab):
    lab.executor = Slow(lab.root)
    builder = lab.builder(chain()[:1])
    start = threading.Barrier(2)

    def work(_):
        start.wait()
        return builder.build("m:a", lambda *_: None).state

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(work, range(2))) == ["built", "restored"]
    close(builder)
    assert lab.executor.ran == ["m:a"]


def test_builders_that_publish_one_target_at_once_do_not_collide(lab):
    lab.build(chain()[:1])

    def work(builder):
        for _ in range(8):
            assert builder.build("m:a", lambda *_: None).state in ("built", "restored")

    builders = [lab.builder(chain()[:1]) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, builders))
    for builder in builders:
        close(builder)
    assert lab.text("m:a") == "a"
    assert lab.states(chain()[:1]) == {"m:a": "up-to-date"}


def test_a_copy_that_was_only_touched_is_hashed_once_and_then_believed(lab, monkeypatch):
    lab.build(chain()[:1])
    os.utime(lab.at.out("m:a") / "text")
    time.sleep(0.03)
    assert lab.states(chain()[:1]) == {"m:a": "up-to-date"}
    monkeypatch.setattr(witness, "of_file", lambda path: pytest.fail("hashed again"))
    assert lab.states(chain()[:1]) == {"m:a": "up-to-date"}


def test_a_build_sweeps_what_killed_ones_left_and_cleans_up_after_itself(lab):
    (lab.at.tmp / "1-dead" / "d0").mkdir(parents=True)
    lab.build(chain())
    assert list(lab.at.tmp.iterdir()) == []
    assert list(lab.at.leases.glob("*.lease")) == []


def test_a_build_with_nothing_to_do_takes_no_lease_and_makes_no_scratch(lab):
    lab.build(chain())
    shutil.rmtree(lab.at.leases)
    shutil.rmtree(lab.at.tmp)
    lab.build(chain())
    assert not lab.at.leases.exists()
    assert not lab.at.tmp.exists()


def test_every_refusal_is_an_error_with_words(lab):
    with pytest.raises(ModelbuildError):
        lab.build(recipe(lab, "pass"))


def test_what_a_killed_training_kept_is_there_for_the_next_try_and_gone_when_it_is_built(lab):
    one = [target("m:a", params={"text": "a"})]
    places = []

    def die(job):
        places.append(lab.root / job.checkpoints)
        (lab.root / job.checkpoints).mkdir(parents=True)
        raise RecipeError("m:a", "killed")

    lab.executor.before = die
    with pytest.raises(RecipeError):
        lab.build(one)
    assert places[0].exists() and places[0].is_relative_to(lab.at.cache)

    lab.executor.before = lambda job: places.append(lab.root / job.checkpoints)
    other = [target("m:a", params={"text": "b"})]
    lab.build(other)
    assert places[0].exists() and places[1] != places[0], "other work goes on from nothing"
    lab.build(one)
    assert places[2] == places[0] and not places[0].exists()


def test_a_rehearsal_goes_on_from_nothing(lab):
    one = target("m:a", params={"text": "a"})
    lab.build([one])
    builder = lab.builder([one])
    builder.rehearse(one, builder.known.examine("m:a"), lambda *_: None)
    assert lab.executor.jobs[-1].checkpoints == ""
