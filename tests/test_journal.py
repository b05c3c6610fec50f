import contextlib
import os
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from modelbuild import journal as journals
from modelbuild.digest import of_bytes
from modelbuild.errors import StoreError
from modelbuild.journal import Built, Journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / ".cache" / "state.db"


def reads(monkeypatch):
    """Names of the files that are hashed from now on."""
    seen = []
    real = journals.of_file
    monkeypatch.setattr(journals, "of_file", lambda p: seen.append(p.name) or real(p))
    return seen


def refill(path):
    """A journal file with every kind of row."""
    journal = Journal(path)
    source = path.parent.parent / "f"
    source.write_text("one")
    journal.digest(source)
    journal.remember("m:a", Built("k", "d", "w"))
    journal.memo("imports")["x"] = "[]"
    journal.close()
    return source


def test_nothing_is_written_before_there_is_something_to_say(path):
    journal = Journal(path)
    journal.flush()
    journal.close()
    assert not path.parent.exists()


def test_a_file_is_hashed_once_while_its_stamp_is_the_same(path, tmp_path, monkeypatch):
    source = refill(path)
    seen = reads(monkeypatch)
    for _ in range(2):
        again = Journal(path)
        assert again.digest(source) == of_bytes(b"one")
        again.close()
    assert seen == []


def test_an_edit_is_noticed(path, monkeypatch):
    source = refill(path)
    source.write_text("longer")
    assert Journal(path).digest(source) == of_bytes(b"longer")


def test_a_racy_edit_with_the_same_size_and_mtime_is_noticed(path):
    """Within one tick of a coarse clock nothing but a wait tells two writes apart."""
    source = refill(path)
    for n in range(5):
        journal = Journal(path)
        times = source.stat()
        data = b"%03d" % n
        source.write_bytes(data)
        os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert journal.digest(source) == of_bytes(data)
        journal.close()


def test_a_file_just_written_is_left_to_settle_before_it_is_trusted(path, tmp_path, monkeypatch):
    slept = []
    monkeypatch.setattr(journals.time, "sleep", slept.append)
    source = tmp_path / "f"
    source.write_text("x")
    written = source.stat().st_ctime_ns
    for age, times in [(5_000_000, 1), (journals.RACY_NS + 1, 1), (19_000_000, 2)]:
        monkeypatch.setattr(journals.time, "time_ns", lambda age=age: written + age)
        Journal(path).digest(source)
        assert len(slept) == times
    assert slept == [0.015, 0.001]


def test_a_file_that_changes_while_it_is_read_is_not_remembered(path, tmp_path, monkeypatch):
    source = tmp_path / "f"
    source.write_text("one")
    real = journals.of_file

    def slow(p):
        found = real(p)
        p.write_text("another")
        return found

    journal = Journal(path)
    with monkeypatch.context() as patch:
        patch.setattr(journals, "of_file", slow)
        assert journal.digest(source) == of_bytes(b"one")
    assert journal.digest(source) == of_bytes(b"another")


def test_an_edit_behind_a_link_is_noticed(path, tmp_path):
    (tmp_path / "real").write_text("one")
    link = tmp_path / "link"
    link.symlink_to("real")
    journal = Journal(path)
    assert journal.digest(link) == of_bytes(b"one")
    (tmp_path / "real").write_text("two")
    assert journal.digest(link) == of_bytes(b"two")


def test_a_missing_file_is_said(path, tmp_path):
    with pytest.raises(FileNotFoundError):
        Journal(path).digest(tmp_path / "none")


def test_what_was_built_lasts_and_can_be_forgotten(path):
    journal = Journal(path)
    journal.remember("m:b", Built("k2", "d2", "w2"))
    journal.remember("m:a", Built("k", "d", "w"))
    journal.close()
    journal = Journal(path)
    assert journal.targets() == ["m:a", "m:b"]
    assert journal.built("m:a") == Built("k", "d", "w")
    assert journal.built("m:none") is None
    journal.forget("m:a")
    journal.forget("m:none")
    journal.close()
    assert Journal(path).targets() == ["m:b"]


def test_a_journal_goes_on_after_it_was_closed(path):
    journal = Journal(path)
    journal.remember("m:a", Built("k", "d", "w"))
    journal.close()
    assert journal.built("m:a") == Built("k", "d", "w")
    journal.remember("m:b", Built("k", "d", "w"))
    journal.close()
    assert Journal(path).targets() == ["m:a", "m:b"]


def test_a_memo_is_a_dictionary_that_lasts(path):
    journal = Journal(path)
    memo = journal.memo("imports")
    memo["a"] = "1"
    memo["b"] = "2"
    memo.add("seen")
    journal.memo("other")["a"] = "9"
    del memo["b"]
    journal.close()
    again = Journal(path).memo("imports")
    assert dict(again) == {"a": "1", "seen": ""}
    assert len(again) == 2
    assert "b" not in again
    with pytest.raises(KeyError):
        again["b"]


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_journal_cut_short_anywhere_is_begun_anew(path, suffix):
    """Every answer is then the right one or none; what is new is kept."""
    refill(path)
    live = Journal(path)  # while it is open the write-ahead log stays
    live.remember("m:b", Built("k2", "d2", "w2"))
    live.flush()
    whole = {s: path.with_name(path.name + s).read_bytes() for s in ("", "-wal")}
    live.close()
    size = len(whole[suffix])
    spots = sorted({*range(0, 120, 7), *range(0, size, max(size // 24, 1)), size - 1, size - 2})
    for spot in spots:
        for name, data in whole.items():
            path.with_name(path.name + name).write_bytes(data[:spot] if name == suffix else data)
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        journal = Journal(path)
        assert journal.built("m:a") in (None, Built("k", "d", "w"))
        assert journal.built("m:b") in (None, Built("k2", "d2", "w2"))
        assert dict(journal.memo("imports")) in ({}, {"x": "[]"})
        journal.remember("m:c", Built("k3", "d3", "w3"))
        journal.close()
        again = Journal(path)
        assert again.built("m:c") == Built("k3", "d3", "w3")
        again.close()


@pytest.mark.parametrize("content", [b"", b"x", b"SQLite format 3\0", b"\xff" * 5000, b"{}" * 3000])
def test_a_file_that_is_no_database_is_replaced(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    journal = Journal(path)
    assert journal.built("m:a") is None
    journal.remember("m:a", Built("k", "d", "w"))
    journal.close()
    assert Journal(path).built("m:a") == Built("k", "d", "w")


def test_a_database_of_another_shape_is_replaced(path):
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.executescript(
        "create table stat (a); create table built (a); create table memo (a); insert into stat values (1)"
    )
    db.close()
    journal = Journal(path)
    assert journal.built("m:a") is None
    source = path.parent / "f"
    source.write_text("x")
    assert journal.digest(source) == of_bytes(b"x")
    journal.remember("m:a", Built("k", "d", "w"))
    journal.close()
    assert Journal(path).built("m:a") == Built("k", "d", "w")


class Refusing:
    """A connection whose disk is full after the first statement of a transaction."""

    def __init__(self, db):
        self.db, self.full = db, False

    def execute(self, sql, *values):
        if self.full and sql.startswith("insert"):
            raise sqlite3.OperationalError("database or disk is full")
        return self.db.execute(sql, *values)

    def close(self):
        self.db.close()


def test_a_disk_that_refuses_costs_only_the_memory_of_that_moment(path):
    journal = Journal(path)
    journal.remember("m:a", Built("k", "d", "w"))
    journal.flush()
    journal.__dict__["_db"] = db = Refusing(journal._db)
    db.full = True
    journal.remember("m:b", Built("k", "d", "w"))
    journal.flush()
    assert journal.built("m:b") == Built("k", "d", "w")
    db.full = False
    journal.flush()
    journal.close()
    assert Journal(path).targets() == ["m:a", "m:b"]


def test_a_journal_that_cannot_be_opened_is_said_in_words_or_done_without(path, monkeypatch):
    real = sqlite3.connect

    def refuse(place, **options):
        if str(place) == ":memory:":
            return real(place, **options)
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite3, "connect", refuse)
    journal = Journal(path)
    with contextlib.suppress(StoreError):
        assert journal.built("m:a") is None
    journal.close()


def test_a_busy_journal_is_not_thrown_away(path, monkeypatch):
    refill(path)
    real = sqlite3.connect

    def connect(name, **options):
        return real(name, **{**options, "timeout": 0.01})

    monkeypatch.setattr(sqlite3, "connect", connect)
    other = real(path, isolation_level=None)
    other.execute("pragma locking_mode=exclusive")
    other.execute("begin exclusive")
    inode = path.stat().st_ino
    with pytest.raises(StoreError, match="Wait for other builds"):
        Journal(path)
    other.execute("rollback")
    other.close()
    assert path.stat().st_ino == inode
    assert Journal(path).built("m:a") == Built("k", "d", "w")


def test_a_name_that_is_no_unicode_costs_only_its_own_memory(path, tmp_path):
    odd = tmp_path / os.fsdecode(b"\xff.py")
    odd.write_text("x")
    journal = Journal(path)
    assert journal.digest(odd) == of_bytes(b"x")
    journal.remember("m:a", Built("k", "d", "w"))
    journal.close()
    assert Journal(path).built("m:a") == Built("k", "d", "w")


def test_threads_share_a_journal(path, tmp_path):
    refill(path)
    files = [tmp_path / f"f{n}" for n in range(40)]
    for n, file in enumerate(files):
        file.write_text(str(n))
    journal = Journal(path)
    start = threading.Barrier(8)

    def work(part):
        start.wait()
        for n in range(part, 40, 8):
            assert journal.digest(files[n]) == of_bytes(str(n).encode())
            journal.remember(f"m:{n}", Built(str(n), "d", "w"))
            journal.flush()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    journal.close()
    assert len(Journal(path).targets()) == 41


WRITER = """
import sys
from pathlib import Path
from modelbuild.journal import Built, Journal
path, who = Path(sys.argv[1]), sys.argv[2]
sys.stdin.readline()
for n in range(20):
    journal = Journal(path)
    journal.remember(f"m:{who}.{n}", Built(who, str(n), ""))
    journal.close()
"""


def test_processes_share_a_journal(path):
    path.parent.mkdir()
    command = [sys.executable, "-c", WRITER, str(path)]
    writers = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE) for n in range(4)]
    for writer in writers:
        writer.stdin.write(b"go\n")
        writer.stdin.close()
    assert [writer.wait() for writer in writers] == [0] * 4
    assert len(Journal(path).targets()) == 80
