"""Describes the bridges of this host: the one to the external network on network hosts."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "openvswitch_bridges"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return bridges and settings. The agents make their own bridges."""
        host = piece.host
        datapath = host.variables["openvswitch_datapath_type"]
        bridges = [
            {
                "name": host.variables["openvswitch_external_bridge"],
                "datapath_type": datapath,
                "ports": [host.interfaces["external"]],
            }
        ]
        # In user space, packets with partial checksums are dropped as invalid unless the switch completes them itself.
        settings = {"userspace-tso-enable": "true"} if datapath == "netdev" else {}
        return {"bridges": bridges if "network" in host.groups else [], "other_config": settings, **args}
