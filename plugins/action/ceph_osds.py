"""Describes the devices of a Ceph host."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ceph
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `state`."""

    module = "ceph_osds"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the devices where OSDs are; those that are gone for good count as not declared."""
        if ceph.OSDS not in piece.host.groups:
            return None
        variables = piece.host.variables
        devices = variables["ceph_devices"]
        return {
            "fsid": piece.renderer.ceph_fsid(),
            "devices": [{"name": one["name"], "path": one["path"]} for one in devices if not one.get("lost")],
            "format": variables["ceph_format"],
            "replace": variables["ceph_replace"],
            **args,
        }
