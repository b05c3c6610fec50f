"""State files and stored contents that were cut, overwritten or lost: nothing wrong is accepted, nothing stops."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from project_dir import ALL, DATA_TARGET, MADE, ProjectDir, flipped, overwrite

from modelbuild.digest import Entry, tree
from modelbuild.paths import Workspace
from modelbuild.store import LostError, Record, Store


def _cuts(data: bytes) -> Iterator[tuple[str, bytes | None]]:
    yield "gone", None
    yield "empty", b""
    yield "garbage", b"not a database at all " * 300
    yield "zeros", bytes(len(data))
    for part in (1, 100, len(data) // 2, len(data) - 4096, len(data) - 1):
        yield f"cut to {part} bytes", data[:part]
    yield "text in the middle", data[: len(data) // 2] + b"x" * 2000 + data[len(data) // 2 + 2000 :]


def _put(path: Path, data: bytes | None) -> None:
    path.unlink() if data is None else path.write_bytes(data)


@pytest.mark.parametrize("name", ["doit.db", "state.db"])
def test_a_broken_database_costs_no_recipe(project: ProjectDir, name: str) -> None:
    project.doit()
    path = project.path(".cache") / name
    whole, before = path.read_bytes(), project.contents()
    for how, data in _cuts(whole):
        _put(path, data)
        result = project.doit()
        assert result.code == 0, (how, result.text)
        assert "Traceback" not in result.text, how
        assert project.executed() == set(), how
        assert result.of("up to date") | result.of("restored") == ALL, how
        assert project.contents() == before, how
    assert project.doit().of("up to date") == ALL


def test_nonsense_inside_a_readable_database_is_not_believed(project: ProjectDir) -> None:
    project.doit()
    before = project.contents()
    for column, value in (
        ("witness", "not JSON"),
        ("witness", "[]"),
        ("key", "0" * 32),
        ("digest", "0" * 32),
    ):
        with sqlite3.connect(project.path(".cache/state.db")) as db:
            db.execute(f"update built set {column} = ? where target = ?", (value, "tiny:reference"))
        db.close()
        result = project.doit()
        assert result.code == 0, (column, value, result.text)
        assert "Traceback" not in result.text, (column, value)
        assert project.contents() == before, (column, value)
        assert project.report()["ok"] is True


def test_a_database_of_another_shape_is_begun_anew(project: ProjectDir) -> None:
    path = project.path(".cache/state.db")
    path.unlink()
    with sqlite3.connect(path) as db:
        for table in ("stat", "built", "memo"):
            db.execute(f"create table {table} (one text)")
            db.execute(f"insert into {table} values ('x')")
    db.close()
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == set()


# -- the store


def test_a_flipped_bit_in_an_object_is_found_and_mended(project: ProjectDir) -> None:
    before = project.contents()
    path = project.object_of(DATA_TARGET, "data.safetensors")
    overwrite(path, flipped(path.read_bytes()))
    shutil.rmtree(project.out(DATA_TARGET))
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == {DATA_TARGET}
    assert project.contents() == before
    assert [p.name for p in project.path(".cache/quarantine").iterdir()] == [path.parent.name + path.name]


def test_a_damaged_object_reaches_no_recipe(project: ProjectDir) -> None:
    before = project.contents()
    path = project.object_of(DATA_TARGET, "data.safetensors")
    overwrite(path, flipped(path.read_bytes()))
    project.manifest(lambda m: m["platforms"].update(watch={"runtime": "onnxruntime"}))
    result = project.doit()
    assert result.code == 0, result.text
    made = project.out("tiny:watch.run", "outputs.safetensors").read_bytes()
    assert made == before["tiny/phone.run/outputs.safetensors"]
    assert path.read_bytes() == before["tiny/data.evaluation/data.safetensors"]


def test_object_and_copy_overwritten_alike_are_both_noticed(project: ProjectDir) -> None:
    project.doit()
    before = project.contents()
    wrong = flipped(project.out(DATA_TARGET, "data.safetensors").read_bytes())
    overwrite(project.object_of(DATA_TARGET, "data.safetensors"), wrong)
    overwrite(project.out(DATA_TARGET, "data.safetensors"), wrong)
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == {DATA_TARGET}
    assert project.contents() == before


def test_every_record_cut_costs_its_recipe_and_no_more(project: ProjectDir) -> None:
    before = project.contents()
    for path in project.records():
        overwrite(path, path.read_bytes()[:-9])
    shutil.rmtree(project.path(".cache/out"))
    result = project.doit()
    assert result.code == 0, result.text
    assert project.executed() == MADE
    assert project.contents() == before


def test_lost_records_leave_the_report_whole(project: ProjectDir) -> None:
    shutil.rmtree(project.path(".cache/records"))
    result = project.doit()
    assert result.code == 0, result.text
    assert project.report()["ok"] is True
    assert project.report()["verdicts"]
    assert project.doit("deliver", "--to", "shipped").code == 0


# -- one record, at the level of the store


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Store, Record]:
    store = Store(Workspace(tmp_path), tmp_path / ".cache" / "tmp" / "run")
    (tmp_path / "made" / "deep").mkdir(parents=True)
    (tmp_path / "made" / "deep" / "a.txt").write_text("contents")
    (tmp_path / "made" / "run.sh").write_text("#!/bin/sh\n")
    (tmp_path / "made" / "run.sh").chmod(0o755)
    contents = store.put_folder(tmp_path / "made")
    record = Record("ab" + "0" * 30, "tiny:x", (("python", "3.11"), ("param /a", "1")), contents, 0.5)
    store.commit(record)
    return store, record


def test_a_record_reads_back_as_it_was_written(stored: tuple[Store, Record], tmp_path: Path) -> None:
    store, record = stored
    assert store.record(record.key) == record
    store.materialise(record.tree, tmp_path / "back")
    assert (tmp_path / "back/deep/a.txt").read_text() == "contents"
    assert (tmp_path / "back/deep/a.txt").stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "back/run.sh").stat().st_mode & 0o777 == 0o555


def test_a_record_cut_or_changed_at_any_byte_is_none(stored: tuple[Store, Record]) -> None:
    store, record = stored
    path = store.record_file(record.key)
    whole = path.read_bytes()
    for at in range(len(whole)):
        overwrite(path, whole[:at])
        assert store.record(record.key) is None or at == len(whole) - 1, at  # the last byte ends the line
        overwrite(path, flipped(whole, at))
        assert store.record(record.key) in (None, record), at
    overwrite(path, whole)
    assert store.record(record.key) == record


def test_a_record_under_another_name_is_none(stored: tuple[Store, Record]) -> None:
    store, record = stored
    other = "cd" + "1" * 30
    store.record_file(other).parent.mkdir(parents=True)
    shutil.copyfile(store.record_file(record.key), store.record_file(other))
    assert store.record(other) is None


def test_a_record_of_another_form_is_none(stored: tuple[Store, Record]) -> None:
    from modelbuild.digest import of_bytes

    store, record = stored
    path = store.record_file(record.key)
    bodies = ("null", "[]", "{}", '{"key": 1}', json.dumps({"key": "k", "tree": {"entries": 3}}), "\xff")
    for body in bodies:
        overwrite(path, f"{of_bytes(body.encode())}\n{body}\n".encode())
        assert store.record(record.key) is None, body


@pytest.mark.parametrize("keep_times", [True, False])
def test_an_object_with_any_byte_changed_is_not_handed_out(
    stored: tuple[Store, Record], tmp_path: Path, keep_times: bool
) -> None:
    store, record = stored
    digest = next(e.digest for e in record.tree.entries if e.path == "deep/a.txt")
    whole = store.object(digest).read_bytes()
    for at in range(len(whole)):
        # A process that took the object in believes it while its stamp is the same: it must see it move.
        if keep_times:
            overwrite(store.object(digest), flipped(whole, at))
        else:
            store.object(digest).chmod(0o644)
            store.object(digest).write_bytes(flipped(whole, at))
        with pytest.raises(LostError):
            store.materialise(record.tree, tmp_path / f"back{at}")
        assert not store.object(digest).exists()
        assert store.put(_file(tmp_path, whole)) == digest
    store.materialise(record.tree, tmp_path / "back")
    assert (tmp_path / "back/deep/a.txt").read_bytes() == whole


def _file(folder: Path, data: bytes) -> Path:
    (folder / "whole").write_bytes(data)
    return folder / "whole"


def test_what_is_neither_file_nor_folder_is_not_taken_in(
    stored: tuple[Store, Record], tmp_path: Path
) -> None:
    store, _ = stored
    (tmp_path / "made" / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="link is neither"):
        store.put_folder(tmp_path / "made")


def test_folders_that_differ_have_different_digests() -> None:
    one = Entry("a", "-", "1" * 32, 1)
    others = [
        (Entry("b", "-", "1" * 32, 1),),
        (Entry("a", "x", "1" * 32, 1),),
        (Entry("a", "-", "2" * 32, 1),),
        (one, Entry("b", "-", "1" * 32, 1)),
        (),
    ]
    digests = {tree((one,)).digest, *(tree(entries).digest for entries in others)}
    assert len(digests) == len(others) + 1
