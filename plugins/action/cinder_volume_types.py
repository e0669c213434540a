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
        if first.name not in args.get("hosts", piece.plan.hosts):
            return None
        variables = first.variables
        return {
            "auth": piece.administrator(),
            # The catalog's address may end in the project, which is optional since Yoga and not known here.
            "volume_url": piece.internal_url("cinder").partition("/%(")[0],
            "start_record": f"{RECORDS}/cinder-api.service.json",
            "volume_types": volume_types.types_of(variables["cinder_backends"], variables["cinder_volume_types"]),
            "qos_specs": [dict(one) for one in variables["cinder_qos_specs"]],
            "default_quotas": dict(variables["cinder_default_quotas"]),
            "default_volume_type": variables["cinder_default_volume_type"],
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Cinder's own Python: it has keystoneauth1. Before it is built, a dry run needs none."""
        return self.environment_python(piece.of_first_controller(), "cinder")
