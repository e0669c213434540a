"""Two runs on one host: the second is refused and told by whom, until the first has ended, whatever ended it."""

from __future__ import annotations

import getpass
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import run

ROOT = Path(__file__).resolve().parents[2]

PLAYBOOK = """
- name: Change the host
  hosts: all
  gather_facts: false
  tasks:
    - name: Hold it
      block:
        - name: Take the lock
          brume.cloud.run_lock:
            folder: "{{ folder }}/locks"
            wait: 60
        - name: Take it once more
          brume.cloud.run_lock:
            folder: "{{ folder }}/locks"
            wait: 60
        - name: Work
          ansible.builtin.command:
            argv:
              - sh
              - -c
              - 'echo $$ > "$0/work.new"; mv "$0/work.new" "$0/work"; exec sleep "$1"'
              - "{{ folder }}"
              - "{{ seconds }}"
      rescue:
        - name: Keep what was said
          ansible.builtin.copy:
            content: "{{ ansible_failed_result.msg }}"
            dest: "{{ folder }}/said"
            mode: "0644"
          check_mode: false
"""


def start(folder: Path, seconds: int) -> subprocess.Popen[str]:
    """Start a run whose one task takes so long."""
    (folder / "site.yml").write_text(PLAYBOOK)
    (folder / "hosts.yml").write_text(
        f"all: {{hosts: {{one: {{ansible_connection: local, ansible_python_interpreter: {sys.executable}}}}}}}\n"
    )
    variables = json.dumps({"folder": str(folder), "seconds": seconds})
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(folder / "hosts.yml")]
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [*command, str(folder / "site.yml"), "-e", variables],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
        )


def wait_for(path: Path, words: str = "") -> str:
    """Return a file's text as soon as it holds some words."""
    end = time.monotonic() + 60
    while not (path.exists() and words in path.read_text()):
        assert time.monotonic() < end, f"{path.name} never came, or never said: {words}"
        time.sleep(0.1)
    return path.read_text()


def test_a_second_run_is_refused_until_the_first_was_killed(tmp_path: Path) -> None:
    said, log = tmp_path / "said", tmp_path / "log"
    first = start(tmp_path, 300)
    working = 0
    try:
        working = int(wait_for(tmp_path / "work"))
        holder = json.loads((tmp_path / "locks/run.lock").read_text())
        assert holder["controller_pid"] == first.pid
        assert start(tmp_path, 0).wait(120) == 0, log.read_text()
        assert said.read_text() == (
            f"this host is being changed by site.yml of {getpass.getuser()} at {socket.gethostname()}"
            f" (pid {first.pid} there, since {holder['started_at']})\n"
            "  next: let that run end, or end it; nothing was changed by this one"
        )
        said.unlink()
        first.kill()
        first.wait()
        third = start(tmp_path, 0)
        wait_for(log, "waiting for what a run that ended left behind: site.yml of")
        os.kill(working, signal.SIGKILL)
        working = 0
        assert third.wait(120) == 0, log.read_text()
        assert not said.exists(), said.read_text()
        assert json.loads((tmp_path / "locks/run.lock").read_text())["controller_pid"] == third.pid
    finally:
        first.kill()
        first.wait()
        if working:
            os.kill(working, signal.SIGKILL)


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> run.Own:
    monkeypatch.setattr(run, "_own", [])
    assert run.own() is None
    run.begin("/somewhere/site.yml")
    found = run.own()
    assert found is not None
    run.begin("other.yml")
    assert (run.own(), len(run._own)) == (found, 1), "a run begins once"
    os.close(found.read)
    os.close(found.write)
    return found


def test_a_run_knows_who_it_is(own: run.Own) -> None:
    assert own.record["playbook"] == "site.yml"
    assert own.record["controller_pid"] == os.getpid()
    assert own.record["controller"] == socket.gethostname()
    assert int(own.record["controller_started"]) > 0
    assert len(own.record["run"]) == 16


@pytest.mark.parametrize(
    ("changes", "dead"),
    [
        ({}, False),
        ({"controller_started": "1"}, True),
        ({"controller_pid": 2**22 + 1}, True),
        ({"controller_started": "1", "controller": "another"}, False),
        ({"controller_started": "1", "boot": "another"}, False),
    ],
)
def test_a_run_is_dead_only_if_this_machine_knows_it(own: run.Own, changes: Mapping[str, Any], dead: bool) -> None:
    assert own.is_dead({**own.record, **changes}) is dead


def test_a_holder_without_a_name_is_not_called_dead(own: run.Own) -> None:
    assert not own.is_dead({})
