"""Who speaks to the broker, and how a run comes to know which one it is."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import message_broker, message_vhosts
from ansible_collections.brume.cloud.plugins.action.unit_rollout import ActionModule as Rollout
from ansible_collections.brume.cloud.plugins.module_utils import messaging, run, sources
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import ActionBase
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from .inventories import committed
from .playbooks import KEY
from .test_cluster_start import Task
from .test_external import MESSAGING, planned
from .test_mixed_releases import VAULT, piece


def speakers(found: Plan) -> dict[str, set[str]]:
    """Return the units that speak to the broker, by host."""
    return {name: set(units) for name, units in Renderer(found, sources.load(), VAULT.value).speakers().items()}


def test_those_speak_to_the_broker_whose_files_say_where_it_is() -> None:
    found = speakers(plan(committed("ha"), sources.load()))
    assert found["network1"] == {
        f"neutron-{name}-agent.service" for name in ("openvswitch", "l3", "dhcp", "metadata")
    }
    assert found["compute1"] == {"nova-compute.service", "neutron-openvswitch-agent.service"}
    controller = found["controller1"]
    assert {"neutron-rpc-server.service", "nova-conductor.service", "nova-api.service"} <= controller
    assert {name.partition("-")[0] for name in controller} == {"neutron", "nova"}


def test_the_inventory_may_say_where_a_broker_is() -> None:
    """A service that sends notifications because the operator wants it to."""
    given = committed("ha")
    url = {"glance": {"glance.conf": {"oslo_messaging_notifications": {"transport_url": "rabbit://x/y"}}}}
    name = next(one for one in plan(given, sources.load()).services["glance"].files if one.endswith(".conf"))
    url["glance"] = {name: url["glance"]["glance.conf"]}
    layer = Layer("all", {"brume_config": url}, {})
    hosts = {host: (*layers[:1], layer, *layers[1:]) for host, layers in given.hosts.items()}
    found = speakers(plan(Inventory(hosts, given.groups), sources.load()))
    assert "glance-api.service" in found["controller1"]
    assert "keystone-api.service" not in found["controller1"]


def test_only_services_that_speak_have_to_know_the_broker() -> None:
    """A socket is not shut for it, and who speaks to nobody has nothing to forget."""
    found = plan(committed("ha"), sources.load())
    for host in ("controller1", "compute1"):
        arguments = object.__new__(Rollout).arguments(piece(found, host), {"broker": "b"}) or {}
        told = {one["name"] for one in arguments["units"] if one.get("broker") == "b"}
        assert told == speakers(found)[host]
        assert {one.get("broker", "") for one in arguments["units"]} == {"b", ""}


def act(monkeypatch: pytest.MonkeyPatch, module: Any, seen: str = "", **more: Any) -> dict[str, Any]:
    """Run an action; `asked` is what its module was asked, `seen` the broker that this run has seen before."""
    asked: list[dict[str, Any]] = []

    def execute(_self: Any, **given: Any) -> dict[str, Any]:
        asked.append(given["module_args"])
        return {"changed": False, "broker": more.pop("broker", "asked"), "anew": more.pop("anew", False)}

    monkeypatch.setattr(ActionBase, "run", lambda _self, _tmp, _variables: {})
    monkeypatch.setattr(ActionBase, "_execute_module", execute)
    action = module.ActionModule.__new__(module.ActionModule)
    action._task = action._templar = Task()
    action._task.args = more.pop("args", {})
    said = {"__phase_messaging_result": {"broker": seen}} if seen else {}
    variables = {
        "inventory_hostname": "compute1",
        "brume_master_key": KEY,
        "groups": {"messaging": ["controller1"]},
        "hostvars": {"controller1": said},
    }
    return {**action.run(None, variables | more.pop("known", {})), "asked": asked}


@pytest.fixture
def ha(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the run be about the inventory with several hosts."""
    monkeypatch.setitem(run._state, "plan", plan(committed("ha"), sources.load()))


@pytest.mark.usefixtures("ha")
def test_the_broker_is_asked_only_where_the_run_has_not_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a host that a limit alone lets take part."""
    found = act(monkeypatch, message_broker, args={"wave": "core"})
    assert (found["broker"], found["asked"]) == ("asked", [{"required": False}])
    found = act(monkeypatch, message_broker, seen="seen", args={"wave": "core", "required": True})
    assert (found["broker"], found["asked"]) == ("seen", [])
    assert act(monkeypatch, message_broker, args={"required": True})["asked"] == [{"required": True}]
    assert act(monkeypatch, message_broker, args={"wave": "infrastructure"})["asked"] == []


def test_a_broker_that_somebody_else_runs_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(run._state, "plan", planned({"messaging": MESSAGING}))
    more = {"inventory_hostname": "aio", "groups": {}}
    assert act(monkeypatch, message_broker, known=more)["asked"] == []


@pytest.mark.usefixtures("ha")
def test_a_limit_says_whom_it_leaves_with_a_former_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = {"ansible_limit": "controller1"}
    (said,) = act(monkeypatch, message_vhosts, anew=True, known=limit)["warnings"]
    assert "has a limit (controller1)" in said and "compute1" in said and "\n  next: site.yml without a limit" in said
    assert "warnings" not in act(monkeypatch, message_vhosts, anew=True)
    assert "warnings" not in act(monkeypatch, message_vhosts, anew=False, known=limit)


@pytest.mark.usefixtures("ha")
@pytest.mark.parametrize("active", [True, False])
def test_a_member_that_comes_back_empty_is_no_new_broker(monkeypatch: pytest.MonkeyPatch, active: bool) -> None:
    """In a dry run, which sees no data there; after the run it is the one that the others are."""
    groups = {"messaging": ["controller1", "controller2"]}
    hostvars = {
        "controller1": {"__rabbitmq_member": {"member": {"active": False, "empty": True}}},
        "controller2": {"__rabbitmq_member": {"member": {"active": active, "empty": not active}}},
    }
    expected = "" if active else messaging.UNBORN
    for module in (message_broker, message_vhosts):
        known = {"groups": groups, "hostvars": hostvars, "ansible_limit": "x"}
        found = act(monkeypatch, module, broker=messaging.UNBORN, anew=True, known=known)
        assert found["broker"] == expected
        if module is message_vhosts:
            assert ("warnings" in found) is not active
