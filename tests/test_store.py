import errno
import json
import os
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelbuild import digest as digests
from modelbuild import store as stores
from modelbuild.digest import of_bytes, of_folder
from modelbuild.errors import StoreError
from modelbuild.limits import Limits
from modelbuild.paths import Workspace
from modelbuild.store import LostError, Record, Store

KEY = "ab" + "0" * 30


@pytest.fixture
def at(tmp_path):
    return Workspace(tmp_path)


@pytest.fixture
def store(at):
    return Store(at, at.tmp / "run")


def folder(at, **files):
    place = at.root / "made"
    shutil.rmtree(place, ignore_errors=True)
    for name, text in files.items():
        path = place / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place


def recorded(store, at, key=KEY, **files):
    tree = store.put_folder(folder(at, **(files or {"a": "one", "sub__b": "two"})))
    record = Record(key, "m:a", (("python", "3.11"), ("param /é", '"x"')), tree, 1.5)
    store.commit(record)
    return record


def fresh(at):
    """A store as another process would have it: it trusts nothing yet."""
    return Store(at, at.tmp / "other")


def damage(path, spot=0):
    data = bytearray(path.read_bytes())
    data[spot] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


def test_what_was_put_comes_out_the_same(store, at, tmp_path):
    made = folder(at, a="one", sub__run="two", sub__deep__c="")
    (made / "sub" / "run").chmod(0o755)
    tree = store.put_folder(made)
    assert tree == of_folder(made)
    assert store.has(tree)
    fresh(at).materialise(tree, tmp_path / "copy")
    assert of_folder(tmp_path / "copy") == tree


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


def _no_file_is_a_folder(files):
    return not any(other.startswith(f"{name}/") for name in files for other in files)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(PATHS, st.tuples(st.binary(max_size=40), st.booleans()), max_size=5).filter(
        _no_file_is_a_folder
    )
)
def test_any_folder_makes_the_round_trip(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("store")
    made = root / "made"
    made.mkdir()
    for name, (data, executable) in files.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o755 if executable else 0o644)
    at = Workspace(root)
    tree = Store(at, at.tmp / "run").put_folder(made)
    fresh(at).materialise(tree, root / "copy")
    assert of_folder(root / "copy") == tree == of_folder(made)


def test_objects_and_copies_are_read_only_and_apart(store, at, tmp_path):
    tree = store.put_folder(folder(at, a="one"))
    store.materialise(tree, tmp_path / "copy")
    kept, copy = store.object(tree.entries[0].digest), tmp_path / "copy" / "a"
    assert kept.stat().st_mode & 0o777 == copy.stat().st_mode & 0o777 == 0o444
    assert kept.stat().st_ino != copy.stat().st_ino


def test_an_empty_folder_is_an_output_too(store, at, tmp_path):
    (at.root / "made").mkdir()
    store.materialise(store.put_folder(at.root / "made"), tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []


def test_nothing_is_created_before_something_is_written(store, at):
    assert store.record(KEY) is None
    assert list(store.records()) == list(store.all_objects()) == []
    store.touch(KEY)
    store.forget(KEY)
    assert not at.cache.exists()


def test_a_record_comes_back_as_it_was_written(store, at):
    record = recorded(store, at)
    assert fresh(at).record(KEY) == record
    assert [key for _, key in store.records()] == [KEY]
    assert sorted(digest for _, digest in store.all_objects()) == sorted(
        e.digest for e in record.tree.entries
    )
    store.forget(KEY)
    assert store.record(KEY) is None


def test_touching_a_record_makes_it_young(store, at):
    recorded(store, at)
    os.utime(store.record_file(KEY), (1, 1))
    store.touch(KEY)
    assert store.record_file(KEY).stat().st_mtime > 1


def test_a_record_cut_short_anywhere_is_none(store, at):
    record = recorded(store, at)
    path = store.record_file(KEY)
    whole = path.read_bytes()
    path.chmod(0o644)
    for spot in range(len(whole)):
        path.write_bytes(whole[:spot])
        assert store.record(KEY) in ((None, record) if spot == len(whole) - 1 else (None,)), spot


def test_a_record_with_any_bit_turned_is_none_or_the_same(store, at):
    record = recorded(store, at)
    path = store.record_file(KEY)
    whole = path.read_bytes()
    path.chmod(0o644)
    for spot in range(len(whole)):
        path.write_bytes(whole[:spot] + bytes([whole[spot] ^ (1 << spot % 8)]) + whole[spot + 1 :])
        assert store.record(KEY) in ((None, record) if spot == len(whole) - 1 else (None,)), spot


def sealed(path, document):
    """A record file that is whole by its checksum."""
    body = json.dumps(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{of_bytes(body.encode())}\n{body}\n")


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        1,
        "x",
        {},
        {"key": KEY},
        {"key": KEY, "target": "m:a", "parts": [[]], "seconds": 1, "digest": "", "entries": [[]]},
    ],
    ids=str,
)
def test_a_record_of_another_shape_is_none(store, document):
    sealed(store.record_file(KEY), document)
    assert store.record(KEY) is None


def test_a_record_under_another_key_is_none(store, at):
    recorded(store, at)
    other = store.record_file("cd" + "0" * 30)
    other.parent.mkdir()
    shutil.copy(store.record_file(KEY), other)
    assert store.record("cd" + "0" * 30) is None


@pytest.mark.parametrize("path", ["../evil", "/evil", "a/../../evil", "..", ""])
def test_a_record_whose_files_leave_their_folder_is_none(store, at, path):
    record = recorded(store, at)
    document = {"key": KEY, "target": "m:a", "parts": [], "seconds": 1.0}
    entries = [[path, *entry[1:]] for entry in record.tree.entries[:1]]
    sealed(
        store.record_file("ee" + KEY[2:]),
        {**document, "key": "ee" + KEY[2:], "digest": "d", "entries": entries},
    )
    assert store.record("ee" + KEY[2:]) is None


def test_a_record_beyond_the_limit_is_not_read(store, at, monkeypatch):
    recorded(store, at)
    monkeypatch.setattr(stores, "LIMITS", Limits(record_bytes=10))
    assert store.record(KEY) is None


@pytest.mark.parametrize("spot", [0, 1, 500, 999])
def test_a_damaged_object_is_never_handed_out(store, at, tmp_path, spot):
    record = recorded(store, at, a="x" * 1000)
    entry = record.tree.entries[0]
    damage(store.object(entry.digest), spot)
    other = fresh(at)
    assert other.has(record.tree)
    with pytest.raises(LostError, match="damaged"):
        other.materialise(record.tree, tmp_path / "copy")
    assert not other.has(record.tree)
    assert (at.quarantine / entry.digest).exists()
    with pytest.raises(LostError, match="not in the store"):
        other.materialise(record.tree, tmp_path / "again")


@pytest.mark.parametrize("length", [0, 1, 500, 999])
def test_an_object_cut_short_is_never_handed_out(store, at, tmp_path, length):
    record = recorded(store, at, a="x" * 1000)
    path = store.object(record.tree.entries[0].digest)
    path.chmod(0o644)
    os.truncate(path, length)
    with pytest.raises(LostError, match="damaged"):
        fresh(at).materialise(record.tree, tmp_path / "copy")


def test_damage_is_noticed_by_the_process_that_put_the_object_too(store, at, tmp_path):
    record = recorded(store, at, a="x" * 1000)
    store.materialise(record.tree, tmp_path / "copy")
    damage(store.object(record.tree.entries[0].digest))
    with pytest.raises(LostError, match="damaged"):
        store.materialise(record.tree, tmp_path / "again")


def test_a_whole_object_is_read_once_a_process(store, at, tmp_path, monkeypatch):
    record = recorded(store, at)
    other = fresh(at)
    other.materialise(record.tree, tmp_path / "one")
    with monkeypatch.context() as patch:
        patch.setattr(digests, "copy", lambda *_: pytest.fail("hashed again"))
        other.materialise(record.tree, tmp_path / "two")
    assert of_folder(tmp_path / "two") == record.tree


def test_a_lost_object_can_be_put_again(store, at, tmp_path):
    record = recorded(store, at)
    store.object(record.tree.entries[0].digest).unlink()
    with pytest.raises(LostError):
        store.materialise(record.tree, tmp_path / "one")
    assert store.put_folder(folder(at, a="one", sub__b="two")) == record.tree
    store.materialise(record.tree, tmp_path / "two")


def test_links_are_refused(store, at):
    made = folder(at, a="one")
    (made / "l").symlink_to("a")
    with pytest.raises(ValueError, match="l is neither"):
        store.put_folder(made)


@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO]
)
def test_a_disk_that_refuses_is_said_with_a_remedy(store, at, monkeypatch, code):
    made = folder(at, a="one")

    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StoreError, match="cannot write: ") as caught:
        store.put_folder(made)
    assert caught.value.exit_code == 2
    assert caught.value.remedy
    assert list(store.all_objects()) == []


def test_every_step_comes_in_the_order_that_survives_a_crash(store, at, monkeypatch):
    made = folder(at, a="one")
    steps = []
    for module, name in [(os, "fsync"), (os, "chmod"), (os, "replace")]:
        real = getattr(module, name)

        def note(*args, real=real, name=name, **options):
            what = "folder" if name == "fsync" and os.path.isdir(f"/proc/self/fd/{args[0]}") else "file"
            steps.append(f"{name} {what}" if name == "fsync" else name)
            return real(*args, **options)

        monkeypatch.setattr(module, name, note)
    store.put_folder(made)
    assert [s for s in steps if s != "fsync folder" or steps.index(s)] == [
        "fsync file",
        "chmod",
        "replace",
        "fsync folder",
    ]
    steps.clear()
    store.commit(Record(KEY, "m:a", (), of_folder(made), 0.0))
    assert steps[-4:] == ["fsync file", "chmod", "replace", "fsync folder"]
