"""Declares the cloud's rings; they are kept on the first controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import swift_inventory
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

FOLDER = "/var/lib/swift/rings"


class ActionModule(PlanAction):
    """Takes `maximum_share`, `allow`, and `devices`: what M(brume.cloud.swift_devices) returned, by host."""

    module = "swift_ring"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the rings, and what lies on the devices as far as their hosts said it."""
        plan = piece.of_first_controller().plan
        names = [name for name, _address in plan.cloud.members[swift_inventory.GROUP]]
        hosts = {name: plan.hosts[name].variables for name in names}
        addresses = {name: plan.hosts[name].addresses for name in names}
        return {
            "folder": FOLDER,
            "rings": swift_inventory.rings(piece.of_first_controller().host.variables, hosts, addresses),
            "lost": swift_inventory.lost(hosts, addresses),
            "held": _held(args.get("devices") or {}, addresses),
            "maximum_share": float(args.get("maximum_share", 1.0)),
            "allow": list(args.get("allow") or []),
            "content": True,
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Return the Python of Swift's environment, which has RingBuilder."""
        return self.environment_python(piece.of_first_controller(), "swift")


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
