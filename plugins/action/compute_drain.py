"""Empties compute hosts, or gives them back, and shows each instance's arrival."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.drain_action import DrainAction
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice
from ansible_collections.brume.cloud.plugins.module_utils.scheduling import of_scheduling


class ActionModule(DrainAction):
    """Takes `hosts`, `state`, `accept_stuck`, `rolling`, `per_host` and `patience` of the module."""

    module = "compute_drain"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the login of the cloud's administrator, the scheduler's own options, and the cells of the plan."""
        service, cloud = piece.sources.services["nova"], piece.plan.cloud
        tree, _layers = piece.renderer.tree(piece.host, service, service.files["nova.conf"], "")
        cells = {name: piece.plan.hosts[name].cell for name, _address in cloud.members["compute"]}
        return {
            **self.common(piece, args),
            "compute_url": piece.internal_url("nova"),
            "placement_url": piece.internal_url("placement"),
            "configuration": of_scheduling(tree),
            "cells": cells if len(cloud.cells) > 1 else {},
            **{name: args[name] for name in ("rolling", "per_host", "patience") if name in args},
        }

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Nova's own Python: it has keystoneauth1."""
        return self.environment_python(piece, "nova")

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Show waves too; as a result they would be JSON."""
        result = super().run(tmp, task_vars)
        lines = result.pop("waves", None)
        if lines:
            self._display.display("\n".join(lines))
        return result
