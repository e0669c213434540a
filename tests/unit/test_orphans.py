"""The lock of a deploy host: the worker of a run that was killed is ended, that of one that lives is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import orphans

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
from ansible_collections.brume.cloud.plugins.module_utils import orphans
with orphans.alone("a cloud", int(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(orphans.tempfile, "tempdir", None)


@pytest.fixture
def owner() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that stands for a run."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def worker(owner: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[str]]:
    """Return a process that holds the lock for that run."""
    command = [sys.executable, "-c", WORKER, str(ROOT / ".collections"), str(owner.pid)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_worker_of_a_dead_run_is_ended(owner: subprocess.Popen[bytes], worker: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    with orphans.alone("a cloud", os.getpid(), wait=0):
        assert worker.wait(timeout=5) == -signal.SIGKILL


def test_a_run_that_lives_is_waited_for(worker: subprocess.Popen[str]) -> None:
    words = f"process {worker.pid} does the same for a run that lives"
    with pytest.raises(orphans.Busy, match=words), orphans.alone("a cloud", os.getpid(), wait=0.5):
        pass
    assert worker.poll() is None
    with orphans.alone("another cloud", os.getpid(), wait=0):
        pass


def test_a_zombie_is_dead(owner: subprocess.Popen[bytes]) -> None:
    assert orphans.started(owner.pid)
    owner.kill()
    time.sleep(0.2)
    assert not orphans.started(owner.pid)


def test_the_lock_is_free_afterwards() -> None:
    for _time in range(2):
        with orphans.alone("a cloud", os.getpid(), wait=0):
            assert orphans.path_of("a cloud").stat().st_mode & 0o777 == 0o600


def test_what_the_file_held_before_does_not_matter() -> None:
    for text in ("", "no JSON", "[1]"):
        orphans.path_of("a cloud").write_text(text, encoding="utf-8")
        with orphans.alone("a cloud", os.getpid(), wait=0):
            pass
