"""Asks a storage host how far replication is."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import swift_inventory
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "swift_replication"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the host's address in the rings, nothing where it stores nothing."""
        if swift_inventory.GROUP not in piece.host.groups:
            return None
        policies = piece.host.variables["swift_storage_policies"]
        return {
            "address": str(piece.host.addresses["storage"]),
            "erasure_coding": any(one.get("policy_type") == "erasure_coding" for one in policies),
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Return the Python of Swift's environment, which has Ring."""
        return self.environment_python(piece, "swift")
