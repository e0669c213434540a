"""Makes the flavors and host aggregates of the plan, in one call and one session."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rollout import RECORDS


class ActionModule(PlanAction):
    """Takes `hosts`, the hosts in play, all unless given; without flavors and aggregates there is nothing to do.

    In a run without the first controller, it is done for the compute hosts in play alone.
    """

    module = "nova_scheduling"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the inventory declares, and the login of the cloud's administrator."""
        cloud = piece.plan.cloud
        first, _address = cloud.members["control"][0]
        compute = [name for name, _address in cloud.members["compute"]]
        in_play = args.get("hosts", piece.plan.hosts)
        here = [name for name in compute if name in in_play]
        limited = first not in in_play
        flavors = [] if limited else [dict(one) for one in cloud.flavors]
        if not (flavors or cloud.aggregates) or (limited and not here):
            return None
        return {
            "auth": piece.administrator(),
            "compute_url": piece.internal_url("nova"),
            "start_record": f"{RECORDS}/nova-api.service.json",
            "flavors": flavors,
            "aggregates": [dict(one) for one in cloud.aggregates],
            **({"limit": here} if limited else {"optional_hosts": [name for name in compute if name not in here]}),
            "leaving": list(cloud.removed),
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1. Before it is built, a dry run needs none."""
        return self.environment_python(piece.of_first_controller(), "nova")
