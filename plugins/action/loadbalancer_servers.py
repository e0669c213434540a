"""Takes the APIs of this host out of use at a load balancer, and back; delegate it to each of them."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan import frontend_name
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice


class ActionModule(PlanAction):
    """Takes `state`, `units` (those of this host that start anew; all of the cloud without it) and `drained`.

    Where the data lie on one host, another one does not serve in its place, so that requests wait for it instead.
    """

    module = "loadbalancer_servers"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return the servers, as HAProxy names them, of the units that several hosts have."""
        cells = piece.plan.cloud.cells
        here = {frontend_name(one.service, one.component, one.cell, cells): one.unit for one in piece.host.instances}
        servers = [
            f"{frontend.name}/{server.name}"
            for frontend in piece.plan.cloud.frontends
            for server in frontend.servers
            if len(frontend.servers) > 1
            and not (frontend.check or frontend.failover)
            and ("units" not in args or (server.name == piece.host.name and here.get(frontend.name) in args["units"]))
        ]
        args.pop("units", None)
        return {"servers": servers, **args} if servers else None
