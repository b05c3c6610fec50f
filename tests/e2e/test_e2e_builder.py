"""The builder over recipes that a test writes: what an output may be, and what a recipe may not do."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelbuild import gc
from modelbuild.build import Builder
from modelbuild.errors import InputChangedError, RecipeError
from modelbuild.examine import Examiner
from modelbuild.job import Job
from modelbuild.journal import Journal
from modelbuild.paths import Workspace
from modelbuild.progress import Sink
from modelbuild.targets import Plan, Recipe, Target

Recipes = dict[str, Callable[[dict[str, Path], Path], None]]

MAKE = Target("m:make", Recipe("modelbuild.tensors:save"), "made of nothing")
USE = Target("m:use", Recipe("modelbuild.tensors:load"), "made of it", inputs={"it": "m:make"})


class InProcess:
    """An executor that calls what the test gave, by target."""

    def __init__(self, recipes: Recipes) -> None:
        self.recipes, self.calls = recipes, list[str]()

    def run(self, job: Job, sink: Sink) -> float:
        self.calls.append(job.target)
        self.recipes[job.target]({role: Path(path) for role, path in job.inputs.items()}, Path(job.out))
        return 0.0

    def close(self) -> None:
        pass


class Run:
    """One run over the two targets; what it did is in `calls`."""

    def __init__(self, root: Path, recipes: Recipes) -> None:
        self.at = Workspace(root)
        self.journal = Journal(self.at.state_db)
        self.executor = InProcess(recipes)
        plan = Plan({"m:make": MAKE, "m:use": USE}, {})
        self.examiner = Examiner(plan, self.at, self.journal)
        self.builder = Builder(self.examiner, self.executor)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.builder.close()
        self.journal.close()

    def build(self, *names: str) -> list[str]:
        """Build what is not up to date; return the states."""
        states = []
        for name in names or ("m:make", "m:use"):
            if self.examiner.status(name).state == "up-to-date":
                states.append("up-to-date")
            else:
                states.append(self.builder.build(name, lambda *_: None).state)
        return states


def _nested(_: dict[str, Path], out: Path) -> None:
    (out / "a/b/c").mkdir(parents=True)
    (out / "a/b/c/deep.bin").write_bytes(bytes(range(256)) * 5000)
    (out / "a/empty").write_bytes(b"")
    (out / "name with blank, ünicode and\ttab").write_text("x")
    (out / "tool").write_text("#!/bin/sh\n")
    (out / "tool").chmod(0o755)


def _sizes(inputs: dict[str, Path], out: Path) -> None:
    files = sorted(p for p in inputs["it"].rglob("*") if p.is_file())
    (out / "sizes.txt").write_text("".join(f"{p.name} {p.stat().st_size}\n" for p in files))


RECIPES: Recipes = {"m:make": _nested, "m:use": _sizes}


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "project").mkdir()
    yield tmp_path / "project"


def test_nested_folders_are_artefacts(root: Path) -> None:
    with Run(root, RECIPES) as run:
        assert run.build() == ["built", "built"]
    out = root / ".cache/out/m/make"
    assert (out / "a/b/c/deep.bin").read_bytes() == bytes(range(256)) * 5000
    assert (out / "a/empty").read_bytes() == b""
    assert (out / "tool").stat().st_mode & 0o777 == 0o555
    assert "deep.bin 1280000" in (root / ".cache/out/m/use/sizes.txt").read_text()
    with Run(root, RECIPES) as run:
        assert run.build() == ["up-to-date", "up-to-date"]


@pytest.mark.parametrize("name", ["a/b/c/deep.bin", "a/empty", "tool"])
def test_a_file_anywhere_in_a_folder_is_watched(root: Path, name: str) -> None:
    with Run(root, RECIPES) as run:
        run.build()
    for change in ("bytes", "mode", "gone"):
        path = root / ".cache/out/m/make" / name
        before, mode = path.read_bytes(), path.stat().st_mode
        if change == "bytes":
            path.chmod(0o644)
            path.write_bytes(before + b"x")
            path.chmod(mode)
        elif change == "mode":
            path.chmod(mode ^ 0o111)
        else:
            path.unlink()
        with Run(root, RECIPES) as run:
            assert run.build() == ["restored", "up-to-date"], change
            assert run.executor.calls == []
        path = root / ".cache/out/m/make" / name
        assert path.read_bytes() == before
        assert path.stat().st_mode == mode


def test_a_file_added_deep_inside_is_noticed(root: Path) -> None:
    with Run(root, RECIPES) as run:
        run.build()
    (root / ".cache/out/m/make/a/b/stray").write_text("x")
    with Run(root, RECIPES) as run:
        assert run.build() == ["restored", "up-to-date"]
    assert not (root / ".cache/out/m/make/a/b/stray").exists()


def test_a_recipe_that_changes_its_input_is_refused(root: Path) -> None:
    def careless(inputs: dict[str, Path], out: Path) -> None:
        _sizes(inputs, out)
        (inputs["it"] / "tool").chmod(0o644)
        (inputs["it"] / "tool").write_text("changed!!\n")

    with Run(root, {**RECIPES, "m:use": careless}) as run:
        run.build("m:make")
        with pytest.raises(InputChangedError, match="its recipe changed its input it/tool"):
            run.build("m:use")
    with Run(root, RECIPES) as run:
        assert run.build() == ["up-to-date", "built"]
    assert (root / ".cache/out/m/make/tool").read_text() == "#!/bin/sh\n"


@pytest.mark.parametrize(
    "change", [lambda p: (p / "tool").unlink(), lambda p: (p / "a/b/c/deep.bin").rename(p / "a/b/c/moved")]
)
def test_a_recipe_that_takes_its_input_away_is_refused(root: Path, change: Callable[[Path], object]) -> None:
    def careless(inputs: dict[str, Path], out: Path) -> None:
        _sizes(inputs, out)
        change(inputs["it"])

    with Run(root, {**RECIPES, "m:use": careless}) as run:
        run.build("m:make")
        with pytest.raises(InputChangedError):
            run.build("m:use")


def test_a_recipe_that_writes_nothing_is_refused(root: Path) -> None:
    with Run(root, {**RECIPES, "m:make": lambda inputs, out: None}) as run:
        with pytest.raises(RecipeError, match="wrote nothing"):
            run.build("m:make")
        assert list(run.examiner.store.records()) == []


def test_a_folder_left_empty_is_nothing(root: Path) -> None:
    recipes = {**RECIPES, "m:make": lambda inputs, out: (out / "empty").mkdir()}
    with Run(root, recipes) as run, pytest.raises(RecipeError, match="wrote nothing"):
        run.build("m:make")


def test_lost_contents_that_cannot_be_made_again_are_not_replaced_by_others(root: Path) -> None:
    """The input is up to date and gone from the store; its recipe now gives other bytes than those in the key."""
    serial = iter(range(100))

    def unsteady(_: dict[str, Path], out: Path) -> None:
        (out / "number").write_text(str(next(serial)))

    recipes: Recipes = {"m:make": unsteady, "m:use": _copy}
    with Run(root, recipes) as run:
        run.build()
    with Run(root, recipes) as run:
        for path, _ in list(run.examiner.store.all_objects()):
            path.unlink()
        for path, _ in list(run.examiner.store.records()):
            path.unlink()
        for name in ("make", "use"):
            for path in (root / ".cache/out/m" / name).iterdir():
                path.unlink()
        run.build()
    made, used = ((root / ".cache/out/m" / n / "number").read_text() for n in ("make", "use"))
    assert made == used == "1"


def _copy(inputs: dict[str, Path], out: Path) -> None:
    (out / "number").write_text((inputs["it"] / "number").read_text())


def test_an_input_lost_after_it_was_found_up_to_date_is_taken_from_its_copy(root: Path) -> None:
    with Run(root, RECIPES) as run:
        run.build()
    with Run(root, RECIPES) as run:
        assert run.build("m:make") == ["up-to-date"]
        for path, _ in list(run.examiner.store.all_objects()):
            path.unlink()
        record = run.journal.built("m:use")
        assert record is not None
        run.examiner.store.forget(record.key)
        run.journal.forget("m:use")
        assert run.build("m:use") == ["built"]
        assert run.executor.calls == ["m:use"]


def test_gc_leaves_alone_what_a_running_build_made_and_uses(root: Path) -> None:
    """Collected with no mercy in the middle of a recipe: its input, and an object whose record is not yet written."""
    left: list[tuple[int, bool]] = []

    def collecting(inputs: dict[str, Path], out: Path) -> None:
        store = run.examiner.store
        loose = store.object(store.put(inputs["it"] / "tool")), store.object(store.put(_written(root)))
        gc.collect(run.at, store, gc.Limits(age=-1.0, size=0))
        left.append((len(list(store.records())), all(path.exists() for path in loose)))
        _sizes(inputs, out)

    with Run(root, {**RECIPES, "m:use": collecting}) as run:
        assert run.build() == ["built", "built"]
        assert left == [(1, True)]
    with Run(root, RECIPES) as run:
        freed = gc.collect(run.at, run.examiner.store, gc.Limits(age=-1.0))
        assert freed.records == 2
        assert list(run.examiner.store.all_objects()) == []


def _written(root: Path) -> Path:
    (root / "loose").write_text("an output whose record comes later")
    return root / "loose"


def test_builders_that_publish_one_target_at_once_do_not_collide(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Run(root, RECIPES) as run:
        run.build()
    failures: list[BaseException] = []
    replace = os.replace

    def unhurried(source: Path, target: Path) -> None:
        replace(source, target)
        time.sleep(0.002)  # what another may do in between, it does

    monkeypatch.setattr(os, "replace", unhurried)

    def publish() -> None:
        try:
            with Run(root, RECIPES) as run:
                for _ in range(10):
                    run.journal.forget("m:make")
                    run.examiner.examine("m:make")
                    run.builder.build("m:make", lambda *_: None)
        except BaseException as error:  # the thread has nobody else to tell
            failures.append(error)

    threads = [threading.Thread(target=publish) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert (root / ".cache/out/m/make/tool").read_text() == "#!/bin/sh\n"
