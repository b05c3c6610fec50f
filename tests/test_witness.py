import json
import os

import pytest

from modelbuild import witness
from modelbuild.digest import RACY_NS, of_folder
from modelbuild.witness import Finding, check, take


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "a").write_text("one")
    (folder / "sub" / "run").write_text("two")
    (folder / "sub" / "run").chmod(0o755)
    return folder


def old(text, by=10 * RACY_NS):
    """The same witness, as if taken later: nothing in it is young."""
    taken, rows = json.loads(text)
    return json.dumps([taken + by, rows])


@pytest.fixture
def seen(folder):
    return old(take(folder, of_folder(folder)))


def test_an_untouched_copy_is_told_by_stat_alone(folder, seen, monkeypatch):
    monkeypatch.setattr(witness, "of_file", lambda path: pytest.fail(f"read {path}"))
    assert check(folder, seen) == Finding()


def test_a_young_copy_is_hashed_once_more_and_then_believed(folder, monkeypatch):
    taken = take(folder, of_folder(folder))
    finding = check(folder, taken)
    assert finding.changed == ""
    monkeypatch.setattr(witness, "of_file", lambda path: pytest.fail(f"read {path}"))
    assert check(folder, old(finding.renewed)) == Finding()


def test_a_racy_edit_whose_stamp_is_the_same_is_noticed(folder):
    """A coarse clock gives two writes within one tick the same stamp."""
    taken = json.loads(take(folder, of_folder(folder)))
    (folder / "a").write_text("two")
    s = os.lstat(folder / "a")
    for row in taken[1]:
        if row[0] == "a":
            row[1:5] = [s.st_mtime_ns, s.st_ctime_ns, s.st_size, s.st_ino]
    taken[0] = s.st_ctime_ns + RACY_NS // 2
    assert check(folder, json.dumps(taken)).changed == "a was changed on disk"


def _edit(folder):
    times = (folder / "a").stat()
    (folder / "a").write_text("two")
    os.utime(folder / "a", ns=(times.st_atime_ns, times.st_mtime_ns))


def _replace(folder):
    (folder / "new").write_text("two")
    (folder / "new").replace(folder / "a")


def _link(folder):
    (folder / "a").rename(folder.parent / "a")
    (folder / "a").symlink_to(folder.parent / "a")


def _folder(folder):
    (folder / "a").unlink()
    (folder / "a").mkdir()


def _pipe(folder):
    (folder / "a").unlink()
    os.mkfifo(folder / "a")


def _linked_folder(folder):
    (folder / "sub").rename(folder.parent / "sub")
    (folder / "sub").symlink_to(folder.parent / "sub")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_edit, "a was changed on disk"),
        (_replace, "a was changed on disk"),
        (_link, "a was changed on disk"),
        (_folder, "a was changed on disk"),
        (_pipe, "a was changed on disk"),
        (lambda f: (f / "a").unlink(), "a is missing"),
        (lambda f: (f / "sub" / "run").unlink(), "sub/run is missing"),
        (lambda f: (f / "b").write_text(""), "b was added on disk"),
        (lambda f: (f / "sub" / "b").write_text(""), "sub/b was added on disk"),
        (lambda f: (f / "l").symlink_to("a"), "l is neither a regular file nor a folder"),
        (_linked_folder, "sub is neither a regular file nor a folder"),
        (lambda f: (f / "sub" / "run").chmod(0o644), "sub/run was changed on disk"),
        (lambda f: (f / "a").chmod(0o755), "a was changed on disk"),
        (lambda f: f.rename(f.parent / "gone"), "a is missing"),
    ],
    ids=[
        "edit",
        "replace",
        "link",
        "folder",
        "pipe",
        "gone",
        "nested",
        "added",
        "nested-added",
        "link-added",
        "folder-link",
        "-x",
        "+x",
        "all",
    ],
)
def test_every_change_is_noticed_and_named(folder, seen, change, words, monkeypatch):
    real = witness.of_file

    def regular_only(path):
        assert path.is_file(), "reading a pipe waits for ever"
        assert not path.is_symlink(), "a link may lead anywhere"
        return real(path)

    monkeypatch.setattr(witness, "of_file", regular_only)
    change(folder)
    assert check(folder, seen).changed == words


def test_a_file_that_was_touched_but_not_changed_is_believed_again(folder, seen):
    os.utime(folder / "a")
    finding = check(folder, seen)
    assert finding.changed == ""
    assert check(folder, old(finding.renewed)) == Finding()


def test_it_lists_files_with_digest_and_size(folder, seen):
    tree = of_folder(folder)
    assert sorted(witness.files(seen)) == [(e.path, e.digest, e.size) for e in tree.entries]
