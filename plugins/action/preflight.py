"""Reads the host and tells everything that would stop a deployment, before anything is changed."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

GIB = 1024**3
DISK = {"control": 10 * GIB, "compute": 10 * GIB, "network": 4 * GIB}
"""Free bytes below /var and /opt that a group needs: environments take 2 GiB, data the rest."""

MEMORY_MIB = {"control": 4096, "network": 2048, "compute": 2048}


class ActionModule(PlanAction):
    """Takes `crossing`: the way to another release that the run is; `host`: read that controller instead."""

    module = "preflight"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return what the plan needs of this host."""
        if args.get("host"):
            piece = piece.of_first_controller()
        host = piece.plan.hosts[args["host"]] if args.get("host") else piece.host
        piece = replace(piece, host=host)
        disk = max(DISK.get(group, GIB) for group in host.groups)
        networks = piece.plan.cloud.networks
        interfaces: dict[str, list[str]] = {host.interfaces[role]: [] for role in self._roles(piece)}
        mtus: dict[str, int] = {}
        for role in self._roles(piece):
            name = host.interfaces[role]
            mtus[name] = max(mtus.get(name, 0), networks[role].mtu)
            if role in host.addresses:
                interfaces[name].append(str(host.addresses[role]))
        return {
            "controller_time": time.time(),
            "disk_bytes": {"/opt": disk, "/var/lib": disk},
            "memory_mib": max(MEMORY_MIB.get(group, 512) for group in host.groups),
            "interfaces": [
                {"name": name, "addresses": list(dict.fromkeys(found)), "mtu": mtus[name]}
                for name, found in interfaces.items()
            ],
            "ports": [{"port": one.port, "address": one.address, "unit": one.unit} for one in host.ports],
            "operating_system": host.variables["brume_operating_system"],
            "kvm": "compute" in host.groups and host.variables.get("libvirt_virt_type") == "kvm",
            "tun": bool({"network", "compute"} & set(host.groups)),
            "data": [{"path": path, "unit": unit} for path, unit in piece.data().items()],
            "environments": [
                {
                    "service": one.service,
                    "path": one.path,
                    "current": one.current,
                    "units": [other.unit for other in host.instances if other.service == one.service],
                }
                for one in host.environments
            ],
            "excluded": host.excluded,
            "release": piece.plan.cloud.release,
            "crossing": args.get("crossing", ""),
            "wheelhouse": host.variables["brume_wheelhouse"] if host.environments else "",
            "database_hosts": len(piece.plan.cloud.members["database"]) if "database" in host.groups else 0,
        }

    @staticmethod
    def _roles(piece: Slice) -> list[str]:
        groups = set(piece.host.groups)
        roles = ["management"]
        roles += ["tunnel"] if groups & {"network", "compute"} else []
        roles += ["external"] if piece.host.external_bridge else []
        roles += ["api"] if "loadbalancer" in groups else []
        return roles
