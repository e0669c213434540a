"""Describes the bridges of this host: to the external network, and in user space one with the tunnels' address."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ovn
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes no arguments of its own."""

    module = "openvswitch_bridges"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return bridges and settings; the agents make their own bridges. With OVN, also where its databases are."""
        host = piece.host
        datapath = host.variables["openvswitch_datapath_type"]
        bridges = []
        if host.external_bridge:
            bridges.append((host.external_bridge, host.interfaces["external"]))
        # The user-space datapath sends tunnels only by bridges of its own. Where the tunnels share the interface of
        # management there is a single host, which needs none.
        if datapath == "netdev" and host.interfaces["tunnel"] != host.interfaces["management"]:
            bridges.append((host.variables["openvswitch_underlay_bridge"], host.interfaces["tunnel"]))
        # In user space, packets with partial checksums are dropped as invalid unless the switch completes them itself.
        settings = {"userspace-tso-enable": "true"} if datapath == "netdev" else {}
        described = [{"name": name, "datapath_type": datapath, "ports": [port]} for name, port in bridges]
        chassis = ovn.chassis(host, piece.plan.cloud) if "ovn" in piece.plan.cloud.services else {}
        return {"bridges": described, "other_config": settings, "external_ids": chassis, **args}
