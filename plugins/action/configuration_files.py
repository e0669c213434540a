"""Renders a wave's files for this host and hands them to the module, all in one call."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `wave` (a wave, or empty for all services) or `service`."""

    module = "configuration_files"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return every file and directory of the wave on this host."""
        services = piece.services(args.get("wave", ""), args.get("service", ""))
        files = piece.renderer.files(piece.host, services)
        units = {one.instance.service for one in piece.renderer.units(piece.host, services)}
        directories = [one for one in piece.host.directories if one.service in units]
        if not files and not directories:
            return None
        return {
            "files": [
                {
                    "path": one.entry.path,
                    "content": one.text,
                    "owner": one.entry.owner,
                    "group": one.entry.group,
                    "mode": one.entry.mode,
                }
                for one in files
            ],
            "directories": [
                {"path": one.path, "owner": one.owner, "group": one.group, "mode": one.mode} for one in directories
            ],
            "redactions": piece.revealed,
        }
