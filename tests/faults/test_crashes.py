"""A build that dies, or meets a full disk, at any step: nothing wrong is ever read, and the next build is whole."""

import json
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from failpoints import Crash, Failpoints, full_disk
from fakes import Lab, chain, overwrite

from modelbuild import journal as journals
from modelbuild.digest import Tree, of_bytes, of_file, tree
from modelbuild.errors import ModelbuildError, StoreError
from modelbuild.gc import Limits, collect
from modelbuild.store import Store

WANTED = {"m:a": "b", "m:b": "b"}


def two(text):
    return chain(text)[:2]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """Files stay as they are here, so nothing has to settle."""
    monkeypatch.setattr(journals, "_let_settle", lambda now: None)


@pytest.fixture
def start(tmp_path):
    """Return a fresh project in which an older state of everything was built."""
    with Lab(tmp_path / "seed") as lab:
        lab.build(two("a"))

    def start(n):
        root = tmp_path / f"run{n}"
        shutil.copytree(tmp_path / "seed", root)
        return Lab(root)

    return start


def store(lab):
    return Store(lab.at, lab.at.tmp / "check")


def check_that_nothing_wrong_is_there(lab):
    """Every object is what its name says; every record names only what is there and is what its key says."""
    kept = store(lab)
    for path, digest in kept.all_objects():
        assert of_file(path) == digest, path
    for _, key in kept.records():
        record = kept.record(key)
        assert record is not None, key
        assert kept.has(record.tree)
        assert isinstance(record.tree, Tree)
        assert tree(record.tree.entries).digest == record.tree.digest
        text = "".join(f"{label}\0{value}\0" for label, value in record.parts)
        assert of_bytes(text.encode()) == key


def check_that_the_next_build_is_whole(lab):
    lab.executor.ran.clear()
    lab.build(two("b"))
    assert {name: lab.text(name) for name in WANTED} == WANTED
    assert set(lab.states(two("b")).values()) == {"up-to-date"}
    check_that_nothing_wrong_is_there(lab)
    assert list(lab.at.tmp.iterdir()) == []


def steps_of_a_build(start):
    lab = start("count")
    builder = lab.builder(two("b"))
    with Failpoints(str(lab.at.cache))() as counted:
        for name in WANTED:
            builder.build(name, lambda *_: None)
        builder.close()
        builder.journal.close()
    return counted.steps


def test_a_crash_at_any_step_of_a_build(start):
    steps = steps_of_a_build(start)
    assert {"fsync", "replace", "chmod", "mkdir", "open", "write", "flush", "copyfile"} <= set(steps)
    for n, step in enumerate(steps):
        lab = start(n)
        builder = lab.builder(two("b"))
        with pytest.raises(Crash), Failpoints(str(lab.at.cache), n)():
            for name in WANTED:
                builder.build(name, lambda *_: None)
            builder.close()
            builder.journal.close()
            pytest.fail(f"step {n} ({step}) was not reached")
        builder._lease.release()  # the kernel does so for a dead process
        check_that_nothing_wrong_is_there(lab)
        check_that_the_next_build_is_whole(lab)
        shutil.rmtree(lab.root)


def test_a_full_disk_at_any_step_of_a_build(start):
    """It is said as such (exit code 2) or it did not matter; nothing half is accepted."""
    steps = steps_of_a_build(start)
    raw = []
    for n, step in enumerate(steps):
        lab = start(n)
        builder = lab.builder(two("b"))
        try:
            with Failpoints(str(lab.at.cache), n, full_disk)():
                for name in WANTED:
                    builder.build(name, lambda *_: None)
        except ModelbuildError as error:
            assert isinstance(error, StoreError), f"step {n} ({step}): {error}"
            assert error.exit_code == 2
            assert "No space left on device" in error.fact
        except OSError:
            raw.append((n, step))
        builder.close()
        builder.journal.close()
        check_that_nothing_wrong_is_there(lab)
        check_that_the_next_build_is_whole(lab)
        shutil.rmtree(lab.root)
    assert raw == []


KILLED = """
import os, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from failpoints import Failpoints
from fakes import Lab, chain
from modelbuild import journal
journal._let_settle = lambda now: None
lab = Lab(Path(sys.argv[1]))
n = int(sys.argv[2])
with Failpoints(str(lab.at.cache), n, lambda: os._exit(9))():
    lab.build(chain("b")[:2])
"""


def test_a_process_killed_at_some_steps_of_a_build(start):
    """The real thing: no `finally` runs, and the kernel lets go of locks."""
    steps = steps_of_a_build(start)
    here = Path(__file__).parent
    code = textwrap.dedent(KILLED).format(paths=[str(here), str(here.parent)])
    spots = [n for n, step in enumerate(steps) if step == "replace"] + [len(steps) - 2]
    for n in spots[:: max(len(spots) // 6, 1)]:
        lab = start(n)
        ended = subprocess.run([sys.executable, "-c", code, str(lab.root), str(n)], check=False)
        assert ended.returncode == 9
        check_that_nothing_wrong_is_there(lab)
        check_that_the_next_build_is_whole(lab)


def test_a_record_is_written_after_all_it_names(start):
    lab = start("order")
    moved = []
    import os

    real = os.replace

    def replace(source, destination):
        moved.append(Path(destination))
        real(source, destination)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", replace)
        lab.build(two("b")[:1])
    kinds = [p.relative_to(lab.at.cache).parts[0] for p in moved]
    assert kinds == ["objects", "records", "tmp", "out"]


@pytest.mark.parametrize("what", ["records", "objects"])
def test_state_cut_short_anywhere_is_built_again(tmp_path, what):
    lab = Lab(tmp_path / what)
    lab.build(two("b"))
    for path in sorted((lab.at.cache / what).glob("*/*")):
        whole = path.read_bytes()
        for spot in sorted(
            {*range(0, len(whole) - 1, max(len(whole) // 4, 1)), len(whole) - 2} & {*range(len(whole))}
        ):
            overwrite(path, whole[:spot])
            shutil.rmtree(lab.at.cache / "out")
            lab.build(two("b"))
            assert {name: lab.text(name) for name in WANTED} == WANTED
            assert path.read_bytes() == whole or what == "records"
    check_that_nothing_wrong_is_there(lab)


def test_a_journal_cut_short_anywhere_costs_work_and_nothing_else(start):
    lab = start("journal")
    lab.build(two("b"))
    whole = lab.at.state_db.read_bytes()
    for spot in range(0, len(whole), max(len(whole) // 25, 1)):
        for path in lab.at.cache.glob("state.db*"):
            path.unlink()
        lab.at.state_db.write_bytes(whole[:spot])
        lab.build(two("b"))
        assert {name: lab.text(name) for name in WANTED} == WANTED
    assert len(lab.executor.ran) == 2


def test_a_turned_bit_in_the_journal_costs_work_and_nothing_else(start):
    lab = start("bits")
    lab.build(two("b"))
    whole = lab.at.state_db.read_bytes()
    used = [n for n, byte in enumerate(whole) if byte]
    for spot in used[:: max(len(used) // 80, 1)]:
        for path in lab.at.cache.glob("state.db*"):
            path.unlink()
        lab.at.state_db.write_bytes(whole[:spot] + bytes([whole[spot] ^ 1]) + whole[spot + 1 :])
        lab.build(two("b"))
        assert {name: lab.text(name) for name in WANTED} == WANTED, spot
    check_that_nothing_wrong_is_there(lab)


def test_a_crash_while_pins_are_written_leaves_them_as_they_were(tmp_path):
    from modelbuild.gc import pin, pins

    lab = Lab(tmp_path / "p")
    pin(lab.at, {"m:a": "1"})
    for n in range(10):
        try:
            with Failpoints(str(lab.at.cache), n)():
                pin(lab.at, {"m:b": "2"})
        except Crash:
            assert pins(lab.at) == {"m:a": "1"}
        else:
            break
    assert pins(lab.at) == {"m:a": "1", "m:b": "2"}
    assert json.loads(lab.at.pins.read_text())


def test_a_collector_killed_at_any_step_leaves_records_that_name_only_what_is_there(start):
    for n in range(40):
        lab = start(f"gc{n}")
        try:
            with Failpoints(str(lab.at.cache), n)():
                collect(lab.at, store(lab), Limits(age=-1))
        except Crash:
            check_that_nothing_wrong_is_there(lab)
            check_that_the_next_build_is_whole(lab)
        else:
            break
    assert n > 2
