"""Describes the monitor and manager of a host, with what the others have said they hold."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils import ceph
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `state`; what hosts have answered to `asked` they have registered as `__ceph_monitor` and `__ceph_osds`."""

    module = "ceph_monitor"
    _said: Mapping[str, Any] = MappingProxyType({})
    """Variables of hosts."""

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the module's arguments where a monitor is."""
        if ceph.MONITORS not in piece.host.groups:
            return None
        plan = piece.plan
        names = [name for name, _address in plan.cloud.members[ceph.MONITORS]]
        stores = [name for name in names if self._said.get(name, {}).get("__ceph_monitor", {}).get("store")]
        osds = [one for host in plan.hosts for one in self._said.get(host, {}).get("__ceph_osds", {}).get("osds", [])]
        hosts = dict.fromkeys((*names, *(name for name, _address in plan.cloud.members[ceph.OSDS])))
        return {
            "name": piece.host.name,
            "fsid": piece.renderer.ceph_fsid(),
            "members": {name: ceph.monitor(str(plan.hosts[name].addresses[ceph.NETWORK])) for name in names},
            "stores": stores,
            "osds": osds,
            "unasked": [name for name in hosts if "__ceph_osds" not in self._said.get(name, {})],
            **args,
        }

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Call the module with what all hosts have said."""
        self._said = (task_vars or {}).get("hostvars", {})
        return super().run(tmp, task_vars)
