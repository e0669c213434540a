"""Locks of a host: who gets them, who is named, and what releases them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import host_lock

Keep = Callable[..., subprocess.Popen[str]]


def record(run: str) -> dict[str, Any]:
    return {"run": run, "playbook": "site.yml", "user": "ann", "controller": "deploy", "controller_pid": 7}


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    """Return what starts the program that keeps the lock; what still runs at the end is ended."""
    started: list[subprocess.Popen[str]] = []

    def start(run: str, **wish: Any) -> subprocess.Popen[str]:
        asked = {"record": record(run), "folder": str(tmp_path), "look": False, "wait": 10.0, "end": "", **wish}
        process = subprocess.Popen(
            [sys.executable, "-c", host_lock.PROGRAM, json.dumps(asked)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def answer(keeper: subprocess.Popen[str]) -> dict[str, Any]:
    """Return the next line that a keeper says."""
    assert keeper.stdout is not None
    found: dict[str, Any] = json.loads(keeper.stdout.readline())
    return found


def is_free(folder: Path, name: str) -> bool:
    """Return whether nobody holds a lock."""
    with (folder / name).open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


class Worker:
    """A process that holds the work lock, as a module does."""

    def __init__(self, folder: Path) -> None:
        """Start it and wait until it has the lock."""
        program = (
            "import fcntl, sys; stream = open(sys.argv[1], 'w'); fcntl.flock(stream, fcntl.LOCK_EX)\n"
            "stream.write('{\"module\": \"environments\", \"pid\": 5, \"started_at\": \"noon\"}'); stream.flush()\n"
            "print('held', flush=True); sys.stdin.read()"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder / host_lock.WORK)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "held\n"

    def end(self) -> None:
        """End it."""
        self.process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    one = Worker(tmp_path)
    yield one
    one.process.kill()
    one.process.wait()


def test_the_lock_is_held_until_standard_input_ends(keep: Keep, tmp_path: Path) -> None:
    keeper = keep("one")
    assert answer(keeper) == {"state": "ok"}
    assert not is_free(tmp_path, "run.lock")
    assert is_free(tmp_path, host_lock.WORK), "modules of this run take it"
    assert json.loads((tmp_path / "run.lock").read_text()) == {**record("one"), "pid": keeper.pid}
    keeper.communicate()
    assert keeper.returncode == 0
    assert is_free(tmp_path, "run.lock")


def test_a_keeper_that_is_killed_releases_the_lock(keep: Keep) -> None:
    first = keep("one")
    answer(first)
    first.kill()
    first.wait()
    assert answer(keep("two")) == {"state": "ok"}


@pytest.mark.parametrize("look", [True, False])
@pytest.mark.parametrize(("run", "state"), [("one", "ours"), ("two", "busy")])
def test_who_asks_hears_who_holds_the_lock(keep: Keep, look: bool, run: str, state: str) -> None:
    first = keep("one")
    answer(first)
    second = keep(run, look=look)
    found = answer(second)
    assert found == ({"state": "ours"} if state == "ours" else
                     {"state": "busy", "holder": {**record("one"), "pid": first.pid}})  # fmt: skip
    assert second.wait(10) == 0, "it does not stay"
    assert first.poll() is None


def test_a_look_takes_nothing(keep: Keep, tmp_path: Path) -> None:
    looker = keep("one", look=True)
    assert answer(looker) == {"state": "ok"}
    assert looker.wait(10) == 0
    assert (tmp_path / "run.lock").read_text() == ""
    assert answer(keep("two")) == {"state": "ok"}


def test_a_module_of_an_earlier_run_is_waited_for(keep: Keep, worker: Worker) -> None:
    keeper = keep("one")
    holder = {"module": "environments", "pid": 5, "started_at": "noon"}
    assert answer(keeper) == {"state": "waiting", "holder": holder}
    assert answer(keep("two"))["holder"]["run"] == "one", "who waits holds the run's lock already"
    worker.end()
    assert answer(keeper) == {"state": "ok"}


def test_a_module_that_does_not_end_is_named(keep: Keep, worker: Worker, tmp_path: Path) -> None:
    keeper = keep("one", wait=0.1)
    assert answer(keeper)["state"] == "waiting"
    assert answer(keeper) == {
        "state": "orphan", "holder": {"module": "environments", "pid": 5, "started_at": "noon"},
    }  # fmt: skip
    assert keeper.wait(10) == 0
    assert is_free(tmp_path, "run.lock")


def test_the_keeper_of_a_dead_run_is_ended(keep: Keep, tmp_path: Path) -> None:
    first = keep("one")
    answer(first)
    assert answer(keep("two", end="another"))["state"] == "busy", "only the run that is known to be dead"
    assert first.poll() is None
    second = keep("two", end="one")
    assert answer(second) == {"state": "ok"}
    assert first.wait(10) < 0
    assert json.loads((tmp_path / "run.lock").read_text())["run"] == "two"


def test_the_keeper_of_a_dead_run_stays_while_its_module_works(keep: Keep, tmp_path: Path) -> None:
    first = keep("one")
    answer(first)
    work = Worker(tmp_path)
    assert answer(keep("two", end="one")) == {"state": "busy", "holder": {**record("one"), "pid": first.pid}}
    assert first.poll() is None
    work.end()


def test_a_module_takes_the_work_lock_and_its_commands_keep_it(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    assert host_lock.take(str(folder), {"module": "environments"}, 0.0) is None
    assert not is_free(folder, host_lock.WORK)
    held = json.loads((folder / host_lock.WORK).read_text())
    assert (held["module"], held["pid"], len(held["started_at"])) == ("environments", os.getpid(), 20)
    child = subprocess.Popen(["sleep", "60"], pass_fds=host_lock.inherited())
    for handle in host_lock.inherited():
        os.close(handle)
    host_lock.release()
    assert host_lock.inherited() == ()
    assert not is_free(folder, host_lock.WORK), "the command outlives its module"
    child.kill()
    child.wait()
    assert is_free(folder, host_lock.WORK)


def test_who_waited_in_vain_hears_who_holds_the_lock(worker: Worker, tmp_path: Path) -> None:
    began = time.monotonic()
    holder = host_lock.take(str(tmp_path), {"module": "other"}, 0.3)
    assert holder == {"module": "environments", "pid": 5, "started_at": "noon"}
    assert 0.3 <= time.monotonic() - began < 5
    assert host_lock.inherited() == ()
    (tmp_path / host_lock.WORK).write_text("damaged")
    assert host_lock.take(str(tmp_path), {}, 0.0) == {}
    worker.end()
    assert host_lock.take(str(tmp_path), {"module": "other"}, 0.0) is None


class Module:
    """What `hold` needs of an AnsibleModule."""

    _name = "environments"

    def __init__(self, check_mode: bool) -> None:
        """Take the mode."""
        self.check_mode = check_mode

    def fail_json(self, msg: str) -> None:
        """End the module."""
        raise SystemExit(msg)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes hosts")
def test_a_module_ends_when_another_one_holds_the_host(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_lock, "FOLDER", str(tmp_path))
    monkeypatch.setattr(host_lock, "WAIT", 0.0)
    host_lock.hold(Module(check_mode=True))
    with pytest.raises(SystemExit) as caught:
        host_lock.hold(Module(check_mode=False))
    assert str(caught.value) == (
        "this host is being changed by environments (pid 5 on the host, since noon); it was waited for 0 s\n"
        "  next: let it end, or end it if it hangs, and run again"
    )
    worker.end()
    for _time in range(2):
        host_lock.hold(Module(check_mode=False))
    assert len(host_lock.inherited()) == 1


@pytest.mark.parametrize(
    ("holder", "text"),
    [
        ({}, "a process that left no name"),
        ({"module": "environments", "pid": 5, "started_at": "noon"}, "environments (pid 5 on the host, since noon)"),
        ({**record("one"), "started_at": "noon"}, "site.yml of ann at deploy (pid 7 there, since noon)"),
    ],
)
def test_a_holder_is_described_for_people(holder: dict[str, Any], text: str) -> None:
    assert host_lock.describe(holder) == text
