"""Declares users, rules and pools of the Ceph cluster; they are made by the first monitor's host."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ceph
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `pools`, whether these are declared too, and `wait`."""

    module = "ceph_cluster"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what is declared, on the host of the first monitor."""
        members = [name for name, _address in piece.plan.cloud.members[ceph.MONITORS]]
        if members[:1] != [piece.host.name]:
            return None
        variables = piece.host.variables
        return {
            "users": [
                {"name": one.name, "key": one.key, "caps": dict(one.caps)} for one in piece.renderer.ceph_users()
            ],
            "pools": variables["ceph_pools"] if args.get("pools") else [],
            "failure_domain": variables["ceph_failure_domain"],
            "wait": args.get("wait", 0),
        }
