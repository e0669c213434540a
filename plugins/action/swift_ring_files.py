"""Hands rings out to this host, as M(brume.cloud.swift_ring) returned them."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

UNKNOWN = "not known before the run"
"""Digest of a ring in the dry run of a cloud that has no Swift to build it with."""


class ActionModule(PlanAction):
    """Takes `rings`."""

    module = "swift_ring_files"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the module needs of each ring."""
        rings = [
            {"name": one["name"], "sha256": one.get("sha256", UNKNOWN), "content": one.get("content", "")}
            for one in args["rings"]
        ]
        return {"rings": rings}
