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
from ansible.errors import AnsibleConnectionFailure
from ansible_collections.brume.cloud.plugins.action import run_lock
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


def asked(script: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the answer that the action takes from a shell script in the place of the host."""
    action = object.__new__(run_lock.ActionModule)
    monkeypatch.setattr(action, "_command", lambda _shell: ["sh", "-c", script], raising=False)
    monkeypatch.setattr(action, "_display", Display(), raising=False)
    found: dict[str, Any] = action._ask("/usr/bin/python3", {"wait": 5.0}, subprocess.DEVNULL)
    return found


@pytest.mark.parametrize(("delegate", "python"), [(None, "/here/python"), ("other", "/there/python")])
def test_the_keeper_runs_with_the_python_of_its_host(
    delegate: str | None, python: str, own: run.Own, monkeypatch: pytest.MonkeyPatch
) -> None:
    action: Any = object.__new__(run_lock.ActionModule)
    asked_with: list[str] = []

    def ask(found: str, _wish: Mapping[str, Any], _stdin: int) -> dict[str, Any]:
        asked_with.append(found)
        return {"state": "ok"}

    monkeypatch.setattr(run_lock.ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(action, "_ask", ask, raising=False)
    monkeypatch.setattr(
        action, "validate_argument_spec", lambda _spec: (None, {"wait": 1.0, "folder": "/x"}), raising=False
    )
    task = type("Task", (), {"delegate_to": delegate, "check_mode": True})
    monkeypatch.setattr(action, "_task", task, raising=False)
    there = {"other": {"ansible_python_interpreter": "/there/python"}}
    variables = {"ansible_python_interpreter": "/here/python", "ansible_delegated_vars": there}
    assert action.run(None, variables) == {"changed": False}
    assert asked_with == [python]


class Display:
    """Forgets what it is told."""

    def display(self, text: str) -> None:
        """Print nothing."""


@pytest.mark.parametrize(
    ("script", "state"),
    [
        ("""echo '{"state": "ok"}'""", "ok"),
        # Messages of the day, and answers that come in pieces or after others.
        ("""echo '{welcome}'; printf '{"state": "busy", "holder": {}'; sleep 0.3; echo '}'""", "busy"),
        ("""echo '{"state": "waiting", "holder": {}}'; sleep 0.3; echo '{"state": "orphan"}'""", "orphan"),
    ],
)
def test_the_last_answer_of_the_host_counts(script: str, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(script, monkeypatch)["state"] == state


@pytest.mark.parametrize("script", ["exit 1", "echo no python"])
def test_a_host_that_does_not_answer_is_said_to(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleConnectionFailure) as caught:
        asked(script, monkeypatch)
    assert str(caught.value) == (
        "the host gave no answer to the question for its lock\n"
        "  next: see whether `/usr/bin/python3 -c ''` runs there as the user that this run becomes, and run again"
    )


def test_what_an_earlier_run_left_behind_is_named() -> None:
    holder = {"module": "environments", "pid": 5, "started_at": "noon"}
    assert run_lock._refusal(holder, 600.0, has_ended=True) == (
        "what an earlier run left behind has not ended in 600 s: environments (pid 5 on the host, since noon)\n"
        "  next: look at its processes on this host; let them end, or end them, and run again"
    )


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
