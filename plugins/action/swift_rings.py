"""Declares the cloud's rings; they are kept on the first controller."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import swift_inventory
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

FOLDER = "/var/lib/brume/swift"
"""Root's alone: builders belong to the deployment, and no service reads them."""


class ActionModule(PlanAction):
    """Takes `maximum_share` and `allow`, and what M(brume.cloud.swift_devices) has returned as `__swift_devices`.

    Where a limit leaves a host of Swift out, rings stay as they are: it would go on with another one than the rest.
    """

    module = "swift_ring"
    _said: Mapping[str, Any] = MappingProxyType({})
    """Variables of hosts."""
    _asked: frozenset[str] = frozenset()
    """The hosts in play."""

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the rings, and what lies on the devices as far as their hosts said it."""
        plan = piece.of_first_controller().plan
        names = [name for name, _address in plan.cloud.members[swift_inventory.GROUP]]
        hosts = {name: plan.hosts[name].variables for name in names}
        addresses = {name: plan.hosts[name].addresses for name in names}
        said = {name: self._said.get(name, {}).get("__swift_devices", {}) for name in names}
        wanted = swift_inventory.rings(piece.of_first_controller().host.variables, hosts, addresses)
        return {
            "folder": FOLDER,
            "rings": wanted,
            "elsewhere": _elsewhere([one["name"] for one in wanted], said),
            "lost": swift_inventory.lost(hosts, addresses),
            "held": _held({name: one.get("held", {}) for name, one in said.items()}, addresses),
            "frozen": not self._asked.issuperset((*names, *(name for name, _address in plan.cloud.members["control"]))),
            "maximum_share": float(args.get("maximum_share", 1.0)),
            "allow": list(args.get("allow") or []),
            "content": True,
        }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Keep what other hosts have said, then go on."""
        self._said = (task_vars or {}).get("hostvars", {})
        self._asked = frozenset((task_vars or {}).get("ansible_play_hosts_all", ()))
        return super().run(tmp, task_vars)

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Return the Python of Swift's environment, which has RingBuilder."""
        return self.environment_python(piece.of_first_controller(), "swift")


def _elsewhere(rings: list[str], said: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return why rings may be in use already: a storage host has one, or was not asked, as a limit may have it."""
    silent = next((name for name, one in said.items() if "rings" not in one), "")
    found = dict.fromkeys(rings, f"{silent} was not asked whether it has that ring") if silent else {}
    return found | {ring: f"{name} has that ring" for name, one in said.items() for ring in one.get("rings", ())}


def _held(found: Mapping[str, Any], addresses: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Return the partitions on each device by ring, which the folders on it name."""
    return {
        f"{addresses[host]['storage']}/{device}": {
            swift_inventory.ring_of_folder(kind): count for kind, count in kinds.items()
        }
        for host, devices in found.items()
        if host in addresses
        for device, kinds in devices.items()
    }
