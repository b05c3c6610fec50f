import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from modelbuild import leases
from modelbuild.leases import Lease, closed, sweep

HOLDER = """
import sys
from pathlib import Path
from modelbuild.leases import Lease
lease = Lease(Path(sys.argv[1]), "other")
lease.hold("k1", "k2")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "leases"


@pytest.fixture
def other(folder):
    """A process that holds a lease until it is killed."""
    command = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def held(folder):
    with closed(folder) as live:
        return live


def test_a_lease_takes_no_file_before_it_is_needed(folder):
    Lease(folder, "me").release()
    assert not folder.exists()


def test_keys_add_up_until_they_are_released(folder):
    lease = Lease(folder, "me")
    lease.hold("a")
    lease.hold("b", "c")
    live = held(folder)
    assert live.names == {"me"}
    assert live.keys == {"a", "b", "c"}
    assert live.oldest < float("inf")
    lease.release()
    assert held(folder) == leases.Live(frozenset(), frozenset(), float("inf"))
    lease.release()


def test_a_lease_can_be_taken_again_after_its_release(folder):
    lease = Lease(folder, "me")
    lease.hold("a")
    lease.release()
    lease.hold("b")
    assert held(folder).keys == {"b"}
    lease.release()


def test_a_live_process_protects_its_keys_and_scratch(folder, other, tmp_path):
    (tmp_path / "tmp" / "other").mkdir(parents=True)
    assert held(folder).keys == {"k1", "k2"}
    sweep(folder, tmp_path / "tmp")
    assert (tmp_path / "tmp" / "other").exists()


def test_a_killed_process_protects_nothing(folder, other, tmp_path):
    (tmp_path / "tmp" / "other").mkdir(parents=True)
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert list(folder.glob("*.lease"))
    sweep(folder, tmp_path / "tmp")
    assert not (tmp_path / "tmp" / "other").exists()
    assert list(folder.glob("*.lease")) == []


def test_the_oldest_live_build_is_known(folder, other, monkeypatch):
    monkeypatch.setattr(leases.time, "time", lambda: 5.0)
    mine = Lease(folder, "mine")
    mine.hold("k")
    assert held(folder).oldest == 5.0
    mine.release()
    assert held(folder).oldest > 1e9


def test_a_lease_released_while_the_collector_looks_is_as_good_as_none(folder, monkeypatch):
    folder.mkdir()
    real = Path.glob
    monkeypatch.setattr(
        Path, "glob", lambda self, pattern: [*real(self, pattern), folder / "just-gone.lease"]
    )
    assert held(folder).names == frozenset()


def test_no_key_is_added_while_the_collector_works(folder):
    lease, added = Lease(folder, "me"), threading.Event()
    thread = threading.Thread(target=lambda: (lease.hold("k"), added.set()))
    with closed(folder) as live:
        thread.start()
        assert not added.wait(0.1)
        assert live.keys == frozenset()
    assert added.wait(10)
    thread.join()
    assert held(folder).keys == {"k"}
    lease.release()


def test_threads_share_a_lease(folder):
    lease = Lease(folder, "me")
    threads = [threading.Thread(target=lease.hold, args=(f"k{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert held(folder).keys == {f"k{n}" for n in range(8)}
    lease.release()


def test_the_gate_is_let_go_when_the_work_inside_fails(folder):
    with pytest.raises(ZeroDivisionError), closed(folder):
        raise ZeroDivisionError
    handle = os.open(folder / "gate", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(handle)
