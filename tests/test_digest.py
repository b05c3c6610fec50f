import io
import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from xxhash import xxh3_128

from modelbuild import digest as digests
from modelbuild.digest import Entry, of_bytes, of_file, of_folder, stamp, tree, walk

HASHES = st.sampled_from(["0" * 32, "1" * 32, "ab" * 16])
PATHS = st.lists(st.text(string.ascii_lowercase + "x-.", min_size=1, max_size=4), min_size=1, max_size=3).map(
    "/".join
)
ENTRIES = st.lists(
    st.builds(Entry, PATHS, st.sampled_from("x-"), HASHES, st.integers(0, 99)),
    max_size=6,
    unique_by=lambda e: e.path,
)


@pytest.mark.parametrize("size", [0, 1, 5, 16, 17, 64])
def test_a_file_is_hashed_whole_whatever_the_chunk(tmp_path, monkeypatch, size):
    monkeypatch.setattr(digests, "CHUNK", 16)
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    assert of_file(tmp_path / "f") == xxh3_128(data).hexdigest() == of_bytes(data)


class Reluctant(io.BytesIO):
    """Takes at most three bytes a write, as a raw file may."""

    def write(self, data):
        return super().write(bytes(data[:3]))


def test_a_short_write_is_continued(tmp_path):
    (tmp_path / "f").write_bytes(b"0123456789")
    sink = Reluctant()
    with (tmp_path / "f").open("rb", buffering=0) as source:
        assert digests.copy(source, sink) == of_bytes(b"0123456789")
    assert sink.getvalue() == b"0123456789"


@given(ENTRIES, st.randoms())
def test_a_tree_does_not_depend_on_the_order_of_its_entries(entries, random):
    shuffled = list(entries)
    random.shuffle(shuffled)
    assert tree(shuffled) == tree(entries)


@given(ENTRIES, ENTRIES)
def test_trees_share_a_digest_only_when_they_are_equal(first, second):
    a, b = tree(first), tree(second)
    assert (a.digest == b.digest) == (a.entries == b.entries)


@pytest.mark.parametrize(
    "other",
    [
        Entry("b", "-", "1" * 32, 3),
        Entry("a", "x", "1" * 32, 3),
        Entry("a", "-", "2" * 32, 3),
        Entry("a", "-", "1" * 32, 4),
    ],
)
def test_every_field_of_an_entry_counts(other):
    assert tree([other]).digest != tree([Entry("a", "-", "1" * 32, 3)]).digest


def test_a_tree_knows_its_size():
    assert tree([Entry("a", "-", "1" * 32, 3), Entry("b", "-", "1" * 32, 4)]).size == 7


def test_a_folder_is_told_by_names_contents_and_modes(tmp_path):
    folder = tmp_path / "f"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "run").write_text("x")
    (folder / "a").write_text("y")
    before = of_folder(folder)
    assert [e.path for e in before.entries] == ["a", "sub/run"]
    (folder / "sub" / "run").chmod(0o755)
    assert of_folder(folder).digest != before.digest
    assert {e.path: e.mode for e in of_folder(folder).entries} == {"a": "-", "sub/run": "x"}


def test_a_digest_does_not_depend_on_where_the_folder_lies(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f").write_text("x")
    assert of_folder(tmp_path / "one") == of_folder(tmp_path / "two")


@pytest.mark.parametrize("kind", ["file link", "folder link", "broken link", "pipe"])
def test_what_is_neither_file_nor_folder_is_refused_by_name(tmp_path, kind):
    folder = tmp_path / "f"
    (folder / "real").mkdir(parents=True)
    (folder / "plain").write_text("x")
    odd = folder / "odd"
    if kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to({"file link": "plain", "folder link": "real", "broken link": "gone"}[kind])
    with pytest.raises(ValueError, match="odd is neither a regular file nor a folder"):
        list(walk(folder))


def test_a_folder_that_cannot_be_listed_is_not_taken_for_empty(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "f").write_text("x")
    real = os.scandir

    def scandir(path="."):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(OSError, match="Permission denied"):
        list(walk(tmp_path))


def test_a_stamp_follows_no_link(tmp_path):
    (tmp_path / "f").write_text("long text")
    (tmp_path / "l").symlink_to("f")
    assert stamp(tmp_path / "l") != stamp(tmp_path / "f")
    with pytest.raises(FileNotFoundError):
        stamp(tmp_path / "none")


def test_a_stamp_shows_an_edit_whose_mtime_was_put_back(tmp_path):
    path = tmp_path / "f"
    path.write_text("one")
    before, times = stamp(path), path.stat()
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert stamp(path) != before
