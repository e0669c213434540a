"""Describes the disks of a storage host."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import swift_inventory
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "swift_devices"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the devices, without those that are gone for good."""
        if swift_inventory.GROUP not in piece.host.groups:
            return None
        devices = [one for one in piece.host.variables["swift_devices"] if not one.get("lost")]
        return {
            "devices": [{"name": one["name"], "path": one["path"]} for one in devices],
            "format": piece.host.variables["swift_format"],
        }
