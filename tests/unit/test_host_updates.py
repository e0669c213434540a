"""Newer packages: which units they are about, which steps are supported, in what order hosts get them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import host_updates as update_action
from ansible_collections.brume.cloud.plugins.action import rabbitmq_member, update_order
from ansible_collections.brume.cloud.plugins.module_utils import apt, host_updates, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.host_updates import Loaded, Unit
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import ActionBase

from .inventories import AIO, committed, inventory
from .playbooks import KEY, ROOT, one_host, playbook
from .test_cluster_start import Task, act
from .test_membership import THREE, answers
from .test_playbooks import plays
from .test_power import parts


def deployed() -> Plan:
    """Return the plan of the inventory with several controllers."""
    return plan(committed("ha"), sources.load())


# --- pure -------------------------------------------------------------------------------------------------------------

UNITS = {
    "haproxy.service": Unit(("haproxy",)),
    "keepalived.service": Unit(("keepalived",), ("haproxy.service",)),
    "libvirtd.socket": Unit(("libvirt-daemon-system",)),
    "libvirtd.service": Unit(("qemu-system-x86",), ("libvirtd.socket",)),
    "nova-api.socket": Unit(),
    "nova-api.service": Unit(),
}
LOADED = {
    "libvirtd.service": Loaded(frozenset({"libc6"}), sockets=("libvirtd.socket", "libvirtd-ro.socket")),
    "nova-api.service": Loaded(frozenset({"libc6", "python3.13-minimal"}), sockets=("nova-api.socket",)),
}


@pytest.mark.parametrize(
    ("changing", "units"),
    [
        ([], []),
        (["nano"], []),
        (["keepalived"], ["keepalived.service"]),
        (["haproxy"], ["haproxy.service", "keepalived.service"]),
        (["libvirt-daemon-system"], ["libvirtd.socket", "libvirtd.service"]),
        (["qemu-system-x86"], ["libvirtd.socket", "libvirtd.service"]),
        (["python3.13-minimal"], ["nova-api.socket", "nova-api.service"]),
    ],
)
def test_units_stop_for_what_they_run_with_their_sockets_and_those_who_need_them(
    changing: list[str], units: list[str]
) -> None:
    assert host_updates.affected(UNITS, changing, LOADED) == units


def test_a_unit_that_runs_files_which_are_gone_stops_too() -> None:
    assert host_updates.affected(UNITS, [], {"haproxy.service": Loaded(replaced=True)})[0] == "haproxy.service"


def test_files_are_those_of_packages() -> None:
    maps = (
        "55d0-55d1 r--p 00000000 08:01 1 /usr/sbin/haproxy\n"
        "55d0-55d1 r--p 00000000 08:01 1 /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)\n"
        "55d0-55d1 r--p 00000000 00:00 0 \n"
        "55d0-55d1 r--p 00000000 00:00 0 [heap]\n"
        "55d0-55d1 rw-s 00000000 00:01 9 /memfd:buffer (deleted)\n"
        "55d0-55d1 r--p 00000000 08:01 1 /opt/brume/nova/x.so (deleted)\n"
    )
    found, replaced = host_updates.files_of(maps)
    assert (found, replaced) == ({"/usr/sbin/haproxy", "/usr/lib/x86_64-linux-gnu/libssl.so.3"}, True)
    assert host_updates.files_of(maps.replace("libssl.so.3 (deleted)", "libssl.so.3"))[1] is False
    assert host_updates.spellings("/usr/lib/x/libc.so.6") == ["/usr/lib/x/libc.so.6", "/lib/x/libc.so.6"]
    assert host_updates.spellings("/usr/share/x") == ["/usr/share/x"]


def test_files_have_the_packages_that_dpkg_names() -> None:
    text = (
        "libssl3t64:amd64: /usr/lib/x86_64-linux-gnu/libssl.so.3\n"
        "diversion by dash from: /bin/sh\nlocal diversion from: /bin/sh\n"
        "a, b:amd64: /usr/bin/both\ndpkg-query: no path found matching pattern /usr/x\n"
    )
    assert host_updates.parse_owners(text) == {
        "/usr/lib/x86_64-linux-gnu/libssl.so.3": {"libssl3t64"},
        "/usr/bin/both": {"a", "b"},
    }


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("4.0.5-6+deb13u2", "4.0.5-6+deb13u3", ""),
        ("3.13.7-1", "4.0.5-6", ""),
        ("4.0.5-6", "4.1.0-1", ""),
        ("3.11.18-1", "3.12.0-1", ""),
        ("3.11.5-1", "3.12.0-1", "needs 3.11.18 before\n  next: "),
        ("3.12.14-1", "4.0.5-6", "no series may be skipped\n  next: give apt a source that has 3.13 first"),
        ("3.10.8-1.1+deb12u1", "4.0.5-6", "has 3.11 first"),
        ("3.13.7-1", "4.1.0-1", "has 4.0 first"),
        ("4.0.5-6", "3.13.7-1", "brokers do not go back"),
        ("odd", "4.0.5-6", "no version of RabbitMQ's"),
    ],
)
def test_brokers_skip_no_series(old: str, new: str, words: str) -> None:
    problem = host_updates.broker_problem(old, new)
    assert words in problem
    assert bool(problem) is bool(words)


@pytest.mark.parametrize(
    ("old", "new", "members", "words"),
    [
        ("1:11.8.6-0+deb13u1", "1:11.8.9+ds-0+deb13u1", 3, ""),
        ("1:10.11.18-0+deb12u1", "1:11.4.8-1", 3, ""),
        ("1:10.11.18-0+deb12u1", "1:11.8.9+ds-0+deb13u1", 3, "at a time\n  next: give apt a source that has 11.4"),
        ("1:10.11.18-0+deb12u1", "1:11.8.9+ds-0+deb13u1", 1, ""),
        ("1:11.5.1-1", "1:11.8.9-1", 3, "next: see mariadb.com"),
        ("1:11.8.9-1", "1:11.4.8-1", 1, "servers do not go back"),
    ],
)
def test_members_of_a_database_cluster_take_one_series_at_a_time(old: str, new: str, members: int, words: str) -> None:
    problem = host_updates.database_problem(old, new, members)
    assert words in problem
    assert bool(problem) is bool(words)


def test_the_database_member_that_clients_use_comes_after_the_others() -> None:
    hosts = ["c1", "c2", "c3", "n1"]
    assert host_updates.order(hosts, hosts[:3], {"c1": 90, "c2": 1, "c3": 1}) == ["c2", "c3", "c1", "n1"]
    assert host_updates.order(hosts, hosts[:3], {"c1": 1, "c2": 90}) == ["c1", "c3", "c2", "n1"]
    assert host_updates.order(hosts, hosts[:3], {"c3": 9}) == hosts
    assert host_updates.order(hosts, hosts[:3], {}) == hosts
    assert host_updates.order(["n1"], hosts[:3], {"c1": 9}) == ["n1"]


def test_preferences_keep_a_version() -> None:
    text = host_updates.pins({"openvswitch-switch": "3.5.0-1"})
    assert "Package: openvswitch-switch\nPin: version 3.5.0-1\nPin-Priority: 1001\n" in text


def test_apt_tells_of_each_change() -> None:
    text = "Inst a [1] (2 Debian:13 [amd64])\nInst b (1 Debian:13 [amd64])\nRemv c [3]\nConf a (2 x)\n"
    a, b, c = apt.parse_changes(text)
    assert (a.name, a.old, a.new, a.removed) == ("a", "1", "2", False)
    assert (b.name, b.old, b.new, b.removed) == ("b", "", "1", False)
    assert (c.name, c.old, c.removed) == ("c", "3", True)


# --- actions ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", deployed())


NOTHING: dict[str, Any] = {
    "updates": {},
    "removed": [],
    "kept": [],
    "here": [],
    "units": [],
    "interrupted": False,
    "reboot": [],
    "begun": {},
    "out": False,
    "codename": "",
    "suite": "",
    "findings": [],
    "deploys": False,
}


def ask(monkeypatch: pytest.MonkeyPatch, host: str, found: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    """Run the action on a host whose module finds something."""
    asked: list[dict[str, Any]] = []

    def execute(_self: Any, **given: Any) -> dict[str, Any]:
        asked.append(given["module_args"])
        return {**NOTHING, **found}

    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    action = update_action.ActionModule.__new__(update_action.ActionModule)
    action._task = action._templar = Task()
    action._task.args = arguments
    return {**action.run(None, {"inventory_hostname": host, "brume_master_key": KEY}), "asked": asked[0]}


@pytest.mark.usefixtures("cluster")
def test_units_are_known_with_what_brings_them(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = ask(monkeypatch, "controller1", {})["asked"]
    assert "haproxy" in controller["units"]["haproxy.service"]["packages"]
    assert controller["units"]["keepalived.service"]["after"] == ["haproxy.service"]
    assert "keystone-api.socket" in controller["units"]
    assert "mariadb.service" in controller["hold_units"]
    for name in ("chrony.service", "systemd-journald.service"):
        assert name not in controller["units"], "its package starts it anew, with what the cloud wrote for it"
        assert name not in controller["hold_units"]
    assert (controller["first"], "mariadb.service" in controller["last"]) == (["keepalived.service"], True)


@pytest.mark.usefixtures("cluster")
def test_the_switch_stays_where_its_host_is_not_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    switch = ["ovsdb-server.service", "ovs-vswitchd.service", "openvswitch-switch.service"]
    empty, in_place, reboots = (
        ask(monkeypatch, "compute1", {}, **given)["asked"]
        for given in ({}, {"in_place": True}, {"in_place": True, "reboot": True})
    )
    assert (empty["keep_units"], empty["keep_packages"]) == ([], [])
    assert (in_place["keep_units"], in_place["keep_packages"]) == (switch, ["openvswitch-switch"])
    assert (reboots["keep_units"], reboots["keep_packages"]) == (switch, [])
    user_space = deployed().hosts["compute1"].variables["openvswitch_datapath_type"] == "netdev"
    assert empty["vacant_units"] == (switch if user_space else [])


HAPROXY = {"updates": {"haproxy": ["1", "2"]}, "units": ["haproxy.service"]}
LIBVIRT = {"updates": {"qemu-system-x86": ["1", "2"]}, "units": ["libvirtd.service"]}


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("host", "found", "options", "true"),
    [
        ("compute1", {}, {}, set()),
        ("compute1", {"updates": {"nano": ["1", "2"]}}, {}, {"work", "pending"}),
        ("compute1", LIBVIRT, {}, {"work", "pending", "leaves", "empties", "gives_back"}),
        ("compute1", LIBVIRT, {"in_place": True}, {"work", "pending", "leaves"}),
        ("controller1", HAPROXY, {}, {"work", "pending", "leaves"}),
        ("compute1", {"interrupted": True}, {}, {"work", "pending", "leaves", "empties", "gives_back"}),
        ("compute1", {"reboot": ["kernel"]}, {}, set()),
        ("compute1", {"reboot": ["kernel"]}, {"reboot": True}, {"work", "pending", "leaves", "empties", "gives_back"}),
        ("compute1", {"begun": {"empties": True}}, {}, {"pending", "gives_back"}),
        ("compute1", {"begun": {"emptied": True}, "out": True}, {}, {"pending", "emptied"}),
        ("compute1", {"begun": {"emptied": True}}, {}, {"pending"}),
        ("compute1", {"begun": {"stopped": ["haproxy.service"]}, "out": True}, {}, {"pending"}),
        ("controller1", {"updates": {"rabbitmq-server": ["1", "2"]}}, {}, {"work", "pending", "broker"}),
    ],
)
def test_a_host_is_emptied_for_what_its_users_have_on_it(
    monkeypatch: pytest.MonkeyPatch, host: str, found: dict[str, Any], options: dict[str, Any], true: set[str]
) -> None:
    done = ask(monkeypatch, host, found, **options)
    names = ("work", "pending", "leaves", "empties", "emptied", "gives_back", "broker")
    assert {name for name in names if done[name]} == true


def decide(
    monkeypatch: pytest.MonkeyPatch,
    found: dict[str, dict[str, Any]],
    said: dict[str, Any] | None = None,
    in_play: Sequence[str] = (),
    **args: Any,
) -> dict[str, Any]:
    """Run the decision after hosts and members have been asked, of all unless `in_play`; `shown` is what one reads."""
    shown: list[str] = []
    said = answers(*THREE) if said is None else said
    every = deployed().hosts
    hostvars = {name: {**said.get(name, {})} for name in every}
    for name, one in found.items():
        whole = {**NOTHING, **one}
        options = {key: bool(args.get(key)) for key in ("in_place", "reboot")}
        piece = slice_of(name)
        hostvars[name]["__host_updates"] = {**whole, **update_action.consequences(piece, whole, **options)}
    action = update_order.ActionModule.__new__(update_order.ActionModule)
    action._task = action._templar = Task()
    action._task.args = {"stage": "order", **args}
    action._display = type("Display", (), {"display": staticmethod(shown.append)})()
    variables = {
        "inventory_hostname": "controller1",
        "brume_master_key": KEY,
        "hostvars": hostvars,
        "ansible_play_hosts_all": list(in_play or every),
    }
    return {**action.run(None, variables), "shown": "\n".join(shown)}


def slice_of(name: str) -> Any:
    action = update_action.ActionModule.__new__(update_action.ActionModule)
    action._templar = Task()
    return action.slice({"inventory_hostname": name, "brume_master_key": KEY})


@pytest.mark.usefixtures("cluster")
def test_only_hosts_with_something_newer_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    done = decide(monkeypatch, {"controller1": HAPROXY, "controller2": {}, "compute1": LIBVIRT})
    assert done["hosts"] == ["controller1", "compute1"]
    assert "controller1: 1 packages; stops haproxy.service\n" in done["shown"]
    assert "compute1: 1 packages; stops libvirtd.service; is emptied before" in done["shown"]
    assert "nothing newer: controller2" in done["shown"]


@pytest.mark.usefixtures("cluster")
def test_packages_that_are_held_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"controller1": {**HAPROXY, "held": ["nano"]}, "controller2": {"here": ["haproxy"], "held": ["haproxy"]}}
    done = decide(monkeypatch, found, packages=["haproxy"])
    assert done["hosts"] == ["controller1"]
    assert "controller1: 1 packages; stops haproxy.service; held, stay as they are: nano" in done["shown"]
    assert "controller2: held, stay as they are: haproxy\nnothing newer: controller2" in done["shown"]


@pytest.mark.usefixtures("cluster")
def test_only_hosts_in_play_may_not_reboot_under_the_run() -> None:
    hostvars: dict[str, Any] = {name: {} for name in deployed().hosts}
    hostvars["controller1"]["ansible_connection"] = "local"
    piece = slice_of("compute1")

    def judged(in_play: list[str], **args: Any) -> list[str]:
        return update_order.mistakes({"reboot": True, **args}, piece, hostvars, in_play)

    assert judged(["compute1"]) == []
    assert judged(["compute1"], hosts=["controller1", "compute1"]) == [], "the limit leaves it out"
    (problem,) = judged(["controller1", "compute1"])
    assert problem.startswith("controller1: the run is on it, and would end with a reboot\n  next: ")
    assert judged(["controller1", "compute1"], hosts=["compute1"]) == []


@pytest.mark.usefixtures("cluster")
def test_the_host_that_an_earlier_run_left_is_first_and_may_be_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"controller1": HAPROXY, "controller2": {"begun": {"stopped": ["mariadb.service"]}, "out": True}}
    said = answers("controller1", "controller3", counted=THREE)
    assert decide(monkeypatch, found, said)["hosts"] == ["controller2", "controller1"]
    without = decide(monkeypatch, {"controller1": HAPROXY}, said)
    assert "controller2 sees 0 of 3 members" in without["msg"]
    assert "\n  next: " in without["msg"]


@pytest.mark.usefixtures("cluster")
def test_clients_of_the_database_move_once(monkeypatch: pytest.MonkeyPatch) -> None:
    said = answers(*THREE)
    said["controller1"]["__mariadb_member"]["member"]["connections"] = 90
    found = dict.fromkeys(THREE, HAPROXY)
    assert decide(monkeypatch, found, said)["hosts"] == ["controller2", "controller3", "controller1"]


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("found", "args", "words"),
    [
        ({"controller1": {**HAPROXY, "removed": ["nginx"]}}, {}, "controller1: apt would remove nginx\n  next: "),
        (
            {"controller1": {"updates": {"rabbitmq-server": ["3.12.1-1", "4.0.5-6"]}, "units": []}},
            {},
            "controller1: RabbitMQ 3.12.1 -> 4.0.5: no series may be skipped\n  next: ",
        ),
        (
            {"controller1": {"updates": {"mariadb-server": ["1:10.11.18-0", "1:11.8.9-0"]}, "units": []}},
            {"in_place": True},
            "controller1: MariaDB 10.11.18 -> 11.8.9: a cluster",
        ),
        ({"controller1": HAPROXY}, {"packages": ["haprxy"]}, "update_packages: haprxy is installed on none"),
        ({}, {"hosts": ["nobody"]}, "update_hosts: nobody is no host of the plan; known are controller1, "),
        ({}, {"hosts": "controller1"}, "update_hosts: is no list of names\n  next: write -e "),
        ({}, {"packages": [1]}, "update_packages: is no list of names"),
    ],
)
def test_what_cannot_be_done_is_said_before_the_first_host(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], args: dict[str, Any], words: str
) -> None:
    done = decide(monkeypatch, found, **args)
    assert done["failed"]
    assert words in done["msg"]


def test_a_cluster_of_one_is_down_meanwhile_only_where_that_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", plan(inventory(AIO), sources.load()))
    piece = slice_of("aio")
    args: dict[str, Any] = {"in_place": False, "reboot": False}

    def judged(found: dict[str, Any], **given: Any) -> list[str]:
        options = {**args, **given}
        whole = {**NOTHING, **found}
        one = {**whole, **update_action.consequences(piece, whole, **options)}
        return update_order.problems(piece, {"aio": one}, {"mariadb": {}, "rabbitmq": {}, "ovn": {}}, ["aio"], options)

    database = {"updates": {"mariadb-server": ["1:11.8.6-0", "1:11.8.9-0"]}, "units": ["mariadb.service"]}
    (problem,) = judged(database)
    assert "aio: database would stop, since 0 of 1 are no majority\n  next: -e update_in_place=true" in problem
    assert judged(database, in_place=True) == []
    assert judged(HAPROXY) == [], "the database goes on meanwhile"
    assert len(judged(HAPROXY, reboot=True)) == 2


@pytest.mark.usefixtures("cluster")
def test_hosts_that_want_to_start_anew_are_named() -> None:
    found = {"c1": {"reboot": ["a package asks for it"]}, "c2": {"reboot": []}, "c3": {"skipped": True}}
    assert update_order.wishes(found)[:-1] == ["c1 wants to start anew: a package asks for it"]
    assert update_order.wishes({}) == ["no host wants to start anew"]


@pytest.mark.usefixtures("cluster")
def test_brokers_are_readied_and_their_queues_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    data = "/var/lib/rabbitmq/mnesia/rabbit@controller1"
    for word in ("features", "quorum"):
        assert act(monkeypatch, rabbitmq_member, "controller1", {}, **{word: True})["asked"] == [
            {"data": data, word: True}
        ]
    monkeypatch.setitem(run._state, "plan", plan(inventory(AIO), sources.load()))
    assert act(monkeypatch, rabbitmq_member, "aio", {}, features=True)["asked"]
    assert act(monkeypatch, rabbitmq_member, "aio", {}, quorum=True)["asked"] == [], "one cannot do without itself"


# --- playbook ---------------------------------------------------------------------------------------------------------


def test_a_host_is_updated_between_leaving_and_returning() -> None:
    taken = parts("update.yml", "brume_updated")
    assert [part for part, _when in taken] == ["leave", "deploy", "restart", "return"]
    assert taken[0][1] == "__host_updates.leaves", "clusters are looked at whatever an earlier run has stopped"
    assert taken[1][1] == "__host_updates.deploys"
    assert "update_reboot" in taken[2][1]
    (play,) = [one for one in plays(ROOT / "playbooks/update.yml") if one["hosts"] == "brume_updated"]
    calls = [task["brume.cloud.host_updates"] for task in play["tasks"] if "brume.cloud.host_updates" in task]
    assert "not __host_updates.emptied" in play["vars"]["host_walk_empties"], "only what was done is skipped"
    assert "begun.stopped" in play["vars"]["host_walk_stopped"]
    assert calls[1]["empties"] == calls[2]["empties"]
    states = [given.get("state") for given in calls]
    assert states == [None, "begun", "updated", "ended", None]
    names = [next(key for key in task if "." in key) for task in play["tasks"]]
    assert names.index("brume.cloud.rabbitmq_member") < names.index("ansible.builtin.include_role")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-e", '{"update_hosts": ["two"]}'], "update_hosts: two is no host of the plan; known are one"),
        (["-e", '{"update_hosts": ["two"]}', "--limit", "one"], "update_hosts: two is no host of the plan"),
        (["-e", "update_packages=haproxy"], "update_packages: is no list of names"),
        (["--limit", "one"], "UNREACHABLE"),
        (["--check"], "UNREACHABLE"),
    ],
)
def test_no_host_is_asked_before_it_is_meant(options: list[str], words: str, tmp_path: Any) -> None:
    done = playbook(one_host(tmp_path / "inventory"), "update.yml", *options)
    assert words in done.stdout, done.stdout + done.stderr
    assert ("UNREACHABLE" in done.stdout) is (words == "UNREACHABLE")
    assert done.returncode
