"""Writes the host's system users and groups as systemd-sysusers reads them (sysusers.d(5))."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import HEADER


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "configuration_files"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return one sysusers.d file."""
        lines = [HEADER, "g brume-tls -"]
        for user in piece.host.users:
            if user.create:
                lines.append(f'u {user.name} - "{user.name}" {user.home}')
            lines += [f"m {user.name} {group}" for group in user.groups]
        file = {"path": "/etc/sysusers.d/brume.conf", "content": "\n".join(lines) + "\n"}
        return {
            "files": [{**file, "owner": "root", "group": "root", "mode": "0644"}],
            "directories": [],
            "redactions": {},
        }
