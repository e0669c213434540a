"""Makes the volume types, QoS specs and default quotas of the plan, in one call and one session."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import volume_types
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rollout import RECORDS


class ActionModule(PlanAction):
    """Takes `hosts`, the hosts in play, all unless given; a run without the first controller leaves all as it is."""

    module = "cinder_volume_types"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the inventory declares, or a type for each back end, and the administrator's login."""
        first = piece.of_first_controller().host
        if "cinder" not in piece.plan.cloud.services or first.name not in args.get("hosts", piece.plan.hosts):
            return None
        variables = first.variables
        backends = variables["cinder_backends"]
        return {
            "auth": piece.administrator(),
            "volume_url": piece.internal_url("cinder"),
            "start_record": f"{RECORDS}/cinder-api.service.json",
            "volume_types": volume_types.types_of(backends, variables["cinder_volume_types"]),
            "qos_specs": [dict(one) for one in variables["cinder_qos_specs"]],
            "default_quotas": dict(variables["cinder_default_quotas"]),
            "default_volume_type": volume_types.default_type(variables["cinder_default_volume_type"], backends),
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Cinder's own Python: it has keystoneauth1. Before it is built, a dry run needs none."""
        return self.environment_python(piece.of_first_controller(), "cinder")
