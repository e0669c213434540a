"""A whole cloud stops in order, and instances before it; hosts are rebooted one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import instance_stop
from ansible_collections.brume.cloud.plugins.module_utils.api_session import ApiError
from ansible_collections.brume.cloud.plugins.module_utils.convergence import ConvergenceError, converge

from .playbooks import ROOT, one_host, playbook
from .test_playbooks import plays

# --- instances --------------------------------------------------------------------------------------------------------


def server(name: str, state: str = "active", power: int = 1, task: str | None = None) -> dict[str, Any]:
    return {
        "id": f"{name}-id",
        "name": name,
        "status": "ACTIVE" if state == "active" else state.upper(),
        "OS-EXT-SRV-ATTR:host": "compute1",
        "OS-EXT-STS:vm_state": state,
        "OS-EXT-STS:power_state": power,
        "OS-EXT-STS:task_state": task,
    }


class Nova:
    """The Compute API with instances that stop when they have been looked at a few times."""

    def __init__(self, *servers: dict[str, Any], looks: int = 2) -> None:
        """Have instances."""
        self.servers = {one["id"]: one for one in servers}
        self.looks = looks
        self.stopped: list[str] = []

    def __call__(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Answer."""
        if path.startswith("/servers/detail"):
            assert "all_tenants=true" in path
            return {"servers": list(self.servers.values())}
        one = self.servers.get(path.split("/")[2])
        if one is None:
            raise ApiError("there is none", 404)
        if method == "POST":
            assert body == {"os-stop": None}
            self.stopped.append(one["id"])
            one["OS-EXT-STS:task_state"] = "powering-off"
        elif one["OS-EXT-STS:task_state"]:
            self.looks -= 1
            if not self.looks:
                one |= {"status": "SHUTOFF", "OS-EXT-STS:power_state": 4, "OS-EXT-STS:vm_state": "stopped"}
                one["OS-EXT-STS:task_state"] = None
        return {"server": one}


def stop(nova: Nova, check_mode: bool = False) -> dict[str, Any]:
    return converge(instance_stop.compare(nova, sleep=lambda _seconds: None), check_mode=check_mode)


def test_instances_that_run_are_stopped_and_waited_for() -> None:
    nova = Nova(server("web"), server("off", "stopped", 4), server("asleep", "suspended", 7))
    dry = stop(nova, check_mode=True)
    assert (dry["actions"], nova.stopped) == (["update instance web (web-id) on compute1 (status)"], [])
    assert stop(nova)["actions"] == dry["actions"]
    assert (nova.stopped, nova.looks) == (["web-id"], 0), "it was waited for"
    assert stop(nova)["changed"] is False


def test_nothing_is_stopped_when_one_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_stop, "SECONDS", 0.05)
    nova = Nova(server("web"), server("held", "paused", 3), server("new", "building", 0, "spawning"))
    with pytest.raises(ConvergenceError) as caught:
        stop(nova)
    held, new = str(caught.value).splitlines()
    assert "held (held-id) on compute1: is paused, and Nova stops only active ones; next: openstack server unp" in held
    assert "new (new-id) on compute1: is busy (spawning); next: " in new
    assert nova.stopped == []


def test_an_instance_that_does_not_stop_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_stop, "SECONDS", 0.05)
    with pytest.raises(ConvergenceError, match=r"instance web \(web-id\) on compute1 .*is ACTIVE 0 s after"):
        stop(Nova(server("web"), looks=10**9))


def test_an_instance_that_is_deleted_meanwhile_is_no_error() -> None:
    nova = Nova(server("web"))
    actions = instance_stop.compare(nova)
    nova.servers.clear()
    assert converge(actions, check_mode=False)["changed"]


# --- playbooks --------------------------------------------------------------------------------------------------------


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    return one_host(tmp_path / "inventory")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("stop.yml", [], "`--check` shows each unit; -e stop_confirmed=true stops them"),
        ("stop.yml", ["-e", "stop_confirmed=false"], "-e stop_confirmed=true stops them"),
        ("stop.yml", ["-e", "stop_confirmed=true", "--limit", "localhost,one"], "`--limit` is not for stop.yml"),
        ("stop.yml", ["--limit", "one"], "`--limit` is not for stop.yml"),
        ("reboot.yml", ["-e", "reboot_in_place=true", "--limit", "localhost,one"], "`--limit` is not for reboot.yml"),
        ("reboot.yml", ["--limit", "one"], "next: run it without; `reboot_hosts` names the hosts"),
        ("reboot.yml", [], "one: database would stop, since 0 of 1 are no majority"),
    ],
)
def test_no_host_is_asked_before_it_is_meant(name: str, options: list[str], words: str, inventory: Path) -> None:
    done = playbook(inventory, name, *options)
    assert words in done.stdout, done.stdout + done.stderr
    assert "UNREACHABLE" not in done.stdout
    assert done.returncode


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("stop.yml", ["--check"]),
        ("stop.yml", ["-e", "stop_confirmed=true"]),
        ("start.yml", ["--check"]),
        ("reboot.yml", ["--check", "-e", "reboot_in_place=true"]),
    ],
)
def test_what_is_meant_asks_the_hosts(name: str, options: list[str], inventory: Path) -> None:
    done = playbook(inventory, name, *options)
    assert "UNREACHABLE" in done.stdout, done.stdout + done.stderr


def test_those_who_are_needed_stop_after_those_who_need_them() -> None:
    stages = []
    for play in plays(ROOT / "playbooks/stop.yml"):
        for task in play["tasks"]:
            given = task.get("brume.cloud.host_units") or {}
            if given.get("state") == "stopped":
                assert given["disable"] is False, "units start with their machine again"
                stages.append((given["stage"], play["hosts"], play.get("serial"), play.get("order")))
    assert stages[:4] == [
        ("apis", "control", None, None),
        ("agents", "compute", None, None),
        ("agents", "network:block:object:!compute", None, None),
        ("workers", "control", None, None),
    ]
    backwards = (1, "reverse_inventory")
    assert stages[4:7] == [
        ("loadbalancers", "loadbalancer:control", None, None),
        ("brokers", "messaging", *backwards),
        ("databases", "database", *backwards),
    ]
    assert [stage for stage, *_rest in stages[7:]] == ["others"]


def steps(name: str) -> list[str]:
    """Return the modules of a part of the walk, in order."""
    tasks = yaml.safe_load((ROOT / f"roles/host_walk/tasks/{name}.yml").read_text(encoding="utf-8"))
    return [next(key for key in task if "." in key) for task in tasks]


def parts(playbook_name: str, group: str) -> list[Any]:
    """Return the parts of the walk that a playbook takes with a group, in order, with the conditions."""
    (play,) = [one for one in plays(ROOT / "playbooks" / playbook_name) if one["hosts"] == group]
    assert play["serial"] == 1 or "__update_order.sizes" in play["serial"]
    assert (play["any_errors_fatal"], play["max_fail_percentage"]) == (True, 0)
    found = []
    for task in play["tasks"]:
        given = task.get("ansible.builtin.include_role") or {}
        if given.get("name") == "brume.cloud.host_walk":
            found += [(part, task.get("when")) for part in task.get("loop", [given["tasks_from"]])]
    return found


def test_one_host_is_rebooted_at_a_time_and_while_all_is_whole() -> None:
    """What follows the reboot is also done for a host that an earlier run has rebooted and not given back."""
    taken = parts("reboot.yml", "brume_rebooted")
    assert [part for part, _when in taken] == ["started", "leave", "restart", "return"]
    assert taken[1][1] == taken[2][1]
    assert "__reboot.since" in taken[1][1]
    assert taken[3][1] is None


def test_a_host_leaves_while_all_is_whole_and_returns_when_all_is_well() -> None:
    order = steps("leave")
    assert order.index("brume.cloud.host_replacement") < order.index("brume.cloud.agent_drain")
    assert order[-2:] == ["brume.cloud.host_units", "brume.cloud.loadbalancer_servers"]
    leave = yaml.safe_load((ROOT / "roles/host_walk/tasks/leave.yml").read_text(encoding="utf-8"))
    drain = leave[-1]["brume.cloud.loadbalancer_servers"]
    may = "{{ item == inventory_hostname or host_walk_together }}"
    assert drain["may_be_down"] == may, "one that was cut off has stopped its own, or those of all that go with it"
    assert leave[1]["brume.cloud.host_replacement"]["stopped"] == "{{ host_walk_stopped }}"
    assert steps("restart") == ["brume.cloud.host_units", "ansible.builtin.reboot", "brume.cloud.run_lock"]
    assert steps("return") == [
        "brume.cloud.unit_rollout",
        "brume.cloud.unit_rollout",
        "ansible.builtin.include_role",
        "brume.cloud.host_replacement",
        "brume.cloud.galera_member",
        "brume.cloud.rabbitmq_member",
        "ansible.builtin.include_role",
        "brume.cloud.loadbalancer_servers",
        "brume.cloud.compute_drain",
        "brume.cloud.agent_drain",
    ]
    tasks = yaml.safe_load((ROOT / "roles/host_walk/tasks/return.yml").read_text(encoding="utf-8"))
    assert tasks[6]["vars"]["verify_hosts"] == ["{{ inventory_hostname }}"], "others may have been down before"
