"""The two drivers of the network, and distributed routers: what runs where, and what the files say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.action import (
    cloud_verification,
    openvswitch_bridges,
    ovn_member,
    preflight,
)
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import read_service, settled
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from .goldens import golden
from .inventories import AIO, committed, inventory

OVN = {"neutron_driver": "ovn"}
DISTRIBUTED = {"neutron_distributed_routers": True}


def ha(**variables: Any) -> Plan:
    """Return the plan of inventories/ha with variables on top, as `-e` says them."""
    found = committed("ha")
    top = Layer("extra", variables)
    hosts = {name: (*layers, top) for name, layers in found.hosts.items()}
    return plan(Inventory(hosts, found.groups), sources.load())


def renderer(found: Plan) -> Renderer:
    return Renderer(found, sources.load(), lambda name: f"<{name}>")


def files(found: Plan, host: str, *services: str) -> str:
    """Return the files and units of services on a host as one text."""
    rendered = renderer(found)
    parts = [f"#### {one.entry.path}\n{one.text}" for one in rendered.files(found.hosts[host], list(services))]
    parts += [f"#### {one.instance.unit}" for one in rendered.units(found.hosts[host], list(services))]
    return "\n".join(parts)


def arguments(action: Any, found: Plan, host: str) -> Any:
    """Return what an action hands to its module on a host."""
    rendered = renderer(found)
    piece = Slice(found, found.hosts[host], rendered.sources, rendered, None)  # type: ignore[arg-type]
    return (
        action.ActionModule.arguments(SimpleNamespace(_roles=action.ActionModule._roles), piece, {})
        if hasattr(action.ActionModule, "_roles")
        else action.ActionModule.arguments(None, piece, {})
    )


def test_ovn_on_several_hosts() -> None:
    golden("ha-ovn.txt", "\n".join(plan_text.summary(ha(**OVN))) + "\n")


@pytest.mark.parametrize("host", ["controller2", "network1", "compute1"])
def test_files_of_ovn_on_several_hosts(host: str) -> None:
    golden(f"ha-ovn-{host}.txt", files(ha(**OVN), host, "ovn", "neutron"))


def test_ovn_on_one_host() -> None:
    golden("aio-ovn.txt", files(plan(inventory(AIO | OVN), sources.load()), "aio", "ovn"))


def test_files_of_distributed_routers() -> None:
    found = ha(**DISTRIBUTED)
    text = "\n".join(f"######## {host}\n{files(found, host, 'neutron')}" for host in ("network1", "compute1"))
    golden("ha-distributed.txt", text)
    server = files(found, "controller1", "neutron")
    assert {"l3_ha = True", "enable_dvr = True", "router_distributed = True"} <= set(server.splitlines())


def test_the_tunnels_of_ovn_are_a_choice() -> None:
    lines = files(ha(**OVN, ovn_encap_type="vxlan"), "controller1", "neutron").splitlines()
    assert "type_drivers = flat,vlan,vxlan" in lines
    assert "project_network_types = vxlan" in lines
    geneve = files(ha(**OVN), "controller1", "neutron").splitlines()
    assert {"path_mtu = 1500", "max_header_size = 38"} <= set(geneve), "1442 for an instance: 20 bytes are IPv4's"
    found = arguments(openvswitch_bridges, ha(**OVN, ovn_encap_type="vxlan"), "compute1")
    assert found["external_ids"]["ovn-encap-type"] == "vxlan"


AGENTS: dict[str, tuple[dict[str, Any], dict[str, list[str]]]] = {
    "openvswitch": (
        {},
        {
            "network1": [
                "neutron-openvswitch-agent",
                "neutron-l3-agent",
                "neutron-dhcp-agent",
                "neutron-metadata-agent",
            ],
            "compute1": ["neutron-openvswitch-agent"],
        },
    ),
    "distributed": (
        DISTRIBUTED,
        {
            "network1": [
                "neutron-openvswitch-agent",
                "neutron-l3-agent",
                "neutron-dhcp-agent",
                "neutron-metadata-agent",
            ],
            "compute1": ["neutron-openvswitch-agent", "neutron-l3-agent", "neutron-metadata-agent"],
        },
    ),
    "ovn": (OVN, {"network1": ["ovn-controller"], "compute1": ["ovn-controller", "neutron-ovn-agent"]}),
}


@pytest.mark.parametrize("kind", AGENTS)
def test_verification_looks_for_the_agents_that_are_planned(kind: str) -> None:
    variables, expected = AGENTS[kind]
    found = cloud_verification.expected(ha(**variables)).agents
    for host in ("network1", "compute1", "controller1"):
        assert [name for name, place in found if place == host] == expected.get(host, [])


@pytest.mark.parametrize(
    ("variables", "host", "bridges"),
    [
        ({}, "network1", ["br-ex", "br-phy"]),
        ({}, "compute1", ["br-phy"]),
        (DISTRIBUTED, "compute1", ["br-ex", "br-phy"]),
        (OVN, "compute1", ["br-phy"]),
        (OVN | DISTRIBUTED, "compute1", ["br-ex", "br-phy"]),
    ],
)
def test_the_external_bridge_is_where_floating_ips_are(
    variables: dict[str, Any], host: str, bridges: list[str]
) -> None:
    found = ha(**variables)
    assert [one["name"] for one in arguments(openvswitch_bridges, found, host)["bridges"]] == bridges
    names = [one["name"] for one in arguments(preflight, found, host)["interfaces"]]
    assert ("eth2" in names) == ("br-ex" in bridges)


def test_what_a_chassis_is_told() -> None:
    assert arguments(openvswitch_bridges, ha(), "network1")["external_ids"] == {}
    common = {
        "ovn-remote": "ssl:10.123.10.11:6642,ssl:10.123.10.12:6642,ssl:10.123.10.13:6642",
        "ovn-encap-type": "geneve",
        "ovn-bridge-datapath-type": "netdev",
    }
    assert arguments(openvswitch_bridges, ha(**OVN), "network1")["external_ids"] == common | {
        "system-id": "network1",
        "hostname": "network1",
        "ovn-encap-ip": "10.123.11.21",
        "ovn-bridge-mappings": "external:br-ex",
        "ovn-cms-options": "enable-chassis-as-gw",
    }
    assert arguments(openvswitch_bridges, ha(**OVN), "compute1")["external_ids"] == common | {
        "system-id": "compute1",
        "hostname": "compute1",
        "ovn-encap-ip": "10.123.11.31",
        "ovn-bridge-mappings": "",
        "ovn-cms-options": "",
    }
    both = arguments(openvswitch_bridges, ha(**OVN, **DISTRIBUTED), "compute1")["external_ids"]
    assert (both["ovn-bridge-mappings"], both["ovn-cms-options"]) == ("external:br-ex", "")


def test_preflight_is_told_what_another_choice_would_have_left() -> None:
    found = arguments(preflight, ha(**OVN), "network1")["excluded"]
    assert found == {
        "neutron-openvswitch-agent.service": "neutron_driver: openvswitch",
        "neutron-l3-agent.service": "neutron_driver: openvswitch",
        "neutron-dhcp-agent.service": "neutron_driver: openvswitch",
        "neutron-metadata-agent.service": "neutron_driver: openvswitch",
    }
    found = arguments(preflight, ha(), "compute1")["excluded"]
    assert found == {
        "neutron-l3-agent.service": "neutron_driver: openvswitch, neutron_distributed_routers: true",
        "neutron-metadata-agent.service": "neutron_driver: openvswitch, neutron_distributed_routers: true",
        "neutron-ovn-agent.service": "neutron_driver: ovn",
        "ovn-controller.service": "neutron_driver: ovn",
        "ovn-host.service": "neutron_driver: ovn",
    }


def test_what_is_not_deployed_at_all_is_no_choice_that_changed() -> None:
    found = plan(inventory(AIO | {"brume_services": ["keystone", "neutron"]}), sources.load())
    assert "nova-compute.service" not in found.hosts["aio"].excluded


def test_members_are_only_where_the_databases_are() -> None:
    assert arguments(ovn_member, ha(**OVN), "network1") is None


def test_an_even_number_of_controllers_is_a_warning_with_ovn() -> None:
    names = ["one", "two"]
    hosts = {name: {"brume_addresses": {"management": f"192.0.2.{place}"}} for place, name in enumerate(names, 11)}
    groups: dict[str, list[str] | None] = {name: ["one"] for name in ("network", "compute", "loadbalancer", "database")}
    for variables, count in (({}, 0), (OVN, 1)):
        found = plan(inventory(AIO | variables, hosts=hosts, groups=groups | {"messaging": ["one"]}), sources.load())
        assert len([one for one in found.warnings if "even number of hosts of OVN" in one]) == count


SERVICE = {
    "name": "two",
    "components": {
        "api": {"group": "control", "kind": "wsgi", "app": "two:application", "port": 6001},
        "agent": {
            "group": ["network", {"item": "compute", "when": {"wide": True}}],
            "groups": [{"item": "tls", "when": {"driver": "new"}}],
            "kind": "daemon",
            "command": ["two-agent"],
            "after": ["api"],
            "when": {"driver": "new"},
        },
    },
    "directories": [{"path": "/srv/agent", "components": ["agent"]}],
    "files": {
        "two.conf": {"settings": ["two", {"item": "new", "when": {"driver": "new"}}], "components": ["api", "agent"]},
        "agent.conf": {"settings": ["agent"], "components": ["agent"]},
    },
    "python": {"packages": ["two"]},
}


def test_a_service_is_what_its_cloud_has_of_it() -> None:
    service, problems = read_service(SERVICE, "two", "two")
    assert not problems
    old, new = (settled(service, {"driver": driver, "wide": driver == "new"}) for driver in ("old", "new"))
    assert old is not None
    assert new is not None
    assert (list(old.components), list(old.files), old.directories) == (["api"], ["two.conf"], ())
    assert (old.files["two.conf"].settings, old.files["two.conf"].components) == (("two",), ("api",))
    agent = new.components["agent"]
    assert (agent.groups, agent.unix_groups, agent.after) == (("network", "compute"), ("tls",), ("api",))
    assert new.files["two.conf"].settings == ("two", "new")
    narrow = settled(service, {"driver": "new", "wide": False})
    assert narrow is not None
    assert narrow.components["agent"].groups == ("network",)
    whole, problems = read_service(SERVICE | {"when": {"driver": "new"}}, "two", "two")
    assert not problems
    assert settled(whole, {"driver": "old"}) is None
