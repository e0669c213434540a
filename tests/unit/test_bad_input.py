"""Mistakes of an inventory, each with the whole message that an operator gets before any host is asked."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from ansible_collections.brume.cloud.plugins.module_utils import run, sources
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS
from ansible_collections.brume.cloud.plugins.module_utils.plan import PlanError, plan

from .goldens import golden_section, sections
from .inventories import AIO, STORAGE, inventory

FILE = "bad-input.txt"
NETWORKS = AIO["brume_networks"]

Kind = tuple[dict[str, Any], dict[str, Any]]
"""Variables of all on top of AIO, and the other arguments of `inventory`."""


def network(name: str, **keys: Any) -> Kind:
    """Return an inventory in which a network has other keys."""
    known: dict[str, Any] = {
        "tunnel": {"cidr": "203.0.113.0/24", "interface": "eth2"},
        "api": {"cidr": "203.0.113.0/24", "interface": "eth2"},
    }
    addresses = {"management": "192.0.2.11", **({name: "203.0.113.11"} if name in known else {})}
    return (
        {"brume_networks": NETWORKS | {name: {**known, **NETWORKS}.get(name, {}) | keys}},
        {"hosts": {"aio": {"brume_addresses": addresses}}},
    )


def hosts(*names: str, **groups: list[str]) -> Kind:
    """Return an inventory of several hosts behind a VIP, all in every group unless given otherwise."""
    variables, _rest = network("management", vip="192.0.2.5")
    found = {name: {"brume_addresses": {"management": f"192.0.2.{11 + place}"}} for place, name in enumerate(names)}
    return {**variables, "openvswitch_datapath_type": "system"}, {"hosts": found, "groups": groups}


def own(**variables: Any) -> Kind:
    """Return an inventory whose only host says something itself."""
    return {}, {"hosts": {"aio": {"brume_addresses": {"management": "192.0.2.11"}, **variables}}}


def override(tree: Any) -> Kind:
    """Return an inventory with a brume_config of nova."""
    return {"brume_config": {"nova": tree}}, {}


def flavor(**keys: Any) -> Kind:
    """Return an inventory with a flavor; a key that is None is left out."""
    whole = {"name": "m1.small", "vcpus": 1, "ram": 2048, "disk": 20} | keys
    return {"nova_flavors": [{key: value for key, value in whole.items() if value is not None}]}, {}


def aggregates(*items: dict[str, Any]) -> Kind:
    """Return an inventory of a controller and two compute hosts, in the group rack1, with aggregates."""
    variables, rest = hosts("one", "two", "three", compute=["two", "three"], rack1=["two"], others=["one"])
    rest["groups"] |= {name: ["one"] for name in ("database", "messaging", "loadbalancer", "control")}
    return variables | {"nova_aggregates": [{"name": f"a{place}", **item} for place, item in enumerate(items)]}, rest


KINDS: dict[str, Kind] = {
    # networks
    "malformed cidr": network("management", cidr="192.0.2.0/33"),
    "cidr without a prefix length": network("management", cidr="192.0.2.0"),
    "host bits in a cidr": network("tunnel", cidr="203.0.113.7/24"),
    "missing cidr": ({"brume_networks": NETWORKS | {"storage": {"interface": "eth2"}}}, {}),
    "cidr without room for hosts": network("external", cidr="198.51.100.0/31", gateway=None),
    "cidr of loopback": network("external", cidr="127.0.0.0/8", gateway=None),
    "overlapping networks": (
        {"brume_networks": NETWORKS | {"storage": {"cidr": "192.0.2.0/25", "interface": "e"}}},
        {},
    ),
    "network that is no mapping": ({"brume_networks": NETWORKS | {"storage": "203.0.113.0/24"}}, {}),
    "unknown key of a network": network("tunnel", cdir=1),
    "misspelled network": ({"brume_networks": NETWORKS | {"tunel": {"cidr": "203.0.113.0/24", "interface": "e"}}}, {}),
    "no external network": ({"brume_networks": {"management": NETWORKS["management"]}}, {}),
    "network without an interface": network("tunnel", interface=None),
    "over-long interface": network("tunnel", interface="enp0s31f6v1234567"),
    "interface with a space": network("tunnel", interface="eth 2"),
    "interface of a host": own(brume_interfaces={"external": "a/b"}),
    "external interface that carries management": network("external", interface="eth0"),
    "external interface of one host that carries management": own(brume_interfaces={"external": "eth0"}),
    "mtu below the minimum": network("tunnel", mtu=9),
    "mtu below the minimum of IPv6": network("external", cidr="2001:db8::/64", mtu=1279, gateway=None),
    "mtu above the maximum": network("tunnel", mtu=90000),
    "mtu that is text": network("tunnel", mtu="jumbo"),
    "vip outside its network": network("management", vip="10.0.0.1"),
    "vip that a host holds": network("management", vip="192.0.2.11"),
    "vip that is the gateway": network("external", vip="198.51.100.1"),
    "vip of another IP version": network("management", vip="2001:db8::5"),
    "vip that is a broadcast address": network("management", vip="192.0.2.255"),
    "no vip for several load balancers": (
        {"openvswitch_datapath_type": "system"},
        {
            "hosts": {
                name: {"brume_addresses": {"management": f"192.0.2.1{name[-1]}"}} for name in ("one1", "two2", "three3")
            }
        },
    ),
    "gateway outside its network": network("external", gateway="203.0.113.1"),
    "gateway that a host holds": network("management", gateway="192.0.2.11"),
    "allocation pool that is no pair": network("external", allocation_pool=["198.51.100.10"]),
    "allocation pool reversed": network("external", allocation_pool=["198.51.100.99", "198.51.100.10"]),
    "allocation pool outside its network": network("external", allocation_pool=["198.51.100.10", "198.51.101.9"]),
    "allocation pool with the gateway": network("external", allocation_pool=["198.51.100.1", "198.51.100.99"]),
    "allocation pool with the vip": network(
        "external", vip="198.51.100.20", allocation_pool=["198.51.100.10", "198.51.100.99"]
    ),
    "allocation pool with a host": network("management", allocation_pool=["192.0.2.10", "192.0.2.20"]),
    "fqdn that is no host name": network("api", fqdn="https://cloud.example.org"),
    "fqdn that is an address": network("api", fqdn="203.0.113.11"),
    # addresses of hosts
    "two hosts with one address": (
        hosts("one", "two", "three")[0],
        {"hosts": {name: {"brume_addresses": {"management": "192.0.2.11"}} for name in ("one", "two", "three")}},
    ),
    "address outside its network": ({}, {"hosts": {"aio": {"brume_addresses": {"management": "10.0.0.1"}}}}),
    "address of the network itself": ({}, {"hosts": {"aio": {"brume_addresses": {"management": "192.0.2.0"}}}}),
    "no address": ({}, {"hosts": {"aio": {"brume_addresses": {"management": "nowhere"}}}}),
    "address on no network": (
        {},
        {"hosts": {"aio": {"brume_addresses": {"management": "192.0.2.11", "managment": "192.0.2.12"}}}},
    ),
    "host without an address": ({}, {"hosts": {"aio": {}}}),
    "host without an address that its group needs": (
        network("tunnel")[0],
        {"hosts": {"aio": {"brume_addresses": {"management": "192.0.2.11"}}}},
    ),
    # hosts and groups
    "missing group": ({}, {"groups": {"compute": None}}),
    "empty group": ({}, {"groups": {"database": []}}),
    "no host at all": ({}, {"hosts": {}}),
    "non-ASCII host name": ({}, {"hosts": {"Häuschen": {"brume_addresses": {"management": "192.0.2.11"}}}}),
    "upper-case host name": hosts("Aio"),
    "over-long host name": hosts("a" * 63 + ".example"),
    "over-long label of a host name": hosts("a" * 64),
    "host that is called localhost": hosts("localhost"),
    "host that is called by its address": hosts("192.0.2.11"),
    "host that is called like a group": hosts("compute"),
    "brokers with one short name": hosts("one.a", "one.b", "two"),
    "a host in two exclusive groups": hosts(
        "one", "two", control=["one"], loadbalancer=["one"], messaging=["one"], database=["two"]
    ),
    "user-space tunnels on the interface of management": (
        {**hosts()[0], "openvswitch_datapath_type": "netdev"},
        hosts("one", "two", "three")[1],
    ),
    # services and releases
    "unknown service": ({"brume_services": ["keystone", "novva"]}, {}),
    "service that is no name": ({"brume_services": ["keystone", {"nova": True}]}, {}),
    "service twice": ({"brume_services": ["keystone", "keystone"]}, {}),
    "no service": ({"brume_services": []}, {}),
    "missing requirement": ({"brume_services": ["keystone", "nova"]}, {}),
    "unknown release": ({"brume_release": "2031.1"}, {}),
    "release by its name": ({"brume_release": "gazpacho"}, {}),
    "release without quotes": ({"brume_release": 2026.1}, {}),
    # other variables
    "unknown variable": ({"brume_relase": "2026.1"}, {}),
    "unknown variable of a role": ({"mariadb_size": "1G"}, {}),
    "wrong type in group_vars": ({"brume_services": "keystone"}, {}),
    "wrong type in host_vars": own(memcached_memory="a lot"),
    "wrong type of a boolean": ({"brume_kernel_shared": "maybe"}, {}),
    "wrong type of an item": ({"host_time_servers": ["time.example.org", 7]}, {}),
    "value that is no choice": ({"libvirt_virt_type": "xen"}, {}),
    "variable of the cloud on one host": (
        hosts("one", "two", "three")[0],
        {
            "hosts": {
                name: {"brume_addresses": {"management": f"192.0.2.1{place}"}, **more}
                for place, (name, more) in enumerate(
                    [("one", {}), ("two", {"brume_region": "elsewhere"}), ("three", {})]
                )
            }
        },
    ),
    "region with a slash": ({"brume_region": "eu/1"}, {}),
    "no cell": ({"brume_cells": []}, {}),
    "cell twice": ({"brume_cells": ["cell1", "cell1"]}, {}),
    "cell with bad characters": ({"brume_cells": ["cell-1"]}, {}),
    "cell0": ({"brume_cells": ["cell0", "cell1"]}, {}),
    "cell whose database another has": ({"brume_cells": ["api"]}, {}),
    "no worker": ({"brume_workers": {"default": 0}}, {}),
    "negative workers": ({"brume_workers": {"nova": -2}}, {}),
    "workers that are text": ({"brume_workers": {"nova": "many"}}, {}),
    "workers of an unknown service": ({"brume_workers": {"novva": 2}}, {}),
    "workers of an unknown component": ({"brume_workers": {"nova/web": 2}}, {}),
    "generation below one": ({"brume_secret_generations": {"nova": 0}}, {}),
    "generation that is text": ({"brume_secret_generations": {"nova": "second"}}, {}),
    "generation of an unknown secret": ({"brume_secret_generations": {"nova/databases": 2}}, {}),
    "line break in a value": ({"loadbalancer_timeout": "5m\nuser root"}, {}),
    "control character in a value": ({"brume_config": {"nova": {"nova.conf": {"DEFAULT": {"host": "a\0"}}}}}, {}),
    "name that leads nowhere": ({"host_names": {"ldap.example.org": "somewhere"}}, {}),
    "name that is none": ({"host_names": {"ldap_1.example.org": "192.0.2.77"}}, {}),
    "wheelhouse that is no place": ({"brume_wheelhouse": "wheels/here"}, {}),
    # flavors, aggregates, cells of hosts
    "flavors that are no list": ({"nova_flavors": {"m1.small": {}}}, {}),
    "flavor that is no mapping": ({"nova_flavors": ["m1.small"]}, {}),
    "flavor without a size": flavor(ram=None),
    "flavor without a name": flavor(name=None),
    "flavor whose name is a number": flavor(name=1),
    "flavor whose name has spaces around it": flavor(name=" m1"),
    "flavor without processors": flavor(vcpus=0),
    "flavor with half a GiB": flavor(disk=0.5),
    "flavor with memory in words": flavor(ram="2 GiB"),
    "flavor with a factor of 0": flavor(rxtx_factor=0),
    "flavor with an unknown key": flavor(vcpu=2),
    "flavor that is perhaps public": flavor(is_public="perhaps"),
    "public flavor of some projects": flavor(is_public=True, projects=["web"]),
    "flavor of a project that is no name": flavor(projects="web"),
    "flavor with extra specs that are a list": flavor(extra_specs=["hw:cpu_policy"]),
    "flavor with a wrong key of an extra spec": flavor(extra_specs={"hw/cpu": 1}),
    "flavor with a nested extra spec": flavor(extra_specs={"hw:cpu": {"policy": "dedicated"}}),
    "flavor with an unknown state": flavor(state="gone"),
    "flavor twice": ({"nova_flavors": flavor()[0]["nova_flavors"] * 2}, {}),
    "flavors of one host": (
        {"openvswitch_datapath_type": "system"},
        {
            "hosts": {
                "one": {"brume_addresses": {"management": "192.0.2.11"}},
                "two": {"brume_addresses": {"management": "192.0.2.12"}, **flavor()[0]},
            },
            "groups": {"loadbalancer": ["one"]},
        },
    ),
    "aggregate without hosts": aggregates({"availability_zone": "east"}),
    "aggregate of an unknown host": aggregates({"hosts": ["twoo"]}),
    "aggregate of a controller": aggregates({"hosts": ["one"]}),
    "aggregate of a group without compute hosts": aggregates({"hosts": ["others"]}),
    "aggregate whose metadata has the zone": aggregates({"hosts": [], "metadata": {"availability_zone": "east"}}),
    "aggregate with a colon in its zone": aggregates({"hosts": [], "availability_zone": "east:two"}),
    "host in two zones": aggregates(
        {"hosts": ["compute"], "availability_zone": "east"}, {"hosts": ["rack1"], "availability_zone": "west"}
    ),
    "compute host in an unknown cell": own(nova_cell="cell7"),
    "ratio below 0": own(nova_cpu_allocation_ratio=-1.5),
    "ratio that is text": own(nova_ram_allocation_ratio="much"),
    "reserved memory below 0": own(nova_reserved_host_memory_mb=-512),
    # drivers of the network
    "unknown driver of the network": ({"neutron_driver": "linuxbridge"}, {}),
    "driver of the network of one host": (
        {"openvswitch_datapath_type": "system"},
        {
            "hosts": {
                "one": {"brume_addresses": {"management": "192.0.2.11"}},
                "two": {"brume_addresses": {"management": "192.0.2.12"}, "neutron_driver": "ovn"},
            },
            "groups": {"loadbalancer": ["one"]},
        },
    ),
    "unknown tunnels of OVN": ({"neutron_driver": "ovn", "ovn_encap_type": "gre"}, {}),
    "distributed routers without an external interface on a compute host": (
        {"openvswitch_datapath_type": "system", "neutron_distributed_routers": True},
        {
            "hosts": {
                "one": {"brume_addresses": {"management": "192.0.2.11"}},
                "two": {"brume_addresses": {"management": "192.0.2.12"}, "brume_interfaces": {"external": "eth0"}},
            },
            "groups": {"compute": ["two"]}
            | {name: ["one"] for name in GROUPS if name not in ("compute", *STORAGE)},
        },
    ),
    "host that is to be removed and has work": hosts("one", "two", removed=["two"], control=["one"], database=["one"]),
    "host that is to be removed without its address": (
        {},
        {
            "hosts": {"one": {"brume_addresses": {"management": "192.0.2.11"}}, "old": {}},
            "groups": {**{name: ["one"] for name in GROUPS if name not in STORAGE}, "removed": ["old"]},
        },
    ),
    "distributed routers in words": ({"neutron_distributed_routers": "dvr"}, {}),
    # overrides
    "override of an unknown service": ({"brume_config": {"novva": {"nova.conf": {}}}}, {}),
    "override that is no mapping": override(["nova.conf"]),
    "override of an unknown file": override({"nova.cfg": {}}),
    "override of a file that a template makes": override({"rootwrap.conf": {"DEFAULT": {"a": 1}}}),
    "override that is no tree": override({"nova.conf": {"DEFAULT": "debug"}}),
    "override of a wrong type": override({"nova.conf": {"DEFAULT": {"debug": "perhaps"}}}),
    "override of a wrong choice": override({"nova-compute.conf": {"libvirt": {"virt_type": "emulation"}}}),
    "override with a number as a section": override({"nova.conf": {7: {"debug": True}}}),
    "override with brackets in a section": override({"nova.conf": {"[DEFAULT]": {"debug": True}}}),
    "override with an equals sign in an option": override({"nova.conf": {"DEFAULT": {"debug = true": ""}}}),
    "override with a list of lists": override({"nova.conf": {"DEFAULT": {"enabled_apis": [["osapi_compute"]]}}}),
}


def messages(kind: Kind) -> str:
    variables, rest = kind
    with pytest.raises(PlanError) as caught:
        plan(inventory(AIO | variables, **rest), sources.load())
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mistake_is_explained(kind: str) -> None:
    golden_section(FILE, kind, messages(KINDS[kind]), KINDS)


def test_no_kind_is_left_over() -> None:
    assert list(sections(FILE)) == list(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_has_place_and_remedy(kind: str) -> None:
    """Each line of the golden file says where, what and what to do; its text is compared by the test above."""
    for line in sections(FILE)[kind].splitlines()[1:]:
        where, colon, rest = line.strip().partition(": ")
        assert where.startswith(("group_vars/", "host_vars/", "host ", "inventory"))
        assert colon and "; " in rest


def test_all_mistakes_are_reported_at_once() -> None:
    variables = {"brume_services": ["keystone", "novva"], "brume_relase": "x", "brume_region": 7}
    text = messages((variables, {"hosts": {"aio": {"brume_addresses": {"management": "10.0.0.1"}}}}))
    for part in ("novva", "brume_relase", "brume_region", "10.0.0.1", "mistakes"):
        assert part in text


WARNINGS: dict[str, Kind] = {
    "even number of database hosts": hosts("one", "two"),
    "host in no group": (
        hosts("one", "two")[0],
        {
            "hosts": {name: {"brume_addresses": {"management": f"192.0.2.1{name[-1]}"}} for name in ("one1", "spare2")},
            "groups": {name: ["one1"] for name in GROUPS if name not in STORAGE},
        },
    ),
    "unknown option": override({"nova.conf": {"DEFAULT": {"debugg": True}}}),
    "host that is to be removed": (
        hosts("one")[0],
        {
            "hosts": {name: {"brume_addresses": {"management": f"192.0.2.1{name[-1]}"}} for name in ("one1", "old2")},
            "groups": {**{name: ["one1"] for name in GROUPS if name not in STORAGE}, "removed": ["old2"]},
        },
    ),
}


@pytest.mark.parametrize("kind", WARNINGS)
def test_what_is_odd_and_allowed_is_a_warning(kind: str) -> None:
    variables, rest = WARNINGS[kind]
    found = plan(inventory(AIO | variables, **rest), sources.load())
    golden_section("odd-input.txt", kind, "\n".join(found.warnings), WARNINGS)


def test_three_database_hosts_are_no_warning() -> None:
    variables, rest = hosts("one", "two", "three")
    found = plan(inventory(AIO | variables, **rest), sources.load()).warnings
    assert [one for one in found if "database" in one] == []


KEY = base64.b64encode(bytes(range(32))).decode()

SECRETS: dict[str, dict[str, Any]] = {
    "missing master key": {},
    "empty master key": {"brume_master_key": " \n"},
    "short master key": {"brume_master_key": base64.b64encode(bytes(16)).decode()},
    "master key that is not base64": {"brume_master_key": "correct horse battery staple!"},
    "master key that is no text": {"brume_master_key": 12345678901234567890},
    "master key that is not random": {"brume_master_key": base64.b64encode(bytes(32)).decode()},
    "secrets that are no mapping": {"brume_master_key": KEY, "brume_secrets": ["nova/keystone"]},
    "unknown secret": {"brume_master_key": KEY, "brume_secrets": {"nova/keystoen": "long-enough"}},
    "secret that is no string": {"brume_master_key": KEY, "brume_secrets": {"nova/keystone": 1234567890}},
    "secret that needs quoting": {"brume_master_key": KEY, "brume_secrets": {"nova/database/nova_api": "p@ss:word/1"}},
    "short secret": {"brume_master_key": KEY, "brume_secrets": {"nova/keystone": "nova"}},
    "empty password of the administrator": {"brume_master_key": KEY, "brume_secrets": {"keystone/admin": " "}},
    "key that cannot be given": {"brume_master_key": KEY, "brume_secrets": {"host/aio": "-----BEGIN-----"}},
}


@pytest.mark.parametrize("kind", SECRETS)
def test_a_bad_secret_is_explained_without_its_value(kind: str) -> None:
    found = plan(inventory(AIO), sources.load())
    problems = run.secret_problems(SECRETS[kind], found)
    assert problems
    text = "\n".join(map(str, problems))
    golden_section("bad-secrets.txt", kind, text, SECRETS)
    values = SECRETS[kind].get("brume_secrets")
    for value in values.values() if isinstance(values, dict) else ():
        assert str(value).strip() in ("", "nova") or str(value) not in text


def test_good_secrets_are_no_problem() -> None:
    found = plan(inventory(AIO), sources.load())
    explicit = {"keystone/admin": "Any p@ssword, typed!", "nova/keystone": "a-long-one_1", "rabbitmq/cookie": "A" * 20}
    assert run.secret_problems({"brume_master_key": KEY, "brume_secrets": explicit}, found) == []


def test_a_bad_key_is_found_beside_a_bad_inventory() -> None:
    assert [one.where for one in run.secret_problems({"brume_secrets": {"a": 1}}, None)] == ["brume_master_key"]
