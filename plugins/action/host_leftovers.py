"""Removes what lies on a host and nobody uses."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes nothing; `cleanup_kinds` chooses."""

    module = "host_leftovers"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what of the host's environments is planned."""
        kinds = [kind for kind in ("environments", "journals") if kind in piece.host.variables["cleanup_kinds"]]
        if not kinds:
            return None
        return {
            "kinds": kinds,
            "planned": [one.path for one in piece.host.environments],
            "uv": version("uv"),
            "journal_days": piece.host.variables["cleanup_journal_days"],
        }
