"""Brings the schemas of all services up to date, side by side, in one call on a control host."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


def digest(environment: str, commands: Sequence[Sequence[str]]) -> str:
    """Return what makes running commands again necessary: another environment, or other commands."""
    words = "\n".join("\0".join(argv) for argv in commands)
    return f"{environment}-{hashlib.sha256(words.encode()).hexdigest()[:12]}"


class ActionModule(PlanAction):
    """Takes `service` to treat one service only."""

    module = "schema_sync"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the services with their `expand` commands, once per cell where a command names the cell."""
        services = []
        for name in piece.services("", args.get("service", "")):
            service = piece.sources.services[name]
            environment = next(one for one in piece.host.environments if one.service == name)
            commands = [
                [word.format(cell=cell) for word in argv]
                for argv in service.commands.get("expand", ())
                for cell in (piece.plan.cloud.cells if any("{cell}" in word for word in argv) else ("",))
            ]
            if commands:
                services.append(
                    {
                        "name": name,
                        "user": name,
                        "environment": environment.path,
                        "digest": digest(environment.digest, commands),
                        "commands": commands,
                    }
                )
        return {"services": services} if services else None
