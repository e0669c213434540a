"""What a run shows: whole outputs of the model, and the callback in real runs of ansible-playbook."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils.progress import (
    MOST_SENTENCES,
    QUIET,
    Failure,
    Line,
    PhaseClock,
    Progress,
    count,
    duration,
    fold,
    natural,
)
from ansible_collections.brume.cloud.plugins.module_utils.rollout import Outcome, failure_text
from molecule.command.idempotence import Idempotence

from .test_plan import golden

ROOT = Path(__file__).resolve().parent.parent.parent
PLAYBOOK = Path(sys.executable).parent / "ansible-playbook"
HOSTS = ["control1", "compute1", "compute2"]


class Run:
    """A model with a clock that is set by hand, and everything it said."""

    def __init__(self, plays: int, **options: Any) -> None:
        """Begin at zero."""
        self.now = 0.0
        self.model = Progress(clock=lambda: self.now, **options)
        self.model.plays(plays)
        self.lines: list[Line] = []
        self.counters: dict[str, dict[str, int]] = {}

    def phase(self, name: str, hosts: list[str], total: int | None = None, seconds: float = 0) -> None:
        """Begin a phase; `seconds` is how long the one before took."""
        self.now += seconds
        self.lines += self.model.phase(name, name, hosts, len(hosts) if total is None else total)

    def task(self, name: str, changes: dict[str, list[str]] | None = None, hosts: list[str] | None = None) -> None:
        """Let hosts take a task, and some of them change something."""
        self.lines += self.model.task(name)
        for host in hosts or HOSTS:
            counted = self.counters.setdefault(host, {"changed": 0, "failures": 0, "unreachable": 0})
            if host in (changes or {}):
                counted["changed"] += 1
                self.model.changed(host, (changes or {})[host])
            self.lines += self.model.ended(host)

    def failed(self, failure: Failure) -> None:
        """Let a host fail."""
        counted = self.counters.setdefault(failure.host, {"changed": 0, "failures": 0, "unreachable": 0})
        counted["unreachable" if failure.unreachable else "failures"] += 1
        self.model.failed(failure)

    def text(self) -> str:
        """End the run and return everything that was shown."""
        lines = [*self.lines, *self.model.flush(), Line("PLAY RECAP"), *self.model.closing(self.counters)]
        return "\n".join(line.text for line in lines) + "\n"


def deploy(**options: Any) -> Run:
    """Return a run that changes all hosts."""
    run = Run(4, **options)
    run.phase("Plan", ["localhost"])
    run.task("Check the inventory", hosts=["localhost"])
    run.phase("Host", HOSTS, seconds=1.25)
    packages = [f"install package number{index} (1.{index})" for index in range(MOST_SENTENCES + 5)]
    run.task("Install the packages", dict.fromkeys(HOSTS, packages))
    run.model.diff("control1", "--- before\n+++ after\n+x\n")
    run.task("Give the host its certificates", {"control1": ["create file /etc/brume/ca.crt (root:root 0644)"]})
    run.phase("Roll out core on controllers", ["control1"], seconds=61)
    run.task("Start", {"control1": ["write /etc/systemd/system/a.service", "start a.service (is new)"]}, ["control1"])
    run.phase("Roll out core on compute hosts", ["compute1"], 2, seconds=10)
    run.task("Start", {"compute1": ["start b.service (is new)"]}, ["compute1"])
    run.phase("Roll out core on compute hosts", ["compute2"], 2, seconds=10)
    run.task("Start", {"compute2": ["start b.service (is new)"]}, ["compute2"])
    run.now += 7.5
    return run


def test_a_deployment() -> None:
    golden("progress-deploy.txt", deploy().text())


def test_check_mode_is_a_prediction() -> None:
    golden("progress-check.txt", deploy(check_mode=True).text())


def test_nothing_to_change() -> None:
    run = Run(2)
    run.phase("Plan", ["localhost"])
    run.task("Check the inventory", hosts=["localhost"])
    run.phase("Install", HOSTS, seconds=0.5)
    run.task("Build the Python environments of all services")
    run.phase("Roll out core on network and compute hosts", [])
    run.phase("Register", ["control1"])
    golden("progress-nothing.txt", run.text())


def test_hosts_that_are_out_are_not_counted_and_a_phase_without_any_is_not_shown() -> None:
    run = Run(3)
    run.phase("Host", HOSTS)
    run.lines += run.model.task("Install")
    run.phase("Install", HOSTS)
    run.lines += run.model.task("Build", ["compute1"])
    run.phase("Configure", HOSTS)
    text = run.text()
    assert "[2/3] Install: compute2, control1 (2 of 3 hosts)\n" in text
    assert "Configure" not in text


def test_a_roll_out_that_fails_on_one_of_three_hosts() -> None:
    run = Run(3)
    run.phase("Host", HOSTS)
    run.task("Install the packages", {host: ["install package a (1)"] for host in HOSTS})
    run.phase("Roll out core", HOSTS, seconds=20)
    run.task("Start or restart the wave's units", {"control1": ["start a.service (is new)"]}, ["control1", "compute1"])
    journal = [f"line {index} of the journal" for index in range(3)]
    outcomes = [
        Outcome("nova-compute.service", "start", 120, False, "not well after 120 s: no answer yet", journal),
        Outcome("neutron-openvswitch-agent.service", "start", 3.0),
    ]
    name = "Start or restart the wave's units"
    run.failed(Failure("compute2", "Roll out core", name, failure_text(outcomes)))
    run.now += 121
    golden("progress-failed.txt", run.text())


def test_hosts_that_cannot_be_reached() -> None:
    run = Run(1)
    run.phase("Preflight", HOSTS)
    run.task("Read the host", hosts=["control1"])
    for host, address in (("compute1", "192.0.2.31"), ("compute2", "192.0.2.32")):
        message = f"Failed to connect to the host via ssh: ssh: connect to host {address} port 22: No route to host"
        run.failed(
            Failure(
                host, "Preflight", "Read the host", message, unreachable=True, address=address, login=f"ssh {address}"
            )
        )
    golden("progress-unreachable.txt", run.text())


def test_a_plan_error() -> None:
    run = Run(2)
    run.phase("Plan", ["localhost"])
    run.task("Check the inventory before any host is asked", hosts=[])
    message = "the inventory cannot be deployed: 1 mistake\n  group_vars/all.yml:3: brume_region: is empty; name one"
    run.failed(Failure("localhost", "Plan", "Check the inventory before any host is asked", message))
    golden("progress-plan-error.txt", run.text())


def test_a_failure_that_was_rescued_is_not_told_at_the_end() -> None:
    run = Run(1)
    run.phase("Host", HOSTS)
    run.task("Try")
    run.model.failed(Failure("compute1", "Host", "Try", "first"))
    run.failed(Failure("compute1", "Host", "Try again", "second"))
    text = run.text()
    assert "second" in text
    assert "first" not in text


def test_identical_failures_are_told_once_and_others_are_not_lost() -> None:
    run = Run(1)
    run.phase("Host", HOSTS)
    run.task("Read")
    for host, message in (("compute1", "no disk"), ("compute2", "no memory"), ("control1", "no disk")):
        run.failed(Failure(host, "Host", "Read", message))
    text = run.text()
    assert text.count("no disk") == text.count("no memory") == 1
    assert "FAILED compute1, control1 in Host" in text


def test_an_ignored_failure_is_named_as_one() -> None:
    run = Run(1)
    run.phase("Host", HOSTS)
    run.lines += run.model.task("Try")
    run.model.ignored(Failure("compute1", "Host", "Try", "broken"))
    run.model.ignored(Failure("compute2", "Host", "Try", "no route", unreachable=True))
    text = run.text()
    assert "    compute1 failed, which is ignored: Try\n      broken\n" in text
    assert "    compute2 unreachable, which is ignored: Try\n      no route\n" in text
    assert "Next:" not in text


def test_a_long_silence_ends_with_how_far_the_hosts_are() -> None:
    run = Run(1)
    run.phase("Install", HOSTS)
    run.lines += run.model.task("Build")
    assert run.model.ended("compute1") == []
    run.now += QUIET
    assert [line.text for line in run.model.ended("compute2")] == ["   0:30 [1/1] Install: Build, 2 of 3 hosts"]
    assert run.model.ended("compute2") == []
    run.now += QUIET
    assert run.model.ended("control1") == [], "the last host ends the task, which says more"


def test_the_status_line_has_the_whole_state_and_fits() -> None:
    run = Run(12)
    run.phase("Roll out core", ["compute1"], 3)
    run.task("Start", {"compute1": ["start a"]}, ["compute1"])
    run.phase("Roll out core", ["compute2"], 3, seconds=75)
    run.lines += run.model.task("Start")
    run.failed(Failure("compute9", "Roll out core", "Start", "broken"))
    whole = "   1:15 [ 1/12] Roll out core, 1 of 3 hosts, Start, 1 change, 1 failed"
    assert run.model.status(200) == whole
    assert run.model.status(30) == whole[:29]
    assert run.model.status(0) == ""


@pytest.mark.parametrize(
    ("hosts", "label"),
    [
        ([f"compute{number}" for number in range(1, 41)], "compute1..compute40"),
        (["compute10", "compute9", "compute11", "control1"], "compute9..compute11, control1"),
        (["a1", "a2"], "a1, a2"),
        (["a1", "a3", "b"], "a1, a3, b"),
        (["n01.x", "n02.x", "n03.x"], "n01.x..n03.x"),
        (["n09", "n10", "n11"], "n09..n11"),
        (["n9", "n10", "n011"], "n9, n10, n011"),
        (["a", "b", "c", "d", "e", "f"], "a, b, c and 3 more"),
        (["a", *[f"b{number}" for number in range(9)], "c", "d", "e"], "a, b0..b8, c and 2 more"),
        ([], ""),
    ],
)
def test_hosts_are_folded(hosts: list[str], label: str) -> None:
    assert fold(hosts) == label


def test_small_words() -> None:
    assert [duration(seconds) for seconds in (0, 59.9, 60, 3723)] == ["0:00", "0:59", "1:00", "1:02:03"]
    assert [count(number, "host") for number in (0, 1, 2)] == ["0 hosts", "1 host", "2 hosts"]
    assert sorted(["b2", "b10", "a", "b1"], key=natural) == ["a", "b1", "b2", "b10"]


def test_batches_of_a_play_are_one_phase() -> None:
    now = [0.0]
    clock = PhaseClock(lambda: now[0])
    seen = []
    for key, name, seconds in (("1", "Roll out", 2.0), ("2", "Roll out", 3.0), ("1", "Roll out", 4.0)):
        seen.append(clock.start(key, name))
        now[0] += seconds
    assert seen == [True, True, False]
    assert clock.times() == [("Roll out", 6.0), ("Roll out", 3.0)]


# The callback itself

ACTION = """
from ansible.plugins.action import ActionBase

class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        arguments = self._task.args
        actions = arguments.get("actions") or []
        result = {"actions": actions, "changed": bool(actions), "invocation": {"module_args": arguments}}
        result["diff"] = {"before": "", "after": "".join(f"{one}\\n" for one in actions)}
        if arguments.get("warn"):
            result["warnings"] = [arguments["warn"]]
        if arguments.get("fail"):
            result.update(failed=True, msg=arguments["fail"], units=["a journal"])
        return result
"""
CHANGES = """
- name: Plan
  hosts: localhost
  gather_facts: false
  tasks:
    - name: Say
      ansible.builtin.debug: {msg: [a debug message, of two lines]}
    - name: Show
      ansible.builtin.debug: {var: shown}
      vars: {shown: a variable}
    - name: Say less
      ansible.builtin.debug: {msg: only with verbosity, verbosity: 1}
- name: Install
  hosts: all
  gather_facts: false
  tasks:
    - name: Write
      told: {actions: "{{ told | default([]) }}", password: hunter22222}
    - name: Keep quiet
      told: {actions: [a hidden action], password: hunter22222}
      when: told is defined
      no_log: true
    - name: Loop
      told: {actions: "{{ ['write ' + item] if told is defined else [] }}", warn: beware of the dog}
      loop: [x, z]
    - name: Say nothing
      told: {}
      changed_when: told is defined
    - name: Loop without words
      ansible.builtin.set_fact: {unused: "{{ item.password }}"}
      loop: [{password: hunter22222}]
      changed_when: told is defined
"""
FAILURE = """
- name: Roll out
  hosts: all
  gather_facts: false
  tasks:
    - name: Reach
      ansible.builtin.raw: "true"
      changed_when: false
    - name: Try
      block:
        - name: Fail at first
          told: {fail: rescued, password: hunter22222}
      rescue:
        - name: Go on
          told: {}
    - name: Start
      told: {fail: "{{ 'the unit is not well' if inventory_hostname == 'two' else '' }}", password: hunter22222}
"""


DELEGATED = """
- name: Register
  hosts: one
  gather_facts: false
  tasks:
    - name: Write
      told: {actions: [map host one]}
      delegate_to: three
    - name: Say nothing
      told: {}
      changed_when: true
      delegate_to: three
    - name: Write here
      told: {actions: [write a file]}
      delegate_to: one
    - name: Reach
      ansible.builtin.raw: "true"
      delegate_to: lost
"""


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a playbook on local hosts and returns its output."""
    (tmp_path / "action").mkdir()
    (tmp_path / "action/told.py").write_text(ACTION)
    hosts = {name: {"ansible_connection": "local"} for name in ("one", "two", "three")}
    inventory: dict[str, Any] = {"all": {"hosts": hosts, "vars": {"ansible_python_interpreter": sys.executable}}}

    def run(
        playbook: str,
        *arguments: str,
        runner: Callable[..., str] = captured,
        lost: bool = False,
        **variables: str,
    ) -> str:
        if lost:
            hosts["lost"] = {"ansible_host": "127.0.0.1", "ansible_port": "1", "ansible_user": "root"}
        (tmp_path / "hosts.json").write_text(json.dumps(inventory))
        (tmp_path / "playbook.yml").write_text(playbook)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "CI"))},
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_ACTION_PLUGINS": str(tmp_path / "action"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "TERM": "xterm",
            **variables,
        }
        command = [str(PLAYBOOK), "-i", str(tmp_path / "hosts.json"), str(tmp_path / "playbook.yml"), *arguments]
        return runner(command, environment)

    return run


def captured(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    return done.stdout


def on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while piece := os.read(ours, 4096):
                text += piece
        except OSError:  # Linux says so when the other side has closed
            process.wait()
        os.close(ours)
    return text.decode()


CHANGED = '{"told": ["create file a", "start b"]}'


def test_changes_are_shown_and_molecule_sees_them(play: Callable[..., str], tmp_path: Path) -> None:
    output = play(CHANGES, "-e", CHANGED, BRUME_PHASES_FILE=str(tmp_path / "phases.json"))
    for text in (
        "[1/2] Plan: localhost\n    a debug message\n    of two lines\n",
        '"shown": "a variable"',
        "[2/2] Install: 3 hosts\n    one, three, two changed:\n      create file a\n      start b\n",
        "    one, three, two changed: Keep quiet\n",
        "      write x\n      write z\n",
        "    one, three, two changed: Say nothing\n",
        "    one, three, two changed: Loop without words\n",
        "[WARNING]: beware of the dog",
        "Made 21 changes on 3 hosts: one, three, two\n",
    ):
        assert text in output
    assert "only with verbosity" not in output
    assert "hidden action" not in output
    assert output.count("TIME PER PHASE") == 1
    assert not re.search(r"^TASK|invocation|hunter22222|DEPRECATION", output, re.MULTILINE)
    assert re.search(r"^two +: ok=5 +changed=5 +unreachable=0 +failed=0", output, re.MULTILINE)
    assert [one["phase"] for one in json.loads((tmp_path / "phases.json").read_text())] == ["Plan", "Install"]
    judge: Any = Idempotence
    assert judge._is_idempotent(None, output) is False
    assert judge._non_idempotent_tasks(None, output) == []  # the task is named in the output itself, above the recap


def test_no_change_is_idempotent_for_molecule(play: Callable[..., str]) -> None:
    output = play(CHANGES, ANSIBLE_FORCE_COLOR="1")
    judge: Any = Idempotence
    assert judge._is_idempotent(None, output) is True
    assert "There was nothing to change" in output
    assert judge._is_idempotent(None, play(CHANGES, "-e", CHANGED, ANSIBLE_FORCE_COLOR="1")) is False


def test_check_mode_predicts_with_diff(play: Callable[..., str]) -> None:
    output = play(CHANGES, "-e", CHANGED, "--check", "--diff")
    assert "    one, three, two would change:\n      create file a\n" in output
    assert "+create file a\n" in output
    assert "Dry run, nothing was changed. A run would make 21 changes on 3 hosts" in output
    assert " changed:" not in output


def test_a_failure_is_told_once_at_the_end(play: Callable[..., str]) -> None:
    output = play(FAILURE, lost=True)
    assert "    two FAILED: Start\n" in output
    ending = output[output.index("Made" if "Made" in output else "1 host failed") :]
    assert "FAILED two in Roll out: Start\n  the unit is not well\n  -v shows the whole result\n" in ending
    assert output.count("the unit is not well") == 1
    assert re.search(r"UNREACHABLE lost in Roll out: Reach\n  .*127\.0\.0\.1", ending)
    assert "next: `ssh -p 1 root@127.0.0.1` on this machine must end without a question" in ending
    assert ending.rstrip().endswith("Next: correct the cause, then give the same command again.")
    assert "rescued\n" not in output
    assert "hunter22222" not in output
    assert "a journal" not in output


def test_what_is_done_elsewhere_says_where(play: Callable[..., str]) -> None:
    output = play(DELEGATED, lost=True)
    assert "    one changed: map host one (on three)\n" in output
    assert "    one changed: Say nothing (on three)\n" in output
    assert "    one changed: write a file\n" in output
    assert "next: `ssh -p 1 root@127.0.0.1` on this machine must end without a question" in output


def test_verbose_is_the_default_callback(play: Callable[..., str]) -> None:
    output = play(CHANGES, "-v", "-e", CHANGED)
    assert "TASK [Write] ***" in output
    assert 'changed: [two] => {"actions": ["create file a", "start b"]' in output
    assert "only with verbosity" in output
    assert output.count("TIME PER PHASE") == output.count("PLAY RECAP") == 1


def test_another_callback_still_plans_and_records(play: Callable[..., str], tmp_path: Path) -> None:
    record = tmp_path / "phases.json"
    output = play(
        "- {name: Plan, hosts: localhost, gather_facts: false, tasks: [{brume.cloud.plan: }]}",
        BRUME_PHASES_FILE=str(record),
        ANSIBLE_STDOUT_CALLBACK="default",
    )
    assert "the inventory cannot be deployed" in output
    assert "TIME PER PHASE" not in output
    assert [one["phase"] for one in json.loads(record.read_text())] == ["Plan"]


def test_a_terminal_gets_a_status_line_unless_in_continuous_integration(play: Callable[..., str]) -> None:
    output = play(CHANGES, "-e", CHANGED, runner=on_a_terminal)
    drawn = re.findall(r"\r\x1b\[K([^\r\n]+)", output)
    assert any("[2/2] Install, 0 of 3 hosts, Write" in line for line in drawn)
    assert "\r\x1b[K" not in output[output.index("PLAY RECAP") :]
    assert "\r\x1b[K" not in play(CHANGES, runner=on_a_terminal, CI="true")
