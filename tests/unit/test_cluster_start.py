"""What is done before the members of clusters start, from what all of them have said."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import galera_member, galera_start, ovn_member, rabbitmq_member
from ansible_collections.brume.cloud.plugins.module_utils import galera, ovn, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.plan import plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import ActionBase

from .inventories import AIO, committed, inventory
from .test_network_drivers import OVN, ha

CONTROLLERS = ("controller1", "controller2", "controller3")
KEY = base64.b64encode(bytes(range(32))).decode()


class Task:
    """What Ansible gives an action."""

    check_mode = False
    args: dict[str, Any]

    def template(self, value: Any) -> Any:
        """Return what is no template."""
        return value


def act(
    monkeypatch: pytest.MonkeyPatch,
    action_class: Any,
    host: str,
    said: dict[str, Any],
    check: bool = False,
    **arguments: Any,
) -> dict[str, Any]:
    """Run an action on a host after the members have said something; returns its result, and `asked` of the module."""
    asked: list[dict[str, Any]] = []

    def execute(_self: Any, **given: Any) -> dict[str, Any]:
        asked.append(given["module_args"])
        return {"changed": True, "actions": ["done"]}

    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    action = action_class.ActionModule.__new__(action_class.ActionModule)
    action._task = action._templar = Task()
    action._task.args, action._task.check_mode = arguments, check
    variables = {
        "inventory_hostname": host,
        "brume_master_key": KEY,
        "ansible_play_hosts": list(said),
        "hostvars": {
            name: {
                f"__{kind}_member": {key: answer}
                for kind, key in (("mariadb", "member"), ("rabbitmq", "member"), ("ovn", "members"))
                if answer is not None
            }
            for name, answer in said.items()
        },
    }
    return {**action.run(None, variables), "asked": asked}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", plan(committed("ha"), sources.load()))


def database(**changes: Any) -> dict[str, Any]:
    return {**vars(galera.Member(uuid="a", has_data=True)), **changes}


@pytest.mark.usefixtures("cluster")
def test_the_member_with_the_newest_data_begins_and_the_others_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: database(seqno=number) for name, number in zip(CONTROLLERS, (4, 9, 6), strict=True)}
    said["network1"] = None  # a host of the play that is no member
    for host in CONTROLLERS:
        done = act(monkeypatch, galera_start, host, said)
        assert done["starts"][galera_start.UNIT] == (
            {"start_environment": galera_start.BEGINS}
            if host == "controller2"
            else {"waits_for": {"host": "10.123.10.12", "port": 3306}}
        ), done
        assert done["asked"] == []


@pytest.mark.usefixtures("cluster")
def test_nothing_starts_while_nobody_knows_who_has_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: database(seqno=4, uuid=name) for name in CONTROLLERS}
    failed = act(monkeypatch, galera_start, "controller1", said)
    assert failed["failed"]
    assert "-e mariadb_bootstrap=<that host>" in failed["msg"]
    assert "controller3 has controller3:4" in failed["msg"]
    assert not act(monkeypatch, galera_start, "controller1", said, check=True).get("failed"), (
        "a dry run repairs nothing"
    )
    for host in CONTROLLERS:
        chosen = act(monkeypatch, galera_start, host, said, bootstrap="controller3")
        assert ("start_environment" in chosen["starts"][galera_start.UNIT]) == (host == "controller3")


@pytest.mark.usefixtures("cluster")
def test_a_member_that_runs_without_the_others_becomes_primary(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {name: database(active=True, cluster_status="non-Primary", seqno=3) for name in CONTROLLERS}
    assert act(monkeypatch, galera_start, "controller1", said)["asked"] == [{"state": "primary"}]
    other = act(monkeypatch, galera_start, "controller2", said)
    assert (other["asked"], other["starts"]) == ([], {}), "those that run wait for nobody"


@pytest.mark.usefixtures("cluster")
def test_lost_brokers_are_forgotten_by_the_first_that_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, empty = {"active": True, "empty": False}, {"active": False, "empty": True}
    said = dict(zip(CONTROLLERS, (empty, runs, runs), strict=True))
    asked = [act(monkeypatch, rabbitmq_member, host, said, forget=True)["asked"] for host in CONTROLLERS]
    folder = "/var/lib/rabbitmq/mnesia/rabbit@controller2"
    assert asked == [[], [{"data": folder, "forget": ["rabbit@controller1"]}], []]
    for quiet in ((empty, empty, empty), (runs, runs, runs), ({"active": False, "empty": False}, runs, runs)):
        said = dict(zip(CONTROLLERS, quiet, strict=True))
        assert [act(monkeypatch, rabbitmq_member, host, said, forget=True)["asked"] for host in CONTROLLERS] == [[]] * 3


@pytest.mark.usefixtures("cluster")
def test_every_member_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for action in (galera_member, rabbitmq_member):
        assert len(act(monkeypatch, action, "controller1", dict.fromkeys(CONTROLLERS))["asked"]) == 1


def test_one_host_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", plan(inventory(AIO), sources.load()))
    for action in (galera_member, galera_start, rabbitmq_member):
        done = act(monkeypatch, action, "aio", {"aio": None})
        assert (done["asked"], done["skipped"]) == ([], True)


def databases(**changes: Any) -> dict[str, Any]:
    """Return what a member says that holds nothing but for `changes` of the northbound database."""
    nothing = vars(ovn.Member())
    return {"OVN_Northbound": {**nothing, **changes}, "OVN_Southbound": nothing}


def test_one_member_begins_and_the_others_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", ha(**OVN))
    said: dict[str, Any] = dict.fromkeys(CONTROLLERS, databases()) | {"network1": None}
    asked = {host: act(monkeypatch, ovn_member, host, said, decide=True)["asked"] for host in said}
    assert asked["network1"] == []
    steps = {host: asked[host][0]["steps"] for host in CONTROLLERS}
    for name, database_ in ovn.DATABASES.items():
        first = ovn.location("10.123.10.11", database_.cluster_port)
        assert [steps[host][name]["create"] for host in CONTROLLERS] == [True, False, False]
        assert all(steps[host][name]["join"][0] == first for host in CONTROLLERS[1:])
    assert asked["controller2"][0]["address"] == "10.123.10.12"
    assert act(monkeypatch, ovn_member, "controller1", said)["asked"] == [{}], "the first look changes nothing"


def test_no_database_of_ovn_starts_while_nobody_knows_whose_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", ha(**OVN))
    said = {name: databases(exists=True, cluster=name, server=f"{name}-id") for name in CONTROLLERS}
    failed = act(monkeypatch, ovn_member, "controller1", said, decide=True)
    assert failed["failed"]
    assert "-e ovn_bootstrap=<that host>" in failed["msg"]
    assert "controller3 to controller3" in failed["msg"]
    assert not act(monkeypatch, ovn_member, "controller1", said, check=True, decide=True).get("failed")
    chosen = act(monkeypatch, ovn_member, "controller3", said, decide=True, bootstrap="controller3")
    assert chosen["asked"][0]["steps"]["OVN_Northbound"]["from_own"]


def test_a_member_that_no_host_is_any_more_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", ha(**OVN))
    known = {"aaaa": "ssl:10.123.10.11:6643", "dddd": "ssl:10.123.10.14:6643"}
    works = databases(
        active=True, exists=True, cluster="c", server="aaaa", address=known["aaaa"], leader=True, servers=known
    )
    done = act(monkeypatch, ovn_member, "controller1", {"controller1": works}, decide=True)
    assert done["warnings"][0].startswith("OVN_Northbound counts ssl:10.123.10.14:6643 as a member")
