"""Which members of clusters may go, and what the playbooks say of hosts that are removed or replaced."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.action import (
    agent_drain,
    compute_drain,
    galera_member,
    host_reboot,
    host_removal,
    host_replacement,
    host_units,
    nova_scheduling,
    ovn_member,
    rabbitmq_member,
)
from ansible_collections.brume.cloud.plugins.module_utils import galera, membership, ovn, plan_text, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.membership import Members
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import ActionBase

from .inventories import committed
from .test_cluster_start import act
from .test_network_drivers import OVN

ROOT = Path(__file__).resolve().parents[2]
KEY = base64.b64encode(bytes(range(32))).decode()
THREE = ("controller1", "controller2", "controller3")


def without(*names: str, removed: bool = True, **variables: Any) -> Plan:
    """Return the plan of the project's HA inventory with hosts moved to the group `removed`, or left out."""
    found = committed("ha")
    groups = {group: tuple(one for one in hosts if one not in names) for group, hosts in found.groups.items()}
    hosts = {name: layers for name, layers in found.hosts.items() if removed or name not in names}
    layers = {name: tuple(one for one in said) for name, said in hosts.items()}
    for said in layers.values():
        said[0].variables.update(variables)  # type: ignore[attr-defined]  # a dict of the test's own
    changed = type(found)(layers, {**groups, **({"removed": names} if removed else {})})
    return plan(changed, sources.load())


def database(size: int = 3, **changes: Any) -> dict[str, Any]:
    return {**vars(galera.Member(active=True, cluster_status="Primary", size=size)), **changes}


def broker(*nodes: str, running: tuple[str, ...] | None = None) -> dict[str, Any]:
    names = [f"rabbit@{name}" for name in nodes]
    return {
        "active": True,
        "empty": False,
        "nodes": names,
        "running": names if running is None else [f"rabbit@{name}" for name in running],
    }


def ovn_databases(*places: str, **changes: Any) -> dict[str, Any]:
    return {
        name: {
            **vars(ovn.Member(active=True, exists=True, leader=True)),
            "servers": {f"{place}-id": ovn.location(place, one.cluster_port) for place in places},
            **changes,
        }
        for name, one in ovn.DATABASES.items()
    }


def said(staying: tuple[str, ...], counted: tuple[str, ...], **changes: Any) -> dict[str, dict[str, Any]]:
    """Return what members say that see everyone in `counted`, who all run."""
    return {
        "mariadb": {name: database(len(counted)) for name in staying},
        "rabbitmq": {name: broker(*counted) for name in staying},
        **changes,
    }


def members(staying: tuple[str, ...], *leaving: str, unreachable: tuple[str, ...] = (), own: bool = False) -> Members:
    addresses = {name: f"192.0.2.1{name[-1]}" for name in leaving}
    return Members(staying, staying, staying if own else (), addresses, unreachable)


def test_one_of_three_may_go_and_two_may_not() -> None:
    assert membership.problems(members(THREE[:2], THREE[2]), said(THREE[:2], THREE)) == []
    found = membership.problems(members(THREE[:1], *THREE[1:]), said(THREE[:1], THREE))
    assert found == [
        f"{kind}: of 3 members 1 would stay, which is no majority; next: remove one host at a time, or add some first"
        for kind in ("database", "messaging")
    ]


def test_of_two_none_may_go() -> None:
    found = membership.problems(members(THREE[:1], THREE[1]), said(THREE[:1], THREE[:2]))
    assert [one.partition("; next: ")[2] for one in found] == ["add a member first (docs/hosts.md)"] * 2


def test_a_host_that_is_no_member_may_always_go() -> None:
    assert membership.problems(members(THREE[:1], "compute1"), said(THREE[:1], THREE[:1])) == []
    alone = {"mariadb": {"controller1": database(0, cluster_status="Disconnected")}}
    assert membership.problems(members(THREE[:1], "compute1"), said(THREE[:1], THREE[:1]) | alone) == []


def test_those_who_stay_have_to_serve() -> None:
    broken = said(THREE[:2], THREE)
    broken["mariadb"]["controller1"] = database(0, active=False, cluster_status="")
    broken["mariadb"]["controller2"] = database(1, cluster_status="non-Primary")
    broken["rabbitmq"]["controller2"] = {"active": False, "empty": False}
    assert [one.partition(";")[0] for one in membership.problems(members(THREE[:2], THREE[2]), broken)] == [
        "database: the member on controller1 does not run",
        "database: the member on controller2 is in a component that is non-Primary",
        "messaging: the broker on controller2 does not run",
    ]


def test_a_lost_member_has_to_be_down() -> None:
    lost = members(THREE[:2], THREE[2], unreachable=(THREE[2],))
    assert [one.partition(";")[0] for one in membership.problems(lost, said(THREE[:2], THREE))] == [
        "database: 3 members run, one where Ansible does not reach it (controller3)",
        "messaging: the broker on controller3 runs, and Ansible does not reach the host",
    ]
    down = {
        "mariadb": {name: database(2) for name in THREE[:2]},
        "rabbitmq": {name: broker(*THREE, running=THREE[:2]) for name in THREE[:2]},
    }
    assert membership.problems(lost, down) == []


def test_a_broker_that_nobody_knows_counts_and_is_named() -> None:
    found = membership.problems(members(THREE[:2], THREE[2]), said(THREE[:2], (*THREE, "stranger")))
    text = "rabbit@stranger, which no host of the inventory is; next: `rabbitmqctl forget_cluster_node rabbit@stranger`"
    assert any(text in one for one in found)


def test_members_of_ovn_are_counted_by_address() -> None:
    places = [f"192.0.2.1{number}" for number in (1, 2, 3)]
    answers = {"ovn": {name: ovn_databases(*places) for name in THREE}}
    assert membership.problems(members(THREE[:2], THREE[2], own=True), answers) == []
    assert len(membership.problems(members(THREE[:1], *THREE[1:], own=True), answers)) == 2
    assert membership.problems(members(THREE[:1], "compute9", own=True), answers) == [], "it is no member"
    answers["ovn"]["controller1"] = ovn_databases(*places, leader=False)
    found = membership.problems(members(THREE[:2], THREE[2], own=True), answers)
    assert found[0].startswith("OVN_Northbound of OVN: controller1 is in no majority; next: ")


def test_clusters_are_whole_when_everyone_sees_everyone() -> None:
    answers = said(THREE, THREE, ovn={name: ovn_databases("a", "b", "c") for name in THREE})
    whole = members(THREE, own=True)
    assert membership.incomplete(whole, answers) == []
    answers["mariadb"]["controller2"] = database(2)
    answers["rabbitmq"]["controller1"] = broker(*THREE, running=THREE[:2])
    answers["ovn"]["controller3"] = ovn_databases("a", "b")
    assert membership.incomplete(whole, answers) == [
        "database: controller2 sees 2 of 3 members",
        "messaging: controller1 does not see rabbit@controller3",
        "OVN_Northbound of OVN: controller3 sees 2 of 3 members",
        "OVN_Southbound of OVN: controller3 sees 2 of 3 members",
    ]


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_of_the_others_is_that_of_a_cloud_without_the_host() -> None:
    left, never = without("compute2", "controller3"), without("compute2", "controller3", removed=False)
    assert left.cloud.removed == {"compute2": "10.123.10.32", "controller3": "10.123.10.13"}
    lines = plan_text.summary(left)
    assert [one for one in lines if "Leaving" in one] == ["Leaving the cloud  compute2, controller3"]
    assert [one for one in plan_text.summary(never) if one] == [one for one in lines if one and "Leaving" not in one]
    (warning,) = [one for one in left.warnings if "remove.yml" in one]
    assert [one for one in left.warnings if one != warning] == list(never.warnings)
    assert any("even number of database hosts" in one for one in left.warnings)


# --- actions ----------------------------------------------------------------------------------------------------------


class Task:
    """What Ansible gives an action."""

    check_mode = False
    args: dict[str, Any]

    def template(self, value: Any) -> Any:
        """Return what is no template."""
        return value


def judge(monkeypatch: pytest.MonkeyPatch, hostvars: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Run the judgment on controller1 with what hosts and members have said; `asked` is what the module was given."""
    asked: list[dict[str, Any]] = []

    def execute(_self: Any, **given: Any) -> dict[str, Any]:
        asked.append(given["module_args"])
        return {"changed": False, "problems": [], "drain": ["compute2"]}

    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    action = host_removal.ActionModule.__new__(host_removal.ActionModule)
    action._task = action._templar = Task()
    action._task.args = {"judge": True, **arguments}
    everyone = {name: hostvars.get(name, {}) for name in committed("ha").hosts}
    variables = {"inventory_hostname": "controller1", "brume_master_key": KEY, "hostvars": everyone}
    return {**action.run(None, variables), "asked": asked}


def answers(*names: str, counted: tuple[str, ...] = THREE) -> dict[str, Any]:
    return {
        name: {
            "__mariadb_member": {"member": database(len(counted))},
            "__rabbitmq_member": {"member": broker(*counted)},
        }
        for name in names
    }


def test_the_judgment_is_of_apis_and_clusters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without("compute2", "controller3"))
    reached = {"controller3": {"__host_units": {"recorded": ["mariadb.service"]}}, "compute2": {}}
    good = judge(monkeypatch, {**answers(*THREE[:2]), **reached})
    assert not good.get("failed"), good
    assert good["drain"] == ["compute2"]
    (given,) = good["asked"]
    assert (given["hosts"], given["lost"], given["judge"]) == (["compute2", "controller3"], ["compute2"], True)
    assert given["image_directory"] == "/var/lib/glance/images"
    bad = judge(monkeypatch, {**answers(THREE[0]), **reached})
    assert bad["failed"]
    assert "removed now; nothing was changed\n  database: the member on controller2 does not run" in bad["msg"]


def test_what_leaves_is_named_to_modules_that_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without("controller3", "controller2"))
    one = {"controller1": {"active": True, "empty": False}}
    assert act(monkeypatch, galera_member, "controller1", dict.fromkeys(THREE[:1]))["asked"] == [{}], "others leave"
    data = "/var/lib/rabbitmq/mnesia/rabbit@controller1"
    asked = [
        act(monkeypatch, rabbitmq_member, "controller1", one, **{word: True})["asked"]
        for word in ("cluster", "leaving", "forget")
    ]
    leaving = ["rabbit@controller3", "rabbit@controller2"]
    assert asked == [[{"data": data, "cluster": True}], [{"data": data, "leaving": leaving}], []]
    assert act(monkeypatch, rabbitmq_member, "network1", one, cluster=True)["asked"] == [], "it is no broker"
    flavors = {"nova_flavors": [{"name": "m1", "vcpus": 1, "ram": 1, "disk": 1}]}
    monkeypatch.setitem(run._state, "plan", without("compute2", **flavors))
    assert act(monkeypatch, nova_scheduling, "controller1", {})["asked"][0]["leaving"] == ["compute2"]


def test_one_member_of_ovn_lets_the_leaving_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without("controller1", **OVN))
    places = [f"10.123.10.1{number}" for number in (1, 2, 3)]
    told = {name: ovn_databases(*places) for name in THREE[1:]}
    asked = {name: act(monkeypatch, ovn_member, name, told, leaving=True)["asked"] for name in THREE[1:]}
    assert asked["controller3"] == []
    (given,) = asked["controller2"]
    assert {name: step["kick"] for name, step in given["steps"].items()} == dict.fromkeys(
        ovn.DATABASES, ("10.123.10.11-id",)
    )
    done = {name: ovn_databases(*places[1:]) for name in THREE[1:]}
    assert act(monkeypatch, ovn_member, "controller2", done, leaving=True)["asked"] == []


def test_units_of_every_host_are_kept_and_those_with_data_stop_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without("controller3"))
    (every,) = act(monkeypatch, host_units, "controller3", {}, state="stopped")["asked"]
    assert {"chrony.service", "systemd-journald.service"} <= set(every["keep"])
    assert {"mariadb.service", "rabbitmq-server.service"} <= set(every["last"])
    assert "units" not in every
    (addresses,) = act(monkeypatch, host_units, "controller3", {}, state="stopped", addresses=True)["asked"]
    assert addresses["units"] == ["keepalived.service"]


def test_every_unit_stops_in_one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    found = without(removed=False)
    monkeypatch.setitem(run._state, "plan", found)
    for host in ("controller1", "network1", "compute1"):
        of: dict[str, list[str]] = {}
        for stage in ("apis", "agents", "workers", "loadbalancers", "brokers", "databases"):
            (asked,) = act(monkeypatch, host_units, host, {}, state="stopped", disable=False, stage=stage)["asked"]
            assert asked["disable"] is False
            of[stage] = asked["units"]
        (others,) = act(monkeypatch, host_units, host, {}, state="stopped", disable=False, stage="others")["asked"]
        (every,) = act(monkeypatch, host_units, host, {}, state="stopped")["asked"]
        early = [unit for units in of.values() for unit in units]
        assert len(early) == len(set(early)), "no unit is in two stages"
        assert "units" not in others, "what is not planned any more stops too"
        assert sorted(others["keep"]) == sorted([*every["keep"], *early]), "a dry run tells of no unit twice"
        if host == "controller1":
            assert {"nova-api.service", "nova-api.socket", "keystone-api.service"} <= set(of["apis"])
            assert {"nova-scheduler.service", "neutron-rpc-server.service"} <= set(of["workers"])
            assert {"haproxy.service", "keepalived.service"} == set(of["loadbalancers"])
            assert {"epmd.socket", "rabbitmq-server.service"} == set(of["brokers"])
            assert {"mariadb.service", "brume-mariadb-health.service"} == set(of["databases"])
            assert of["agents"] == []
        else:
            assert set(of) - {stage for stage, units in of.items() if not units} == {"agents"}
    assert "nova-compute.service" in of["agents"]


def test_a_host_sees_its_clusters_alone() -> None:
    whole = said(THREE, THREE)
    asked = {kind: {"controller1": told["controller1"]} for kind, told in whole.items()}
    every = members(THREE)
    assert membership.incomplete(every, asked, ["controller1"]) == []
    assert len(membership.incomplete(every, asked)) == len(THREE[1:]) * 2, "without, the others have to be asked"
    asked["mariadb"] = {"controller1": database(2)}
    assert membership.incomplete(every, asked, ["controller1"]) == ["database: controller1 sees 2 of 3 members"]
    assert membership.incomplete(every, {}, ["compute1"]) == []


MEMBERS_UNITS = ["mariadb.service", "rabbitmq-server.service"]


@pytest.mark.parametrize(
    ("stopped", "others", "words"),
    [
        (MEMBERS_UNITS, {}, []),
        ([], {}, ["database: controller1 sees 0 of 3 members", "messaging: controller1 does not see"]),
        (["haproxy.service"], {}, ["database: controller1 sees 0 of 3 members", "messaging: controller1 does not see"]),
        (["mariadb.service"], {}, ["messaging: controller1 does not see"]),
        (MEMBERS_UNITS, {"database": {"size": 1}}, ["database: controller2 sees 1 of 3", "controller3 sees 1 of 3"]),
        (MEMBERS_UNITS, {"database": {"cluster_status": "non-Primary"}}, ["controller2 sees 2 of 3", "controller3"]),
        (MEMBERS_UNITS, {"running": THREE[1:2]}, ["controller2 does not see rabbit@controller3", "controller3 does"]),
    ],
)
def test_a_member_that_a_cut_off_run_has_stopped_may_be_away(
    monkeypatch: pytest.MonkeyPatch, stopped: list[str], others: dict[str, Any], words: list[str]
) -> None:
    monkeypatch.setitem(run._state, "plan", plan(committed("ha"), sources.load()))
    hostvars: dict[str, Any] = {name: {} for name in committed("ha").hosts}
    hostvars["controller1"] = {
        "__mariadb_member": {"member": vars(galera.Member())},
        "__rabbitmq_member": {"member": {"active": False, "empty": False}},
    }
    for name in THREE[1:]:
        hostvars[name] = {
            "__mariadb_member": {"member": database(**{"size": 2, **others.get("database", {})})},
            "__rabbitmq_member": {"member": broker(*THREE, running=others.get("running", THREE[1:]))},
        }

    def judged() -> list[str]:
        action = host_replacement.ActionModule.__new__(host_replacement.ActionModule)
        action._task = action._templar = Task()
        action._task.args = {"complete": True, "alone": True, "stopped": stopped}
        variables = {"inventory_hostname": "controller1", "brume_master_key": KEY, "hostvars": hostvars}
        return str(action.run(None, variables).get("msg", "")).splitlines()[:-1]

    found = judged()
    assert len(found) == len(words)
    assert all(word in line for word, line in zip(words, found, strict=True)), found
    hostvars["controller1"]["__mariadb_member"]["member"] = database(1)
    assert "database: controller1 sees 1 of 3 members" in judged(), "one that runs has to be in its cluster"


@pytest.mark.parametrize(("size", "kinds"), [(1, 2), (2, 2), (3, 0)])
def test_clusters_that_a_reboot_would_stop(size: int, kinds: int) -> None:
    found = membership.lost_without(members(THREE[:size]), "controller1")
    assert [one.partition(" would stop, ")[0] for one in found] == ["database", "messaging"][:kinds]
    assert membership.lost_without(members(THREE[:size]), "compute1") == []


def test_a_drain_that_is_delegated_works_with_what_the_first_controller_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without(removed=False))
    for drain in (compute_drain, agent_drain):
        action = drain.ActionModule.__new__(drain.ActionModule)
        action._templar = Task()
        assert action.slice({"inventory_hostname": "compute1", "brume_master_key": KEY}).host.name == "controller1"


def reboot(monkeypatch: pytest.MonkeyPatch, **arguments: Any) -> dict[str, Any]:
    monkeypatch.setattr(host_reboot.ActionModule, "_display", type("Display", (), {"display": print}), raising=False)
    hosts: dict[str, Any] = {name: {} for name in run._state["plan"].hosts}
    return act(monkeypatch, host_reboot, "controller1", hosts, **arguments)


def test_hosts_to_reboot(monkeypatch: pytest.MonkeyPatch) -> None:
    found = without(removed=False)
    monkeypatch.setitem(run._state, "plan", found)
    every = reboot(monkeypatch)
    assert every["hosts"] == list(found.hosts)
    assert abs(every["since"] - time.time()) < 60, "who has started before this run has not been rebooted by it"
    some = reboot(monkeypatch, hosts=["compute1", "controller1"], since="1970-01-02T00:00:00Z")
    assert (some["hosts"], some["since"]) == (["controller1", "compute1"], 86400)
    for wrong, words in (
        ({"hosts": "compute1"}, "reboot_hosts: is no list of hosts"),
        ({"hosts": ["compute9"]}, "reboot_hosts: compute9 is no host of the plan; known are controller1, "),
        ({"since": "yesterday"}, "reboot_since: `yesterday` is no time"),
    ):
        result = reboot(monkeypatch, **wrong)
        assert result["failed"], wrong
        assert words in result["msg"], wrong
        assert "\n  next: " in result["msg"], wrong


def test_a_reboot_takes_no_majority_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without("controller3", removed=False))
    refused = reboot(monkeypatch, hosts=["controller2"])
    words = "controller2: database would stop, since 1 of 2 are no majority\n  next: -e reboot_in_place"
    assert words in refused["msg"]
    assert reboot(monkeypatch, hosts=["controller2"], in_place=True)["hosts"] == ["controller2"]
    assert reboot(monkeypatch, hosts=["compute1"])["hosts"] == ["compute1"]


def test_a_replaced_host_is_new_and_no_other_is_needed_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = without(removed=False)
    monkeypatch.setitem(run._state, "plan", found)
    fresh = {"__host_units": {"recorded": []}}
    rest = answers(*THREE[:2], counted=THREE[:2])
    good = judge(monkeypatch, {**rest, "controller3": fresh}, replaced=["controller3"])
    assert not good.get("failed"), good
    assert good["asked"] == [], "of a controller there is nothing to forget"
    units = [one.unit for one in found.hosts["controller3"].instances]
    old = judge(monkeypatch, {**rest, "controller3": {"__host_units": {"recorded": units}}}, replaced=["controller3"])
    assert "controller3: everything that is planned there has run well on it" in old["msg"]
    half = {"__host_units": {"recorded": units[1:]}}
    assert not judge(monkeypatch, {**rest, "controller3": half}, replaced=["controller3"]).get("failed"), "goes on"
    (given,) = judge(monkeypatch, {**answers(*THREE), "compute1": fresh}, replaced=["compute1"])["asked"]
    assert (given["hosts"], given["replaced"], given["image_url"]) == (["compute1"], True, None)


def test_the_first_controller_takes_its_images_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", without(removed=False))
    said_of = {**answers(*THREE[1:], counted=THREE[1:]), "controller1": {"__host_units": {"recorded": []}}}
    lost = judge(monkeypatch, said_of, replaced=["controller1"])
    assert "controller1: was the one host with the data of glance api" in lost["msg"]
    assert not judge(monkeypatch, said_of, replaced=["controller1"], accept_loss=True).get("failed")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["controller2", "compute1"], []),
        ("controller2", ["replace_hosts: is no list of hosts"]),
        ([], ["replace_hosts: is no list of hosts"]),
        (["compute2"], ["replace_hosts: compute2 is in the group `removed`; move it back to its groups"]),
        (
            list(THREE),
            [f"replace_hosts: no host of the group `{one}` would stay" for one in ("control", "database", "messaging")],
        ),
        (["compute9"], ["replace_hosts: compute9 is no host of the plan; known are controller1, controller2, "]),
    ],
)
def test_names_of_hosts_to_replace(names: Any, expected: list[str]) -> None:
    found = host_replacement.mistakes(names, without("compute2"))
    assert len(found) == len(expected)
    assert all(one.startswith(start) for one, start in zip(found, expected, strict=True))


# --- playbooks --------------------------------------------------------------------------------------------------------


def plays(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "playbooks" / name).read_text(encoding="utf-8"))
    return found


def test_a_host_is_stopped_after_the_others_know_and_forgotten_after_it_is_stopped() -> None:
    """Configuration first: else a member restarts while another one is stopped, and two are down because of us."""
    order = [one.get("ansible.builtin.import_playbook") or one["name"] for one in plays("remove.yml")]
    assert order.index("Judge") < order.index("drain.yml") < order.index("Give shared addresses away")
    assert order[order.index("Give shared addresses away") :] == [
        "Give shared addresses away",
        "site.yml",
        "Stop the hosts",
        "Forget the hosts in clusters",
        "Forget the hosts in Nova, Neutron and Placement",
    ]
    stopping = [one for one in plays("remove.yml") if "removed:&" in str(one.get("hosts"))]
    assert [one["serial"] for one in stopping] == [1, 1], "one host at a time"
    assert all(one["any_errors_fatal"] for one in stopping)


def test_nothing_but_what_asks_touches_a_host_before_the_judgment() -> None:
    for name in ("remove.yml", "replace.yml"):
        for play in plays(name):
            modules = {key for task in play["tasks"] for key in task if key.startswith("brume.cloud.")}
            assert modules <= {f"brume.cloud.{one}" for one in (
                "plan", "all_hosts", "host_units", "run_lock", "host_replacement", "host_removal"
            )}  # fmt: skip
            if any("judge" in (task.get("brume.cloud.host_removal") or {}) for task in play["tasks"]):
                break
            assert not any((task.get("brume.cloud.host_units") or {}).get("state") for task in play["tasks"])
