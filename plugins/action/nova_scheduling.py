"""Makes the flavors and host aggregates of the plan, in one call and one session."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rollout import RECORDS


class ActionModule(PlanAction):
    """Takes nothing; without flavors and aggregates in the inventory there is nothing to do."""

    module = "nova_scheduling"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the inventory declares, and the login of the cloud's administrator."""
        cloud = piece.plan.cloud
        if not cloud.flavors and not cloud.aggregates:
            return None
        return {
            "auth": piece.administrator(),
            "compute_url": piece.internal_url("nova"),
            "start_record": f"{RECORDS}/nova-api.service.json",
            "flavors": [dict(one) for one in cloud.flavors],
            "aggregates": [dict(one) for one in cloud.aggregates],
            "leaving": list(cloud.removed),
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1. Before it is built, a dry run needs none."""
        return self.environment_python(piece, "nova")
