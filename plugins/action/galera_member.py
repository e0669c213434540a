"""Asks the database server of this host what it knows of its cluster; one that is alone has none."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes the module's arguments."""

    module = "galera_member"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return them, where there are several members."""
        return args if len(piece.plan.cloud.members["database"]) > 1 else None
