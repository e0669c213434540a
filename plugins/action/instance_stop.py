"""Stops the instances of the whole cloud."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes nothing."""

    module = "instance_stop"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the login of the cloud's administrator and where Nova is."""
        return {"auth": piece.administrator(), "compute_url": piece.internal_url("nova")}

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1."""
        return self.environment_python(piece, "nova")
