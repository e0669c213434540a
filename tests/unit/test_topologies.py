"""Where things run is said by the groups alone: whatever is moved, all that depends on it follows."""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.brume.cloud.plugins.module_utils import plan_text, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS
from ansible_collections.brume.cloud.plugins.module_utils.plan import Plan, plan
from ansible_collections.brume.cloud.plugins.module_utils.rendering import Renderer

from tools.lab_parts.layout import HostVariables, layout

from .goldens import golden
from .inventories import committed, inventory

INVENTORIES = Path(__file__).resolve().parents[2] / "inventories"
VARIABLES: dict[str, Any] = yaml.safe_load((INVENTORIES / "three_node/group_vars/all.yml").read_text(encoding="utf-8"))

UNITS = {
    "control": "keystone-api.service",
    "network": "neutron-l3-agent.service",
    "compute": "nova-compute.service",
    "database": "mariadb.service",
    "messaging": "rabbitmq-server.service",
}
"""A unit that runs on all hosts of a group and nowhere else."""

KEYSTONE = 5000
PLACES: dict[str, list[str]] = {
    "control": ["controller1"],
    "network": ["network1"],
    "compute": ["compute1"],
    "loadbalancer": ["controller1"],
    "database": ["controller1"],
    "messaging": ["controller1"],
}
"""As inventories/three_node has it."""

MOVES: dict[str, dict[str, list[str]]] = {
    "nothing": {},
    "network to the controller": {"network": ["controller1"]},
    "network to the compute host": {"network": ["compute1"]},
    "network to two hosts": {"network": ["network1", "network2"]},
    "compute to the controller": {"compute": ["controller1"]},
    "compute to two hosts": {"compute": ["compute1", "compute2"]},
    "database to the network host": {"database": ["network1"]},
    "database to a host of its own": {"database": ["database1"]},
    "database to three hosts": {"database": ["database1", "database2", "database3"]},
    "messaging to hosts of their own": {"messaging": ["broker1", "broker2", "broker3"]},
    "load balancer to the network host": {"loadbalancer": ["network1"]},
    "load balancer to a host of its own": {"loadbalancer": ["balancer1"]},
    "load balancers to two hosts": {"loadbalancer": ["balancer1", "balancer2"]},
    "control to three hosts, infrastructure stays": {"control": ["controller1", "controller2", "controller3"]},
    "control away from infrastructure": {"control": ["api1"]},
    "all to one host": {group: ["controller1"] for group in PLACES},
    "each to a host of its own": {group: [f"{group}1"] for group in PLACES},
}


def moved(changes: dict[str, list[str]]) -> tuple[Plan, dict[str, list[str]]]:
    """Return the plan of three_node with some groups elsewhere, and the hosts of every group."""
    groups = PLACES | changes
    names = list(dict.fromkeys(host for hosts in groups.values() for host in hosts))
    hosts: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(names, start=11):
        addresses = {"management": f"10.122.10.{number}"}
        if name in groups["network"] + groups["compute"]:
            addresses["tunnel"] = f"10.122.11.{number}"
        if name in groups["loadbalancer"]:
            addresses["api"] = f"10.122.30.{number}"
        hosts[name] = {"brume_addresses": addresses}
    variables = dict(VARIABLES)
    if len(groups["loadbalancer"]) > 1 or len(groups["database"]) > 1:
        networks = VARIABLES["brume_networks"]
        variables["brume_networks"] = networks | {
            name: networks[name] | {"vip": vip} for name, vip in (("management", "10.122.10.9"), ("api", "10.122.30.9"))
        }
    return plan(inventory(variables, hosts=hosts, groups=groups), sources.load()), groups


def files(found: Plan, host: str) -> dict[str, configparser.RawConfigParser]:
    """Return the section-and-key files of a host by path, parsed."""
    renderer = Renderer(found, sources.load(), lambda name: name.replace("/", "-"))
    result = {}
    for one in renderer.files(found.hosts[host], list(found.cloud.services)):
        if one.layers:
            result[one.entry.path] = configparser.RawConfigParser(strict=False)
            result[one.entry.path].read_string(one.text)
    return result


@pytest.mark.parametrize("move", MOVES)
def test_any_group_can_be_moved(move: str) -> None:
    found, groups = moved(MOVES[move])
    for group, unit in UNITS.items():
        runs = [name for name, host in found.hosts.items() if unit in [one.unit for one in host.instances]]
        assert sorted(runs) == sorted(groups[group]), group
    balancers = [name for name, host in found.hosts.items() if KEYSTONE in [one.port for one in host.ports]]
    assert sorted(balancers) == sorted(groups["loadbalancer"])
    count, _size = plan_text.render_all(found, Renderer(found, sources.load(), lambda name: name))
    assert count


@pytest.mark.parametrize("move", MOVES)
def test_what_a_service_is_told_follows(move: str) -> None:
    found, groups = moved(MOVES[move])
    management = {name: str(host.addresses["management"]) for name, host in found.hosts.items()}
    vip = found.cloud.networks["management"].vip
    internal = str(vip) if vip else management[groups["loadbalancer"][0]]
    database = management[groups["database"][0]] if len(groups["database"]) == 1 else internal
    for name in groups["control"]:
        nova = files(found, name)["/etc/nova/nova.conf"]
        assert f"@{database}:3306/" in nova["api_database"]["connection"]
        brokers = {place.partition("@")[2] for place in nova["DEFAULT"]["transport_url"].split(",")}
        assert {one.partition("/")[0] for one in brokers} == {f"{management[one]}:5671" for one in groups["messaging"]}
        caches = set(nova["cache"]["memcache_servers"].split(","))
        assert caches == {f"{management[one]}:11211" for one in groups["control"]}
        assert nova["keystone_authtoken"]["auth_url"] == f"https://{internal}:5000/v3"
    for name in {*groups["network"], *groups["compute"]}:
        agent = files(found, name)["/etc/neutron/openvswitch_agent.ini"]
        assert agent["ovs"]["local_ip"] == str(found.hosts[name].addresses["tunnel"])
    for frontend in found.cloud.frontends:
        if frontend.name == "keystone-api":
            assert [server.name for server in frontend.servers] == groups["control"]


def test_split() -> None:
    found = plan(committed("ha_split"), sources.load())
    golden("ha_split.txt", "\n".join(plan_text.summary(found)) + "\n")
    renderer = Renderer(found, sources.load(), lambda name: f"<{name}>")
    count, _size = plan_text.render_all(found, renderer)
    assert count
    lines = [
        line
        for name in ("controller1", "compute1")
        for one in renderer.files(found.hosts[name], list(found.cloud.services))
        for line in one.text.splitlines()
        if line.startswith(("connection =", "transport_url =", "auth_url =", "memcache_servers =", "local_ip ="))
    ]
    golden("ha_split-urls.txt", "\n".join(dict.fromkeys(lines)) + "\n")


NEEDS = {
    "management": set(GROUPS),
    "tunnel": {"network", "compute"},
    "external": {"network", "compute"},
    "api": {"loadbalancer"},
}
"""The groups whose hosts have an interface in a network."""


@pytest.mark.parametrize("name", ["three_node", "ha", "ha_split"])
def test_a_host_of_the_lab_has_the_interfaces_that_its_groups_need(name: str) -> None:
    found = committed(name)
    variables = {
        host: {k: v for one in layers for k, v in one.variables.items()} for host, layers in found.hosts.items()
    }
    groups = {host: {group for group, hosts in found.groups.items() if host in hosts} for host in found.hosts}
    lab = layout(
        name,
        [
            HostVariables(host, frozenset(groups[host]), own["brume_networks"], own["brume_addresses"])
            for host, own in variables.items()
        ],
    )
    for host in lab.hosts:
        expected = [network for network, needed in NEEDS.items() if groups[host.name] & needed]
        assert [port.network for port in host.ports] == expected, host.name
        assert [port.network for port in host.ports if port.address is None] == [
            network for network in expected if network == "external"
        ]


def test_the_lab_of_each_inventory_has_networks_of_its_own() -> None:
    """Several labs may run on one machine at the same time."""
    seen: dict[str, str] = {}
    for folder in sorted(INVENTORIES.iterdir()):
        if not (folder / "lab.yml").exists():
            continue
        variables = yaml.safe_load((folder / "group_vars/all.yml").read_text(encoding="utf-8"))
        for network in variables["brume_networks"].values():
            assert seen.setdefault(network["cidr"], folder.name) == folder.name


@pytest.mark.parametrize(
    ("tunnel", "external", "tenant", "provider"),
    [
        ({"cidr": "10.122.11.0/24"}, {}, 1450, 1500),
        ({"cidr": "10.122.11.0/24", "mtu": 9000}, {}, 8950, 1500),
        ({"cidr": "10.122.11.0/24"}, {"mtu": 9000}, 1450, 9000),
        ({"cidr": "10.122.11.0/24", "mtu": 1400}, {"mtu": 1400}, 1350, 1400),
        ({"cidr": "2001:db8:11::/64", "mtu": 9000}, {"mtu": 1400}, 8930, 1400),
    ],
)
def test_mtu_comes_from_the_networks_below(
    tunnel: dict[str, Any], external: dict[str, Any], tenant: int, provider: int
) -> None:
    networks = VARIABLES["brume_networks"]
    networks = networks | {
        "tunnel": {"interface": "eth1"} | tunnel,
        "external": networks["external"] | external,
    }
    address = "10.122.11.11" if tunnel["cidr"].startswith("10.") else "2001:db8:11::11"
    addresses = {"management": "10.122.10.11", "tunnel": address, "api": "10.122.30.11"}
    found = plan(
        inventory(VARIABLES | {"brume_networks": networks}, hosts={"one": {"brume_addresses": addresses}}),
        sources.load(),
    )
    assert mtus(files(found, "one")) == (tenant, provider)


def test_mtu_of_tunnels_on_the_management_network_is_that_networks() -> None:
    networks = {name: one for name, one in VARIABLES["brume_networks"].items() if name != "tunnel"}
    networks["management"] = networks["management"] | {"mtu": 9000}
    addresses = {"management": "10.122.10.11", "api": "10.122.30.11"}
    found = plan(
        inventory(VARIABLES | {"brume_networks": networks}, hosts={"one": {"brume_addresses": addresses}}),
        sources.load(),
    )
    assert mtus(files(found, "one")) == (8950, 1500)


def mtus(found: dict[str, configparser.RawConfigParser]) -> tuple[int, int]:
    """Return the MTU of tenant networks and of provider networks, as Neutron computes them.

    Sources: neutron/plugins/ml2/drivers/type_tunnel.py and type_flat.py, get_mtu; VXLAN over Ethernet takes 30 bytes
    beside the IP header (neutron_lib/plugins/ml2/constants).
    """
    ml2 = found["/etc/neutron/ml2_conf.ini"]["ml2"]
    most = int(found["/etc/neutron/neutron.conf"]["DEFAULT"]["global_physnet_mtu"])
    header = {"4": 20, "6": 40}[ml2["overlay_ip_version"]]
    physical = dict(item.split(":") for item in ml2["physical_network_mtus"].split(","))
    return min(most, int(ml2["path_mtu"])) - header - 30, min(most, int(physical["external"]))
