"""Real processes: what a job sends home, how it ends, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import modelbuild
from modelbuild.errors import JobCrashedError, ModelbuildError, RecipeError
from modelbuild.execute import LocalExecutor
from modelbuild.job import Job

RECIPES = """
import os, signal, subprocess, sys, threading, time
from modelbuild import progress
from modelbuild.errors import RecipeError

state = []

def quick(inputs, params, out):
    (out / "text").write_text(params.get("text", "done"))

def steps(inputs, params, out):
    for n in range(3):
        progress.step(n + 1, 3, loss=1 / (n + 1))

def odd_steps(inputs, params, out):
    import numpy
    progress.step(numpy.int64(1), numpy.int64(2), loss=numpy.float32(0.5))
    progress.step(2, 2, loss=float("nan"))

def slow(inputs, params, out):
    time.sleep(0.2)

def refuse(inputs, params, out):
    raise RecipeError("place", "fact", "remedy")

def refuse_nowhere(inputs, params, out):
    raise RecipeError("", "fact", "remedy")

def fail(inputs, params, out):
    raise ValueError("first line\\nsecond line")

def fail_without_words(inputs, params, out):
    raise ValueError

def leave(inputs, params, out):
    sys.exit(5)

def crash(inputs, params, out):
    print("about to crash", flush=True)
    os.kill(os.getpid(), getattr(signal, params["signal"]))
    time.sleep(30)

def quit(inputs, params, out):
    os._exit(params["code"])

def orphan(inputs, params, out):
    pid = os.fork()
    if pid == 0:
        time.sleep(6)
        os._exit(0)
    print(pid, flush=True)
    if params.get("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)

def talk(inputs, params, out):
    print("on stdout")
    print("on stderr", file=sys.stderr)
    os.write(1, b"raw\\n")
    subprocess.run([sys.executable, "-c", "print('from a child')"])

def remember(inputs, params, out):
    state.append(1)
    (out / "text").write_text(str(len(state)))

def environment(inputs, params, out):
    import json
    names = ["PYTHONHASHSEED", "OMP_NUM_THREADS"]
    (out / "text").write_text(json.dumps([hash("x"), os.getppid(), *(os.environ.get(n) for n in names)]))

def preloaded(inputs, params, out):
    (out / "text").write_text(str("numpy" in sys.modules))

def wait_for_ever(inputs, params, out):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    (out / "new").write_text(f"{os.getpid()} {child.pid}")
    (out / "new").rename(out / "pids")
    time.sleep(60)

def descriptors(inputs, params, out):
    (out / "text").write_text(str(len(os.listdir("/proc/self/fd"))))
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose recipes job processes can import, as the current folder."""
    root = tmp_path_factory.mktemp("project")
    (root / "job_recipes.py").write_text(RECIPES)
    before = Path.cwd()
    sys.path.insert(0, str(root))
    os.chdir(root)
    yield root
    os.chdir(before)
    sys.path.remove(str(root))
    sys.modules.pop("job_recipes", None)


@pytest.fixture(scope="module")
def executor(project):
    executor = LocalExecutor()
    yield executor
    executor.close()


@pytest.fixture
def run(executor, tmp_path):
    """Run one recipe to its end; return its output folder. What imports no framework has an executor of its own."""
    fresh = LocalExecutor()

    def run(name, params=None, sink=lambda *_: None, imports=("numpy",), by=None):
        by = by or (executor if imports else fresh)
        out = tmp_path / f"out{time.monotonic_ns()}"
        out.mkdir()
        job = Job(
            "m:a",
            f"job_recipes:{name}",
            {},
            params or {},
            str(out),
            str(tmp_path / "logs" / "a.log"),
            imports,
        )
        by.run(job, sink)
        return out

    run.log = tmp_path / "logs" / "a.log"
    yield run
    fresh.close()


def seconds_until(condition, limit=20.0):
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < limit
        time.sleep(0.01)
    return time.monotonic() - began


def alive(pid):
    try:
        return (
            f"/proc/{pid}/stat" and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        )
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_job_survives_its_way_through_json():
    job = Job("m:a", "x:y", {"a": "/in"}, {"é": [1, None, {"b": 0.1}]}, "/out", "log", ("numpy",))
    back = Job.from_json(job.to_json())
    assert back.to_json() == job.to_json()
    assert back.params == job.params


@pytest.mark.parametrize("imports", [("numpy",), ()], ids=["zygote", "light"])
class TestEveryWayToRun:
    def test_a_recipe_writes_its_output(self, run, imports):
        assert (run("quick", imports=imports) / "text").read_text() == "done"

    def test_steps_arrive_in_order(self, run, imports):
        seen = []
        run("steps", sink=lambda *step: seen.append(step), imports=imports)
        assert seen == [(1, 3, {"loss": 1.0}), (2, 3, {"loss": 0.5}), (3, 3, {"loss": 1 / 3})]

    def test_a_refusal_keeps_its_words(self, run, imports):
        with pytest.raises(RecipeError) as caught:
            run("refuse", imports=imports)
        assert caught.value.args == ("m:a: place", "fact", "remedy")
        with pytest.raises(RecipeError, match=r"^m:a: fact\. remedy$"):
            run("refuse_nowhere", imports=imports)

    def test_an_exception_is_one_line_here_and_a_traceback_in_the_log(self, run, imports):
        with pytest.raises(RecipeError) as caught:
            run("fail", imports=imports)
        assert str(caught.value).startswith(
            "m:a: ValueError: first line (job_recipes.py:30). The whole traceback is in "
        )
        assert "second line" not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert "Traceback" in run.log.read_text()
        assert "second line" in run.log.read_text()

    @pytest.mark.parametrize("name", ["SIGSEGV", "SIGKILL", "SIGABRT", "SIGTERM"])
    def test_a_crash_is_named_by_its_signal(self, run, imports, name):
        with pytest.raises(JobCrashedError, match=f"m:a: its process was killed by {name}") as caught:
            run("crash", {"signal": name}, imports=imports)
        assert ("out of memory" in str(caught.value)) == (name == "SIGKILL")
        assert str(run.log) in str(caught.value)
        assert "about to crash" in run.log.read_text()

    @pytest.mark.parametrize("code", [0, 3])
    def test_a_process_that_ends_without_a_word_is_named_by_its_code(self, run, imports, code):
        with pytest.raises(JobCrashedError, match=f"its process ended with exit code {code}"):
            run("quit", {"code": code}, imports=imports)

    def test_everything_a_job_says_lands_in_its_log(self, run, imports, capfd):
        run("talk", imports=imports)
        assert set(run.log.read_text().split("\n")) == {"on stdout", "on stderr", "raw", "from a child", ""}
        assert capfd.readouterr() == ("", "")

    def test_hash_order_and_threads_are_fixed(self, run, imports):
        """They could reach an artefact's bytes."""
        first, second = (
            json.loads((run("environment", imports=imports) / "text").read_text()) for _ in range(2)
        )
        assert first[0] == second[0]
        assert first[2] == "0"
        assert first[3] == os.environ.get("OMP_NUM_THREADS", "1")

    @pytest.mark.parametrize("crash", [False, True])
    def test_what_a_recipe_left_running_does_not_hold_the_build(self, run, imports, crash):
        began = time.monotonic()
        try:
            run("orphan", {"crash": crash}, imports=imports)
        except JobCrashedError as error:
            assert "SIGSEGV" in str(error)
        assert time.monotonic() - began < 4
        seconds_until(lambda: not alive(int(run.log.read_text().split()[0])), limit=4)


def test_the_seconds_are_the_recipes_own(executor, tmp_path):
    job = Job("m:a", "job_recipes:slow", {}, {}, str(tmp_path), str(tmp_path / "log"), ("numpy",))
    assert executor.run(job, lambda *_: None) >= 0.2


def test_figures_of_numpy_are_numbers_too(run):
    seen = []
    run("odd_steps", sink=lambda *step: seen.append(step))
    assert seen[0] == (1, 2, {"loss": 0.5})
    assert seen[1][2]["loss"] != seen[1][2]["loss"]


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("fail_without_words", "ValueError"),
        ("leave", "SystemExit: 5"),
        ("nothing_there", "AttributeError: module 'job_recipes' has no attribute 'nothing_there'"),
    ],
)
def test_other_ways_to_fail_have_words(run, function, words):
    with pytest.raises(RecipeError, match=words):
        run(function)


def test_a_module_that_is_not_there_has_words(executor, tmp_path):
    job = Job("m:a", "no_such_module:f", {}, {}, str(tmp_path), str(tmp_path / "log"))
    with pytest.raises(RecipeError, match="ModuleNotFoundError"):
        executor.run(job, lambda *_: None)


def test_the_log_is_begun_anew_by_every_job(run):
    run("talk")
    run("quick")
    assert run.log.read_text() == ""


def test_jobs_do_not_see_each_others_state(run):
    assert [(run("remember") / "text").read_text() for _ in range(3)] == ["1"] * 3


def test_frameworks_are_imported_before_the_fork(run):
    assert (run("preloaded") / "text").read_text() == "True"


def test_a_framework_that_is_not_installed_is_for_the_job_to_say(run, monkeypatch):
    run("quick", imports=("numpy", "sklearn", "no_such_framework"))


def test_a_framework_whose_import_breaks_is_for_the_job_to_say(run, project):
    (project / "onnxscript.py").write_text("raise OSError('a library it needs is missing')")
    assert (run("quick", imports=("onnxscript",)) / "text").read_text() == "done"


def test_big_values_make_the_way(run):
    text = "x" * (1 << 20)
    assert (run("quick", {"text": text}) / "text").read_text() == text


def test_values_beyond_one_message_make_the_way(run):
    text = "x" * (6 << 20)
    assert (run("quick", {"text": text}) / "text").read_text() == text


def test_the_way_of_big_values_needs_no_generous_kernel(project, tmp_path, monkeypatch):
    """Most machines allow far smaller messages between processes than one that was tuned."""
    import socket

    real = socket.socket.setsockopt

    def cap(self, level, name, value):
        real(self, level, name, min(value, 65536) if name == socket.SO_SNDBUF else value)

    monkeypatch.setattr(socket.socket, "setsockopt", cap, raising=False)
    (tmp_path / "out").mkdir()
    executor = LocalExecutor()
    try:
        text = "x" * (1 << 20)
        job = Job(
            "m:a",
            "job_recipes:quick",
            {},
            {"text": text},
            str(tmp_path / "out"),
            str(tmp_path / "log"),
            ("numpy",),
        )
        executor.run(job, lambda *_: None)
    finally:
        executor.close()
    assert (tmp_path / "out" / "text").stat().st_size == 1 << 20


def test_many_jobs_leave_nothing_behind(run, executor):
    run("quick")
    zygote = executor._zygote[0].pid

    def open_here():
        return len(os.listdir("/proc/self/fd")), len(os.listdir(f"/proc/{zygote}/fd"))

    before, inside = open_here(), (run("descriptors") / "text").read_text()
    for _ in range(50):
        run("quick")
    # Fewer is no leak: what other tests left to the garbage collector may go meanwhile.
    seconds_until(lambda: all(now <= then for now, then in zip(open_here(), before, strict=True)))
    assert (run("descriptors") / "text").read_text() == inside
    children = Path(f"/proc/{zygote}/task/{zygote}/children")
    seconds_until(lambda: not children.exists() or children.read_text() == "")


def test_threads_share_an_executor(run):
    with ThreadPoolExecutor(8) as pool:
        outs = list(pool.map(lambda n: run("quick", {"text": str(n)}), range(24)))
    assert [(out / "text").read_text() for out in outs] == [str(n) for n in range(24)]


def test_a_crash_ends_one_job_and_not_its_neighbours(run):
    with ThreadPoolExecutor(2) as pool:
        good = pool.submit(run, "slow")
        with pytest.raises(JobCrashedError):
            run("crash", {"signal": "SIGSEGV"})
        good.result()


@pytest.mark.parametrize("known", [True, False], ids=["noticed", "just now"])
def test_a_killed_zygote_is_started_again(project, run, known):
    executor = LocalExecutor()
    try:
        run("quick", by=executor)
        process = executor._zygote[0]
        process.kill()
        if known:
            process.wait()
        else:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            process.poll = lambda: None  # its end is not known here yet
        assert (run("quick", by=executor) / "text").read_text() == "done"
        assert executor._zygote[0].pid != process.pid
    finally:
        executor.close()
        vars(process).pop("poll", None)
        process.wait()


def test_a_closed_executor_can_be_used_again(project, run):
    executor = LocalExecutor()
    executor.close()
    for _ in range(2):
        run("quick", by=executor)
        pid = executor._zygote[0].pid
        executor.close()
        assert not alive(pid)


def test_a_view_that_fails_ends_the_job(run, executor, tmp_path):
    def sink(*_):
        raise ZeroDivisionError

    run("quick")  # the zygote is there from here on
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ZeroDivisionError):
        run("steps", sink=sink)
    assert len(os.listdir("/proc/self/fd")) <= before


OWNER = """
import os, sys
sys.path[:0] = {paths!r}
from modelbuild.execute import LocalExecutor
from modelbuild.job import Job
job = Job("m:a", "job_recipes:wait_for_ever", {{}}, {{}}, sys.argv[1], sys.argv[1] + "/log", {imports!r})
LocalExecutor().run(job, lambda *_: None)
"""


@pytest.mark.parametrize("imports", [("numpy",), ()], ids=["zygote", "light"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_job_and_its_children_die_with_whoever_started_it(project, tmp_path, imports, how):
    code = textwrap.dedent(OWNER).format(
        paths=[str(project), str(Path(modelbuild.__file__).parents[1])], imports=imports
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as owner:
        seconds_until((tmp_path / "pids").exists)
        pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
        assert all(alive(pid) for pid in pids)
        owner.send_signal(how)
    seconds_until(lambda: not any(alive(pid) for pid in pids))


def test_every_failure_is_an_error_with_words(run):
    for name, params in [("refuse", {}), ("fail", {}), ("quit", {"code": 1})]:
        with pytest.raises(ModelbuildError):
            run(name, params)


def test_no_thread_of_ours_is_left(run):
    run("quick")
    assert not [t for t in threading.enumerate() if t.name.startswith("modelbuild")]
