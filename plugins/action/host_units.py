"""Asks a host which units it runs for the cloud, or stops them; no plan has to have the host."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice
from ansible_collections.brume.cloud.plugins.module_utils.rendering import socket_of


class ActionModule(PlanAction):
    """Takes `state`.

    With `addresses: true`, only what holds the shared addresses is stopped, with `database: true` only the database,
    what uses it, and what keeps copies of it.
    """

    module = "host_units"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return which units are kept, because every host has them, and which go last, because others write to them."""
        components = [
            (service.name, component)
            for service in piece.sources.services.values()
            for component in service.components.values()
            if component.kind == "system"
        ]
        arguments: dict[str, Any] = {
            "state": args.get("state", "read"),
            "keep": [one.unit for service, one in components if service == "host"],
            "last": [one.unit for _service, one in components if one.data],
        }
        if args.get("addresses"):
            arguments["units"] = [one.unit for _service, one in components if one.only == "vip"]
        if args.get("database"):
            arguments["units"] = _with_database(piece)
        return arguments


def _with_database(piece: Slice) -> list[str]:
    """Return this host's units that use the database, sockets that would start them, and what keeps copies of it."""
    found = []
    for one in piece.host.instances:
        service = piece.sources.services[one.service]
        component = service.components[one.component]
        if service.name in ("mariadb", "memcached"):
            found.append(one.unit)
        elif service.databases and "control" in component.groups:
            found += [one.unit, *([socket_of(one.unit)] if component.kind == "wsgi" else [])]
    return found
