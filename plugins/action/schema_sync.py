"""Schema work of all services, side by side, in one call on a control host."""

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
    """Takes `stage`, and `service` to treat one service only."""

    module = "schema_sync"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the services with the stage's commands, once per cell where a command names the cell.

        The digest is that of what brings the schema up to date at once, whichever stage does it.
        """
        stage = args.get("stage") or "sync"
        services = []
        for name in piece.services("", args.get("service", "")):
            service = piece.sources.services[name]
            environment = next(one for one in piece.host.environments if one.service == name)
            known = service.commands
            sync, expand = known.get("sync"), known.get("expand")
            whole = self._commands(piece, environment.path, sync or expand or ())
            of_stage = {"sync": sync or expand, "expand": expand or sync}.get(stage, known.get(stage)) or ()
            if whole:
                services.append(
                    {
                        "name": name,
                        "user": name,
                        "environment": environment.path,
                        "digest": digest(environment.digest, whole),
                        "commands": self._commands(piece, environment.path, of_stage),
                        "expand": self._commands(piece, environment.path, expand or sync or ()),
                        "release": piece.plan.cloud.release,
                    }
                )
        if not services:
            return None
        # What a command says may name any secret of its service's files.
        piece.renderer.files(piece.host, [str(one["name"]) for one in services])
        return {"services": services, "stage": stage, "redactions": dict(piece.revealed)}

    @staticmethod
    def _commands(piece: Slice, environment: str, argvs: Sequence[Sequence[str]]) -> list[list[str]]:
        return [
            [word.format(cell=cell, environment=environment) for word in argv]
            for argv in argvs
            for cell in (piece.plan.cloud.cells if any("{cell}" in word for word in argv) else ("",))
        ]
