"""Takes networks and routers from the agents of hosts, or gives the agents back, and shows what has moved."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.drain_action import DrainAction
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import Slice

NUMBERS = ("dhcp_agents_per_network", "max_l3_agents_per_router")


class ActionModule(DrainAction):
    """Takes `hosts`, `state` and `accept_stuck` of the module."""

    module = "agent_drain"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the login of the cloud's administrator, and how many agents Neutron's options ask for."""
        service = piece.sources.services["neutron"]
        tree, _layers = piece.renderer.tree(piece.host, service, service.files["neutron.conf"], "")
        options = tree.get("DEFAULT", {})
        return {**self.common(piece, args), **{name: options[name] for name in NUMBERS if name in options}}

    def task_variables(self, piece: Slice) -> dict[str, Any]:
        """Run with Neutron's own Python: it has keystoneauth1."""
        return self.environment_python(piece, "neutron")
