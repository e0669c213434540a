"""Asks the database server of this host what it knows of its cluster; one that is alone has none."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes the module's arguments."""

    module = "galera_member"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return them, where there are several members, or were; system tables are a single server's business too."""
        cloud = piece.plan.cloud
        members = [name for name, _address in cloud.members["database"]]
        counts = members[1:] or cloud.removed or args.get("state") == "upgraded"
        return args if piece.host.name in members and counts else None
