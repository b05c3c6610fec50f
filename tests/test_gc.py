import os
import time

import pytest
from fakes import Lab, bring, close, overwrite, target

from modelbuild import gc
from modelbuild.gc import Limits, collect, pin, pins
from modelbuild.store import Store


@pytest.fixture
def lab(tmp_path):
    with Lab(tmp_path / "project") as lab:
        yield lab


def store(lab):
    return Store(lab.at, lab.at.tmp / "gc")


def build(lab, text, age=0.0, name="m:a"):
    """Build a target of one object whose record was last used `age` seconds ago; return its key."""
    key = lab.build([target(name, params={"text": text})])[name].key
    when = time.time() - age
    os.utime(store(lab).record_file(key), (when, when))
    return key


def keys(lab):
    return {key for _, key in store(lab).records()}


def everything(lab):
    return {p: p.stat().st_mtime_ns for p in lab.at.cache.rglob("*") if p.is_file() and "lease" not in str(p)}


def test_without_limits_only_what_nothing_names_goes(lab):
    kept, gone = build(lab, "x" * 10), build(lab, "y" * 20)
    store(lab).forget(gone)
    freed = collect(lab.at, store(lab), Limits())
    assert (freed.records, freed.objects, freed.bytes, freed.kept_bytes) == (0, 1, 20, 10)
    assert keys(lab) == {kept}
    assert len(list(store(lab).all_objects())) == 1


def test_an_empty_cache_has_nothing_to_free(lab):
    assert collect(lab.at, store(lab), Limits(age=0, size=0)) == gc.Freed(0, 0, 0, 0)


def test_age_counts_from_the_last_use(lab):
    old, young = build(lab, "old", age=100), build(lab, "young", age=10)
    assert collect(lab.at, store(lab), Limits(age=50)).records == 1
    assert keys(lab) == {young}
    build(lab, "old")
    assert old in keys(lab)


def test_a_restore_is_a_use(lab):
    first = build(lab, "1", age=100)
    build(lab, "2", age=100)
    lab.build([target("m:a", params={"text": "1"})])
    collect(lab.at, store(lab), Limits(age=50))
    assert keys(lab) == {first}


def test_size_keeps_the_most_recently_used(lab):
    built = [build(lab, str(n) * 10, age=100 - n) for n in range(5)]
    freed = collect(lab.at, store(lab), Limits(size=25))
    assert keys(lab) == set(built[3:])
    assert (freed.bytes, freed.kept_bytes) == (30, 20)


def test_a_shared_object_survives_and_counts_once(lab):
    one, two = build(lab, "same" * 5, age=100, name="m:a"), None
    lab.build([target("m:b", params={"text": "same" * 5, "other": 1})])
    two = (keys(lab) - {one}).pop()
    collect(lab.at, store(lab), Limits(size=20))
    assert keys(lab) == {one, two}
    collect(lab.at, store(lab), Limits(age=50))
    assert keys(lab) == {two}
    assert len(list(store(lab).all_objects())) == 1


def test_pinned_targets_stay_whatever_the_limits(lab):
    pinned, other = build(lab, "1", age=100), build(lab, "2", age=10)
    pin(lab.at, {"m:a": pinned})
    collect(lab.at, store(lab), Limits(age=1, size=0))
    assert keys(lab) == {pinned}
    assert other not in keys(lab)
    pin(lab.at, {"m:a": None})
    assert pins(lab.at) == {}
    collect(lab.at, store(lab), Limits(age=1))
    assert keys(lab) == set()


def test_pins_add_up(lab):
    pin(lab.at, {"m:a": "1", "m:b": "2"})
    pin(lab.at, {"m:b": None, "m:c": "3"})
    assert pins(lab.at) == {"m:a": "1", "m:c": "3"}


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "\0"])
def test_pins_that_cannot_be_read_stop_the_collector(lab, text):
    """Taking a torn list for an empty one would let go of what somebody asked to keep."""
    key = build(lab, "1", age=100)
    pin(lab.at, {"m:a": key})
    lab.at.pins.write_text(text)
    with pytest.raises(Exception, match="pins"):
        collect(lab.at, store(lab), Limits(age=1))
    assert keys(lab) == {key}


def test_what_a_running_build_holds_stays(lab):
    build(lab, "1", age=100)
    targets = [target("m:a", params={"text": "1"}), target("m:b", "lab:join", inputs={"a": "m:a"})]
    builder = lab.builder(targets)
    seen = []

    def look(job):
        collect(lab.at, store(lab), Limits(age=0, size=0))
        seen.append(job.target)

    lab.executor.before = look
    for name in ("m:a", "m:b"):
        bring(builder, name)
    close(builder)
    assert seen == ["m:b"]
    assert lab.text("m:b") == "1"
    assert len(keys(lab)) == 2


def test_objects_of_a_build_that_has_not_written_its_record_yet_stay(lab):
    builder = lab.builder([target("m:a")])
    builder.enter("k")
    (lab.root / "f").write_text("new")
    time.sleep(0.05)
    digest = builder.store.put(lab.root / "f")
    assert collect(lab.at, store(lab), Limits()).objects == 0
    assert [d for _, d in store(lab).all_objects()] == [digest]
    close(builder)
    assert collect(lab.at, store(lab), Limits()).objects == 1


def test_a_dry_run_says_the_same_and_deletes_nothing(lab):
    build(lab, "old" * 10, age=100)
    kept = build(lab, "young", age=0)
    overwrite(store(lab).record_file(kept), b"torn")
    lab.at.quarantine.mkdir()
    (lab.at.quarantine / "q").write_text("x")
    (lab.at.tmp / "1-dead").mkdir(parents=True)
    (lab.at.tmp / "1-dead" / "t0").write_text("x")
    before = everything(lab)
    told = collect(lab.at, store(lab), Limits(age=50), dry_run=True)
    assert everything(lab) == before
    assert told == collect(lab.at, store(lab), Limits(age=50))
    assert everything(lab) != before


def test_torn_records_leftovers_and_quarantine_are_swept(lab):
    key = build(lab, "1")
    overwrite(store(lab).record_file(key), b"torn")
    lab.at.quarantine.mkdir()
    (lab.at.tmp / "1-dead").mkdir(parents=True)
    collect(lab.at, store(lab), Limits())
    assert keys(lab) == set()
    assert list(store(lab).all_objects()) == []
    assert not lab.at.quarantine.exists()
    assert list(lab.at.tmp.iterdir()) == []
    assert not lab.at.locks.exists()


def test_the_scratch_and_locks_of_a_running_build_stay(lab):
    builder = lab.builder([target("m:a", params={"text": "x"})])
    builder.build("m:a", lambda *_: None)
    scratch = builder.fresh()
    scratch.mkdir()
    collect(lab.at, store(lab), Limits())
    assert scratch.exists()
    assert lab.at.locks.exists()
    close(builder)


def test_a_build_after_everything_was_collected_is_whole(lab):
    targets = [target("m:a", params={"text": "1"}), target("m:b", "lab:join", inputs={"a": "m:a"})]
    lab.build(targets)
    collect(lab.at, store(lab), Limits(age=-1))
    assert keys(lab) == set()
    assert set(lab.states(targets).values()) == {"up-to-date"}
    more = [*targets, target("m:c", "lab:join", inputs={"b": "m:b"})]
    assert lab.states(more) == {"m:a": "up-to-date", "m:b": "up-to-date", "m:c": "built"}
    assert lab.executor.ran == ["m:a", "m:b", "m:c"]


def test_what_killed_trainings_left_goes_when_it_is_old_and_no_build_holds_it(lab):
    build(lab, "x")
    young, old, held = (lab.at.checkpoints / name for name in ("young", "old", "held"))
    for folder in (young, old, held):
        folder.mkdir(parents=True)
    for folder in (old, held):
        os.utime(folder, (0, time.time() - gc.CHECKPOINT_AGE - 60))
    builder = lab.builder([target("m:b")])
    builder.enter("held")
    collect(lab.at, store(lab), Limits(), dry_run=True)
    assert old.exists()
    collect(lab.at, store(lab), Limits())
    assert young.exists() and held.exists() and not old.exists()
    close(builder)
    os.utime(young, (0, time.time() - 60))
    collect(lab.at, store(lab), Limits(age=30))
    assert not young.exists() and not held.exists()
