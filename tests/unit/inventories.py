"""Inventories for tests, as data."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.brume.cloud.plugins.module_utils.description import GROUPS
from ansible_collections.brume.cloud.plugins.module_utils.inventory_data import Inventory, Layer

AIO: dict[str, Any] = {
    "brume_networks": {
        "management": {"cidr": "192.0.2.0/24", "interface": "eth0"},
        "external": {"cidr": "198.51.100.0/24", "interface": "eth1", "gateway": "198.51.100.1"},
    },
    "libvirt_virt_type": "qemu",
    "openvswitch_datapath_type": "netdev",
    "brume_workers": {"default": 1},
}
"""One host, IPv4."""

IPV6: dict[str, Any] = {
    "brume_networks": {
        "management": {"cidr": "2001:db8:1::/64", "interface": "eth0", "vip": "2001:db8:1::5"},
        "tunnel": {"cidr": "2001:db8:2::/64", "interface": "eth2"},
        "api": {"cidr": "2001:db8:3::/64", "interface": "eth3", "vip": "2001:db8:3::5", "fqdn": "cloud.example.org"},
        "external": {"cidr": "2001:db8:4::/64", "interface": "eth1"},
    },
}
"""Every address is IPv6, every network has its own, behind VIPs."""

STORAGE = ("block", "object", "ceph_mon", "ceph_osd")
"""Groups that a small cloud does not have."""


def inventory(
    variables: dict[str, Any],
    hosts: dict[str, dict[str, Any]] | None = None,
    groups: Mapping[str, list[str] | None] | None = None,
    layers: dict[str, dict[str, Any]] | None = None,
) -> Inventory:
    """Return an inventory: `variables` of all, `hosts` with their own, group -> hosts, and `layers` of groups.

    A group whose hosts are None is not there.
    """
    own = hosts if hosts is not None else {"aio": {"brume_addresses": {"management": "192.0.2.11"}}}
    members = {name: tuple(own) for name in GROUPS if name not in STORAGE}
    members |= {name: tuple(found) for name, found in (groups or {}).items() if found is not None}
    for name in [name for name, found in (groups or {}).items() if found is None]:
        del members[name]
    common = Layer("all", variables, dict.fromkeys(variables, "group_vars/all.yml"))
    named = {name: Layer(f"group {name}", found) for name, found in (layers or {}).items()}
    return Inventory(
        {
            host: (
                common,
                *(layer for group, layer in named.items() if host in members[group]),
                Layer(f"host {host}", found, dict.fromkeys(found, f"host_vars/{host}.yml")),
            )
            for host, found in own.items()
        },
        members,
    )


def committed(name: str, **changes: Any) -> Inventory:
    """Return an inventory of the project's own, without asking Ansible and without Ansible's variables.

    `changes` are variables of all; None takes one away.
    """
    folder = Path(__file__).resolve().parents[2] / "inventories" / name

    def own(host: str) -> dict[str, Any]:
        path = folder / f"host_vars/{host}.yml"
        return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None) or {}

    groups = yaml.safe_load((folder / "hosts.yml").read_text(encoding="utf-8"))
    hosts = {
        host: {key: value for key, value in (found | own(host)).items() if not key.startswith("ansible_")}
        for group in groups.values()
        for host, found in group.get("hosts", {}).items()
        if found
    }
    members = {
        group: [*found.get("hosts", {}), *(host for one in found.get("children", {}) for host in groups[one]["hosts"])]
        for group, found in groups.items()
    }
    said = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("group_vars/*.yml")}
    variables = said.pop("all") | changes
    return inventory(
        {key: value for key, value in variables.items() if value is not None},
        hosts=hosts,
        groups={**dict.fromkeys(name for name in GROUPS if name not in STORAGE), **members},
        layers=said,
    )
