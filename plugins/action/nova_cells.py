"""Maps the cells of the plan, and with `hosts: true` its compute hosts."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `hosts` (a boolean): whether compute hosts are mapped too, which needs them running."""

    module = "nova_cells"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return every cell with the file that holds its URLs."""
        cloud = piece.plan.cloud
        return {
            "environment": next(one.path for one in piece.host.environments if one.service == "nova"),
            "config_file": "/etc/nova/nova.conf",
            "cells": {
                "cell0": "/etc/nova/nova.conf",
                **{name: f"/etc/nova/nova-cell-{name}.conf" for name in cloud.cells},
            },
            "hosts": [name for name, _address in cloud.members["compute"]] if args.get("hosts") else [],
        }
