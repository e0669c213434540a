"""Removes what Nova, Neutron and Placement keep and nobody wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.brume.cloud.plugins.action.cloud_verification import network_agents
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes nothing; `cleanup_kinds` chooses."""

    module = "cloud_orphans"
    inventory: tuple[str, ...] = ()

    def slice(self, task_vars: Mapping[str, Any]) -> Slice:
        """Learn every host of the inventory, also those in no group of Brume's: nobody has taken them out."""
        self.inventory = tuple(task_vars["groups"]["all"])
        return super().slice(task_vars)

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the inventory and the plan know of hosts, and where the APIs are."""
        kinds = [kind for kind in ("allocations", "agents") if kind in piece.host.variables["cleanup_kinds"]]
        if not kinds or "nova" not in piece.plan.cloud.services:
            return None
        return {
            "auth": piece.administrator(),
            "compute_url": piece.internal_url("nova"),
            "network_url": piece.internal_url("neutron"),
            "placement_url": piece.internal_url("placement"),
            "kinds": kinds,
            "inventory": list(self.inventory),
            "planned": list(piece.plan.hosts),
            "agents": [list(one) for one in network_agents(piece.plan)],
            "agent_hours": piece.host.variables["cleanup_agent_hours"],
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1."""
        return self.environment_python(piece, "nova")
