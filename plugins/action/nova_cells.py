"""Maps the cells of the plan, or with `hosts` its compute hosts, on the first controller."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `hosts`, the hosts in play: map compute hosts instead, and wait for those in play, which have to run.

    Where neither these nor the first controller are in play there is nothing to do.
    """

    module = "nova_cells"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return every cell with its URLs, as the configuration files hold them, or every compute host.

        Which cell a host is in is compared each time: before the roll-out it is not too late.
        """
        cloud, renderer = piece.plan.cloud, piece.renderer
        controller = piece.of_first_controller().host
        nova = next(one for one in controller.environments if one.service == "nova")
        common = {
            "environment": nova.path,
            "current": nova.current,
            "config_file": "/etc/nova/nova.conf",
            "hosts": {name: piece.plan.hosts[name].cell for name, _address in cloud.members["compute"]},
        }
        if "hosts" in args:
            awaited = [name for name in common["hosts"] if name in args["hosts"]]
            in_play = awaited or controller.name in args["hosts"]
            return {**common, "discover": True, "wait_for": awaited} if in_play else None
        cells = {name: (f"nova_{name}", f"nova_{name}") for name in cloud.cells}
        return {
            **common,
            "cells": {
                name: {
                    "transport_url": renderer.transport_url(vhost),
                    "database_connection": renderer.database_url(database),
                }
                for name, (vhost, database) in {"cell0": ("nova", "nova_cell0"), **cells}.items()
            },
        }
