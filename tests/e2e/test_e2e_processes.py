"""Builds that are killed, interrupted, or run beside each other."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest
from project_dir import ALL, DATA_TARGET, MADE, ProjectDir, gone, wait_for


@pytest.fixture
def slow(project: ProjectDir) -> tuple[ProjectDir, Path, Path]:
    """A built project whose data must be built again, by a loader that waits."""
    started, go = project.slow()
    return project, started, go


def _zygotes(root: Path) -> list[int]:
    """Processes whose working folder is `root`: whatever a build there left running."""
    found = []
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                here = os.readlink(place / "cwd") == str(root)
                running = (place / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if here and running:
                found.append(int(place.name))
    return found


def _nothing_runs_in(root: Path) -> bool:
    limit = time.monotonic() + 10
    while time.monotonic() < limit:
        if not _zygotes(root):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize("jobs", [(), ("-n", "2")])
def test_kill_9_takes_the_job_along_and_costs_only_what_ran(
    slow: tuple[ProjectDir, Path, Path], jobs: tuple[str, ...]
) -> None:
    project, started, go = slow
    before = project.contents()
    process = project.start(*jobs)
    job = int(wait_for(started)[0])
    process.kill()
    process.communicate()
    assert gone(job)
    assert _nothing_runs_in(project.root)
    assert project.contents() == before
    assert not any(r for r in project.records() if '"target": "tiny:data.evaluation"' in r.read_text() and
                   "shop.slow" in r.read_text())  # fmt: skip

    go.touch()
    result = project.doit(*jobs)
    assert result.code == 0, result.text
    assert project.executed() == {DATA_TARGET}
    assert result.of("up to date") == ALL - {DATA_TARGET}
    assert project.contents() == before
    assert list(project.path(".cache/tmp").iterdir()) == []


def test_kill_9_in_a_first_build_keeps_what_was_finished(fresh: ProjectDir) -> None:
    started, go = fresh.slow()
    fresh.doit("tiny:onnx")
    process = fresh.start()
    wait_for(started)
    process.kill()
    process.communicate()
    go.touch()
    result = fresh.doit()
    assert result.code == 0, result.text
    assert fresh.executed() == MADE - {"tiny:onnx"}


@pytest.mark.parametrize("jobs", [(), ("-n", "2")])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped_leaves_nothing_running(
    slow: tuple[ProjectDir, Path, Path], jobs: tuple[str, ...], number: signal.Signals
) -> None:
    project, started, go = slow
    process = project.start(*jobs)
    job = int(wait_for(started)[0])
    os.killpg(process.pid, number)  # as a terminal sends Ctrl-C
    result = project.ended(process)
    assert gone(job)
    assert _nothing_runs_in(project.root)
    assert result.code != 0
    if number == signal.SIGINT:
        assert "Traceback" not in result.text
    go.touch()
    assert project.doit().code == 0
    assert project.executed() == {DATA_TARGET}


def test_two_builds_at_once_run_each_recipe_once(slow: tuple[ProjectDir, Path, Path]) -> None:
    project, started, go = slow
    before = project.contents()
    one = project.start()
    wait_for(started)
    two = project.start()
    time.sleep(0.5)  # the second is at the lock by now; if it is not, it will find the work done
    go.touch()
    first, second = project.ended(one), project.ended(two)
    assert first.code == second.code == 0, first.text + second.text
    assert len(started.read_text().splitlines()) == 1
    assert sorted([first.states[DATA_TARGET], second.states[DATA_TARGET]]) == ["built", "restored"]
    assert project.contents() == before
    assert project.doit().of("up to date") == ALL


def each_once(built: Iterable[str]) -> bool:
    """Whether all was made, and nothing twice: the golden samples of both platforms are the same."""
    return sorted(name.replace("browser.golden", "phone.golden") for name in built) == sorted(MADE)


def test_two_first_builds_at_once(fresh: ProjectDir) -> None:
    processes = [fresh.start(), fresh.start("-n", "2")]
    results = [fresh.ended(process) for process in processes]
    for result in results:
        assert result.code == 0, result.text
        assert "Traceback" not in result.text
    built = [name for result in results for name in result.of("built")]
    assert each_once(built)
    assert fresh.doit().of("up to date") == ALL
    assert fresh.doit("verify").code == 0


def test_parallel_threads_build_the_same(fresh: ProjectDir, project: ProjectDir) -> None:
    result = fresh.doit("-n", "2")
    assert result.code == 0, result.text
    assert each_once(result.of("built"))
    assert fresh.contents() == project.contents()
    again = fresh.doit("-n", "2")
    assert again.of("up to date") == ALL
    assert fresh.executed() == set()


@pytest.mark.parametrize("name", ["shop/slow.py", "shop/sizes.py"])
def test_an_input_that_changes_during_the_build_is_refused(
    slow: tuple[ProjectDir, Path, Path], name: str
) -> None:
    project, started, go = slow
    records, before = project.records(), project.contents()
    process = project.start()
    wait_for(started)
    with project.path(name).open("a") as source:
        source.write("# changed meanwhile\n")
    go.touch()
    result = project.ended(process)
    assert result.code == 1, result.text
    assert result.states[DATA_TARGET] == "failed"
    assert f"code changed: {name.removesuffix('.py').replace('/', '.')}" in result.out
    assert project.records() == records
    assert project.contents() == before
    assert project.report_states()[DATA_TARGET] == "failed"
    assert project.doit().code == 0
    assert project.executed() == {DATA_TARGET}


def test_an_input_that_changed_and_changed_back_is_no_reason_to_refuse(
    slow: tuple[ProjectDir, Path, Path],
) -> None:
    project, started, go = slow
    source = project.path("shop/slow.py")
    text = source.read_text()
    process = project.start()
    wait_for(started)
    source.write_text(text + "# changed\n")
    source.write_text(text)
    go.touch()
    assert project.ended(process).code == 0


def test_gc_takes_nothing_from_a_running_build(slow: tuple[ProjectDir, Path, Path]) -> None:
    project, started, go = slow
    project.manifest(lambda m: m["data"]["evaluation"]["args"].update(go=str(go)))
    process = project.start()
    wait_for(started)
    for _ in range(3):
        gc = project.doit("gc", "--max-age", "0m", "--max-size", "0")
        assert gc.code == 0, gc.text
    go.touch()
    result = project.ended(process)
    assert result.code == 0, result.text
    assert project.report()["ok"] is True
    assert project.doit().code == 0


def test_what_a_running_build_holds_outlives_gc(slow: tuple[ProjectDir, Path, Path]) -> None:
    project, started, go = slow
    project.manifest(lambda m: m["platforms"].update(watch={"runtime": "onnxruntime", "threads": 3}))
    go.touch()
    project.write("shop/data.py", project.path("shop/data.py").read_text() + "# new\n")
    assert project.doit("tiny:onnx").code == 0
    go.unlink()
    started.unlink(missing_ok=True)
    process = project.start("tiny:data.evaluation", "tiny:watch")
    wait_for(started)
    held = project.path(".cache/leases").glob("*.lease")
    keys = {line for path in held for line in path.read_text().splitlines()[1:]}
    assert keys
    assert project.doit("gc", "--max-age", "0m").code == 0
    go.touch()
    assert project.ended(process).code == 0
    assert project.doit().code == 0


def test_a_process_tree_of_a_recipe_ends_with_the_build(project: ProjectDir) -> None:
    started = project.path("started.txt")
    project.write(
        "shop/data.py",
        "import subprocess\nimport sys\n\n\ndef load():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(120)'])\n"
        f"    open({str(started)!r}, 'a').write(f'{{child.pid}}\\n')\n    child.wait()\n",
    )
    process = project.start()
    child = int(wait_for(started)[0])
    process.kill()
    process.communicate()
    assert gone(child)


def test_the_lock_of_a_killed_build_holds_nobody_up(slow: tuple[ProjectDir, Path, Path]) -> None:
    project, started, go = slow
    process = project.start()
    wait_for(started)
    waiting = project.start()
    process.kill()
    process.communicate()
    go.touch()
    result = project.ended(waiting)
    assert result.code == 0, result.text
    assert isinstance(waiting, subprocess.Popen)
