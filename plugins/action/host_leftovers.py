"""Removes what lies on a host and nobody uses."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes nothing; `cleanup_kinds` chooses. With `finalize`, it is environments, those of the former release too."""

    module = "host_leftovers"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what of the host's environments is planned."""
        finalize = bool(args.get("finalize"))
        wanted = ["environments"] if finalize else piece.host.variables["cleanup_kinds"]
        kinds = [kind for kind in ("environments", "journals") if kind in wanted]
        if not kinds:
            return None
        return {
            "kinds": kinds,
            "planned": [one.path for one in piece.host.environments],
            "way_back": not finalize,
            "uv": version("uv"),
            "journal_days": piece.host.variables["cleanup_journal_days"],
        }
