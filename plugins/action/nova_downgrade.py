"""Makes Nova's databases those of the planned release again, on the first controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "nova_downgrade"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return where the planned release's Nova is."""
        found = [one.path for one in piece.host.environments if one.service == "nova"]
        if not found:
            return None
        return {"environment": found[0], "config_file": "/etc/nova/nova.conf", "release": piece.plan.cloud.release}
