"""Asks the first host with a monitor how Ceph is."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ceph
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `full` and `wait`."""

    module = "ceph_health"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments where the first monitor is."""
        members = [name for name, _address in piece.plan.cloud.members[ceph.MONITORS]]
        return args if members[:1] == [piece.host.name] else None
