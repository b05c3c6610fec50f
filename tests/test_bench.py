import os

import pytest

from modelbuild.bench import Bench
from modelbuild.digest import of_bytes, of_file
from modelbuild.errors import InputChangedError
from modelbuild.journal import Journal
from modelbuild.paths import Workspace
from modelbuild.store import LostError, Store


@pytest.fixture
def store(tmp_path):
    at = Workspace(tmp_path)
    return Store(at, at.tmp / "run")


@pytest.fixture
def tree(store, tmp_path):
    (tmp_path / "made" / "sub").mkdir(parents=True)
    (tmp_path / "made" / "a").write_text("one")
    (tmp_path / "made" / "sub" / "b").write_text("two")
    return store.put_folder(tmp_path / "made")


@pytest.fixture
def bench(store, tree, tmp_path):
    (tmp_path / "w.bin").write_text("weights")
    bench = Bench(tmp_path / "bench")
    bench.lay_tree(store, "data", tree)
    bench.lay_file("weights", tmp_path / "w.bin", of_bytes(b"weights"), of_file, "m:a")
    return bench


def test_inputs_are_laid_under_their_roles(bench):
    assert (bench.inputs["data"] / "sub" / "b").read_text() == "two"
    assert bench.inputs["weights"].name == "w.bin"
    assert bench.inputs["weights"].read_text() == "weights"
    assert bench.inputs["weights"].stat().st_mode & 0o777 == 0o444


def test_inputs_left_alone_are_not_read_again(bench, monkeypatch):
    monkeypatch.setattr("modelbuild.digest.of_file", lambda path: pytest.fail("read"))
    assert bench.disturbed() == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: (p.chmod(0o644), p.write_text("xxx")), "data/sub/b"),
        (lambda p: p.unlink(), "data/sub/b"),
        (lambda p: (p.unlink(), p.mkdir()), "data/sub/b"),
        (lambda p: (p.unlink(), os.symlink("gone", p)), "data/sub/b"),
        (lambda p: os.utime(p), ""),
        (lambda p: (p.unlink(), p.write_text("two")), ""),
    ],
)
def test_an_input_with_other_bytes_is_named(bench, change, words):
    change(bench.inputs["data"] / "sub" / "b")
    assert bench.disturbed() == words


def test_a_changed_file_is_named_with_its_role(bench):
    bench.inputs["weights"].chmod(0o644)
    bench.inputs["weights"].write_text("WEIGHTS")
    assert bench.disturbed() == "weights/w.bin"


def test_a_file_that_is_no_longer_what_the_key_says_is_refused(bench, tmp_path):
    with pytest.raises(InputChangedError, match=r"w\.bin changed while the target was being built"):
        bench.lay_file("again", tmp_path / "w.bin", of_bytes(b"other"), of_file, "m:a")


def test_a_file_that_is_gone_by_now_is_refused_in_words(bench, tmp_path):
    with pytest.raises(InputChangedError, match=r"none\.bin"):
        bench.lay_file("again", tmp_path / "none.bin", of_bytes(b"other"), of_file, "m:a")


def test_a_file_hashed_for_its_key_is_not_read_again_to_hash_it(tmp_path, monkeypatch):
    journal = Journal(tmp_path / "state.db")
    (tmp_path / "w.bin").write_text("weights")
    digest = journal.digest(tmp_path / "w.bin")
    monkeypatch.setattr("modelbuild.journal.of_file", lambda path: pytest.fail("hashed again"))
    bench = Bench(tmp_path / "bench")
    bench.lay_file("weights", tmp_path / "w.bin", digest, journal.digest, "m:a")
    assert bench.inputs["weights"].read_text() == "weights"


def test_a_file_edited_after_it_was_hashed_is_refused_whatever_its_stamp_of_then(tmp_path):
    journal = Journal(tmp_path / "state.db")
    (tmp_path / "w.bin").write_text("weights")
    digest = journal.digest(tmp_path / "w.bin")
    status = (tmp_path / "w.bin").stat()
    (tmp_path / "w.bin").write_text("WEIGHTS")
    os.utime(tmp_path / "w.bin", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(InputChangedError, match=r"w\.bin changed"):
        Bench(tmp_path / "bench").lay_file("weights", tmp_path / "w.bin", digest, journal.digest, "m:a")


def test_a_lost_input_leaves_nothing_behind(store, tree, tmp_path):
    store.object(tree.entries[1].digest).unlink()
    bench = Bench(tmp_path / "bench")
    with pytest.raises(LostError):
        bench.lay_tree(store, "data", tree)
    assert bench.inputs == {}
    assert not (tmp_path / "bench" / "in" / "data").exists()
