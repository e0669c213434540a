"""Asks a host which units it runs for the cloud, or stops them; no plan has to have the host."""

from __future__ import annotations

from typing import Any

from ansible_collections.brume.cloud.plugins.module_utils.description import Component, Service
from ansible_collections.brume.cloud.plugins.module_utils.plan import socket_of
from ansible_collections.brume.cloud.plugins.module_utils.plan_action import PlanAction, Slice

OF_GROUP = {"loadbalancer": "loadbalancers", "messaging": "brokers", "database": "databases"}
OTHERS = "others"
"""What is stopped after all that has a stage of its own, such as memcached, libvirt and the networks' switches."""


def stage(service: Service, component: Component) -> str:
    """Return with whom the units of a component stop when a whole cloud does (stop.yml has the order)."""
    if service.wave == "infrastructure":
        return next((OF_GROUP[group] for group in component.groups if group in OF_GROUP), OTHERS)
    if component.kind == "wsgi":
        return "apis"
    return "workers" if "control" in component.groups else "agents"


class ActionModule(PlanAction):
    """Takes `state`, `disable` and `power_off`.

    With `addresses: true`, only what holds the shared addresses is stopped; with `stage`, only the units of that stage;
    with `database: true`, only the database, what uses it, and what keeps copies of it.
    """

    module = "host_units"

    def arguments(self, piece: Slice, args: dict[str, Any]) -> dict[str, Any] | None:
        """Return which units are kept, because every host has them, and in which order the others stop."""
        order = stop_order(piece)
        arguments: dict[str, Any] = {
            "state": args.get("state", "read"),
            "disable": args.get("disable", True),
            "power_off": args.get("power_off", False),
            **order,
        }
        if args.get("addresses"):
            arguments["units"] = order["first"]
        if args.get("database"):
            arguments["units"] = _with_database(piece)
        if args.get("stage"):
            stages: dict[str, list[str]] = {}
            for one in piece.host.instances:
                service = piece.sources.services[one.service]
                component = service.components[one.component]
                units = [one.unit, *([socket_of(one.unit)] if component.kind == "wsgi" else [])]
                stages.setdefault(stage(service, component), []).extend(units)
            if args["stage"] == OTHERS:  # whatever else runs here, planned or not
                arguments["keep"] += [unit for name, some in stages.items() if name != OTHERS for unit in some]
            else:
                arguments["units"] = stages.get(args["stage"], [])
        return arguments


def stop_order(piece: Slice) -> dict[str, list[str]]:
    """Return which units of packages are kept, because every host has them, and which stop first and last."""
    components = [
        (service.name, component)
        for service in piece.sources.services.values()
        for component in service.components.values()
        if component.kind == "system"
    ]
    return {
        "keep": [one.unit for service, one in components if service == "host"],
        "first": [one.unit for _service, one in components if one.only == "vip"],
        "last": [one.unit for _service, one in components if one.data],
    }


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
